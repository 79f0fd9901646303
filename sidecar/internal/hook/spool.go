package hook

import (
	"cmp"
	"crypto/rand"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"farmhand/internal/atomicfile"
	"farmhand/internal/farm"
)

// Bounds of the spool.
const (
	MaxPending   = 10_000   // events
	maxEventSize = 64 << 10 // bytes of one
)

// ErrFull is that too many events wait already.
var ErrFull = fmt.Errorf("%d events wait for their hooks already; no more are taken", MaxPending)

// Spool holds the events that wait for their hooks: one file each, whose name
// says in which order they came, how often their hooks were begun, and whether
// only the asynchronous ones are left. Any process may put events in; one takes
// them out.
type Spool struct{ dir string }

// entry is one event's file.
type entry struct {
	seq      int64 // rises with every event
	attempts int   // how often its delivery was begun
	async    bool  // the others have run
}

var entryPattern = regexp.MustCompile(`^(\d{16})\.(\d{1,4})\.(sync|async)\.json$`)

func parseEntry(name string) (entry, bool) {
	parts := entryPattern.FindStringSubmatch(name)
	if parts == nil {
		return entry{}, false
	}
	// The pattern leaves digits that fit.
	seq, _ := strconv.ParseInt(parts[1], 10, 64)
	attempts, _ := strconv.Atoi(parts[2])
	return entry{seq: seq, attempts: attempts, async: parts[3] == "async"}, true
}

func (e entry) name() string {
	phase := "sync"
	if e.async {
		phase = "async"
	}
	return fmt.Sprintf("%016d.%d.%s.json", e.seq, e.attempts, phase)
}

// OpenSpool returns the spool in the state directory, which is made if it is
// not there. Only its owner (and root) may have access: who can put an event in
// can run the hooks.
func OpenSpool(state string) (*Spool, error) {
	dir := filepath.Join(state, "spool")
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("event spool: %w", err)
	}
	for _, path := range []string{state, dir} {
		info, err := os.Stat(path)
		if err != nil {
			return nil, fmt.Errorf("event spool: %w", err)
		}
		if info.Mode().Perm()&0o022 != 0 {
			return nil, fmt.Errorf("event spool: %s has mode %04o: others than its owner may change it; chmod it to 0700", path, info.Mode().Perm())
		}
	}
	return &Spool{dir: dir}, nil
}

// NewID returns an event's id.
func NewID() string {
	var id [12]byte
	_, _ = rand.Read(id[:]) // it never fails
	return hex.EncodeToString(id[:])
}

// Put adds an event; when it returns nil the event survives a crash of the
// machine.
func (s *Spool) Put(e farm.Event) error {
	if err := e.Check(); err != nil {
		return fmt.Errorf("event: %w", err)
	}
	data, err := json.Marshal(e)
	if err != nil {
		return fmt.Errorf("event: %w", err)
	}
	if len(data) > maxEventSize {
		return fmt.Errorf("event: it takes %d bytes; expected at most %d", len(data), maxEventSize)
	}
	unlock, err := lockFile(filepath.Join(s.dir, ".lock"), syscall.LOCK_EX)
	if err != nil {
		return fmt.Errorf("event spool: %w", err)
	}
	defer unlock()
	if err := s.give(filepath.Join(s.dir, ".lock")); err != nil {
		return fmt.Errorf("event spool: %w", err)
	}
	entries, err := s.list()
	if err != nil {
		return err
	}
	if len(entries) >= MaxPending {
		return ErrFull
	}
	// Beyond those that wait and, by the clock, those that have gone.
	next := entry{seq: time.Now().UnixMicro()}
	if n := len(entries); n > 0 {
		next.seq = max(next.seq, entries[n-1].seq+1)
	}
	path := filepath.Join(s.dir, next.name())
	if err := atomicfile.Write(path, data, 0o600, s.give); err != nil {
		return fmt.Errorf("event spool: %w", err)
	}
	return nil
}

