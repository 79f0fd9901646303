package mariabackup

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strings"
	"syscall"

	"farmhand/internal/child"
	"farmhand/internal/dbserver"
)

// maxSaid is how much of what a program said is told when it fails.
const maxSaid = 1000

// program is one run of a program beside a server, as the server's account.
type program struct {
	server dbserver.Config
	args   []string // the first is its name
	in     io.Reader
	out    io.Writer
}

// run runs the program to its end. It dies with ctx and with this process. The
// error holds the end of what it said.
func (p program) run(ctx context.Context) (err error) {
	path, err := exec.LookPath(p.args[0])
	if err != nil {
		return err
	}
	said := &end{most: maxSaid}
	cmd := exec.Command(path, p.args[1:]...)
	cmd.Dir = p.server.TempDir()
	cmd.Env = []string{"PATH=" + os.Getenv("PATH"), "HOME=" + cmd.Dir, "TMPDIR=" + cmd.Dir, "LC_ALL=C"}
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: p.server.Credential}
	cmd.Stdout, cmd.Stderr = said, said
	// Pipes of our own: those of exec would be read and written by goroutines that
	// outlive a program which ends early.
	var ours, theirs *os.File
	switch {
	case p.in != nil:
		if theirs, ours, err = os.Pipe(); err != nil {
			return err
		}
		cmd.Stdin = theirs
	case p.out != nil:
		if ours, theirs, err = os.Pipe(); err != nil {
			return err
		}
		cmd.Stdout = theirs
	}
	process, err := child.Start(cmd, syscall.SIGKILL)
	if theirs != nil {
		err = errors.Join(err, theirs.Close())
	}
	if process == nil {
		if ours != nil {
			err = errors.Join(err, ours.Close())
		}
		return fmt.Errorf("run %s: %w", p.args[0], err)
	}
	killed := make(chan struct{})
	stop := context.AfterFunc(ctx, func() {
		defer close(killed)
		process.Signal(syscall.SIGKILL)
	})
	if err == nil {
		err = p.pass(ours)
	}
	if ours != nil {
		err = errors.Join(err, ours.Close())
	}
	if err != nil {
		process.Signal(syscall.SIGKILL)
	}
	ended := process.Err()
	if !stop() {
		<-killed
		return fmt.Errorf("run %s: %w", p.args[0], context.Cause(ctx))
	}
	switch {
	case err != nil && !errors.Is(err, syscall.EPIPE):
		return err // the program was killed for it
	case ended != nil:
		return fmt.Errorf("run %s: %w; it said:\n%s", p.args[0], ended, strings.TrimSpace(string(said.kept)))
	case err != nil:
		return fmt.Errorf("run %s: it ended before its input: %w", p.args[0], err)
	}
	return nil
}

// pass moves the input or the output through the pipe.
func (p program) pass(pipe *os.File) (err error) {
	buffer := make([]byte, 256<<10)
	switch {
	case p.in != nil:
		_, err = io.CopyBuffer(struct{ io.Writer }{pipe}, p.in, buffer)
	case p.out != nil:
		_, err = io.CopyBuffer(p.out, struct{ io.Reader }{pipe}, buffer)
	}
	return err
}

// end is a writer that keeps the end of what is written.
type end struct {
	most int
	kept []byte
}

func (e *end) Write(b []byte) (int, error) {
	e.kept = append(e.kept, b[max(0, len(b)-e.most):]...)
	e.kept = e.kept[max(0, len(e.kept)-e.most):]
	return len(b), nil
}
