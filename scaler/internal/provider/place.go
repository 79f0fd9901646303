package provider

import (
	"crypto/rand"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
)

// Where things stand in a farm's directory:
//
//	secrets/WHO.password   the accounts' passwords, mode 0600
//	addresses.lock         held while an address is given away
//	keeper.lock            held by the scaler that starts again what ended
//	kept/NAME              the data of terminated instances that was to be kept
//	NAME/instance.json     what was launched
//	NAME/process.json      the sidecar's process
//	NAME/lock              held while the sidecar is started or the instance removed
//	NAME/sidecar.yaml, token, node/, state/, mysql/, proxy.yaml, topology.json
//	NAME/sidecar.log
type place struct{ dir string }

func (p place) of(name, file string) string { return filepath.Join(p.dir, name, file) }
func (p place) record(name string) string   { return p.of(name, "instance.json") }
func (p place) process(name string) string  { return p.of(name, "process.json") }
func (p place) config(name string) string   { return p.of(name, "sidecar.yaml") }
func (p place) token(name string) string    { return p.of(name, "token") }
func (p place) node(name string) string     { return p.of(name, "node") }
func (p place) proxy(name string) string    { return p.of(name, "proxy.yaml") }
func (p place) mysql(name string) string    { return p.of(name, "mysql") }
func (p place) log(name string) string      { return p.of(name, "sidecar.log") }
func (p place) secret(who string) string {
	return filepath.Join(p.dir, "secrets", who+".password")
}

// socket is the unix socket of an instance's database server.
func (p place) socket(name string) string {
	path := filepath.Join(p.mysql(name), "mysql.sock")
	// sockaddr_un holds 107 bytes. The directory's own path may be long; the
	// temporary one is short, and the name stays the same between runs.
	if len(path) > 107 {
		return filepath.Join(os.TempDir(), fmt.Sprintf("farmhand-%08x-%s.sock", hash(p.dir), name))
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

// The accounts of every local farm. The application's password is its name: the farm
// answers on this machine only.
const (
	ReplicationUser = "replicator"
	MonitorUser     = "farmhand"
	AppUser         = "app"
)

// MonitorPasswordFile is the file with the password of the account that looks at
// servers.
func (l *Local) MonitorPasswordFile() string { return l.place.secret("monitor") }

// writeSecrets makes the password files that are missing. They stay the same over
// the farm's life: the data directories hold them too.
func (p place) writeSecrets() error {
	if err := os.MkdirAll(filepath.Join(p.dir, "secrets"), 0o700); err != nil {
		return fmt.Errorf("make the secrets' directory: %w", err)
	}
	for who, password := range map[string]string{"replication": rand.Text(), "monitor": rand.Text(), "app": AppUser} {
		f, err := os.OpenFile(p.secret(who), os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
		if errors.Is(err, fs.ErrExist) {
			continue
		}
		if err != nil {
			return fmt.Errorf("make a password: %w", err)
		}
		_, err = f.WriteString(password + "\n")
		if err = errors.Join(err, f.Close()); err != nil {
			return fmt.Errorf("make a password: %w", err)
		}
	}
	return nil
}
