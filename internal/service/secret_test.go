package service

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestReadSecret(t *testing.T) {
	for content, want := range map[string]string{
		"s3cret":            "s3cret",
		"s3cret\n":          "s3cret",
		"s3cret\r\n":        "s3cret",
		" with blanks \n\n": " with blanks \n", // one line break is the editor's, more are the secret's
		"é\x00ü":            "é\x00ü",
	} {
		got, err := ReadSecret(write(t, "secret", content, 0o640))
		if err != nil || got != want {
			t.Errorf("%q: got %q, %v", content, got, err)
		}
	}
}

func TestReadSecretRefuses(t *testing.T) {
	for want, path := range map[string]string{
		"no such file":           filepath.Join(t.TempDir(), "none"),
		"is not a file":          t.TempDir(),
		"mode 0644":              write(t, "secret", "s3cret", 0o644),
		"mode 0602":              write(t, "secret", "s3cret", 0o602),
		"is empty":               write(t, "secret", "\n", 0o600),
		"larger than 4096 bytes": write(t, "secret", "s3cret"+strings.Repeat("x", maxSecret), 0o600),
	} {
		got, err := ReadSecret(path)
		if got != "" || err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: got %q, %v", want, got, err)
		}
		if err != nil && strings.Contains(err.Error(), "s3cret") {
			t.Errorf("the error tells the secret: %v", err)
		}
	}
}

func TestCheckSecretFile(t *testing.T) {
	path := write(t, "key", "k", 0o600)
	if err := CheckSecretFile(path); err != nil {
		t.Error(err)
	}
	must(t, os.Chmod(path, 0o604))
	if err := CheckSecretFile(path); err == nil || !strings.Contains(err.Error(), "mode 0604") {
		t.Errorf("an open key: %v", err)
	}
}
