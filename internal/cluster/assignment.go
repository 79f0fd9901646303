package cluster

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"farmhand/internal/farm"
)

// Record is the name of the assignment among a cluster's records in the
// registry.
const Record = "assignment"

// Assignment is what every server of a cluster is to do. Values are shared and
// not changed after they were made.
type Assignment struct {
	// Epoch is that of the registry when this was written.
	Epoch farm.Epoch `json:"epoch"`
	// Term is the leader's that wrote it.
	Term int64 `json:"term"`
	// Serial rises with every change; reports name it.
	Serial uint64 `json:"serial"`
	// Primary is the server that takes the writes, as the proxies are to know it;
	// empty while they wait.
	Primary string `json:"primary,omitempty"`
	// SemiSync says that a commit waits until a replica has acknowledged it.
	SemiSync bool `json:"semi_sync"`
	// Phase is how far a change of primary has come.
	Phase Phase `json:"phase,omitempty"`
	// Target is the server that a handover is to.
	Target string `json:"target,omitempty"`
	// Since is when the phase began, by the clock of the leader that began it.
	Since time.Time `json:"since,omitzero"`
	// Base is the GTID position that the leader had when it was promoted: nobody
	// without it can take over. What was acknowledged since, others have beside it.
	Base string `json:"base,omitempty"`
	// AllowLoss says that a person allowed this change of primary to lose what was
	// acknowledged.
	AllowLoss bool `json:"allow_loss,omitempty"`
	// Deposed are the servers that failed while they led, and when: they are not
	// failed over from again too soon.
	Deposed map[string]time.Time `json:"deposed,omitempty"`
	// Ramps are when the shares of replicas that begin to serve were changed last.
	Ramps map[string]time.Time `json:"ramps,omitempty"`
	// NextID is the server_id of the next server that is new to the cluster.
	NextID uint32 `json:"next_id"`
	// Durable says that whatever a client was told is committed is on another server
	// than the leader: commits do wait, and what came before that has arrived.
	Durable bool `json:"durable"`
	// Restored is the ID of the last restore over the cluster, which was begun at
	// RestoredAt, NotRestored why that could
	// not be done, Confirmed that of the last one of which a person has said that the data
	// from before is not needed any more.
	Restored    string    `json:"restored,omitempty"`
	RestoredAt  time.Time `json:"restored_at,omitzero"`
	NotRestored string    `json:"not_restored,omitempty"`
	Confirmed   string    `json:"confirmed,omitempty"`
	// Why is what brought about the last change, for people.
	Why string `json:"why"`
	// Servers are sorted by name.
	Servers []Server `json:"servers"`
}

// Phase is how far a change of primary has come.
type Phase string

// The phases. A failover goes from Steady by Electing and Promoting; a planned
// handover by Handing, Yielding and Promoting.
const (
	Steady    Phase = ""          // nothing is changing
	Handing   Phase = "handing"   // proxies hold new writes back, and open transactions end
	Yielding  Phase = "yielding"  // the primary stops taking writes, and the target catches up
	Electing  Phase = "electing"  // replicas receive nothing more, and say how far they are
	Promoting Phase = "promoting" // one server becomes the primary, and the others go to follow it
)

// Server is one server's part in an assignment.
type Server struct {
	Name string `json:"name"`
	// Address is the database server's host:port.
	Address string `json:"address"`
	// ID is its server_id. It is unique in the cluster for ever, and one that failed
	// as the primary gets another.
	ID   uint32 `json:"id"`
	Task Task   `json:"task"`
	// Source is the name of the server that is followed or copied.
	Source string `json:"source,omitempty"`
	// CloneAt is host:port at which Source gives its data to the one that is to be
	// cloned from it.
	CloneAt string `json:"clone_at,omitempty"`
	// State is what the proxies are told of a replica; empty if they are not to
	// know it.
	State farm.State `json:"state,omitempty"`
	// Weight is a serving replica's share of the reads, 1 to farm.MaxWeight.
	Weight int `json:"weight,omitempty"`
	// Acknowledges says that it is to acknowledge what it receives, so that a commit
	// may have been told to a client because this server has it.
	Acknowledges bool `json:"acknowledges,omitempty"`
	// Restore is where the data of one that is to lead, or is to be cloned, comes from
	// instead; nil for none.
	Restore *Restore `json:"restore,omitempty"`
}

