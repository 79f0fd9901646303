package hook

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"syscall"

	"farmhand/internal/farm"
)

// script is a program in hooks.d/EVENT/.
type script struct {
	name, path string
	async      bool
	refusal    error // why it is not run; nil if it is
}

// maxScripts bounds the hooks of one event.
const maxScripts = 100

var scriptPattern = regexp.MustCompile(`^[0-9]{2}-[A-Za-z0-9._-]{1,100}$`)

// asyncSuffix makes a hook one that nobody waits for.
const asyncSuffix = ".async"

// scripts returns the hooks for a kind of event, in the order of their names. No
// directory means that there are none. The error is about all of them.
func scripts(root string, kind farm.EventKind) ([]script, error) {
	if root == "" {
		return nil, nil
	}
	dir := filepath.Join(root, string(kind))
	entries, err := os.ReadDir(dir)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil, nil
	case err != nil:
		return nil, fmt.Errorf("hooks: %w", err)
	}
	// Who may change the directory can put any program in it.
	for _, path := range []string{root, dir} {
		info, err := os.Stat(path)
		if err != nil {
			return nil, fmt.Errorf("hooks: %w", err)
		}
		if err := trusted(path, info); err != nil {
			return nil, fmt.Errorf("hooks: %w", err)
		}
	}
	var found []script
	for _, entry := range entries {
		if !scriptPattern.MatchString(entry.Name()) {
			continue // a README, an editor's copy
		}
		if len(found) == maxScripts {
			return nil, fmt.Errorf("hooks: there are more than %d in %s", maxScripts, dir)
		}
		s := script{name: entry.Name(), path: filepath.Join(dir, entry.Name()), async: strings.HasSuffix(entry.Name(), asyncSuffix)}
		s.refusal = runnable(s.path)
		found = append(found, s)
	}
	return found, nil
}

// Check says which hooks would be refused, and why.
func Check(root string) []error {
	if _, err := os.Stat(root); err != nil {
		return []error{err}
	}
	var errs []error
	for _, kind := range farm.EventKinds() {
		found, err := scripts(root, kind)
		if err != nil {
			errs = append(errs, err)
		}
		for _, s := range found {
			if s.refusal != nil {
				errs = append(errs, s.refusal)
			}
		}
	}
	entries, err := os.ReadDir(root)
	if err != nil {
		return append(errs, err)
	}
	for _, entry := range entries {
		if entry.IsDir() && !slices.Contains(farm.EventKinds(), farm.EventKind(entry.Name())) {
			errs = append(errs, fmt.Errorf("%s: there is no such event", filepath.Join(root, entry.Name())))
		}
	}
	return errs
}

// runnable says why the file is not to be run.
func runnable(path string) error {
	// Where a symbolic link leads to, others may own the directories.
	real, err := filepath.EvalSymlinks(path)
	if err != nil {
		return err
	}
	if real != path {
		dir := filepath.Dir(real)
		info, err := os.Stat(dir)
		if err != nil {
			return err
		}
		if err := trusted(dir, info); err != nil {
			return err
		}
	}
	info, err := os.Stat(real)
	switch {
	case err != nil:
		return err
	case !info.Mode().IsRegular():
		return fmt.Errorf("%s is not a file", path)
	case info.Mode().Perm()&0o111 == 0:
		return fmt.Errorf("%s is not executable; chmod +x it, or give it another name", path)
	}
	return trusted(path, info)
}

// trusted refuses what belongs to others than root and ourselves, and what
// others may write to.
func trusted(path string, info fs.FileInfo) error {
	if info.Mode().Perm()&0o022 != 0 {
		return fmt.Errorf("%s has mode %04o: others than its owner may change it; chmod go-w it", path, info.Mode().Perm())
	}
	if stat, ok := info.Sys().(*syscall.Stat_t); ok && stat.Uid != 0 && int(stat.Uid) != os.Geteuid() {
		return fmt.Errorf("%s belongs to the user %d, who is neither root nor the one that the sidecar runs as", path, stat.Uid)
	}
	return nil
}
