package hook

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"sync"
	"time"

	"farmhand/internal/farm"
)

// Results of a hook beside those of a command (command.Status), and of a whole
// event.
const (
	Refused   = "refused"   // it was not run, for the reason in Detail
	Delivered = "delivered" // all hooks of the event have run
	GivenUp   = "given-up"  // the program was killed too often while they ran
)

// Record is one line of the journal: what became of one hook, or, without a
// hook, of an event.
type Record struct {
	Time    time.Time      `json:"time"`
	Event   string         `json:"event"` // its id
	Kind    farm.EventKind `json:"kind"`
	Host    farm.EventHost `json:"host"`
	Attempt int            `json:"attempt,omitempty"`
	// Hook is the name of the hook's file, or "webhook".
	Hook    string  `json:"hook,omitempty"`
	Async   bool    `json:"async,omitempty"`
	Result  string  `json:"result"`
	Exit    int     `json:"exit,omitempty"`
	Seconds float64 `json:"seconds,omitempty"`
	// Output is what it said, without secrets; Dropped counts the bytes that
	// are missing at its end.
	Output  string `json:"output,omitempty"`
	Dropped int64  `json:"dropped,omitempty"`
	Detail  string `json:"detail,omitempty"`
	// Failed counts the hooks of a delivered event that did not end well.
	Failed int               `json:"failed,omitempty"`
	Fields map[string]string `json:"fields,omitempty"`
}

// Journal is the file in which the records stand, one line of JSON each. When it
// has reached its size it becomes the old one, and the one before that goes.
type Journal struct {
	path string
	most int64

	mu   sync.Mutex
	file *os.File
	size int64
}

func journalPath(state string) string { return filepath.Join(state, "journal.jsonl") }

// OpenJournal opens the journal in the state directory for writing. Two files of
// the size most are kept, one record beyond it at most.
func OpenJournal(state string, most int64) (*Journal, error) {
	j := &Journal{path: journalPath(state), most: most}
	if err := j.open(); err != nil {
		return nil, fmt.Errorf("journal: %w", err)
	}
	return j, nil
}

func (j *Journal) open() error {
	file, err := os.OpenFile(j.path, os.O_CREATE|os.O_RDWR|os.O_APPEND, 0o600)
	if err != nil {
		return err
	}
	info, err := file.Stat()
	if err != nil {
		return errors.Join(err, file.Close())
	}
	j.file, j.size = file, info.Size()
	if j.size == 0 {
		return nil
	}
	// A line that a crash cut short must not spoil the next one.
	last := make([]byte, 1)
	if _, err := file.ReadAt(last, j.size-1); err != nil {
		return errors.Join(err, file.Close())
	}
	if last[0] != '\n' {
		if _, err := file.Write([]byte{'\n'}); err != nil {
			return errors.Join(err, file.Close())
		}
		j.size++
	}
	return nil
}

// Write adds a record.
func (j *Journal) Write(r Record) error {
	line, err := json.Marshal(r)
	if err != nil {
		return fmt.Errorf("journal: %w", err)
	}
	line = append(line, '\n')
	j.mu.Lock()
	defer j.mu.Unlock()
	if j.size > 0 && j.size+int64(len(line)) > j.most {
		if err := j.rotate(); err != nil {
			return fmt.Errorf("journal: %w", err)
		}
	}
	n, err := j.file.Write(line)
	j.size += int64(n)
	if err != nil {
		return fmt.Errorf("journal: %w", err)
	}
	return nil
}

func (j *Journal) rotate() error {
	if err := os.Rename(j.path, j.path+".1"); err != nil {
		return err
	}
	old := j.file
	// On an error the old file goes on under its new name.
	if err := j.open(); err != nil {
		return err
	}
	return old.Close()
}

// Close closes the file.
func (j *Journal) Close() error {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.file.Close()
}

// maxRecord is beyond what a record can take.
const maxRecord = 4 << 20

// ReadJournal calls each for every record in the journal of a state directory,
// oldest first. It returns how many lines were none, as a crash leaves them. No
// journal is an empty one.
func ReadJournal(state string, each func(Record)) (spoilt int, err error) {
	path := journalPath(state)
	// The current one is opened first: if it becomes the old one meanwhile, its
	// records are read twice rather than never, and told apart below.
	current, err := openJournalFile(path)
	if err != nil {
		return 0, err
	}
	old, err := openJournalFile(path + ".1")
	if err != nil {
		return 0, errors.Join(err, closeFile(current))
	}
	defer func() { err = errors.Join(err, closeFile(current), closeFile(old)) }()
	if current != nil && old != nil {
		a, errA := current.Stat()
		b, errB := old.Stat()
		if err := errors.Join(errA, errB); err != nil {
			return 0, fmt.Errorf("read journal: %w", err)
		}
		if os.SameFile(a, b) {
			err, old = old.Close(), nil
			if err != nil {
				return 0, fmt.Errorf("read journal: %w", err)
			}
		}
	}
	for _, f := range []*os.File{old, current} {
		if f == nil {
			continue
		}
		bad, err := readRecords(f, each)
		spoilt += bad
		if err != nil {
			return spoilt, fmt.Errorf("read journal: %w", err)
		}
	}
	return spoilt, nil
}

func openJournalFile(path string) (*os.File, error) {
	f, err := os.Open(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("read journal: %w", err)
	}
	return f, nil
}

func closeFile(f *os.File) error {
	if f == nil {
		return nil
	}
	return f.Close()
}

func readRecords(r io.Reader, each func(Record)) (spoilt int, err error) {
	lines := bufio.NewScanner(r)
	lines.Buffer(nil, maxRecord)
	for lines.Scan() {
		if len(bytes.TrimSpace(lines.Bytes())) == 0 {
			continue
		}
		var record Record
		if err := json.Unmarshal(lines.Bytes(), &record); err != nil {
			spoilt++
			continue
		}
		each(record)
	}
	return spoilt, lines.Err()
}
