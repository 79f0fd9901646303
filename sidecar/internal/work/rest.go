package work

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"
	"time"

	"farmhand/internal/atomicfile"
)

// Place is the directory that the workers of a machine share. While there is a file
// "rest" in it they take no message. A worker NAME locks NAME.turn from before it looks
// for that file until it has done the message that it got; see also [Busy].
type Place struct{ Directory string }

func (p Place) rest() string { return filepath.Join(p.Directory, "rest") }

// BusyFile is the file of [Busy] of a worker.
func (p Place) BusyFile(name string) string { return filepath.Join(p.Directory, name+".busy") }

func (p Place) turnFile(name string) string { return filepath.Join(p.Directory, name+".turn") }

// Make makes the files of a worker that does not run yet, for the account that it will run
// as; nil is ours. Then the directory need not be the account's.
func (p Place) Make(name string, account *syscall.Credential) error {
	busy, err := OpenBusy(p.BusyFile(name))
	if err != nil {
		return err
	}
	turns, err := p.Turns(name)
	if err != nil {
		return errors.Join(err, busy.Close())
	}
	if account != nil {
		for _, f := range []*os.File{busy.file, turns.file} {
			err = errors.Join(err, f.Chown(int(account.Uid), int(account.Gid)))
		}
	}
	return errors.Join(err, busy.Close(), turns.Close())
}

// Turns are what a worker takes before it asks for a message; nil where nobody can have it
// rest.
type Turns struct {
	place Place
	file  *os.File
}

// Turns makes the worker's file, or takes the one that is there.
func (p Place) Turns(name string) (*Turns, error) {
	f, err := os.OpenFile(p.turnFile(name), os.O_RDWR|os.O_CREATE, 0o644)
	if err != nil {
		return nil, err
	}
	return &Turns{place: p, file: f}, nil
}

// Close closes the file, and ends a turn with that.
func (t *Turns) Close() error {
	if t == nil {
		return nil
	}
	return t.file.Close()
}

// begin reports whether a message may be taken. It is an error if another worker has the
// name.
func (t *Turns) begin() (bool, error) {
	if t == nil {
		return true, nil
	}
	if err := syscall.Flock(int(t.file.Fd()), syscall.LOCK_EX|syscall.LOCK_NB); errors.Is(err, syscall.EWOULDBLOCK) {
		return false, nil // who looks whether it rests, for a moment, or a worker of the name before
	} else if err != nil {
		return false, fmt.Errorf("%s: %w", t.file.Name(), err)
	}
	_, err := os.Lstat(t.place.rest())
	if errors.Is(err, fs.ErrNotExist) {
		return true, nil
	}
	return false, errors.Join(err, t.end())
}

func (t *Turns) end() error {
	if t == nil {
		return nil
	}
	return syscall.Flock(int(t.file.Fd()), syscall.LOCK_UN)
}

// Rest has the workers of the place take no message any more, and waits until each has done
// what it has. They rest on when ctx ends before.
func (p Place) Rest(ctx context.Context) error {
	if err := atomicfile.Write(p.rest(), []byte("no message is taken while this file is here: sidecar rest --undo\n"), 0o644, nil); err != nil {
		return err
	}
	for {
		busy, err := p.taking()
		if err != nil || busy == "" {
			return err
		}
		select {
		case <-time.After(restLook):
		case <-ctx.Done():
			return fmt.Errorf("%s has a message still, and no worker takes another: %w", busy, context.Cause(ctx))
		}
	}
}

// Work has them take messages again.
func (p Place) Work() error {
	if err := os.Remove(p.rest()); !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return nil
}

const restLook = 100 * time.Millisecond

// taking is the file of a worker that has a turn; empty if there is none.
func (p Place) taking() (string, error) {
	files, err := filepath.Glob(filepath.Join(p.Directory, "*.turn"))
	if err != nil {
		return "", err
	}
	for _, path := range files {
		busy, _, err := Ask(path)
		if err != nil {
			return "", err
		}
		if busy {
			return path, nil
		}
	}
	return "", nil
}
