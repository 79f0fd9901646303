package volume

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"slices"
	"strings"
	"syscall"
	"time"
)

// toolLimit is how long one program may take: a check of a large file system is the
// slowest.
const toolLimit = 10 * time.Minute

// said is how much of what a program says is shown, in bytes, from its end.
const said = 2 << 10

// run runs a program to its end. One that has begun is not cut short by ctx: a half
// made file system or mount is nobody's wish. If this process dies it goes on, and the
// lock is held for as long: who comes next begins when it has ended.
func run(ctx context.Context, lock *os.File, args []string, fine ...int) (string, error) {
	if ctx.Err() != nil {
		return "", context.Cause(ctx)
	}
	limited, cancel := context.WithTimeout(context.WithoutCancel(ctx), toolLimit)
	defer cancel()
	cmd := exec.CommandContext(limited, args[0], args[1:]...)
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true} // Ctrl-C is for us
	cmd.ExtraFiles = []*os.File{lock}
	out, err := cmd.CombinedOutput()
	var exit *exec.ExitError
	if errors.As(err, &exit) && slices.Contains(fine, exit.ExitCode()) {
		err = nil
	}
	text := string(bytes.TrimSpace(out[max(0, len(out)-said):]))
	if err != nil {
		return text, fmt.Errorf("%s: %w: %s", strings.Join(args, " "), err, text)
	}
	return text, nil
}
