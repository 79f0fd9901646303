package queue_test

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	"farmhand/internal/queue"
	"farmhand/internal/sqstest"
)

func open(t *testing.T, address string) *queue.Queue {
	t.Helper()
	a, err := queue.ParseAddress(address)
	if err != nil {
		t.Fatal(err)
	}
	q, err := queue.Open(t.Context(), a)
	if err != nil {
		t.Fatal(err)
	}
	return q
}

func serve(t *testing.T, name string, o sqstest.QueueOptions) (*sqstest.SQS, *queue.Queue) {
	sqstest.SetCredentials(t)
	s := sqstest.NewSQS(t)
	return s, open(t, s.Queue(name, o))
}

func counts(t *testing.T, q *queue.Queue) queue.Counts {
	t.Helper()
	c, err := q.Counts(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func receive(t *testing.T, q *queue.Queue) *queue.Received {
	t.Helper()
	m, err := q.Receive(t.Context(), 0, time.Minute)
	if err != nil {
		t.Fatal(err)
	}
	return m
}

// TestAMessageFromItsSenderToItsEnd: held, held longer, given back, done.
func TestAMessageFromItsSenderToItsEnd(t *testing.T) {
	s, q := serve(t, "jobs", sqstest.QueueOptions{Hold: 7 * time.Second})
	if hold, err := q.Hold(t.Context()); err != nil || hold != 7*time.Second {
		t.Errorf("a message is held for %v: %v", hold, err)
	}
	id, err := q.Send(t.Context(), queue.Message{Body: "ä job", Attributes: map[string]string{"tick": "one", "from": "cron"}})
	if err != nil {
		t.Fatal(err)
	}
	if got, want := counts(t, q), (queue.Counts{Visible: 1}); got != want {
		t.Errorf("%+v, want %+v", got, want)
	}
	m := receive(t, q)
	if m == nil || m.ID != id || m.Body != "ä job" || m.Attributes["tick"] != "one" || m.Times != 1 || time.Since(m.Sent) > time.Minute {
		t.Fatalf("received %+v", m)
	}
	if got, want := counts(t, q), (queue.Counts{InFlight: 1}); got != want {
		t.Errorf("%+v, want %+v", got, want)
	}
	if other := receive(t, q); other != nil {
		t.Fatalf("a second receiver has %+v", other)
	}
	s.Advance(50 * time.Second)
	if err := q.Extend(t.Context(), m, time.Minute); err != nil {
		t.Fatal(err)
	}
	s.Advance(50 * time.Second)
	if other := receive(t, q); other != nil {
		t.Fatalf("a second receiver has %+v though it is held longer", other)
	}
	if err := q.Extend(t.Context(), m, 0); err != nil {
		t.Fatal(err)
	}
	again := receive(t, q)
	if again == nil || again.ID != id || again.Times != 2 {
		t.Fatalf("given back, then received %+v", again)
	}
	if err := q.Extend(t.Context(), m, time.Minute); !errors.Is(err, queue.ErrLost) {
		t.Errorf("the first receiver holds it longer: %v", err)
	}
	s.Advance(2 * time.Minute)
	if err := q.Extend(t.Context(), again, time.Minute); !errors.Is(err, queue.ErrLost) {
		t.Errorf("held longer when the time was over: %v", err)
	}
	again = receive(t, q)
	if err := q.Delete(t.Context(), again); err != nil {
		t.Fatal(err)
	}
	if got := counts(t, q); got != (queue.Counts{}) {
		t.Errorf("%+v are left", got)
	}
}

// TestReceiveWaits: for a message that comes, and no longer than it was told.
func TestReceiveWaits(t *testing.T) {
	s, q := serve(t, "jobs", sqstest.QueueOptions{})
	type answer struct {
		m   *queue.Received
		err error
	}
	got := make(chan answer, 1)
	go func() {
		m, err := q.Receive(context.Background(), queue.MaxWait, time.Minute)
		got <- answer{m, err}
	}()
	for s.Calls("ReceiveMessage") == 0 {
		select {
		case a := <-got:
			t.Fatalf("it did not wait: %+v", a)
		case <-time.After(time.Millisecond):
		}
	}
	s.Put("jobs", "late")
	if a := <-got; a.err != nil || a.m == nil || a.m.Body != "late" {
		t.Errorf("%+v", a)
	}
}

// TestWhatIsKnownOfASend: what was refused is not there; what was not answered may be.
func TestWhatIsKnownOfASend(t *testing.T) {
	s, q := serve(t, "jobs", sqstest.QueueOptions{})
	send := func() error { _, err := q.Send(t.Context(), queue.Message{Body: "job"}); return err }
	for _, c := range []struct {
		fault sqstest.Fault
		want  error
		left  int
	}{
		{sqstest.Throttled, queue.ErrUnsent, 0},
		{sqstest.Denied, queue.ErrDenied, 0},
		{sqstest.Broken, queue.ErrUnsure, 0},
		{sqstest.LostReply, queue.ErrUnsure, 1},
	} {
		calls := s.Calls("SendMessage")
		s.Fail("SendMessage", c.fault)
		if err := send(); !errors.Is(err, c.want) {
			t.Errorf("fault %d: %v, want %v", c.fault, err, c.want)
		}
		if n := s.Calls("SendMessage") - calls; n != 1 {
			t.Errorf("fault %d: %d tries", c.fault, n)
		}
		if n := counts(t, q).Visible; n != c.left {
			t.Errorf("fault %d: %d messages, want %d", c.fault, n, c.left)
		}
	}
	nobody := open(t, "http://127.0.0.1:1/1/jobs?region="+sqstest.Region)
	if _, err := nobody.Send(t.Context(), queue.Message{Body: "job"}); !errors.Is(err, queue.ErrUnsent) {
		t.Errorf("nobody listens: %v", err)
	}
	missing := open(t, strings.TrimSuffix(q.Address().URL, "jobs")+"none")
	if _, err := missing.Counts(t.Context()); !errors.Is(err, queue.ErrNotFound) {
		t.Errorf("a queue that is not there: %v", err)
	}
}

// TestFIFO: one message of two with the same Once, until five minutes are over.
func TestFIFO(t *testing.T) {
	s, q := serve(t, "ticks.fifo", sqstest.QueueOptions{})
	send := func() string {
		id, err := q.Send(t.Context(), queue.Message{Body: "tick", Group: "cron", Once: "tick 1"})
		if err != nil {
			t.Fatal(err)
		}
		return id
	}
	s.Fail("SendMessage", sqstest.LostReply)
	if _, err := q.Send(t.Context(), queue.Message{Body: "tick", Group: "cron", Once: "tick 1"}); !errors.Is(err, queue.ErrUnsure) {
		t.Fatal(err)
	}
	first := send()
	if second := send(); second != first || counts(t, q).Visible != 1 {
		t.Errorf("sent as %s and %s, and %d are there", first, second, counts(t, q).Visible)
	}
	s.Advance(5 * time.Minute)
	if third := send(); third == first || counts(t, q).Visible != 2 {
		t.Errorf("after five minutes: %s", third)
	}
	if m := receive(t, q); m == nil || m.Group != "cron" {
		t.Errorf("%+v", m)
	}
	if m := receive(t, q); m != nil {
		t.Errorf("of one group two are held at once: %+v", m)
	}
}

// TestCounts: throttling is waited out, and what comes late is known to be late.
func TestCounts(t *testing.T) {
	s, q := serve(t, "jobs", sqstest.QueueOptions{CountLag: time.Minute})
	s.Fail("GetQueueAttributes", sqstest.Throttled, sqstest.Broken)
	s.Put("jobs", "1", "2", "3")
	if got := counts(t, q); got != (queue.Counts{}) {
		t.Errorf("%+v at once", got)
	}
	s.Advance(2 * time.Minute)
	if got := counts(t, q); got.Visible != 3 {
		t.Errorf("%+v later", got)
	}
}

func TestAddresses(t *testing.T) {
	for text, want := range map[string]queue.Address{
		"https://sqs.eu-central-1.amazonaws.com/123456789012/jobs":      {URL: "https://sqs.eu-central-1.amazonaws.com/123456789012/jobs", Endpoint: "https://sqs.eu-central-1.amazonaws.com", Region: "eu-central-1"},
		"http://127.0.0.1:9324/000000000000/jobs.fifo?region=elasticmq": {URL: "http://127.0.0.1:9324/000000000000/jobs.fifo", Endpoint: "http://127.0.0.1:9324", Region: "elasticmq"},
	} {
		if got, err := queue.ParseAddress(text); err != nil || got != want {
			t.Errorf("%s: %+v, %v", text, got, err)
		}
	}
	for text, why := range map[string]string{
		"jobs": "https://", "http://sqs.example.org/1/jobs": "loopback", "https://user:hush@host/1/jobs": "credentials",
		"https://host/": "path", "https://host/1/jobs?endpoint=x": "option", "https://host/1/a b": "path",
	} {
		if _, err := queue.ParseAddress(text); err == nil || !strings.Contains(err.Error(), why) || strings.Contains(err.Error(), "hush") {
			t.Errorf("%s: %v, want something about %q", text, err, why)
		}
	}
}