// Restore has a server's data made of a backup and the archive. It is done once.
type Restore struct {
	ID string `json:"id"` // each wish has another; they sort by time
	// Store is where backups are, as objects.ParseURL reads it, Cluster the name of the
	// cluster that they are of.
	Store   string `json:"store"`
	Cluster string `json:"cluster"`
	// To is the moment, as restore.ParseTarget reads it; empty: the newest. Backup is the
	// full backup to begin with; empty: the best.
	To     string `json:"to,omitempty"`
	Backup string `json:"backup,omitempty"`
	// IdentityFile is the path, on the server's node, of the age secret keys that encrypted
	// backups are read with.
	IdentityFile string `json:"identity_file,omitempty"`
	// Over says that the store is the cluster's own, which is taken back: what was
	// written after that moment is given up, and the data that the server had is kept aside.
	Over bool `json:"over,omitempty"`
	// Led says that the server led before, and is to lead with the data that it has if the
	// restore cannot be done.
	Led bool `json:"led,omitempty"`
}

// Task is what a server is to do.
type Task string

// The tasks. Each can be carried out again without harm, and from whatever state
// the server is in.
const (
	// Lead: take the writes. Replication is ended and forgotten, semi-synchronous
	// acknowledgement is asked for, and the server is made writable last. A server
	// without data makes itself an empty one. One whose process has died while it led is
	// not started again before the leader has had time to name another.
	Lead Task = "lead"
	// Yield: stop taking writes in order: read-only, the clients that may still
	// write sent away, and then nothing changes any more.
	Yield Task = "yield"
	// Hold: receive nothing more, and go on applying what was received.
	Hold Task = "hold"
	// Follow: replicate from Source. What was received is applied first; read-only.
	// A server that died as the primary gives up what nobody had acknowledged.
	Follow Task = "follow"
	// Clone: throw the data away, copy that of Source, and follow it.
	Clone Task = "clone"
	// Fence: do not run. A running process is killed, not shut down: a clean
	// shutdown would tell clients that unacknowledged commits have succeeded.
	Fence Task = "fence"
	// Retire: shut down cleanly; the instance is about to be terminated.
	Retire Task = "retire"
)

// Tasks lists every task.
func Tasks() []Task { return []Task{Lead, Yield, Hold, Follow, Clone, Fence, Retire} }

// Server returns the server called name.
func (a *Assignment) Server(name string) (Server, bool) {
	if a == nil {
		return Server{}, false
	}
	for _, s := range a.Servers {
		if s.Name == name {
			return s, true
		}
	}
	return Server{}, false
}

// Leader returns the server whose task is to lead.
func (a *Assignment) Leader() (Server, bool) {
	if a == nil {
		return Server{}, false
	}
	for _, s := range a.Servers {
		if s.Task == Lead {
			return s, true
		}
	}
	return Server{}, false
}

// Clone returns a copy that may be changed.
func (a *Assignment) Clone() *Assignment {
	b := *a
	b.Servers = slices.Clone(a.Servers)
	b.Deposed, b.Ramps = maps.Clone(a.Deposed), maps.Clone(a.Ramps)
	return &b
}

