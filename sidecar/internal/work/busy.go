package work

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"syscall"
	"time"

	"farmhand/internal/queue"
)

// Busy is a file that a worker locks (flock(2), exclusively) while it has a job. The
// kernel takes the lock away when the process ends, however that is. Any worker program
// can do the same with the file that $FARMHAND_BUSY names; what [Run] writes into it is
// [State]. nil is no file.
type Busy struct {
	file  *os.File
	state State
}

// State is what a worker says of itself.
type State struct {
	// Received is when it asked the queue last and was answered, Age how old the message
	// was then that it got; 0 if there was none. A message that has failed several times
	// changes neither.
	Received time.Time     `json:"received"`
	Age      time.Duration `json:"age_ns"`
	Done     int           `json:"done"`   // jobs that succeeded
	Failed   int           `json:"failed"` // that did not
}

// OpenBusy makes the file, or takes the one that is there.
func OpenBusy(path string) (*Busy, error) {
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o644)
	if err != nil {
		return nil, err
	}
	return &Busy{file: f}, nil
}

// Close closes the file.
func (b *Busy) Close() error {
	if b == nil {
		return nil
	}
	return b.file.Close()
}

// mostTimes is how often a message may have been given for its age to say how long messages
// wait: one that fails again and again would say that there are too few workers.
const mostTimes = 3

func (b *Busy) begin(m *queue.Received, now time.Time) error {
	if b == nil {
		return nil
	}
	// Who asks has the lock for a moment, too.
	for tries := 0; ; tries++ {
		err := syscall.Flock(int(b.file.Fd()), syscall.LOCK_EX|syscall.LOCK_NB)
		if err == nil {
			break
		}
		if !errors.Is(err, syscall.EWOULDBLOCK) || tries == 100 {
			return fmt.Errorf("another worker has a job with %s: %w", b.file.Name(), err)
		}
		time.Sleep(time.Millisecond)
	}
	if !m.Sent.IsZero() && m.Times <= mostTimes {
		b.state.Received, b.state.Age = now, max(now.Sub(m.Sent), 0)
	}
	return b.write()
}

func (b *Busy) end(done bool) error {
	if b == nil {
		return nil
	}
	if done {
		b.state.Done++
	} else {
		b.state.Failed++
	}
	err := b.write()
	return errors.Join(err, syscall.Flock(int(b.file.Fd()), syscall.LOCK_UN))
}

// idle says that the queue had nothing.
func (b *Busy) idle(now time.Time) error {
	if b == nil {
		return nil
	}
	b.state.Received, b.state.Age = now, 0
	return b.write()
}

func (b *Busy) write() error {
	data, err := json.Marshal(b.state)
	if err != nil {
		return err
	}
	if err := b.file.Truncate(0); err != nil {
		return err
	}
	_, err = b.file.WriteAt(append(data, '\n'), 0)
	return err
}

// Ask says whether the worker whose file is at path has a job, and what it said last of
// itself; nil if it said nothing. A file that is not there is that of a worker which never
// had a job.
func Ask(path string) (busy bool, state *State, err error) {
	f, err := os.Open(path)
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil, nil
	}
	if err != nil {
		return false, nil, err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	switch err := syscall.Flock(int(f.Fd()), syscall.LOCK_SH|syscall.LOCK_NB); {
	case errors.Is(err, syscall.EWOULDBLOCK):
		busy = true
	case err != nil:
		return false, nil, err
	}
	data := make([]byte, 4<<10)
	n, err := f.ReadAt(data, 0)
	if n == 0 {
		return busy, nil, nil
	}
	s := new(State)
	if json.Unmarshal(data[:n], s) != nil { // of a program with a content of its own, or while it is written
		return busy, nil, nil
	}
	return busy, s, nil
}
