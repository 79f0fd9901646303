package service

import (
	"fmt"
	"net"
	"os"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// Notifier tells systemd how the service is doing (sd_notify(3)). Without a
// socket it does nothing, so that a program need not know who started it.
type Notifier struct{ socket string }

// NewNotifier returns a notifier for the socket that systemd names in
// NOTIFY_SOCKET; empty for none.
func NewNotifier(socket string) Notifier { return Notifier{socket} }

// Ready says that the service serves; status is for people. It also ends a
// reload.
func (n Notifier) Ready(status string) error { return n.send("READY=1", "STATUS="+status) }

// Reloading says that the service reads its configuration again.
func (n Notifier) Reloading() error {
	// systemd wants to know that this is the reload it asked for, by its clock.
	var now unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_MONOTONIC, &now); err != nil {
		return fmt.Errorf("notify systemd: %w", err)
	}
	return n.send("RELOADING=1", "MONOTONIC_USEC="+strconv.FormatInt(now.Nano()/1000, 10))
}

// Stopping says that the service finishes what it has.
func (n Notifier) Stopping(status string) error { return n.send("STOPPING=1", "STATUS="+status) }

// Status says in words what the service does.
func (n Notifier) Status(status string) error { return n.send("STATUS=" + status) }

func (n Notifier) send(lines ...string) error {
	if n.socket == "" {
		return nil
	}
	for i, line := range lines {
		lines[i] = strings.ReplaceAll(line, "\n", " ")
	}
	conn, err := net.DialUnix("unixgram", nil, &net.UnixAddr{Name: n.socket, Net: "unixgram"})
	if err != nil {
		return fmt.Errorf("notify systemd: %w", err)
	}
	defer conn.Close()
	if err := conn.SetDeadline(time.Now().Add(time.Second)); err != nil {
		return fmt.Errorf("notify systemd: %w", err)
	}
	if _, err := conn.Write([]byte(strings.Join(lines, "\n"))); err != nil {
		return fmt.Errorf("notify systemd: %w", err)
	}
	return nil
}

// firstActivated is SD_LISTEN_FDS_START.
const firstActivated = 3

// maxActivated is more than anybody passes; it keeps a wrong number from being
// closed on a million descriptors.
const maxActivated = 1024

// ActivatedFiles returns the sockets that systemd opened for this process
// (sd_listen_fds(3)), each under its FileDescriptorName; none if there are none.
// getenv is usually os.Getenv. The caller owns the files, and must call this
// once at most, before anything else opens a descriptor.
func ActivatedFiles(getenv func(string) string) ([]*os.File, error) {
	if getenv("LISTEN_FDS") == "" || getenv("LISTEN_PID") != strconv.Itoa(os.Getpid()) {
		return nil, nil
	}
	count, err := strconv.Atoi(getenv("LISTEN_FDS"))
	if err != nil || count < 0 || count > maxActivated {
		return nil, fmt.Errorf("socket activation: LISTEN_FDS is %q; expected a small number", getenv("LISTEN_FDS"))
	}
	names := strings.Split(getenv("LISTEN_FDNAMES"), ":")
	files := make([]*os.File, count)
	for i := range files {
		fd := firstActivated + i
		if _, err := unix.FcntlInt(uintptr(fd), unix.F_SETFD, unix.FD_CLOEXEC); err != nil {
			return nil, fmt.Errorf("socket activation: descriptor %d: %w", fd, err)
		}
		name := "unknown" // as sd_listen_fds_with_names(3) calls it
		if i < len(names) && names[i] != "" {
			name = names[i]
		}
		files[i] = os.NewFile(uintptr(fd), name)
	}
	return files, nil
}
