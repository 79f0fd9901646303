package daemon

import (
	"testing"

	"farmhand/internal/farmtest"
)

// TestSemantics20ExecuteTakesTheClassOfItsText asks the servers who executed a
// text that PREPARE … FROM prepared.
func TestSemantics20ExecuteTakesTheClassOfItsText(t *testing.T) {
	f := farmtest.Start(t, farmtest.Options{Replicas: 1})
	f.Primary().Exec(t, "CREATE SCHEMA app2", "GRANT ALL ON app2.* TO app@'%'", "CREATE TABLE app.t (id INT)", "CREATE TABLE app2.t (id INT)")
	r := start(t, f, nil)
	c := r.conn(t)
	const primary, replica = "1", "2"
	executed := func(what, want string) {
		t.Helper()
		if got := value(t, c, what); got != want {
			t.Errorf("%s: by server %s, want %s", what, got, want)
		}
	}
	exec(t, c, "PREPARE a FROM 'SELECT @@server_id, COUNT(*) FROM t'", "PREPARE p FROM 'SELECT @@server_id, ?'", "PREPARE l FROM 'SELECT @@server_id FROM t FOR UPDATE'", "SET @x=1")
	row := c.QueryRowContext(t.Context(), "EXECUTE a")
	var server, count string
	if err := row.Scan(&server, &count); err != nil || server != replica {
		t.Errorf("EXECUTE of a read: by server %s, %v", server, err)
	}
	row = c.QueryRowContext(t.Context(), "EXECUTE p USING @x")
	if err := row.Scan(&server, &count); err != nil || server != primary {
		t.Errorf("EXECUTE with a parameter: by server %s, %v", server, err)
	}
	exec(t, c, "EXECUTE l")
	exec(t, c, "PREPARE a FROM 'SELECT @@server_id'")
	executed("EXECUTE a", replica)
	executed("/* farmhand: primary */ EXECUTE a", primary)
	// In another schema the text's tables would be others.
	exec(t, c, "USE app2")
	executed("EXECUTE a", primary)
	exec(t, c, "USE app", "SET sql_mode='ANSI_QUOTES'")
	executed("EXECUTE a", primary)
	exec(t, c, "SET sql_mode=''", "DEALLOCATE PREPARE a")
	if _, err := c.ExecContext(t.Context(), "EXECUTE a"); err == nil {
		t.Error("a statement that was deallocated is executed")
	}
}
