package localfarm

import (
	"fmt"
	"net/netip"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"syscall"

	"github.com/goccy/go-yaml"

	"farmhand/internal/child"
	"farmhand/internal/report"
)

// launcher launches sidecar processes on this machine.
type launcher struct {
	// Dir is the farm's directory; an instance's is Dir/NAME.
	Dir string
	// Sidecar is the path of the sidecar program.
	Sidecar string
	// Accounts go into every new data directory.
	Accounts accounts
}

// accounts name the files with the accounts' passwords.
type accounts struct {
	ReplicationFile, MonitorFile, ApplicationFile string
	// Application is the application's account and the schema that it owns.
	Application string
}

// The accounts that do not differ between farms.
const (
	replicationUser = "replicator"
	monitorUser     = "farmhand"
)

// instance says what one instance is to be.
type instance struct {
	Name     string
	Address  netip.AddrPort
	ServerID uint32
	// Follow is the primary to follow; the zero value makes the instance the
	// primary.
	Follow netip.AddrPort
}

// Launch starts an instance and calls each for every report of its sidecar,
// from another goroutine, until that ends. The sidecar stops its server and
// ends when it gets SIGTERM or when this process dies.
func (l launcher) Launch(i instance, each func(report.Report)) (*Sidecar, error) {
	path, err := l.write(i)
	if err != nil {
		return nil, fmt.Errorf("launch %s: %w", i.Name, err)
	}
	logs, err := os.OpenFile(filepath.Join(l.Dir, i.Name, "sidecar.log"), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o644)
	if err != nil {
		return nil, fmt.Errorf("launch %s: %w", i.Name, err)
	}
	defer func() { _ = logs.Close() }() // the child has its own descriptor
	// Not cmd.StdoutPipe: the process's end must not cut off what it said last.
	read, write, err := os.Pipe()
	if err != nil {
		return nil, fmt.Errorf("launch %s: %w", i.Name, err)
	}
	cmd := exec.Command(l.Sidecar, "run", path)
	cmd.Stdout, cmd.Stderr = write, logs
	sidecar, err := child.Start(cmd, syscall.SIGTERM)
	_ = write.Close() // the child's copy stays
	if err != nil {
		_ = read.Close()
		return nil, fmt.Errorf("launch %s: %w", i.Name, err)
	}
	launched := &Sidecar{Child: sidecar, heard: make(chan struct{})}
	go func() {
		defer close(launched.heard)
		if err := report.Read(read, each); err != nil {
			each(report.Report{Name: i.Name, Address: i.Address.String(), State: report.Failed, Detail: err.Error()})
		}
		_ = read.Close()
	}()
	return launched, nil
}

// Sidecar is a launched instance.
type Sidecar struct {
	*child.Child
	heard chan struct{}
}

// Done is closed when the sidecar has ended and its last report was passed on.
func (s *Sidecar) Done() <-chan struct{} { return s.heard }

// LogFile is where an instance's sidecar logs.
func (l launcher) LogFile(name string) string { return filepath.Join(l.Dir, name, "sidecar.log") }

// Socket is the unix socket of an instance's database server.
func (l launcher) Socket(name string) string {
	path := filepath.Join(l.Dir, name, "mysql", "mysql.sock")
	// sockaddr_un holds 107 bytes. The directory's own path may be long; the
	// temporary one is short, and the name stays the same between runs.
	if len(path) > 107 {
		return filepath.Join(os.TempDir(), fmt.Sprintf("farmhand-%08x-%s.sock", hash(l.Dir), name))
	}
	return path
}

// hash is FNV-1a.
func hash(text string) uint32 {
	h := uint32(2166136261)
	for i := range len(text) {
		h = (h ^ uint32(text[i])) * 16777619
	}
	return h
}

// write writes the sidecar's configuration.
func (l launcher) write(i instance) (string, error) {
	dir := filepath.Join(l.Dir, i.Name)
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return "", err
	}
	account, err := serverAccount(dir)
	if err != nil {
		return "", err
	}
	follow := ""
	if i.Follow.IsValid() {
		follow = i.Follow.String()
	}
	type m = map[string]any
	text, err := yaml.Marshal(m{
		"role": "mysql",
		"name": i.Name,
		"mysql": m{
			"directory": filepath.Join(dir, "mysql"),
			"listen":    i.Address.String(),
			"socket":    l.Socket(i.Name),
			"server_id": i.ServerID,
			"follow":    follow,
			"run_as":    account,
			"accounts": m{
				"replication": m{"user": replicationUser, "password_file": l.Accounts.ReplicationFile},
				"monitor":     m{"user": monitorUser, "password_file": l.Accounts.MonitorFile},
				"application": m{"user": l.Accounts.Application, "password_file": l.Accounts.ApplicationFile, "schema": l.Accounts.Application},
			},
		},
	})
	if err != nil {
		return "", fmt.Errorf("sidecar configuration: %w", err)
	}
	path := filepath.Join(dir, "sidecar.yaml")
	if err := os.WriteFile(path, text, 0o644); err != nil {
		return "", err
	}
	return path, nil
}

// serverAccount is the system account for a server below dir: "mysql" when we
// are root and it can reach dir, else our own ("").
func serverAccount(dir string) (string, error) {
	const name = "mysql"
	if os.Geteuid() != 0 {
		return "", nil
	}
	if _, err := user.Lookup(name); err != nil {
		return "", nil // the package makes it; without it root runs the server
	}
	for at := dir; ; at = filepath.Dir(at) {
		info, err := os.Stat(at)
		if err != nil {
			return "", err
		}
		if info.Mode()&0o001 == 0 {
			return "", nil // as in a home directory that is closed to others
		}
		if at == filepath.Dir(at) {
			return name, nil
		}
	}
}
