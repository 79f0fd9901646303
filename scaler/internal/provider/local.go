package provider

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"go.uber.org/zap"

	"farmhand/internal/atomicfile"
	"farmhand/internal/mounts"
	"farmhand/scaler/internal/farmfile"
	"farmhand/scaler/internal/flock"
	"farmhand/scaler/internal/volume"
)

// Local makes each instance a sidecar process of this machine with a directory and
// a loopback address of its own. The processes outlive the scaler; their
// directories say what there is.
type Local struct {
	Options
	place   place
	volumes *volume.Local
}

// Options say where a local farm is.
type Options struct {
	// Dir is the farm's directory, an absolute path; an instance's is Dir/NAME.
	Dir string
	// Programs is the directory of the programs proxy and sidecar.
	Programs string
	// First is the first instance's address; the others get those after it.
	First netip.Addr
	// Launcher is a program that starts each sidecar, as the farm file says of it;
	// empty for none.
	Launcher string
	// StopLimit is how long an instance may take to stop before it is killed.
	StopLimit time.Duration
	Log       *zap.Logger
	// Tell is told what a person wants to know of an instance; nil for nobody.
	Tell func(name, text string)
}

// DefaultStopLimit is more than a database server needs to write its pages.
const DefaultStopLimit = time.Minute

// NewLocal makes the farm's directory, if it is not there. Nothing is launched before
// it has the accounts' passwords: see KeepPasswords.
func NewLocal(o Options) (*Local, error) {
	if !filepath.IsAbs(o.Dir) {
		return nil, fmt.Errorf("local provider: %q is not an absolute path", o.Dir)
	}
	if !o.First.IsLoopback() && o.Launcher == "" {
		return nil, fmt.Errorf("local provider: %v is not a loopback address", o.First)
	}
	if o.StopLimit == 0 {
		o.StopLimit = DefaultStopLimit
	}
	if o.Log == nil {
		o.Log = zap.NewNop()
	}
	if o.Tell == nil {
		o.Tell = func(string, string) {}
	}
	l := &Local{Options: o, place: place{o.Dir}}
	if err := os.MkdirAll(o.Dir, 0o755); err != nil {
		return nil, fmt.Errorf("make the farm's directory: %w", err)
	}
	if err := l.makeVolumes(); err != nil {
		return nil, err
	}
	return l, nil
}

// record is instance.json.
type record struct {
	Name     string            `json:"name"`
	RoleName string            `json:"role"`
	Kind     farmfile.RoleKind `json:"kind"`
	Address  netip.Addr        `json:"address"`
	Launched time.Time         `json:"launched"`
	Keep     bool              `json:"keep"`
	// Terminating says that it is to go; whoever finds it goes on with that.
	Terminating bool   `json:"terminating,omitempty"`
	Slot        int    `json:"slot,omitempty"`
	Volume      string `json:"volume,omitempty"`
	Inherits    bool   `json:"inherits,omitempty"`
	Listen      string `json:"listen,omitempty"`
	Socket      string `json:"socket,omitempty"`
	Admin       string `json:"admin,omitempty"`
	// Configuration is what the instance's files were made from, Configured how often
	// they were made anew.
	Configuration Configuration `json:"configuration,omitempty"`
	Configured    int           `json:"configured,omitempty"`
}

// Launch is [Provider.Launch].
func (l *Local) Launch(ctx context.Context, s Spec) (i Instance, err error) {
	if err := s.CheckLaunch(); err != nil {
		return Instance{}, err
	}
	if p, err := l.Passwords(); err != nil || !p.Whole() {
		return Instance{}, errors.Join(fmt.Errorf("launch %s: the passwords of the farm's accounts are not known here", s.Name), err)
	}
	r, err := l.reserve(ctx, s)
	if err != nil {
		return Instance{}, fmt.Errorf("launch %s: %w", s.Name, err)
	}
	if err := l.start(ctx, r); err != nil {
		// It is on record: who keeps the instances running tries again.
		return Instance{}, fmt.Errorf("launch %s: %w", s.Name, err)
	}
	return l.instance(r)
}

