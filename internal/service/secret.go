package service

import (
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"syscall"
)

const maxSecret = 4 << 10

// ReadSecret returns the content of the file at path without one line break at
// its end. It refuses a file that others than its owner and group may read or
// change, an empty one and one above 4 KiB. An error never has the content in it.
func ReadSecret(path string) (secret string, err error) {
	f, err := openSecret(path)
	if err != nil {
		return "", err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	data, err := io.ReadAll(io.LimitReader(f, maxSecret+1))
	if err != nil {
		return "", fmt.Errorf("read secret: %w", err)
	}
	secret = strings.TrimSuffix(strings.TrimSuffix(string(data), "\n"), "\r")
	switch {
	case len(data) > maxSecret:
		return "", fmt.Errorf("secret file %s is larger than %d bytes", path, maxSecret)
	case secret == "":
		return "", fmt.Errorf("secret file %s is empty", path)
	}
	return secret, nil
}

// CheckSecretFile refuses what ReadSecret refuses for its kind or its mode, for
// secrets that somebody else reads, such as a TLS key.
func CheckSecretFile(path string) error {
	f, err := openSecret(path)
	if err != nil {
		return err
	}
	return f.Close()
}

// openSecret judges the open file, which cannot be another one a moment later.
func openSecret(path string) (*os.File, error) {
	f, err := os.OpenFile(path, os.O_RDONLY|syscall.O_NONBLOCK, 0)
	if err != nil {
		return nil, fmt.Errorf("read secret: %w", err)
	}
	info, err := f.Stat()
	switch {
	case err != nil:
		err = fmt.Errorf("read secret: %w", err)
	case !info.Mode().IsRegular():
		err = fmt.Errorf("secret file %s is not a file", path)
	case info.Mode().Perm()&0o007 != 0:
		err = fmt.Errorf("secret file %s has mode %04o: every user of the machine has access to it; chmod it to 0640 or 0600",
			path, info.Mode().Perm())
	}
	if err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return f, nil
}
