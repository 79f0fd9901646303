// Package mounts reads which file systems are mounted, and unmounts what is in the way.
//
// What there is stands in the kernel's own list: nothing that is mounted is touched by
// reading it, so that a file system which does not answer holds nobody up.
package mounts

import (
	"bufio"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// Mount is a file system that is mounted.
type Mount struct {
	// Path is where, Source of what (a device, say), Type which kind of file system.
	Path, Source, Type string
	// ReadOnly: nobody can write there. Options are what the file system itself was told.
	ReadOnly bool
	Options  []string
}

// All are those of this process's mount namespace, see proc_pid_mountinfo(5): of several
// at one path the last one is seen there.
func All() ([]Mount, error) {
	f, err := os.Open("/proc/self/mountinfo")
	if err != nil {
		return nil, err
	}
	var list []Mount
	scan := bufio.NewScanner(f)
	for scan.Scan() {
		before, after, ok := strings.Cut(scan.Text(), " - ")
		fields, rest := strings.Fields(before), strings.Fields(after)
		if !ok || len(fields) < 6 || len(rest) < 2 {
			return nil, errors.Join(fmt.Errorf("/proc/self/mountinfo has an unknown form: %q", scan.Text()), f.Close())
		}
		m := Mount{Path: unescape(fields[4]), Source: unescape(rest[1]), Type: rest[0], Options: strings.Split(rest[len(rest)-1], ",")}
		m.ReadOnly = fields[5] == "ro" || strings.HasPrefix(fields[5], "ro,") || m.Options[0] == "ro"
		list = append(list, m)
	}
	return list, errors.Join(scan.Err(), f.Close())
}

// At is what is seen at a path, which has no symbolic links in it; nil if nothing is
// mounted there.
func At(path string) (*Mount, error) {
	all, err := All()
	if err != nil {
		return nil, err
	}
	var at *Mount
	for _, m := range all {
		if m.Path == path {
			at = &m
		}
	}
	return at, nil
}

// Detach unmounts all that is mounted at a path and below it, the last one first. What
// somebody still uses goes when he has let go of it; a file system that does not
// answer is not asked.
func Detach(path string) error {
	path, err := resolved(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil // so nothing is mounted below it
	}
	if err != nil {
		return err
	}
	all, err := All()
	if err != nil {
		return err
	}
	var errs []error
	for i := len(all) - 1; i >= 0; i-- {
		at := all[i].Path
		if at != path && !strings.HasPrefix(at, path+"/") {
			continue
		}
		if err := unix.Unmount(at, unix.MNT_DETACH|unix.UMOUNT_NOFOLLOW); err != nil && !errors.Is(err, unix.EINVAL) { // it was unmounted meanwhile
			errs = append(errs, fmt.Errorf("unmount %s from %s: %w", all[i].Type, at, err))
		}
	}
	if err := errors.Join(errs...); err != nil {
		return err
	}
	if all, err = All(); err != nil {
		return err
	}
	for _, m := range all {
		if m.Path == path || strings.HasPrefix(m.Path, path+"/") {
			return fmt.Errorf("%s is mounted at %s again while it was unmounted", m.Type, m.Path)
		}
	}
	return nil
}

// resolved is a path as the kernel's list has it. The last part is not looked at: it may
// be where a file system is mounted that does not answer.
func resolved(path string) (string, error) {
	dir, err := filepath.EvalSymlinks(filepath.Dir(path))
	if err != nil {
		return "", err
	}
	return filepath.Join(dir, filepath.Base(path)), nil
}

// unescape reads the octal escapes of mountinfo.
func unescape(text string) string {
	var b strings.Builder
	for i := 0; i < len(text); i++ {
		if text[i] == '\\' && i+3 < len(text) {
			if n, err := strconv.ParseUint(text[i+1:i+4], 8, 8); err == nil {
				b.WriteByte(byte(n))
				i += 3
				continue
			}
		}
		b.WriteByte(text[i])
	}
	return b.String()
}
