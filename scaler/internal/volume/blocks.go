package volume

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strings"

	"golang.org/x/sys/unix"

	"farmhand/internal/atomicfile"
	"farmhand/scaler/internal/flock"
)

// blockSize is how the content of files is cut, in bytes: of a file that has changed
// somewhere, as much is stored anew.
const blockSize = 64 << 10

// archive has the snapshots of one volume.
//
//	ARCHIVE/NAME/lock            held while one is made, read or removed
//	ARCHIVE/NAME/ID              a snapshot: a line about it, a line with its files
//	ARCHIVE/NAME/blocks/HH/HASH  the content of files, each block once
//	ARCHIVE/NAME/unsynced        there while blocks may not be on disk yet
//
// All of it is for its owner only: it has what the volume has.
type archive struct {
	dir  string
	lock *os.File
	step func(string)
	// known are blocks that are there for sure, stored the bytes that were added.
	known  map[string]bool
	stored int64
}

// archive takes hold of the snapshots of a volume.
func (l *Local) archive(ctx context.Context, name string) (*archive, error) {
	a := &archive{dir: filepath.Join(l.Archive, name), known: map[string]bool{}, step: l.Step}
	if err := os.MkdirAll(a.dir, 0o700); err != nil {
		return nil, err
	}
	var err error
	if a.lock, err = flock.Hold(ctx, filepath.Join(a.dir, "lock")); err != nil {
		return nil, err
	}
	return a, nil
}

// begin prepares for blocks to come.
func (a *archive) begin() error {
	boot, err := os.ReadFile("/proc/sys/kernel/random/boot_id")
	if err != nil {
		return err
	}
	was, err := os.ReadFile(filepath.Join(a.dir, "unsynced"))
	if err == nil && !bytes.Equal(was, boot) {
		// The machine went down before they were on disk: a block may have its name and
		// not its content.
		err = a.scrub()
	}
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	if err := os.MkdirAll(filepath.Join(a.dir, "blocks"), 0o700); err != nil {
		return err
	}
	return atomicfile.Write(filepath.Join(a.dir, "unsynced"), boot, 0o600, nil)
}

// commit has everything on disk, and then writes the snapshot: from then on it
// counts.
func (a *archive) commit(s Snapshot, files []byte) error {
	head, err := json.Marshal(header{s, sum(files)})
	if err != nil {
		return err
	}
	dir, err := os.Open(a.dir)
	if err != nil {
		return err
	}
	if err := errors.Join(unix.Syncfs(int(dir.Fd())), dir.Close()); err != nil {
		return fmt.Errorf("write blocks to disk: %w", err)
	}
	a.step("snapshot")
	text := append(append(append(head, '\n'), files...), '\n')
	if err := atomicfile.Write(filepath.Join(a.dir, s.ID), text, 0o600, nil); err != nil {
		return err
	}
	return os.Remove(filepath.Join(a.dir, "unsynced"))
}

func sum(b []byte) string {
	s := sha256.Sum256(b)
	return hex.EncodeToString(s[:])
}

func (a *archive) block(hash string) string { return filepath.Join(a.dir, "blocks", hash[:2], hash) }

// put stores a block, if it is not there, and returns its name; "" for one of zeros.
func (a *archive) put(b []byte) (string, error) {
	if allZero(b) {
		return "", nil
	}
	hash := sum(b)
	if a.known[hash] {
		return hash, nil
	}
	path := a.block(hash)
	if info, err := os.Stat(path); err == nil && info.Size() == int64(len(b)) {
		a.known[hash] = true
		return hash, nil
	}
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return "", err
	}
	a.step("block")
	// Only one writes here, so what is left of another is written over.
	temporary := filepath.Join(a.dir, "blocks", "new")
	if err := os.WriteFile(temporary, b, 0o600); err != nil {
		return "", err
	}
	if err := os.Rename(temporary, path); err != nil {
		return "", err
	}
	a.known[hash] = true
	a.stored += int64(len(b))
	return hash, nil
}

var zeros [blockSize]byte

func allZero(b []byte) bool { return bytes.Equal(b, zeros[:len(b)]) }