// reserve gives the instance its address and writes its files, the record last:
// from then on there is an instance.
func (l *Local) reserve(ctx context.Context, s Spec) (_ record, err error) {
	lock, err := flock.Hold(ctx, filepath.Join(l.Dir, "addresses.lock"))
	if err != nil {
		return record{}, err
	}
	defer func() { err = errors.Join(err, lock.Close()) }()
	others, err := l.records()
	if err != nil {
		return record{}, err
	}
	taken := map[netip.Addr]bool{}
	for _, other := range others {
		if other.Name == s.Name {
			return record{}, ErrExists
		}
		taken[other.Address] = true
	}
	r := record{Name: s.Name, RoleName: s.RoleName, Kind: s.Role.Kind, Launched: time.Now().UTC().Truncate(time.Millisecond), Keep: s.Role.Storage.Keep, Slot: s.Slot, Volume: s.Volume}
	if r.Inherits, err = l.inherits(ctx, s.Volume); err != nil {
		return record{}, err
	}
	if r.Configuration, err = ConfigurationOf(s.Role); err != nil {
		return record{}, err
	}
	for r.Address = l.First; taken[r.Address]; r.Address = r.Address.Next() {
	}
	if !l.fits(r.Address) {
		return record{}, fmt.Errorf("there is no address left after %v", l.First)
	}
	if err := l.listens(s, &r, others); err != nil {
		return record{}, err
	}
	if err := l.clear(s.Name); err != nil {
		return record{}, err
	}
	if err := os.MkdirAll(filepath.Join(l.Dir, s.Name), 0o755); err != nil {
		return record{}, err
	}
	if err := l.fill(ctx, s.Name, s.Role.Image); err != nil {
		return record{}, err
	}
	if err := l.write(s, &r); err != nil {
		return record{}, err
	}
	return r, l.save(r)
}

// fits reports whether an instance can have the address: one of this machine's
// loopback, or one that the launcher provides for.
func (l *Local) fits(a netip.Addr) bool {
	return a.IsValid() && (a.IsLoopback() || l.Launcher != "")
}

func (l *Local) save(r record) error {
	text, err := json.MarshalIndent(r, "", "  ")
	if err != nil {
		return err
	}
	return atomicfile.Write(l.place.record(r.Name), append(text, '\n'), 0o644, nil)
}

// read returns the record of an instance; fs.ErrNotExist if there is none.
func (l *Local) read(name string) (record, error) {
	text, err := os.ReadFile(l.place.record(name))
	if err != nil {
		return record{}, err
	}
	var r record
	if err := json.Unmarshal(text, &r); err != nil || r.Name != name {
		return record{}, fmt.Errorf("%s is not an instance's record: %w", l.place.record(name), err)
	}
	return r, nil
}

// records are those of all instances, by name.
func (l *Local) records() ([]record, error) {
	entries, err := os.ReadDir(l.Dir)
	if err != nil {
		return nil, err
	}
	var list []record
	for _, e := range entries {
		if !e.IsDir() {
			continue
		}
		r, err := l.read(e.Name())
		if errors.Is(err, fs.ErrNotExist) {
			continue // the control node's directory, or an instance that goes just now
		}
		if err != nil {
			return nil, err
		}
		list = append(list, r)
	}
	slices.SortFunc(list, func(a, b record) int { return strings.Compare(a.Name, b.Name) })
	return list, nil
}

// List is [Provider.List].
func (l *Local) List(context.Context) ([]Instance, error) {
	records, err := l.records()
	if err != nil {
		return nil, fmt.Errorf("list instances: %w", err)
	}
	list := make([]Instance, len(records))
	for n, r := range records {
		if list[n], err = l.instance(r); err != nil {
			return nil, fmt.Errorf("list instances: %w", err)
		}
	}
	return list, nil
}

func (l *Local) instance(r record) (Instance, error) {
	i := Instance{
		Name: r.Name, RoleName: r.RoleName, Kind: r.Kind, Address: r.Address, Launched: r.Launched,
		State: Stopped, Listen: r.Listen, Socket: r.Socket, Slot: r.Slot, Volume: r.Volume, Inherits: r.Inherits, Log: l.place.log(r.Name),
		Configuration: r.Configuration,
	}
	sidecar, err := l.sidecar(r.Name)
	if err != nil {
		return Instance{}, err
	}
	if sidecar != nil {
		i.State, i.PID = Running, sidecar.PID
		if err := sidecar.Close(); err != nil {
			return Instance{}, err
		}
	}
	if r.Terminating {
		i.State = Terminating
	}
	return i, nil
}

