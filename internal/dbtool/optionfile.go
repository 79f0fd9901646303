package dbtool

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"farmhand/internal/dbserver"
	"farmhand/internal/mysqladmin"
)

// OptionFile writes who the server's administrator is where a program finds it, which
// reads the options of a group: the arguments of a program can be read by everybody. What a killed process
// left there under the same purpose is removed; the caller removes the file.
func OptionFile(c dbserver.Config, purpose, group string, admin mysqladmin.Target) (path string, err error) {
	pattern := purpose + "-*.cnf"
	left, err := filepath.Glob(filepath.Join(c.TempDir(), pattern))
	if err != nil {
		return "", err
	}
	for _, path := range left { // one at a time: none is in use
		if err := os.Remove(path); err != nil {
			return "", fmt.Errorf("remove an option file that was left: %w", err)
		}
	}
	f, err := os.CreateTemp(c.TempDir(), pattern) // mode 0600
	if err != nil {
		return "", fmt.Errorf("write an option file: %w", err)
	}
	_, err = fmt.Fprintf(f, "[%s]\nuser=%s\npassword=%s\nsocket=%s\n", group,
		optionValue(admin.User), optionValue(admin.Password), optionValue(admin.Address))
	err = errors.Join(err, f.Close())
	if err == nil {
		err = c.Give(f.Name())
	}
	if err != nil {
		return "", fmt.Errorf("write an option file: %w", errors.Join(err, os.Remove(f.Name())))
	}
	return f.Name(), nil
}

// optionValue quotes a value for an option file.
func optionValue(text string) string {
	return `"` + strings.NewReplacer(`\`, `\\`, `"`, `\"`).Replace(text) + `"`
}
