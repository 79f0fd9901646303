package exposure

import (
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"farmhand/internal/pki"
)

// TestListening looks at this process's own sockets.
func TestListening(t *testing.T) {
	var want []netip.AddrPort
	for _, at := range []string{"127.0.0.1:0", "127.7.6.5:0", "0.0.0.0:0", "[::1]:0"} {
		l, err := net.Listen("tcp", at)
		if err != nil {
			if strings.HasPrefix(at, "[") {
				t.Logf("no IPv6 here: %v", err)
				continue
			}
			t.Fatal(err)
		}
		defer func() { _ = l.Close() }() // nobody connects
		want = append(want, netip.MustParseAddrPort(l.Addr().String()))
	}
	found, err := Listening(os.Getpid())
	if err != nil {
		t.Fatal(err)
	}
	for _, at := range want {
		i := slices.IndexFunc(found, func(s Socket) bool { return s.Address == at })
		if i < 0 {
			t.Errorf("%v is not among %v", at, found)
		} else if found[i].Local() != at.Addr().IsLoopback() {
			t.Errorf("%v: local is %v", found[i], found[i].Local())
		}
	}
	if len(found) != len(want) {
		t.Errorf("%v, expected %v", found, want)
	}
	if _, err := Listening(1 << 30); err == nil {
		t.Error("a process that is not there is fine")
	}
}

func TestHolder(t *testing.T) {
	path := filepath.Join(t.TempDir(), "lock")
	if pid, err := Holder(path); pid != 0 || err != nil {
		t.Errorf("%d, %v", pid, err)
	}
	f, err := os.Create(path)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = f.Close() }() // nothing was written
	if pid, err := Holder(path); pid != os.Getpid() || err != nil {
		t.Errorf("%d, %v", pid, err)
	}
}

func TestFiles(t *testing.T) {
	root := t.TempDir()
	now := time.Now()
	write := func(name string, mode os.FileMode, text []byte) {
		t.Helper()
		path := filepath.Join(root, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, text, 0o600); err != nil {
			t.Fatal(err)
		}
		if err := os.Chmod(path, mode); err != nil {
			t.Fatal(err)
		}
	}
	authority, err := pki.NewAuthority("test", now)
	if err != nil {
		t.Fatal(err)
	}
	key, err := pki.NewKey()
	if err != nil {
		t.Fatal(err)
	}
	cert, err := authority.Client(&key.PublicKey, "web1", now)
	if err != nil {
		t.Fatal(err)
	}
	write("control/ca.key", 0o600, nil)
	write("secrets/app.password", 0o640, nil)
	write("db1/mysql/data/server.key", 0o644, nil) // the server's own
	write("web1/node.crt", 0o644, pki.EncodeCertificate(cert))
	found, err := Look(root, now)
	if err != nil || found.Secrets != 2 || found.Certificates != 1 || len(found.Open)+len(found.Overdue) != 0 {
		t.Errorf("%+v, %v", found, err)
	}
	// Some time after it should have been renewed it is overdue, and then it expires.
	for after, want := range map[time.Duration]string{21 * 24 * time.Hour: "", 26 * 24 * time.Hour: "was not renewed", 31 * 24 * time.Hour: "has expired", -time.Hour: "clock"} {
		found, err := Look(root, now.Add(after))
		if err != nil || (len(found.Overdue) != 0) != (want != "") || !strings.Contains(strings.Join(found.Overdue, ""), want) {
			t.Errorf("after %v: %+v, %v", after, found, err)
		}
	}
	write("control/ca.key", 0o604, nil)
	write("web1/token", 0o660, nil)
	if found, err := Look(root, now); err != nil || len(found.Open) != 2 {
		t.Errorf("%+v, %v", found, err)
	}
	write("web1/other.crt", 0o600, []byte("no certificate"))
	if _, err := Look(root, now); err == nil {
		t.Error("what is no certificate is fine")
	}
}