// give makes a file that root has written one of the spool's owner, who could
// not read it otherwise.
func (s *Spool) give(path string) error {
	info, err := os.Stat(s.dir)
	if err != nil {
		return err
	}
	owner, ok := info.Sys().(*syscall.Stat_t)
	if !ok || os.Geteuid() != 0 || owner.Uid == 0 {
		return nil
	}
	return os.Chown(path, int(owner.Uid), int(owner.Gid))
}

// list returns what waits, in order.
func (s *Spool) list() ([]entry, error) {
	files, err := os.ReadDir(s.dir)
	if err != nil {
		return nil, fmt.Errorf("event spool: %w", err)
	}
	var entries []entry
	for _, f := range files {
		if e, ok := parseEntry(f.Name()); ok {
			entries = append(entries, e)
		}
	}
	slices.SortFunc(entries, func(a, b entry) int { return cmp.Compare(a.seq, b.seq) })
	return entries, nil
}

// errNoEvent is that a file in the spool is none; any other error of reading one
// may be over in a moment.
var errNoEvent = errors.New("it is no event")

func (s *Spool) read(e entry) (event farm.Event, err error) {
	f, err := os.OpenFile(filepath.Join(s.dir, e.name()), os.O_RDONLY|syscall.O_NOFOLLOW|syscall.O_NONBLOCK, 0)
	if errors.Is(err, syscall.ELOOP) {
		return farm.Event{}, fmt.Errorf("read event %s: %w: a symbolic link", e.name(), errNoEvent)
	}
	if err != nil {
		return farm.Event{}, fmt.Errorf("read event: %w", err)
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	data, err := io.ReadAll(io.LimitReader(f, maxEventSize+1))
	if err != nil {
		return farm.Event{}, fmt.Errorf("read event: %w", err)
	}
	if err := json.Unmarshal(data, &event); err != nil {
		return farm.Event{}, fmt.Errorf("read event %s: %w: %w", e.name(), errNoEvent, err)
	}
	if err := event.Check(); err != nil {
		return farm.Event{}, fmt.Errorf("read event %s: %w: %w", e.name(), errNoEvent, err)
	}
	return event, nil
}

// become replaces what is noted about an event.
func (s *Spool) become(was, is entry) error {
	if err := os.Rename(filepath.Join(s.dir, was.name()), filepath.Join(s.dir, is.name())); err != nil {
		return fmt.Errorf("event spool: %w", err)
	}
	return nil
}

func (s *Spool) remove(e entry) error {
	if err := os.Remove(filepath.Join(s.dir, e.name())); err != nil {
		return fmt.Errorf("event spool: %w", err)
	}
	return nil
}

// clean removes what a Put that was killed has left.
func (s *Spool) clean() error {
	unlock, err := lockFile(filepath.Join(s.dir, ".lock"), syscall.LOCK_EX)
	if err != nil {
		return fmt.Errorf("event spool: %w", err)
	}
	defer unlock()
	files, err := os.ReadDir(s.dir)
	if err != nil {
		return fmt.Errorf("event spool: %w", err)
	}
	for _, f := range files {
		if strings.HasPrefix(f.Name(), ".") && f.Name() != ".lock" {
			if err := os.Remove(filepath.Join(s.dir, f.Name())); err != nil && !errors.Is(err, fs.ErrNotExist) {
				return fmt.Errorf("event spool: %w", err)
			}
		}
	}
	return nil
}

// lockFile takes the lock that a file stands for until unlock is called.
func lockFile(path string, how int) (unlock func(), err error) {
	f, err := os.OpenFile(path, os.O_CREATE|os.O_RDWR|syscall.O_NOFOLLOW, 0o600)
	if err != nil {
		return nil, err
	}
	for {
		err = syscall.Flock(int(f.Fd()), how)
		if !errors.Is(err, syscall.EINTR) {
			break
		}
	}
	if err != nil {
		return nil, errors.Join(fmt.Errorf("lock %s: %w", path, err), f.Close())
	}
	return func() { _ = f.Close() }, nil // which is the unlock
}
