package exposure

import (
	"fmt"
	"io/fs"
	"path/filepath"
	"slices"
	"time"

	"farmhand/internal/pki"
)

// Files is what was found below a directory.
type Files struct {
	// Secrets and Certificates count those that were looked at.
	Secrets, Certificates int
	// Open are secrets that others than their owner and group can get at, Overdue
	// certificates that have expired or should have been renewed long ago.
	Open, Overdue []string
}

// data are directories of servers and volumes: what is in there is not Farmhand's, and
// there may be much of it.
var data = []string{"data", "kept", "volumes", "snapshots", "tmp", "member"}

// secret reports whether a file's name says that there is a key or a password in it.
func secret(name string) bool {
	switch filepath.Ext(name) {
	case ".key", ".password", ".secret":
		return true
	}
	return name == "token"
}

// Look looks at the files below a directory of the farm's.
func Look(root string, now time.Time) (found Files, err error) {
	err = filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		switch {
		case d.IsDir() && path != root && slices.Contains(data, d.Name()):
			return fs.SkipDir
		case !d.Type().IsRegular():
		case secret(d.Name()):
			info, err := d.Info()
			if err != nil {
				return err
			}
			found.Secrets++
			if mode := info.Mode().Perm(); mode&0o037 != 0 {
				found.Open = append(found.Open, fmt.Sprintf("%s has mode %04o", path, mode))
			}
		case filepath.Ext(path) == ".crt":
			cert, err := pki.ReadCertificate(path)
			if err != nil {
				return err
			}
			found.Certificates++
			// What is left after the time to renew it is for a registry that is away;
			// half of that is long.
			late := pki.RenewAt(cert)
			late = late.Add(cert.NotAfter.Sub(late) / 2)
			switch {
			case now.After(cert.NotAfter):
				found.Overdue = append(found.Overdue, fmt.Sprintf("%s has expired at %s", path, cert.NotAfter.Local().Format(time.DateTime)))
			case now.Before(cert.NotBefore):
				found.Overdue = append(found.Overdue, fmt.Sprintf("%s is not valid before %s: is this machine's clock right?", path, cert.NotBefore.Local().Format(time.DateTime)))
			case now.After(late):
				found.Overdue = append(found.Overdue, fmt.Sprintf("%s expires at %s and was not renewed at %s", path, cert.NotAfter.Local().Format(time.DateTime), pki.RenewAt(cert).Local().Format(time.DateTime)))
			}
		}
		return nil
	})
	return found, err
}
