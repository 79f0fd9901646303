package daemon

import (
	"bytes"
	"context"
	"fmt"
	"runtime"
	"testing"

	"farmhand/internal/farmtest"
)

// A client that was silent for a while, so that its session dozes, is served as
// before: it keeps its state and its transaction, its wait_timeout ends it, and so
// does a KILL.
func TestASilentClientIsServed(t *testing.T) {
	f := farmtest.Start(t, farmtest.Options{Replicas: 1})
	r := start(t, f, nil)
	doze := func() {
		t.Helper()
		r.eventually(t, "no session has a goroutine", func() bool {
			text := make([]byte, 1<<20)
			return !bytes.Contains(text[:runtime.Stack(text, true)], []byte("session.(*Session).Serve"))
		})
	}
	c := r.conn(t)
	exec(t, c, "SET @a = 17", "CREATE TABLE silent (id INT PRIMARY KEY)", "BEGIN", "INSERT INTO silent VALUES (1)")
	for range 2 {
		doze()
		if got := value(t, c, "SELECT @a + COUNT(*) FROM silent"); got != "18" {
			t.Errorf("after a while: %s, not 18", got)
		}
	}
	exec(t, c, "COMMIT")

	ends := func(how string, id string) {
		t.Helper()
		r.eventually(t, how+" has ended the session", func() bool {
			for _, s := range r.registry.Sessions() {
				if fmt.Sprint(s.ID) == id {
					return false
				}
			}
			return true
		})
		if err := c.PingContext(context.Background()); err == nil {
			t.Errorf("the client goes on after %s", how)
		}
	}
	exec(t, c, "SET SESSION wait_timeout=3")
	id := value(t, c, "SELECT CONNECTION_ID()")
	doze()
	ends("wait_timeout", id)

	c = r.conn(t)
	id = value(t, c, "SELECT CONNECTION_ID()")
	doze()
	exec(t, r.conn(t), "KILL "+id)
	ends("KILL", id)
}
