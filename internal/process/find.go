package process

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"strconv"
)

// Found is a process as [Find] sees it.
type Found struct {
	ID
	Session int // the process id of its session's leader
	// Arguments are the command line; empty for what the kernel runs.
	Arguments []string
	// Environment is what the process began with; nil if it belongs to another
	// account and cannot be told.
	Environment []string
}

// Find returns the processes that is accepts. One that ends meanwhile is there or
// not.
func Find(is func(Found) bool) ([]Found, error) {
	entries, err := os.ReadDir("/proc")
	if err != nil {
		return nil, fmt.Errorf("look for processes: %w", err)
	}
	var list []Found
	for _, entry := range entries {
		pid, err := strconv.Atoi(entry.Name())
		if err != nil {
			continue // no process
		}
		found, err := look(pid)
		if errors.Is(err, ErrGone) {
			continue
		}
		if err != nil {
			return nil, fmt.Errorf("look for processes: %w", err)
		}
		if is(found) {
			list = append(list, found)
		}
	}
	return list, nil
}

func look(pid int) (Found, error) {
	id, err := Identify(pid)
	if err != nil {
		return Found{}, err
	}
	fields, err := stat(pid)
	if err != nil {
		return Found{}, err
	}
	found := Found{ID: id}
	if found.Session, err = strconv.Atoi(fields[6-3]); err != nil {
		return Found{}, fmt.Errorf("/proc/%d/stat: session %q", pid, fields[6-3])
	}
	found.Arguments, _ = list(pid, "cmdline") // of a process that ends, or of others: not known
	found.Environment, _ = list(pid, "environ")
	return found, nil
}

// list reads a file of texts that end with NUL.
func list(pid int, file string) ([]string, error) {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/%s", pid, file))
	if err != nil || len(text) == 0 {
		return nil, err
	}
	var texts []string
	for one := range bytes.SplitSeq(bytes.TrimSuffix(text, []byte{0}), []byte{0}) {
		texts = append(texts, string(one))
	}
	return texts, nil
}
