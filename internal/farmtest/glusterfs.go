package farmtest

import (
	"os"
	"os/exec"
	"testing"
)

// NeedGlusterFS skips the test where GlusterFS is not there, or a file system of a program's
// own cannot be mounted.
func NeedGlusterFS(t testing.TB) {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("to mount a file system takes root")
	}
	for _, program := range []string{"glusterfsd", "glusterfs"} {
		if _, err := exec.LookPath(program); err != nil {
			t.Skip(err)
		}
	}
	fuse, err := os.OpenFile("/dev/fuse", os.O_RDWR, 0)
	if err != nil {
		t.Skip(err)
	}
	if err := fuse.Close(); err != nil {
		t.Fatal(err)
	}
}
