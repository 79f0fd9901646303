package main

import (
	"net"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"go.uber.org/zap"

	"farmhand/internal/farmtest"
	"farmhand/internal/report"
)

// TestSystemdIsToldOfReports: the first one makes the service ready, and each is
// progress.
func TestSystemdIsToldOfReports(t *testing.T) {
	path := filepath.Join(farmtest.ShortDir(t), "notify")
	socket, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: path, Net: "unixgram"})
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = socket.Close() }()
	t.Setenv("NOTIFY_SOCKET", path)
	t.Setenv("WATCHDOG_USEC", "1")
	heard := 0
	tell, err := underSystemd(func(report.Report) error { heard++; return nil }, zap.NewNop())
	if err != nil {
		t.Fatal(err)
	}
	for range 2 {
		if err := tell(report.Report{State: report.Starting}); err != nil {
			t.Fatal(err)
		}
	}
	if err := socket.SetReadDeadline(time.Now().Add(10 * time.Second)); err != nil {
		t.Fatal(err)
	}
	var told []string
	for buf := make([]byte, 1000); len(told) < 3; {
		n, err := socket.Read(buf)
		if err != nil {
			t.Fatalf("after %q: %v", told, err)
		}
		told = append(told, strings.ReplaceAll(string(buf[:n]), "\n", " "))
	}
	if want := []string{"READY=1 STATUS=starting", "WATCHDOG=1", "WATCHDOG=1"}; !slices.Equal(told, want) || heard != 2 {
		t.Errorf("systemd was told %q, and %d reports went on", told, heard)
	}
}