// Configure is [Provider.Configure]: the instance's files are written anew, and its
// sidecar is killed and started again, which leaves a database server running and
// hands over a proxy's sockets.
func (l *Local) Configure(ctx context.Context, s Spec) error {
	err := s.Check()
	if err == nil {
		err = l.configure(ctx, s)
	}
	if err != nil {
		return fmt.Errorf("configure %s: %w", s.Name, err)
	}
	return nil
}

func (l *Local) configure(ctx context.Context, s Spec) error {
	now, err := ConfigurationOf(s.Role)
	if err != nil {
		return err
	}
	restart := func() (_ record, err error) {
		lock, err := flock.Hold(ctx, l.place.of(s.Name, "lock"))
		if err != nil {
			return record{}, err
		}
		defer func() { err = errors.Join(err, lock.Close()) }()
		r, err := l.read(s.Name)
		if err != nil || r.Terminating {
			return r, err
		}
		next := r.Configuration.Configured(now)
		if maps.Equal(next, r.Configuration) {
			return r, nil
		}
		if err := l.rewrite(s, &r); err != nil {
			return r, err
		}
		sidecar, err := l.sidecar(s.Name)
		if err != nil {
			return r, err
		}
		if sidecar != nil {
			err = kill(ctx, sidecar.ID)
			if err = errors.Join(err, sidecar.Close()); err != nil {
				return r, err
			}
		}
		// On record last: what is cut short is done again.
		r.Configuration, r.Configured = next, r.Configured+1
		return r, l.save(r)
	}
	r, err := restart()
	if err != nil {
		return err
	}
	return l.start(ctx, r)
}

// Terminate is [Provider.Terminate].
func (l *Local) Terminate(ctx context.Context, name string) (err error) {
	r, err := l.read(name)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("terminate %s: %w", name, err)
	}
	r.Terminating = true
	if err := l.save(r); err != nil {
		return fmt.Errorf("terminate %s: %w", name, err)
	}
	err = l.end(ctx, name, l.StopLimit)
	if err == nil {
		err = FreeVolume(ctx, l.volumes, r.Volume, r.Name, r.Keep)
	}
	if err == nil {
		err = l.remove(r)
	}
	if _, gone := l.read(name); errors.Is(gone, fs.ErrNotExist) {
		return nil // somebody else was quicker, or we were
	}
	if err != nil {
		return fmt.Errorf("terminate %s: %w", name, err)
	}
	return nil
}

// clear makes room for an instance. What an attempt that was cut short has left is
// nobody's; data is never removed for that.
func (l *Local) clear(name string) error {
	if err := l.keepData(name); err != nil {
		return err
	}
	// What is mounted there is not the instance's own to be removed: files that others use as well.
	if err := mounts.Detach(filepath.Join(l.Dir, name)); err != nil {
		return err
	}
	return os.RemoveAll(filepath.Join(l.Dir, name))
}

// keepData puts a database server's directory, if there is one, where terminated
// instances' data is kept.
func (l *Local) keepData(name string) error {
	data, kept := l.place.mysql(name), filepath.Join(l.Dir, "kept", name)
	if _, err := os.Stat(data); errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	err := os.MkdirAll(filepath.Dir(kept), 0o755)
	if _, there := os.Stat(kept); err == nil && there == nil { // of an earlier instance of that name
		kept += "-" + time.Now().UTC().Format("20060102T150405.000")
	}
	if err == nil {
		err = os.Rename(data, kept)
	}
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("keep the data in %s: %w", data, err)
	}
	return nil
}

// remove removes the instance's directory; its record last, so that what was cut
// short is gone on with.
func (l *Local) remove(r record) error {
	dir := filepath.Join(l.Dir, r.Name)
	if r.Keep {
		if err := l.keepData(r.Name); err != nil {
			return err
		}
	}
	// What is mounted there is not the instance's own to be removed: files that others use as well.
	if err := mounts.Detach(dir); err != nil {
		return err
	}
	entries, err := os.ReadDir(dir)
	if err != nil {
		return err
	}
	for _, e := range entries {
		if path := filepath.Join(dir, e.Name()); path != l.place.record(r.Name) {
			if err := os.RemoveAll(path); err != nil {
				return err
			}
		}
	}
	return os.RemoveAll(dir)
}
