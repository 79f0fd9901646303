package volume

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// guard freezes a file system and thaws it when its standard input ends, which the
// end of this process is as well, or when the time is over. It is a process of its own
// for that, in its own session, and no signal that is meant for us ends it.
const guard = `trap '' HUP INT TERM
fsfreeze --freeze "$1" || exit 1
echo frozen
timeout "$2" cat >/dev/null || late=1
fsfreeze --unfreeze "$1" || exit 1
[ -z "$late" ] || echo late`

// errLate: the file system was thawed before what was to be done was done.
var errLate = errors.New("writes were let go on before the snapshot had all: raise the limit, or take it while less is written")

// frozen runs do while nothing can be written to the file system at path, for limit at
// most, and returns for how long that was.
func (g *grip) frozen(ctx context.Context, path string, limit time.Duration, do func(ctx context.Context) error) (held time.Duration, err error) {
	seconds := fmt.Sprintf("%.3f", limit.Seconds())
	cmd := exec.Command("sh", "-c", guard, "sh", path, seconds)
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	cmd.ExtraFiles = []*os.File{g.lock} // who comes next begins when it is thawed
	var complaints strings.Builder
	cmd.Stderr = &complaints
	in, err := cmd.StdinPipe()
	if err != nil {
		return 0, err
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		return 0, errors.Join(err, in.Close())
	}
	if err := cmd.Start(); err != nil {
		return 0, fmt.Errorf("start the guard of a frozen file system: %w", err)
	}
	lines := bufio.NewReader(out)
	first, err := lines.ReadString('\n') // the kernel writes first what is to be written
	began := time.Now()
	if err == nil && first == "frozen\n" {
		g.Step("frozen")
		doing, cancel := context.WithTimeoutCause(ctx, limit, errLate)
		err = do(doing)
		cancel()
	}
	held = time.Since(began)
	err = errors.Join(err, in.Close())
	rest, readErr := io.ReadAll(lines)
	if ended := cmd.Wait(); ended != nil {
		return held, errors.Join(err, fmt.Errorf("freeze %s: %w: %s", path, ended, strings.TrimSpace(complaints.String())))
	}
	if strings.Contains(string(rest), "late") && !errors.Is(err, errLate) {
		err = errors.Join(err, errLate)
	}
	return held, errors.Join(err, readErr)
}

// fithaw is FITHAW of linux/fs.h: _IOWR('X', 120, int).
const fithaw = 0xc0045878

// thaw lets writes to the file system at path go on, if somebody held them up.
func thaw(path string) error {
	d, err := os.Open(path)
	if err != nil {
		return err
	}
	err = unix.IoctlSetInt(int(d.Fd()), fithaw, 0)
	if errors.Is(err, unix.EINVAL) || errors.Is(err, unix.EOPNOTSUPP) {
		err = nil // it is not frozen
	}
	return errors.Join(err, d.Close())
}