// Check says what is wrong with the assignment.
func (a *Assignment) Check() error {
	var errs []error
	add := func(format string, args ...any) { errs = append(errs, fmt.Errorf(format, args...)) }
	if a.Epoch == 0 || a.Epoch > farm.MaxEpoch {
		add("epoch %d is not between 1 and %d", a.Epoch, farm.MaxEpoch)
	}
	if a.Serial == 0 {
		add("the serial is missing")
	}
	if !slices.Contains([]Phase{Steady, Handing, Yielding, Electing, Promoting}, a.Phase) {
		add("%q is no phase", a.Phase)
	}
	if _, ok := a.Server(a.Target); a.Target != "" && !ok {
		add("the target %q is none of the servers", a.Target)
	}
	leaders, addresses, ids := 0, map[string]string{}, map[uint32]string{}
	for i, s := range a.Servers {
		if err := farm.CheckName(s.Name); err != nil {
			add("server %q: %w", s.Name, err)
		}
		if i > 0 && a.Servers[i-1].Name >= s.Name {
			add("server %s stands after %s: they must be sorted and have different names", s.Name, a.Servers[i-1].Name)
		}
		if address, err := farm.CanonicalAddress(s.Address); err != nil {
			add("server %s: %w", s.Name, err)
		} else if other, taken := addresses[address]; taken {
			add("servers %s and %s are both at %s", other, s.Name, s.Address)
		} else {
			addresses[address] = s.Name
		}
		if other, taken := ids[s.ID]; taken || s.ID == 0 {
			add("server %s: the id %d is missing or that of %q, too", s.Name, s.ID, other)
		}
		ids[s.ID] = s.Name
		if s.ID >= a.NextID {
			add("server %s: the id %d is not below the next one, %d", s.Name, s.ID, a.NextID)
		}
		if !slices.Contains(Tasks(), s.Task) {
			add("server %s: %q is no task", s.Name, s.Task)
		}
		if s.Task == Lead {
			leaders++
		}
		if r := s.Restore; r != nil && (s.Task != Lead && s.Task != Clone || r.ID == "" || r.Store == "" || r.Cluster == "") {
			add("server %s: task %q with a restore %q of %q from %q", s.Name, s.Task, r.ID, r.Cluster, r.Store)
		}
		if s.State != "" && (!slices.Contains(farm.States(), s.State) || s.Weight < 1 || s.Weight > farm.MaxWeight) {
			add("server %s: state %q with weight %d", s.Name, s.State, s.Weight)
		}
		if source, ok := a.Server(s.Source); (s.Task == Follow || s.Task == Clone) && (!ok || source.Name == s.Name) {
			add("server %s: its source %q is no other server", s.Name, s.Source)
		}
	}
	if leaders > 1 {
		add("%d servers are to lead", leaders)
	}
	if p, ok := a.Server(a.Primary); a.Primary != "" && (!ok || p.Task != Lead) {
		add("the primary %q is not to lead", a.Primary)
	}
	if err := errors.Join(errs...); err != nil {
		return fmt.Errorf("assignment: %s", strings.ReplaceAll(err.Error(), "\n", "; "))
	}
	return nil
}

// Encode returns the record's value. A wrong assignment is an error.
func (a *Assignment) Encode() ([]byte, error) {
	if err := a.Check(); err != nil {
		return nil, err
	}
	return encoded(a, "an assignment")
}

// Decode reads the record's value.
func Decode(data []byte) (*Assignment, error) {
	a, err := decoded[Assignment](data, "an assignment")
	if err != nil {
		return nil, err
	}
	if err := a.Check(); err != nil {
		return nil, err
	}
	return a, nil
}

// Newer reports whether a may follow b: nothing goes back to an older epoch, nor to an
// older serial.
func (a *Assignment) Newer(b *Assignment) bool {
	return b == nil || a.Epoch >= b.Epoch && a.Serial > b.Serial
}

// Topology is the cluster as the proxies are to see it.
func (a *Assignment) Topology() farm.Cluster {
	c := farm.Cluster{Epoch: a.Epoch, Replicas: []farm.Server{}}
	for _, s := range a.Servers {
		server := farm.Server{Name: s.Name, Address: s.Address, Weight: s.Weight}
		switch {
		case s.Name == a.Primary:
			server.Weight = farm.DefaultWeight
			c.Primary = &server
		case s.State != "":
			server.State = s.State
			c.Replicas = append(c.Replicas, server)
		}
	}
	return c
}
