package farmtest

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"testing"
)

// BreakData writes over the system tablespace of the server directory, so that the server
// ends when it is started the next time, of whichever flavor it is.
func BreakData(t testing.TB, dir string) {
	t.Helper()
	file, err := os.OpenFile(filepath.Join(dir, "data", "ibdata1"), os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	_, err = file.WriteAt(bytes.Repeat([]byte("broken "), 1<<20), 0)
	if err := errors.Join(err, file.Close()); err != nil {
		t.Fatal(err)
	}
}
