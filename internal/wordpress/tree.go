package wordpress

import (
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
)

// Package is where Debian's package keeps WordPress.
const Package = "/usr/share/wordpress"

// Database is where WordPress keeps everything but uploaded files.
type Database struct {
	// Host is as in wp-config.php: host:port, or localhost:/path/to/socket; "" for what a web
	// node of a farm says in PHP's environment.
	Host string
	// Schema must be there; its tables are made by the installation.
	Schema         string
	User, Password string
}

// ErrMissing is in the chain of errors about what is not installed.
var ErrMissing = errors.New("not installed")

// missing says what a site needs that the machine lacks, as Debian packages.
func missing() error {
	var lacking []string
	for _, need := range []struct{ pattern, packages string }{
		{Package + "/wp-includes/version.php", "wordpress"},
		{Package + "/wp-content/themes/*/style.css", "wordpress-theme-twentytwentythree"},
		{fpmPattern, "php-fpm"},
		{"/usr/sbin/nginx", "nginx"},
		{"/usr/lib/php/*/mysqli.so", "php-mysql"},
	} {
		// The patterns are constants and well-formed.
		if found, _ := filepath.Glob(need.pattern); len(found) == 0 {
			lacking = append(lacking, need.packages)
		}
	}
	if lacking == nil {
		return nil
	}
	return fmt.Errorf("the Debian packages %s: %w (scripts/install-packages %[1]s)", strings.Join(lacking, " "), ErrMissing)
}

// Place puts a site's files into a directory whose servers are somebody else's, which may
// run as any account, and returns the site that they will be at url. The error has ErrMissing in
// its chain when packages are missing.
func Place(tree, url string, db Database) (*Site, error) {
	if err := missing(); err != nil {
		return nil, fmt.Errorf("WordPress needs %w", err)
	}
	if err := copyTree(tree); err != nil {
		return nil, fmt.Errorf("copy %s: %w", Package, err)
	}
	s := &Site{URL: url, log: filepath.Join(tree, "wp-content", "debug.log")}
	if err := writeConfig(tree, s.log, url, db); err != nil {
		return nil, fmt.Errorf("configure the site: %w", err)
	}
	for _, name := range []string{"wp-config.php", "wp-salts.php"} {
		if err := os.Chmod(filepath.Join(tree, name), 0o644); err != nil {
			return nil, err
		}
	}
	return s, nil
}

// copyTree copies the package's files. What they link to is copied too: the
// links are relative to where the package is. Files that a site has added, such
// as uploads, stay.
func copyTree(to string) error {
	return filepath.WalkDir(Package, func(path string, entry fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		relative, err := filepath.Rel(Package, path)
		if err != nil {
			return err
		}
		target := filepath.Join(to, relative)
		switch {
		case entry.IsDir():
			return os.MkdirAll(target, 0o755)
		case relative == "wp-config.php", relative == ".htaccess":
			return nil // Debian's own, about /etc/wordpress
		}
		return copyFile(path, target)
	})
}

func copyFile(from, to string) (err error) {
	in, err := os.Open(from)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, in.Close()) }()
	out, err := os.Create(to)
	if err != nil {
		return err
	}
	_, err = io.Copy(out, in)
	return errors.Join(err, out.Close())
}

// salts sign the cookies; they stay the same over a site's life.
var salts = []string{
	"AUTH_KEY", "SECURE_AUTH_KEY", "LOGGED_IN_KEY", "NONCE_KEY",
	"AUTH_SALT", "SECURE_AUTH_SALT", "LOGGED_IN_SALT", "NONCE_SALT",
}

// writeConfig writes wp-config.php, and the salts unless there are some. The
// log is where PHP's and WordPress's errors go.
func writeConfig(tree, log, url string, db Database) error {
	var text strings.Builder
	text.WriteString("<?php\n")
	for _, name := range salts {
		fmt.Fprintf(&text, "define('%s', '%s');\n", name, rand.Text())
	}
	f, err := os.OpenFile(filepath.Join(tree, "wp-salts.php"), os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
	switch {
	case errors.Is(err, fs.ErrExist):
	case err != nil:
		return err
	default:
		_, err = f.WriteString(text.String())
		if err = errors.Join(err, f.Close()); err != nil {
			return err
		}
	}
	host := php(db.Host)
	if db.Host == "" {
		host = "getenv('FARMHAND_DB_HOST') . ':' . getenv('FARMHAND_DB_PORT')"
	}
	text.Reset()
	text.WriteString("<?php\nrequire __DIR__ . '/wp-salts.php';\n")
	for _, d := range []struct{ name, value string }{
		{"DB_HOST", host},
		{"DB_NAME", php(db.Schema)},
		{"DB_USER", php(db.User)},
		{"DB_PASSWORD", php(db.Password)},
		{"DB_CHARSET", "'utf8mb4'"},
		{"DB_COLLATE", "''"},
		{"WP_HOME", php(url)},
		{"WP_SITEURL", php(url)},
		// Database errors are written to the log, never hidden.
		{"WP_DEBUG", "true"},
		{"WP_DEBUG_DISPLAY", "false"},
		{"WP_DEBUG_LOG", php(log)},
		// Nothing leaves the machine, and nothing happens by itself.
		{"WP_HTTP_BLOCK_EXTERNAL", "true"},
		{"DISABLE_WP_CRON", "true"},
		{"AUTOMATIC_UPDATER_DISABLED", "true"},
		{"WP_AUTO_UPDATE_CORE", "false"},
		{"DISALLOW_FILE_MODS", "true"},
	} {
		fmt.Fprintf(&text, "define('%s', %s);\n", d.name, d.value)
	}
	text.WriteString("$table_prefix = 'wp_';\n" +
		"if (!defined('ABSPATH')) define('ABSPATH', __DIR__ . '/');\n" +
		"require_once ABSPATH . 'wp-settings.php';\n")
	return os.WriteFile(filepath.Join(tree, "wp-config.php"), []byte(text.String()), 0o600)
}

// php is a string literal of PHP.
func php(s string) string {
	return "'" + strings.NewReplacer(`\`, `\\`, "'", `\'`).Replace(s) + "'"
}
