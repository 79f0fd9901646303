package service

import (
	"net"
	"path/filepath"
	"strconv"
	"testing"
	"time"
)

func TestTheWatchdogIsToldOfProgressOnly(t *testing.T) {
	path := filepath.Join(t.TempDir(), "notify")
	conn, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: path, Net: "unixgram"})
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = conn.Close() }()
	w, err := NewWatchdog(NewNotifier(path), func(key string) string {
		return map[string]string{"WATCHDOG_USEC": strconv.Itoa(3_600_000_000)}[key]
	})
	if err != nil {
		t.Fatal(err)
	}
	for range 3 { // one of them is due
		if err := w.Beat(); err != nil {
			t.Fatal(err)
		}
	}
	if err := conn.SetReadDeadline(time.Now().Add(10 * time.Second)); err != nil {
		t.Fatal(err)
	}
	buf := make([]byte, 100)
	if n, err := conn.Read(buf); err != nil || string(buf[:n]) != "WATCHDOG=1" {
		t.Fatalf("%q, %v", buf[:n], err)
	}
	if err := conn.SetReadDeadline(time.Now()); err != nil {
		t.Fatal(err)
	}
	if n, err := conn.Read(buf); err == nil {
		t.Errorf("told again: %q", buf[:n])
	}
}

func TestWhetherAWatchdogIsWanted(t *testing.T) {
	for _, c := range []struct {
		usec, pid   string
		every, fail bool
	}{{"", "", false, false}, {"3000000", "1", false, false}, {"3000000", "", true, false}, {"soon", "", false, true}, {"0", "", false, true}} {
		w, err := NewWatchdog(Notifier{}, func(key string) string {
			return map[string]string{"WATCHDOG_USEC": c.usec, "WATCHDOG_PID": c.pid}[key]
		})
		if (err != nil) != c.fail || err == nil && (w.every > 0) != c.every {
			t.Errorf("%+v: %+v, %v", c, w, err)
		}
	}
}
