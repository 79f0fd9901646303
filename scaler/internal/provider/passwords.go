package provider

import (
	"crypto/rand"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"farmhand/internal/atomicfile"
	"farmhand/internal/service"
)

// The accounts of every farm.
const (
	ReplicationUser = "replicator"
	MonitorUser     = "farmhand"
	AppUser         = "app"
)

// Passwords are those of a farm's accounts. They stay the same over the farm's life:
// the databases have them too. They are never logged.
type Passwords struct {
	Replication string `json:"replication"`
	Monitor     string `json:"monitor"`
	App         string `json:"app"`
}

// String keeps them from being printed.
func (Passwords) String() string { return "the passwords of the farm's accounts" }

// GoString is String for %#v.
func (p Passwords) GoString() string { return p.String() }

// NewPasswords makes those that p lacks. Of a farm that answers on its own machine only
// the application's is its name.
func NewPasswords(p Passwords, local bool) Passwords {
	app := rand.Text()
	if local {
		app = AppUser
	}
	for password, made := range map[*string]string{&p.Replication: rand.Text(), &p.Monitor: rand.Text(), &p.App: app} {
		if *password == "" {
			*password = made
		}
	}
	return p
}

// Whole reports whether none is lacking.
func (p Passwords) Whole() bool { return p.Replication != "" && p.Monitor != "" && p.App != "" }

// byName are the passwords by the names of their files.
func (p *Passwords) byName() map[string]*string {
	return map[string]*string{"replication": &p.Replication, "monitor": &p.Monitor, "app": &p.App}
}

// KeptPasswords are the passwords in the directory secrets of the one that it names.
type KeptPasswords string

// Passwords are those that this machine keeps.
func (l *Local) Passwords() (Passwords, error) { return KeptPasswords(l.Dir).Passwords() }

// KeepPasswords has this machine keep the passwords, where its instances read them.
func (l *Local) KeepPasswords(p Passwords) error { return KeptPasswords(l.Dir).KeepPasswords(p) }

// Passwords are those that are kept; those that are not there are empty.
func (k KeptPasswords) Passwords() (Passwords, error) {
	var p Passwords
	for who, password := range p.byName() {
		kept, err := service.ReadSecret(place{string(k)}.secret(who))
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return Passwords{}, fmt.Errorf("password of %s: %w", who, err)
		}
		*password = kept
	}
	return p, nil
}

// KeepPasswords keeps the passwords in files of mode 0600. Others that it had are kept beside them, under another
// name: some database may have these.
func (k KeptPasswords) KeepPasswords(p Passwords) error {
	if !p.Whole() {
		return errors.New("keep passwords: some are lacking")
	}
	if err := os.MkdirAll(filepath.Join(string(k), "secrets"), 0o700); err != nil {
		return fmt.Errorf("make the secrets' directory: %w", err)
	}
	kept, err := k.Passwords()
	if err != nil {
		return err
	}
	had := kept.byName()
	for who, password := range p.byName() {
		path, old := place{string(k)}.secret(who), *had[who]
		if old == *password {
			continue
		}
		if old != "" {
			if err := atomicfile.WritePrivate(path+"."+time.Now().UTC().Format("20060102T150405"), []byte(old+"\n")); err != nil {
				return fmt.Errorf("keep the password of %s that there was: %w", who, err)
			}
		}
		if err := atomicfile.WritePrivate(path, []byte(*password+"\n")); err != nil {
			return fmt.Errorf("keep the password of %s: %w", who, err)
		}
	}
	return nil
}
