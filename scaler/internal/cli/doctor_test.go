package cli

import (
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"farmhand/scaler/internal/control"
	"farmhand/scaler/internal/daemon"
	"farmhand/scaler/internal/provider"
)

// TestDoctorLooksAtWhatOthersCanGetAt: this process is a node of the farm.
func TestDoctorLooksAtWhatOthersCanGetAt(t *testing.T) {
	config := control.Default()
	config.Farm = "shop"
	m, err := controlMember("scaler-1", "127.0.0.1", []uint{2379, 2380, 2381})
	if err != nil {
		t.Fatal(err)
	}
	config.Members = []control.Member{m}
	d := control.Dir{Path: filepath.Join(t.TempDir(), "control")}
	if _, err := control.Init(d, config, time.Now()); err != nil {
		t.Fatal(err)
	}
	v := &daemon.View{Nodes: []daemon.NodeView{{Instance: provider.Instance{Name: "web1", PID: os.Getpid()}}}}
	listen := func(address string) string {
		t.Helper()
		l, err := net.Listen("tcp", address)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = l.Close() }) // nobody connects
		return l.Addr().String()
	}
	listen("127.0.0.1:0")
	if f := listening(d, v); f.wrong != "" {
		t.Errorf("loopback: %+v", f)
	}
	_, port, err := net.SplitHostPort(listen("0.0.0.0:0"))
	if err != nil {
		t.Fatal(err)
	}
	if f := listening(d, v); !strings.Contains(f.wrong, "other machines can reach") || !strings.Contains(f.wrong, ":"+port) || strings.Contains(f.wrong, "127.0.0.1") {
		t.Errorf("everywhere: %+v", f)
	}

	for _, f := range private(d.Path, time.Now()) {
		if f.wrong != "" {
			t.Errorf("%+v", f)
		}
	}
	if err := os.Chmod(filepath.Join(d.Path, "ca.key"), 0o644); err != nil {
		t.Fatal(err)
	}
	if f := private(d.Path, time.Now())[0]; !strings.Contains(f.wrong, "ca.key has mode 0644") {
		t.Errorf("%+v", f)
	}
}
