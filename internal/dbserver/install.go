package dbserver

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"farmhand/internal/farm"
)

// ErrNotInstalled says that no server program of the wanted flavor was found;
// the error that wraps it names where it was looked for.
var ErrNotInstalled = errors.New("no database server program found")

// Install is one installed server program.
type Install struct {
	Flavor farm.Flavor
	// Version is the program's own version text, such as
	// "10.11.19-MariaDB-0+deb12u1".
	Version string

	command []string // program and the arguments that must come first
	loader  []string // what runs programs of an unpacked tree; nil for an installed server
	root    string   // that tree
	base    []string // where the program finds its own files
	initDB  string   // mariadb-install-db; empty for MySQL
}

// systemDirs are where Debian and others keep server programs; an ordinary
// user's PATH often lacks them.
var systemDirs = []string{"/usr/local/sbin", "/usr/local/bin", "/usr/sbin", "/usr/bin", "/sbin", "/usr/libexec"}

// Find returns the server program of a flavor. MariaDB is looked for in PATH
// and the usual system directories. MySQL is looked for first in roots:
// directories that hold an unpacked system tree of their own, libraries
// included (scripts/mysql-unpack makes one), which is run through its own
// dynamic loader and needs neither chroot nor root; then in PATH.
func Find(ctx context.Context, flavor farm.Flavor, roots ...string) (Install, error) {
	switch flavor {
	case farm.MariaDB:
		return findMariaDB(ctx)
	case farm.MySQL:
		return findMySQL(ctx, roots)
	}
	return Install{}, fmt.Errorf("find server: unknown flavor %v", flavor)
}

func findMariaDB(ctx context.Context) (Install, error) {
	daemon, ok := lookup("mariadbd", "mysqld")
	if !ok {
		return Install{}, fmt.Errorf("%w: no mariadbd in PATH or %s (Debian package mariadb-server)", ErrNotInstalled, strings.Join(systemDirs, ", "))
	}
	version, err := programVersion(ctx, []string{daemon})
	if err != nil {
		return Install{}, err
	}
	if !strings.Contains(version, "MariaDB") {
		return Install{}, fmt.Errorf("%w: %s is version %q, not MariaDB (Debian package mariadb-server)", ErrNotInstalled, daemon, version)
	}
	initDB, ok := lookup("mariadb-install-db", "mysql_install_db")
	if !ok {
		return Install{}, fmt.Errorf("%w: %s is there, but not mariadb-install-db (Debian package mariadb-server)", ErrNotInstalled, daemon)
	}
	return Install{Flavor: farm.MariaDB, Version: version, command: []string{daemon}, initDB: initDB}, nil
}

func findMySQL(ctx context.Context, roots []string) (Install, error) {
	var looked []string
	for _, root := range roots {
		if root == "" {
			continue
		}
		daemon := filepath.Join(root, "usr/sbin/mysqld")
		looked = append(looked, daemon)
		if _, err := os.Stat(daemon); err != nil {
			continue
		}
		inst, err := unpackedMySQL(root, daemon)
		if err != nil {
			return Install{}, err
		}
		if inst.Version, err = programVersion(ctx, inst.command); err != nil {
			return Install{}, err
		}
		return inst, nil
	}
	if daemon, ok := lookup("mysqld"); ok {
		version, err := programVersion(ctx, []string{daemon})
		if err != nil {
			return Install{}, err
		}
		if !strings.Contains(version, "MariaDB") {
			return Install{Flavor: farm.MySQL, Version: version, command: []string{daemon}}, nil
		}
		looked = append(looked, daemon+" (it is MariaDB)")
	}
	return Install{}, fmt.Errorf("%w: no MySQL server; looked at %s and PATH (scripts/mysql-unpack fetches one)", ErrNotInstalled, strings.Join(looked, ", "))
}

