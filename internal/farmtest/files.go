package farmtest

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"farmhand/internal/child"
)

// PutFile writes a file, and returns when the file system says that it is on the disk.
func PutFile(path, text string) (err error) {
	f, err := os.Create(path)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	if _, err := f.WriteString(text); err != nil {
		return err
	}
	return f.Sync()
}

// Writers write small files, each one after the other, under names that nobody had before.
// They are in a process of their own: who has a file open on a file system that does not answer
// can start no program, since what that inherits is flushed before it runs.
type Writers struct {
	process *child.Child
	read    chan struct{} // closed when all that they say was read

	mu      sync.Mutex
	written map[string]bool
	failed  []error
	longest time.Duration
}

// asWriters has a program be writers; its value says of what.
const asWriters = "FARMHAND_TEST_WRITERS"

// wrote is what a writer says of a file.
type wrote struct {
	Name, Err string
	Took      time.Duration
}

// BeWriters makes the program writers, if WriteFiles has started it. TestMain begins with it.
func BeWriters() {
	text := os.Getenv(asWriters)
	if text == "" {
		return
	}
	var dirs []string
	if err := json.Unmarshal([]byte(text), &dirs); err != nil {
		panic(err)
	}
	stop := make(chan os.Signal, 1)
	signal.Notify(stop, syscall.SIGTERM)
	ended := make(chan struct{})
	go func() { <-stop; close(ended) }()
	var out sync.Mutex
	var all sync.WaitGroup
	for who, dir := range dirs {
		all.Go(func() {
			for n := 0; ; n++ {
				select {
				case <-ended:
					return
				case <-time.After(10 * time.Millisecond): // without it they would only keep the disk busy
				}
				w := wrote{Name: fmt.Sprintf("%d-%d", who, n)}
				began := time.Now()
				if err := PutFile(filepath.Join(dir, w.Name), FileText(w.Name)); err != nil {
					w.Err = err.Error()
				}
				w.Took = time.Since(began)
				line, err := json.Marshal(w)
				out.Lock()
				if err == nil {
					_, err = fmt.Println(string(line))
				}
				out.Unlock()
				if err != nil {
					panic(err)
				}
			}
		})
	}
	all.Wait()
	os.Exit(0)
}

// FileText is what is in a file that writers have written.
func FileText(name string) string {
	n := 0
	for _, digit := range name {
		n = n*31 + int(digit)
	}
	return name + " " + strings.Repeat("x", n%20_000)
}

// WriteFiles has one writer in each of the directories, which may be the same, write until
// End or the end of the test.
func WriteFiles(t testing.TB, dirs ...string) *Writers {
	t.Helper()
	what, err := json.Marshal(dirs)
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), asWriters+"="+string(what))
	cmd.Stderr = os.Stderr
	read, write, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	cmd.Stdout = write
	w := &Writers{read: make(chan struct{}), written: map[string]bool{}}
	w.process, err = child.Start(cmd, syscall.SIGKILL)
	if err = errors.Join(err, write.Close()); err != nil {
		t.Fatal(err)
	}
	go func() {
		defer close(w.read)
		for scan := bufio.NewScanner(read); scan.Scan(); {
			w.heard(scan.Bytes())
		}
	}()
	t.Cleanup(func() { w.End(); _ = read.Close() }) // it has ended
	return w
}

func (w *Writers) heard(line []byte) {
	var one wrote
	err := json.Unmarshal(line, &one)
	w.mu.Lock()
	defer w.mu.Unlock()
	w.longest = max(w.longest, one.Took)
	switch {
	case err != nil:
		w.failed = append(w.failed, fmt.Errorf("writers said %q: %w", line, err))
	case one.Err != "":
		w.failed = append(w.failed, fmt.Errorf("after %v: %s", one.Took.Round(time.Millisecond), one.Err))
	default:
		w.written[one.Name] = true
	}
}

// End ends them. Each ends what it has under way.
func (w *Writers) End() {
	w.process.Signal(syscall.SIGTERM)
	<-w.process.Done()
	<-w.read
}

// Written are the names of the files that were acknowledged, in order; what is in them is
// [FileText].
func (w *Writers) Written() []string {
	w.mu.Lock()
	defer w.mu.Unlock()
	return slices.Sorted(maps.Keys(w.written))
}

// Failed is what came of those that were not; it is forgotten.
func (w *Writers) Failed() []error {
	w.mu.Lock()
	defer w.mu.Unlock()
	failed := w.failed
	w.failed = nil
	return failed
}

// Longest is how long a file took at most; it is forgotten.
func (w *Writers) Longest() time.Duration {
	w.mu.Lock()
	defer w.mu.Unlock()
	longest := w.longest
	w.longest = 0
	return longest
}

// More returns when each of them has written something more.
func (w *Writers) More(t testing.TB, what string) {
	t.Helper()
	by := func() map[string]int {
		count := map[string]int{}
		for _, name := range w.Written() {
			count[name[:strings.IndexByte(name, '-')]]++
		}
		return count
	}
	from := by()
	Eventually(t, what, func() error {
		now := by()
		if len(now) == 0 {
			return errors.New("none was written")
		}
		for _, writer := range slices.Sorted(maps.Keys(now)) {
			if now[writer] < from[writer]+3 {
				return fmt.Errorf("writer %s has written %d files since, %d in all", writer, now[writer]-from[writer], now[writer])
			}
		}
		return nil
	})
}
