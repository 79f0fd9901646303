package volume

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
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
