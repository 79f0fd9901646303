package dbserver

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"

	"farmhand/internal/farm"
)

// Initialised says whether dir holds a complete server directory.
func Initialised(dir string) (bool, error) {
	_, err := os.Stat(Config{Dir: dir}.secretFile())
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	if err != nil {
		return false, fmt.Errorf("look for a server in %s: %w", dir, err)
	}
	return true, nil
}

// Initialise makes a new data directory below c.Dir. The administrator is
// root@localhost with a random password kept in admin.secret (mode 0600,
// owned by the server's account); on MariaDB the system's root and the account
// that the server runs as also come in without one, over the socket. statements run once, unlogged, so that
// servers initialised alike share their accounts without sharing a history;
// each must be a single line. What an interrupted Initialise left is removed
// first; an initialised directory is an error.
func Initialise(ctx context.Context, inst Install, c Config, statements ...string) error {
	c = c.withDefaults()
	done, err := Initialised(c.Dir)
	if err != nil {
		return err
	}
	if done {
		return fmt.Errorf("initialise %s: it already holds a server", c.Dir)
	}
	if err := os.RemoveAll(c.dataDir()); err != nil {
		return fmt.Errorf("clear a half-made data directory: %w", err)
	}
	for _, dir := range []string{c.Dir, c.dataDir(), c.tmpDir()} {
		if err := os.MkdirAll(dir, 0o755); err != nil {
			return fmt.Errorf("make a server directory: %w", err)
		}
		if err := c.own(dir); err != nil {
			return err
		}
	}
	secret := rand.Text()
	script := filepath.Join(c.Dir, "init.sql")
	lines := append([]string{"FLUSH PRIVILEGES"}, statements...)
	lines = append(lines, adminStatement(inst.Flavor, secret))
	for _, line := range lines {
		if strings.Contains(line, "\n") {
			return fmt.Errorf("initialise %s: statement %q has more than one line", c.Dir, line)
		}
	}
	if err := os.WriteFile(script, []byte(strings.Join(lines, ";\n")+";\n"), 0o600); err != nil {
		return fmt.Errorf("write first statements: %w", err)
	}
	if err := c.own(script); err != nil {
		return err
	}

	argv := initCommand(inst, c, script)
	cmd := exec.CommandContext(ctx, argv[0], argv[1:]...)
	cmd.Dir = c.Dir
	cmd.Env = environment(c)
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: c.Credential}
	out, err := cmd.CombinedOutput()
	if err != nil {
		return fmt.Errorf("initialise a %v server in %s: %s: %w\n%s", inst.Flavor, c.Dir, argv[0], err, tail(out, 2000))
	}
	if err := os.Remove(script); err != nil {
		return fmt.Errorf("remove the first statements: %w", err)
	}
	// Written last: it marks the directory as complete.
	if err := os.WriteFile(c.secretFile(), []byte(secret), 0o600); err != nil {
		return fmt.Errorf("keep the administrator's password: %w", err)
	}
	return c.own(c.secretFile())
}

func initCommand(inst Install, c Config, script string) []string {
	var argv []string
	if inst.Flavor == farm.MySQL {
		argv = append(slices.Clone(inst.command), "--no-defaults")
		argv = append(argv, inst.base...)
		argv = append(argv,
			"--initialize-insecure",
			"--init-file="+script,
			"--innodb-redo-log-capacity="+strconv.FormatInt(c.RedoLog, 10))
	} else {
		argv = []string{
			inst.initDB,
			"--no-defaults", // must be the first
			"--auth-root-authentication-method=socket",
			"--skip-test-db",
			"--auth-root-socket-user=" + accountName(c),
			"--extra-file=" + script,
			"--innodb-log-file-size=" + strconv.FormatInt(c.RedoLog, 10),
		}
	}
	argv = append(argv, "--datadir="+c.dataDir(), "--tmpdir="+c.tmpDir(),
		"--innodb-buffer-pool-size="+strconv.FormatInt(c.BufferPool, 10))
	return append(argv, asRoot(c)...)
}

// asRoot lets a server run as root when that is what we are and nobody else
// was named: servers refuse it unless it is said.
func asRoot(c Config) []string {
	if c.Credential == nil && os.Geteuid() == 0 {
		return []string{"--user=root"}
	}
	return nil
}

// accountName is the name of the account that the server runs as: it gets an
// administrator's account of the same name, for use over the socket without a
// password.
func accountName(c Config) string {
	uid := os.Geteuid()
	if c.Credential != nil {
		uid = int(c.Credential.Uid)
	}
	if u, err := user.LookupId(strconv.Itoa(uid)); err == nil {
		return u.Username
	}
	return AdminUser // an account without a name has none to come in by
}

// own gives path to the account that the server runs as.
func (c Config) own(path string) error {
	if c.Credential == nil {
		return nil
	}
	if err := os.Chown(path, int(c.Credential.Uid), int(c.Credential.Gid)); err != nil {
		return fmt.Errorf("give %s to the server's account: %w", path, err)
	}
	return nil
}

// environment is what a server process gets: nothing of ours that could change
// what it does (MYSQL_* variables, notify sockets).
func environment(c Config) []string {
	return []string{"PATH=" + os.Getenv("PATH"), "HOME=" + c.Dir, "TMPDIR=" + c.tmpDir(), "LC_ALL=C"}
}

// tail is the last n bytes of text, whole lines.
func tail(text []byte, n int) string {
	if len(text) <= n {
		return strings.TrimSpace(string(text))
	}
	text = text[len(text)-n:]
	if i := slices.Index(text, '\n'); i >= 0 {
		text = text[i+1:]
	}
	return "… " + strings.TrimSpace(string(text))
}
