package work_test

import (
	"context"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"
	"go.uber.org/zap"

	"farmhand/internal/farmtest"
	"farmhand/internal/queue"
	"farmhand/internal/sqstest"
	"farmhand/sidecar/internal/work"
)

func TestMain(m *testing.M) {
	if address := os.Getenv(asWorker); address != "" {
		if err := workAsChild(address); err != nil {
			panic(err)
		}
		return
	}
	for _, v := range sqstest.Environment() {
		name, value, _ := strings.Cut(v, "=")
		if err := os.Setenv(name, value); err != nil {
			panic(err)
		}
	}
	goleak.VerifyTestMain(m)
}

// worker is one that runs in this process.
type worker struct {
	t      *testing.T
	sqs    *sqstest.SQS
	dir    string
	busy   string
	finish context.CancelFunc
	ended  chan error
}

func openQueue(ctx context.Context, address string) (*queue.Queue, error) {
	a, err := queue.ParseAddress(address)
	if err != nil {
		return nil, err
	}
	return queue.Open(ctx, a)
}

// begin starts a worker whose program is a shell script; $DIR is a directory of the test.
func begin(t *testing.T, sqs *sqstest.SQS, address, script string, change func(*work.Config)) *worker {
	t.Helper()
	q, err := openQueue(t.Context(), address)
	if err != nil {
		t.Fatal(err)
	}
	w := &worker{t: t, sqs: sqs, dir: t.TempDir(), ended: make(chan error, 1)}
	w.busy = filepath.Join(w.dir, "busy")
	busy, err := work.OpenBusy(w.busy)
	if err != nil {
		t.Fatal(err)
	}
	c := work.Config{
		Queue: q, Command: []string{"sh", "-c", "DIR=" + w.dir + "\n" + script}, Hold: 2 * time.Second, Wait: time.Second, Limit: time.Minute,
		Busy: busy, Output: io.Discard, Log: zap.NewNop(),
	}
	if change != nil {
		change(&c)
	}
	finish, end := context.WithCancel(context.Background())
	w.finish = end
	go func() { w.ended <- work.Run(finish, context.Background(), c) }()
	t.Cleanup(func() {
		end()
		if err := <-w.ended; err != nil {
			t.Error(err)
		}
		if err := busy.Close(); err != nil {
			t.Error(err)
		}
	})
	return w
}

func (w *worker) file(name string) string {
	data, err := os.ReadFile(filepath.Join(w.dir, name))
	if err != nil {
		return ""
	}
	return string(data)
}

func (w *worker) eventually(what string, is func() bool) {
	w.t.Helper()
	farmtest.Eventually(w.t, what, func() error {
		if !is() {
			return os.ErrNotExist
		}
		return nil
	})
}

func TestAMessageIsDone(t *testing.T) {
	sqs := sqstest.NewSQS(t)
	w := begin(t, sqs, sqs.Queue("jobs", sqstest.QueueOptions{}), `cat >$DIR/job; echo $FARMHAND_MESSAGE_TIMES >$DIR/times; test -z "$(cat $DIR/job | grep bad)"`, func(c *work.Config) { c.Retry = time.Hour })
	sqs.Put("jobs", "a job")
	w.eventually("it is done", func() bool { return sqs.Left("jobs") == 0 })
	if w.file("job") != "a job" || w.file("times") != "1\n" {
		t.Errorf("the program got %q, for the %s time", w.file("job"), w.file("times"))
	}
	sqs.Put("jobs", "a bad job")
	w.eventually("it has failed", func() bool { _, s, _ := work.Ask(w.busy); return s != nil && s.Failed == 1 })
	h := sqs.Histories("jobs")[1]
	if h.Deleted || len(h.Deliveries) != 1 || time.Until(h.Deliveries[0].Until) < 50*time.Minute {
		t.Errorf("a job that failed: %+v", h)
	}
	if _, s, err := work.Ask(w.busy); err != nil || s.Done != 1 {
		t.Errorf("%+v, %v", s, err)
	}
}

// TestALongJobIsHeld: longer than one hold, and who is to end meanwhile does it first.
func TestALongJobIsHeld(t *testing.T) {
	t.Parallel()
	sqs := sqstest.NewSQS(t)
	w := begin(t, sqs, sqs.Queue("jobs", sqstest.QueueOptions{}), `touch $DIR/begun; sleep 10; touch $DIR/ended`, func(c *work.Config) { c.Hold = 8 * time.Second })
	sqs.Fail("DeleteMessage", sqstest.LostReply, sqstest.Broken)
	sqs.Fail("ChangeMessageVisibility", 0, sqstest.Broken) // which the client repeats
	sqs.Put("jobs", "long")
	w.eventually("it has begun", func() bool { _, err := os.Stat(filepath.Join(w.dir, "begun")); return err == nil })
	if busy, _, err := work.Ask(w.busy); !busy || err != nil {
		t.Errorf("busy %v, %v", busy, err)
	}
	w.finish()
	w.eventually("it is done", func() bool { return sqs.Left("jobs") == 0 })
	if h := sqs.Histories("jobs")[0]; len(h.Deliveries) != 1 || !h.Deleted {
		t.Errorf("%+v", h)
	}
	w.eventually("it is idle", func() bool { busy, _, _ := work.Ask(w.busy); return !busy })
}

