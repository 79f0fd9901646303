package provider

import (
	"fmt"
	"os"
	"path/filepath"
)

// Where things stand in a farm's directory:
//
//	secrets/WHO.password   the accounts' passwords, mode 0600
//	addresses.lock         held while an address is given away
//	keeper.lock            held by the scaler that starts again what ended
//	volumes/, snapshots/   see package volume
//	images/IMAGE           image.json and files/, from which instances are launched
//	kept/NAME              the data of terminated instances that was to be kept
//	NAME/instance.json     what was launched
//	NAME/process.json      the sidecar's process
//	NAME/lock              held while the sidecar is started or the instance removed
//	NAME/sidecar.yaml, token, node/, state/, mysql/, proxy.yaml, topology.json, work/
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
func (p place) work(name string) string     { return p.of(name, "work") }
func (p place) log(name string) string      { return p.of(name, "sidecar.log") }
func (p place) images() string              { return filepath.Join(p.dir, "images") }
func (p place) image(name string) string    { return filepath.Join(p.dir, "images", name) }
func (p place) secret(who string) string {
	return filepath.Join(p.dir, "secrets", who+".password")
}

// socket is the unix socket of an instance's database server, whose directory data is.
func (p place) socket(name, data string) string {
	path := filepath.Join(data, "mysql.sock")
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
