package config

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"os"
	"path/filepath"
)

// ControlSocket is the path of the socket on which a proxy with the same
// listeners hands them over: in a directory that only this user can write to.
func (c *Config) ControlSocket() (string, error) {
	base := os.TempDir()
	if os.Geteuid() == 0 {
		base = "/run"
	}
	dir := filepath.Join(base, fmt.Sprintf("farmhand-proxy-%d", os.Geteuid()))
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return "", fmt.Errorf("directory of the hand-over socket: %w", err)
	}
	info, err := os.Lstat(dir)
	if err != nil {
		return "", fmt.Errorf("directory of the hand-over socket: %w", err)
	}
	if !info.IsDir() || info.Mode().Perm()&0o077 != 0 {
		return "", fmt.Errorf("%s is not a directory of this user's alone (mode %v): remove it", dir, info.Mode())
	}
	h := sha256.New()
	for _, l := range c.Listen {
		fmt.Fprintf(h, "%s %s\n", l.Network(), l.Address())
	}
	return filepath.Join(dir, hex.EncodeToString(h.Sum(nil)[:8])+".sock"), nil
}