// unpackedMySQL builds the command line that runs a mysqld with the loader and
// the libraries of its own tree.
func unpackedMySQL(root, daemon string) (Install, error) {
	loaders, err := filepath.Glob(filepath.Join(root, "usr/lib*/ld-linux-*"))
	if err != nil {
		return Install{}, fmt.Errorf("find the dynamic loader in %s: %w", root, err)
	}
	if len(loaders) == 0 {
		if loaders, err = filepath.Glob(filepath.Join(root, "usr/lib/*/ld-linux-*")); err != nil {
			return Install{}, fmt.Errorf("find the dynamic loader in %s: %w", root, err)
		}
	}
	if len(loaders) == 0 {
		return Install{}, fmt.Errorf("%w: %s has no dynamic loader beside it (unpack it again)", ErrNotInstalled, daemon)
	}
	libs, err := filepath.Glob(filepath.Join(root, "usr/lib/*-linux-gnu"))
	if err != nil {
		return Install{}, fmt.Errorf("find the libraries in %s: %w", root, err)
	}
	libs = append(libs, filepath.Join(root, "usr/lib/mysql/private"), filepath.Join(root, "usr/lib"))
	usr := filepath.Join(root, "usr")
	loader := []string{loaders[0], "--library-path", strings.Join(libs, ":")}
	return Install{
		Flavor:  farm.MySQL,
		command: append(slices.Clone(loader), daemon),
		loader:  loader, root: root,
		base: []string{
			"--basedir=" + usr,
			"--lc-messages-dir=" + filepath.Join(usr, "share/mysql"),
			"--character-sets-dir=" + filepath.Join(usr, "share/mysql/charsets"),
			"--plugin-dir=" + filepath.Join(usr, "lib/mysql/plugin"),
		},
	}, nil
}

// Tool returns the command that runs one of the programs that come with the server, such as
// mysqlbinlog: the unpacked tree's own, which alone fits its server, else the machine's.
// ErrNotInstalled if there is none.
func (i Install) Tool(name string) ([]string, error) {
	if i.root == "" {
		path, ok := lookup(name)
		if !ok {
			return nil, fmt.Errorf("%w: no %s in PATH or %s", ErrNotInstalled, name, strings.Join(systemDirs, ", "))
		}
		return []string{path}, nil
	}
	path := filepath.Join(i.root, "usr/bin", name)
	if _, err := os.Stat(path); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrNotInstalled, err)
	}
	return append(slices.Clone(i.loader), path), nil
}

// ByHand is a command line with which a person can run a server on a directory's data.
func ByHand(inst Install, c Config) string {
	args := append(slices.Clone(inst.command), "--no-defaults")
	args = append(args, inst.base...)
	args = append(args, "--datadir="+c.dataDir(), "--socket="+c.Socket, "--bind-address="+c.Address.String(), "--port="+strconv.Itoa(int(c.Port)))
	return strings.Join(append(args, asRoot(c)...), " ")
}

// lookup finds the first of names in PATH or the system directories.
func lookup(names ...string) (string, bool) {
	dirs := slices.Concat(filepath.SplitList(os.Getenv("PATH")), systemDirs)
	for _, name := range names {
		for _, dir := range dirs {
			path := filepath.Join(dir, name)
			if st, err := os.Stat(path); err == nil && st.Mode().IsRegular() && st.Mode()&0o111 != 0 {
				return path, true
			}
		}
	}
	return "", false
}

var versionText = regexp.MustCompile(`Ver (\S+)`)

func programVersion(ctx context.Context, command []string) (string, error) {
	ctx, cancel := context.WithTimeout(ctx, 30*time.Second)
	defer cancel()
	argv := append(slices.Clone(command), "--no-defaults", "--version")
	out, err := exec.CommandContext(ctx, argv[0], argv[1:]...).CombinedOutput()
	if err != nil {
		return "", fmt.Errorf("run %s: %w: %s", strings.Join(argv, " "), err, strings.TrimSpace(string(out)))
	}
	m := versionText.FindSubmatch(out)
	if m == nil {
		return "", fmt.Errorf("run %s: no version in %q", strings.Join(argv, " "), out)
	}
	return string(m[1]), nil
}