// get returns a block of a size, whose content is what it was.
func (a *archive) get(hash string, size int) ([]byte, error) {
	if !hashPattern.MatchString(hash) {
		return nil, fmt.Errorf("%q is no name of a block", hash)
	}
	b, err := os.ReadFile(a.block(hash))
	if err != nil {
		return nil, err
	}
	if len(b) != size || sum(b) != hash {
		return nil, fmt.Errorf("block %s is damaged", hash)
	}
	return b, nil
}

var hashPattern = regexp.MustCompile(`^[0-9a-f]{64}$`)

// blocks calls do with each block that is stored.
func (a *archive) blocks(do func(path, hash string) error) error {
	found, err := filepath.Glob(filepath.Join(a.dir, "blocks", "??", "*"))
	if err != nil {
		return err
	}
	for _, path := range found {
		if err := do(path, filepath.Base(path)); err != nil {
			return err
		}
	}
	return nil
}

// scrub removes the blocks that are not what they are called.
func (a *archive) scrub() error {
	return a.blocks(func(path, hash string) error {
		b, err := os.ReadFile(path)
		if err == nil && sum(b) != hash {
			err = os.Remove(path)
		}
		return err
	})
}

// sweep removes the blocks that no snapshot needs.
func (a *archive) sweep() error {
	ids, err := a.ids()
	if err != nil {
		return err
	}
	needed := map[string]bool{}
	for _, id := range ids {
		_, files, err := a.read(id)
		if err != nil {
			return fmt.Errorf("what it needs is not known, so no block is removed: %w", err)
		}
		for _, f := range files {
			for _, hash := range f.Blocks {
				needed[hash] = true
			}
		}
	}
	return a.blocks(func(path, hash string) error {
		if needed[hash] {
			return nil
		}
		a.step("sweep")
		return os.Remove(path)
	})
}

// header is the first line of a snapshot's file.
type header struct {
	Snapshot
	// Files is the SHA-256 of the second line.
	Files string `json:"files"`
}

// idTime is the time in the id of a snapshot.
const idTime = "20060102T150405.000"

var idPattern = regexp.MustCompile(`^(.+)-(\d{8}T\d{9})$`)

// volumeOf is the volume that a snapshot is of.
func volumeOf(id string) (string, error) {
	m := idPattern.FindStringSubmatch(id)
	if m == nil || filepath.Base(id) != id {
		return "", fmt.Errorf("%q is no snapshot's id; expected one such as db-1-20261128T201500000", id)
	}
	return m[1], nil
}

// ids are those of the snapshots, the oldest first.
func (a *archive) ids() ([]string, error) {
	entries, err := os.ReadDir(a.dir)
	if err != nil {
		return nil, err
	}
	var ids []string
	for _, e := range entries {
		if name, err := volumeOf(e.Name()); err == nil && name == filepath.Base(a.dir) {
			ids = append(ids, e.Name())
		}
	}
	return ids, nil // by their time, for the names are of one length
}

// head reads the first line of a snapshot; fs.ErrNotExist if there is none.
func (a *archive) head(id string) (header, []byte, error) {
	text, err := os.ReadFile(filepath.Join(a.dir, id))
	if err != nil {
		return header{}, nil, err
	}
	first, rest, _ := bytes.Cut(text, []byte("\n"))
	var h header
	if err := json.Unmarshal(first, &h); err != nil || h.ID != id {
		return header{}, nil, fmt.Errorf("snapshot %s is damaged: %w", id, err)
	}
	return h, bytes.TrimSuffix(rest, []byte("\n")), nil
}

// read reads a snapshot.
func (a *archive) read(id string) (Snapshot, []file, error) {
	h, text, err := a.head(id)
	if err != nil {
		return Snapshot{}, nil, err
	}
	if sum(text) != h.Files {
		return Snapshot{}, nil, fmt.Errorf("snapshot %s is damaged: its list of files is not what it was", id)
	}
	var files []file
	if err := json.Unmarshal(text, &files); err != nil {
		return Snapshot{}, nil, fmt.Errorf("snapshot %s is damaged: %w", id, err)
	}
	for _, f := range files {
		if path := string(f.Path); path != "." && (!filepath.IsLocal(path) || strings.Contains(path, "\x00")) {
			return Snapshot{}, nil, fmt.Errorf("snapshot %s: %q is no path in a volume", id, path)
		}
	}
	return h.Snapshot, files, nil
}
