package steer

import (
	"strings"
	"testing"
	"time"

	"farmhand/internal/cluster"
)

func over(id string) *Request {
	return &Request{Kind: Restore, Restore: &cluster.Restore{ID: id, Store: "/backups", Cluster: "db", To: "0-1-50", Over: true}}
}

// answered waits until the request is.
func (w *world) answered(t fataler) Answer {
	t.Helper()
	if !w.until(2000, func() bool { return w.request == nil }) {
		t.Fatalf("no answer: %+v\n%s\n%s", w.answer, w.show(), strings.Join(w.reasons, "\n"))
	}
	return w.answer
}

func TestAClusterIsTakenBack(t *testing.T) {
	w := begun(t, 3)
	w.run(200)
	old, epoch := w.primary(), w.assignment.Epoch
	id := old.id
	w.restoredTo = len(old.log) / 2
	w.request = over("1")
	if a := w.answered(t); !a.Done {
		t.Fatalf("%+v", a)
	}
	if w.primary() != old || w.assignment.Epoch <= epoch || old.id == id || old.restored != "1" {
		t.Errorf("%s leads in epoch %d with the id %d", w.assignment.Primary, w.assignment.Epoch, old.id)
	}
	for _, s := range w.assignment.Servers {
		if s.Restore != nil {
			t.Errorf("%s is to be restored again", s.Name)
		}
	}
	w.settle(t)
	w.request = &Request{Kind: Confirm}
	if a := w.answered(t); !a.Done || w.assignment.Confirmed != "1" {
		t.Errorf("%+v, %+v", a, w.assignment)
	}
	// What comes later is as ever.
	w.kill(w.primary())
	w.primary().node = false
	if !w.until(300, func() bool { return w.assignment.Primary != "" && w.primary() != old }) {
		t.Fatal(w.show())
	}
	w.check(t)
}

func TestARestoreThatCannotBeDone(t *testing.T) {
	w := begun(t, 3)
	w.run(100)
	old := w.primary()
	w.notRestored = "the archive has a gap"
	w.request = over("1")
	if a := w.answered(t); !a.Refused || !strings.Contains(a.Text, "gap") {
		t.Fatalf("%+v", a)
	}
	w.settle(t)
	if w.primary() != old {
		t.Errorf("%s leads, not %s", w.assignment.Primary, old.name)
	}
	// The same is not tried again, and another one can be.
	w.notRestored, w.restoredTo = "", 10
	w.request = over("2")
	if a := w.answered(t); !a.Done || old.restored != "2" {
		t.Errorf("%+v", a)
	}
	w.settle(t)
}

func TestAPrimaryThatIsNotHeardOfIsNotRestoredOver(t *testing.T) {
	w := begun(t, 3)
	old := w.primary()
	w.policy.Automatic = false
	w.cut[[2]string{old.name, "scaler"}] = true
	w.run(40)
	w.request = over("1")
	if a := w.answered(t); !a.Refused || !strings.Contains(a.Text, "is not heard of") {
		t.Errorf("%+v", a)
	}
	// Once it is known to have stopped, another one is.
	w.run(100)
	w.kill(old)
	old.node = false
	w.restoredTo = 10
	w.request = over("2")
	if a := w.answered(t); !a.Done || w.primary() == old {
		t.Errorf("%+v", a)
	}
	// It comes back, and copies.
	w.cut = map[[2]string]bool{}
	old.node = true
	w.settle(t)
}

func TestAClusterBeginsWithABackup(t *testing.T) {
	w := newWorld(2)
	w.policy.Begin = &cluster.Restore{ID: "beginning", Store: "/backups", Cluster: "old"}
	w.restoredTo = 0
	w.settle(t)
	if p := w.primary(); p.restored != "beginning" || p.id != restoredID {
		t.Errorf("%s has the id %d and is restored to %q", p.name, p.id, p.restored)
	}
	if len(w.acked) == 0 {
		w.run(10)
	}
	w.check(t)
}

func TestNewServersTakeTheFasterWay(t *testing.T) {
	for name, c := range map[string]struct {
		stored Stored
		copied *cluster.Copied // as the primary remembers
		fault  string
		want   string // in why
		backup bool
	}{
		"a small backup":               {stored: Stored{Data: 10 << 30, Bytes: 100 << 20}, want: "copies a backup (to copy", backup: true},
		"much to replay":               {stored: Stored{Data: 1 << 30, Bytes: 50 << 30}, want: "copies the data of"},
		"copies are known to be slow":  {stored: Stored{Data: 1 << 30, Bytes: 1 << 30}, copied: &cluster.Copied{Bytes: 1 << 20, Took: time.Second}, want: "copies a backup (to copy", backup: true},
		"a backup that cannot be used": {stored: Stored{Data: 10 << 30, Bytes: 100 << 20}, fault: "a part is missing", want: "copies a backup (to copy"},
	} {
		t.Run(name, func(t *testing.T) {
			w := begun(t, 2)
			c.stored.Restore = cluster.Restore{Store: "/backups", Cluster: "db"}
			w.stored, w.notRestored = &c.stored, c.fault
			w.primary().copiedBefore = c.copied
			w.run(5)
			from := len(w.story)
			w.add("db3")
			w.settle(t)
			story := strings.Join(w.story[from:], "\n")
			if !strings.Contains(story, c.want) || strings.Contains(story, "has the data of a backup") != c.backup {
				t.Errorf("%s", story)
			}
		})
	}
	// All that could give their data are busy, or there is none: a backup does.
	w := begun(t, 2)
	w.stored = &Stored{Restore: cluster.Restore{Store: "/backups", Cluster: "db"}, Data: 1 << 30, Bytes: 50 << 30}
	w.add("db3")
	w.add("db4")
	w.settle(t)
	if story := strings.Join(w.story, "\n"); !strings.Contains(story, "is being copied by another already") {
		t.Error(story)
	}
}
