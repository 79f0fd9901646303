package volume

import (
	"bufio"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
)

// loops are the loop devices of files, in the files' order; empty for a file that has
// none. The kernel says so: what a record says may be of the time before a crash.
func loops(files []string) ([]string, error) {
	found, err := filepath.Glob("/sys/block/loop*/loop/backing_file")
	if err != nil {
		return nil, err
	}
	devices := make([]string, len(files))
	for _, path := range found {
		text, err := os.ReadFile(path)
		if errors.Is(err, fs.ErrNotExist) {
			continue // it has gone meanwhile
		}
		if err != nil {
			return nil, err
		}
		backing := strings.TrimSuffix(string(text), "\n")
		for i, file := range files {
			if backing != file {
				continue
			}
			device := "/dev/" + filepath.Base(filepath.Dir(filepath.Dir(path)))
			if devices[i] != "" {
				return nil, fmt.Errorf("%s has two loop devices, %s and %s: detach one (losetup --detach) before its content is damaged", file, devices[i], device)
			}
			devices[i] = device
		}
	}
	return devices, nil
}

// mount is a file system that is mounted.
type mount struct{ path, source string }

// mounts are all of this process's mount namespace, see proc_pid_mountinfo(5).
func mounts() ([]mount, error) {
	f, err := os.Open("/proc/self/mountinfo")
	if err != nil {
		return nil, err
	}
	var list []mount
	scan := bufio.NewScanner(f)
	for scan.Scan() {
		before, after, ok := strings.Cut(scan.Text(), " - ")
		fields, rest := strings.Fields(before), strings.Fields(after)
		if !ok || len(fields) < 5 || len(rest) < 2 {
			return nil, errors.Join(fmt.Errorf("/proc/self/mountinfo has an unknown form: %q", scan.Text()), f.Close())
		}
		list = append(list, mount{unescape(fields[4]), unescape(rest[1])})
	}
	return list, errors.Join(scan.Err(), f.Close())
}

// mountedAt is what is mounted at a path; nil for nothing.
func mountedAt(path string) (*mount, error) {
	all, err := mounts()
	if err != nil {
		return nil, err
	}
	for _, m := range all {
		if m.path == path {
			return &m, nil
		}
	}
	return nil, nil
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
