package dbtool

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

// Program is one run of a program beside a server, as the server's account.
type Program struct {
	Server dbserver.Config
	// Name is what it is called in errors; default the first of Args.
	Name string
	// Args are the program, a path or a name in PATH, and its arguments.
	Args []string
	// At most one of them is set: what it reads, and where what it writes goes.
	In  io.Reader
	Out io.Writer
}

// Run runs the program to its end. It dies with ctx and with this process. The
// error holds the end of what it said.
func (p Program) Run(ctx context.Context) (err error) {
	if p.Name == "" {
		p.Name = p.Args[0]
	}
	path, err := exec.LookPath(p.Args[0])
	if err != nil {
		return err
	}
	said := &end{most: maxSaid}
	cmd := exec.Command(path, p.Args[1:]...)
	cmd.Dir = p.Server.TempDir()
	cmd.Env = []string{"PATH=" + os.Getenv("PATH"), "HOME=" + cmd.Dir, "TMPDIR=" + cmd.Dir, "LC_ALL=C"}
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: p.Server.Credential}
	cmd.Stdout, cmd.Stderr = said, said
	// Pipes of our own: those of exec would be read and written by goroutines that
	// outlive a program which ends early.
	var ours, theirs *os.File
	switch {
	case p.In != nil:
		if theirs, ours, err = os.Pipe(); err != nil {
			return err
		}
		cmd.Stdin = theirs
	case p.Out != nil:
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
		return fmt.Errorf("run %s: %w", p.Name, err)
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
		return fmt.Errorf("run %s: %w", p.Name, context.Cause(ctx))
	}
	switch {
	case err != nil && !errors.Is(err, syscall.EPIPE):
		return err // the program was killed for it
	case ended != nil:
		return fmt.Errorf("run %s: %w; it said:\n%s", p.Name, ended, strings.TrimSpace(string(said.kept)))
	case err != nil:
		return fmt.Errorf("run %s: it ended before its input: %w", p.Name, err)
	}
	return nil
}

// pass moves the input or the output through the pipe.
func (p Program) pass(pipe *os.File) (err error) {
	buffer := make([]byte, 256<<10)
	switch {
	case p.In != nil:
		_, err = io.CopyBuffer(struct{ io.Writer }{pipe}, p.In, buffer)
	case p.Out != nil:
		_, err = io.CopyBuffer(p.Out, struct{ io.Reader }{pipe}, buffer)
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