// TestAMessageThatIsNotSureIsLetGo: the queue does not answer, and the program has ended
// before another worker can have the message.
func TestAMessageThatIsNotSureIsLetGo(t *testing.T) {
	t.Parallel()
	sqs := sqstest.NewSQS(t)
	w := begin(t, sqs, sqs.Queue("jobs", sqstest.QueueOptions{}), `while :; do date +%s.%N >>$DIR/beats; sleep 0.05; done`, nil)
	fails := make([]sqstest.Fault, 1000)
	for i := range fails[1:] {
		fails[i+1] = sqstest.Broken
	}
	sqs.Fail("ChangeMessageVisibility", fails...)
	sqs.Put("jobs", "endless")
	w.eventually("it was given up", func() bool { _, s, _ := work.Ask(w.busy); return s != nil && s.Failed > 0 })
	until := sqs.Histories("jobs")[0].Deliveries[0].Until
	beats := strings.Fields(w.file("beats"))
	if len(beats) == 0 {
		t.Fatal("it never ran")
	}
	last, err := os.Stat(filepath.Join(w.dir, "beats"))
	if err != nil || !last.ModTime().Before(until) {
		t.Errorf("it ran until %v and was held until %v: %v", last.ModTime(), until, err)
	}
}

// TestTheLimit: what takes too long is killed with all that it has started, and given back.
func TestTheLimit(t *testing.T) {
	t.Parallel()
	sqs := sqstest.NewSQS(t)
	w := begin(t, sqs, sqs.Queue("jobs", sqstest.QueueOptions{MaxTimes: 2}), `sleep 1000 & wait`, func(c *work.Config) { c.Limit = time.Second / 2 })
	sqs.Put("jobs", "too long")
	w.eventually("it is a dead letter", func() bool { h := sqs.Histories("jobs")[0]; return h.Dead && len(h.Deliveries) == 2 })
}

// TestRest: no message is taken any more, and what has one does it first.
func TestRest(t *testing.T) {
	t.Parallel()
	sqs := sqstest.NewSQS(t)
	place := work.Place{Directory: t.TempDir()}
	turns, err := place.Turns("one")
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := turns.Close(); err != nil {
			t.Error(err)
		}
	}()
	w := begin(t, sqs, sqs.Queue("jobs", sqstest.QueueOptions{}), `touch $DIR/begun; until test -e $DIR/go; do sleep 0.05; done`, func(c *work.Config) { c.Turns = turns })
	sqs.Put("jobs", "first", "second")
	w.eventually("it has begun", func() bool { _, err := os.Stat(filepath.Join(w.dir, "begun")); return err == nil })
	short, cancel := context.WithTimeout(t.Context(), 300*time.Millisecond)
	defer cancel()
	if err := place.Rest(short); err == nil || !strings.Contains(err.Error(), "one.turn has a message") {
		t.Errorf("at rest with a message: %v", err)
	}
	if err := os.WriteFile(filepath.Join(w.dir, "go"), nil, 0o644); err != nil {
		t.Fatal(err)
	}
	if err := place.Rest(t.Context()); err != nil {
		t.Fatal(err)
	}
	if sqs.Left("jobs") != 1 {
		t.Errorf("%d are left when it rests", sqs.Left("jobs"))
	}
	if err := place.Work(); err != nil {
		t.Fatal(err)
	}
	w.eventually("the second is done", func() bool { return sqs.Left("jobs") == 0 })
	w.finish()
	<-w.ended
	w.ended <- nil
}

// TestAgeOfAMessage: how long it had waited is said, but for one that fails again and again:
// more workers would not help that.
func TestAgeOfAMessage(t *testing.T) {
	sqs := sqstest.NewSQS(t)
	w := begin(t, sqs, sqs.Queue("jobs", sqstest.QueueOptions{}), `exit 1`, nil)
	sqs.Advance(-time.Hour)
	sqs.Put("jobs", "a bad job")
	sqs.Advance(time.Hour)
	failed := func(times int) (s *work.State) {
		w.eventually("it has failed", func() bool { _, s, _ = work.Ask(w.busy); return s != nil && s.Failed >= times })
		return s
	}
	first := failed(3)
	if first.Age < 50*time.Minute || first.Age > 70*time.Minute {
		t.Errorf("at first %+v", first)
	}
	if later := failed(6); later.Age != first.Age || later.Received != first.Received {
		t.Errorf("later %+v, after %+v", later, first)
	}
}
