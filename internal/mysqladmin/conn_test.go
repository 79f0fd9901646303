package mysqladmin_test

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"

	"farmhand/internal/farm"
	"farmhand/internal/farmtest"
	"farmhand/internal/mysqladmin"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func eachFlavor(t *testing.T, run func(t *testing.T, flavor farm.Flavor)) {
	t.Run("MariaDB", func(t *testing.T) { run(t, farm.MariaDB) })
	t.Run("MySQL", func(t *testing.T) { run(t, farm.MySQL) })
}

func limit(t *testing.T, d time.Duration) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), d)
	t.Cleanup(cancel)
	return ctx
}

func target(address string) mysqladmin.Target {
	t := mysqladmin.Target{
		Network: "tcp", Address: address, User: farmtest.Monitor.User, Password: farmtest.Monitor.Password, Program: "mysqladmin-test",
	}
	if strings.HasPrefix(address, "/") {
		t.Network = "unix"
	}
	return t
}

func dial(t *testing.T, to mysqladmin.Target) *mysqladmin.Conn {
	t.Helper()
	c, err := mysqladmin.Dial(limit(t, time.Minute), to)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := c.Close(); err != nil {
			t.Error(err)
		}
	})
	return c
}

func TestDial(t *testing.T) {
	eachFlavor(t, func(t *testing.T, flavor farm.Flavor) {
		f := farmtest.Start(t, farmtest.Options{Flavor: flavor})
		for name, address := range map[string]string{"tcp": f.Primary().Addr(), "unix": f.Primary().Socket()} {
			c := dial(t, target(address))
			rows, err := c.Query(limit(t, time.Minute), "SELECT CONNECTION_ID() AS id, NULL AS n, '' AS e, VERSION() AS v, 'twice' AS v")
			if err != nil || len(rows) != 1 {
				t.Fatalf("%s: %v, %v", name, rows, err)
			}
			if id, ok := rows[0].Int("ID"); !ok || uint32(id) != c.ID() {
				t.Errorf("%s: connection id %d, the server says %d", name, c.ID(), id)
			}
			if _, ok := rows[0].Get("n"); ok {
				t.Errorf("%s: NULL has a value", name)
			}
			if v, ok := rows[0].Get("absent", "e"); !ok || v != "" {
				t.Errorf("%s: the empty string is %q, %v", name, v, ok)
			}
			if v := rows[0].String("v"); v != c.Greeting().Version || c.Flavor() != flavor {
				t.Errorf("%s: greeting %+v, VERSION() is %q", name, c.Greeting(), v)
			}
		}

		secure := target(f.Primary().Addr())
		secure.TLS = &tls.Config{InsecureSkipVerify: true}
		c, err := mysqladmin.Dial(limit(t, time.Minute), secure)
		if flavor == farm.MariaDB {
			// 10.11 has no certificate unless it is given one.
			if err == nil || !strings.Contains(err.Error(), "TLS") {
				t.Errorf("a server without TLS: %v", err)
			}
		} else {
			if err != nil {
				t.Fatal(err)
			}
			rows, err := c.Query(limit(t, time.Minute), "SHOW STATUS LIKE 'Ssl_cipher'")
			if err != nil || len(rows) != 1 || rows[0].String("Value") == "" {
				t.Errorf("no cipher: %v, %v", rows, err)
			}
			if err := c.Close(); err != nil {
				t.Error(err)
			}
		}

		wrong := target(f.Primary().Addr())
		wrong.Password = "wrong"
		if _, err := mysqladmin.Dial(limit(t, time.Minute), wrong); mysqladmin.Code(err) != 1045 {
			t.Errorf("wrong password: %v", err)
		}
	})
}

func TestServersErrorsKeepTheConnection(t *testing.T) {
	f := farmtest.Start(t, farmtest.Options{})
	c := dial(t, target(f.Primary().Addr()))
	ctx := limit(t, time.Minute)
	if _, err := c.Query(ctx, "SELECT nonsense"); mysqladmin.Code(err) != 1054 {
		t.Errorf("a wrong query: %v", err)
	}
	for _, s := range []string{"", "plain", `quo'te`, `back\slash'`, "☃", "🐬", "\x00\n"} {
		for _, mode := range []string{"''", "'NO_BACKSLASH_ESCAPES,ANSI_QUOTES'"} {
			if _, err := c.Exec(ctx, "SET sql_mode="+mode); err != nil {
				t.Fatal(err)
			}
			rows, err := c.Query(ctx, "SELECT "+mysqladmin.Text(s)+" AS s")
			if err != nil || rows[0].String("s") != s {
				t.Errorf("%q came back as %v, %v", s, rows, err)
			}
		}
	}
	if _, err := c.Exec(ctx, "KILL CONNECTION_ID()"); err == nil {
		t.Error("killed, and no error")
	}
	// The server may have told of the kill before it closed the connection.
	if _, err := c.Query(ctx, "SELECT 1"); err == nil {
		t.Error("a killed connection works")
	}
	if _, err := c.Query(ctx, "SELECT 1"); !errors.Is(err, mysqladmin.ErrClosed) {
		t.Errorf("long after the kill: %v", err)
	}
}

func TestNoRoom(t *testing.T) {
	f := farmtest.Start(t, farmtest.Options{ExtraArgs: []string{"--max-connections=10"}})
	var err error
	var held []*mysqladmin.Conn
	for range 12 {
		var c *mysqladmin.Conn
		if c, err = mysqladmin.Dial(limit(t, time.Minute), target(f.Primary().Addr())); err != nil {
			break
		}
		held = append(held, c)
	}
	if mysqladmin.Code(err) != 1040 {
		t.Errorf("the connection too many: %v", err)
	}
	for _, c := range held {
		if err := c.Close(); err != nil {
			t.Error(err)
		}
	}
}

func TestContextEndsEverything(t *testing.T) {
	f := farmtest.Start(t, farmtest.Options{})
	link := farmtest.NewLink(t, f.Primary().Addr())
	c := dial(t, target(link.Addr()))

	began := time.Now()
	_, err := c.Query(limit(t, 100*time.Millisecond), "SELECT SLEEP(60)")
	if !errors.Is(err, context.DeadlineExceeded) || time.Since(began) > 30*time.Second {
		t.Errorf("a slow query: %v after %v", err, time.Since(began))
	}
	if _, err := c.Query(limit(t, time.Minute), "SELECT 1"); !errors.Is(err, mysqladmin.ErrClosed) {
		t.Errorf("after that: %v", err)
	}

	cause := errors.New("no more")
	ctx, cancel := context.WithCancelCause(context.Background())
	c = dial(t, target(link.Addr()))
	timer := time.AfterFunc(50*time.Millisecond, func() { cancel(cause) })
	defer timer.Stop()
	if _, err := c.Query(ctx, "SELECT SLEEP(60)"); !errors.Is(err, cause) {
		t.Errorf("a cancelled query: %v", err)
	}
	if _, err := mysqladmin.Dial(ctx, target(link.Addr())); err == nil {
		t.Error("dialled with a context that has ended")
	}

	link.Stall()
	if _, err := mysqladmin.Dial(limit(t, 100*time.Millisecond), target(link.Addr())); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("a server that says nothing: %v", err)
	}
}

// TestGarbage has a server that says nonsense at each point.
func TestGarbage(t *testing.T) {
	f := farmtest.Start(t, farmtest.Options{})
	whole := farmtest.NewLink(t, f.Primary().Addr())
	for n := int64(0); n < 400; n += 7 {
		whole.DropAfter(n)
		c, err := mysqladmin.Dial(limit(t, time.Minute), target(whole.Addr()))
		if err == nil {
			_, err = c.Query(limit(t, time.Minute), "SHOW VARIABLES LIKE 'a%'")
			if cerr := c.Close(); cerr != nil {
				t.Errorf("close after %d bytes: %v", n, cerr)
			}
		}
		if err == nil {
			t.Errorf("no error on a connection that was reset after %d bytes", n)
		}
	}

	greeting := greet(t, f.Primary().Addr())
	for _, answer := range []string{
		"\x00\x00\x00\x02", "\x01\x00\x00\x02\xff", "\x01\x00\x00\x02\x00", "\x01\x00\x00\x02\xfe", "\x02\x00\x00\x02\xfex",
		"\x04\x00\x00\x02\x00\xfc\x01\x00", "\x03\x00\x00\x02\x01\x04x", "\xff\xff\xff\x02x", "HTTP/1.1 400 Bad Request\r\n\r\n",
	} {
		t.Run(fmt.Sprintf("%x", answer), func(t *testing.T) {
			l, err := net.Listen("tcp", farmtest.FreePort(t).String())
			if err != nil {
				t.Fatal(err)
			}
			done := make(chan struct{})
			go func() {
				defer close(done)
				conn, err := l.Accept()
				if err != nil {
					return
				}
				buf := make([]byte, 4096)
				_, _ = conn.Write(greeting)       // the client judges what arrives
				_, _ = conn.Read(buf)             // its login
				_, _ = conn.Write([]byte(answer)) // as above
				_ = conn.Close()
			}()
			c, err := mysqladmin.Dial(limit(t, 10*time.Second), target(l.Addr().String()))
			if err == nil {
				_, err = c.Query(limit(t, 10*time.Second), "SELECT 1")
				if cerr := c.Close(); cerr != nil {
					t.Error(cerr)
				}
			}
			if err == nil {
				t.Error("nonsense was understood")
			}
			if err := l.Close(); err != nil {
				t.Error(err)
			}
			<-done
		})
	}
}

// greet returns a server's greeting, header and all.
func greet(t *testing.T, address string) []byte {
	t.Helper()
	conn, err := net.Dial("tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close() //nolint:errcheck // it was only read
	buf := make([]byte, 4096)
	n, err := conn.Read(buf)
	if err != nil {
		t.Fatal(err)
	}
	return buf[:n]
}

func TestStateAndReplication(t *testing.T) {
	eachFlavor(t, func(t *testing.T, flavor farm.Flavor) {
		f := farmtest.Start(t, farmtest.Options{Flavor: flavor, Replicas: 1, Delay: 3 * time.Second})
		f.Primary().Exec(t, "CREATE TABLE app.t (id INT PRIMARY KEY)")
		f.SetDelay(t, 0)
		f.WaitCaughtUp(t)
		ctx := limit(t, time.Minute)
		primary, replica := dial(t, target(f.Primary().Addr())), dial(t, target(f.Replica(0).Addr()))
		p, err := primary.State(ctx)
		if err != nil {
			t.Fatal(err)
		}
		r, err := replica.State(ctx)
		if err != nil {
			t.Fatal(err)
		}
		if p.ServerID != 1 || p.ReadOnly || r.ServerID != 2 || !r.ReadOnly || (p.UUID != "") != (flavor == farm.MySQL) {
			t.Errorf("primary %+v, replica %+v", p, r)
		}
		if p.Executed.IsZero() || !r.Applied.Contains(p.Executed) || !r.Executed.Contains(r.Applied) {
			t.Errorf("primary at %q, replica has applied %q of %q", p.Executed, r.Applied, r.Executed)
		}
		for _, s := range []struct {
			conn *mysqladmin.Conn
			want mysqladmin.State
		}{{primary, p}, {replica, r}} {
			executed, readOnly, err := s.conn.Executed(ctx)
			if err != nil || readOnly != s.want.ReadOnly || executed.String() != s.want.Executed.String() {
				t.Errorf("executed %q, read-only %v, %v; the state is %+v", executed, readOnly, err, s.want)
			}
		}
		if none, err := primary.Replication(ctx); err != nil || len(none) != 0 {
			t.Errorf("the primary replicates: %+v, %v", none, err)
		}
		channels, err := replica.Replication(ctx)
		if err != nil || len(channels) != 1 {
			t.Fatalf("%+v, %v", channels, err)
		}
		ch := channels[0]
		if ch.Source != f.Primary().Addr() || ch.SourceID != 1 || ch.SourceUUID != p.UUID || !ch.UsesGTID || ch.Delay != 0 ||
			!mysqladmin.Running(ch.Receiver) || !mysqladmin.Running(ch.Applier) || !ch.BehindKnown || ch.Received.IsZero() ||
			ch.ReceiverError.Code != 0 || ch.ApplierError.Code != 0 {
			t.Errorf("%+v", ch)
		}

		f.Replica(0).Exec(t, "SET GLOBAL read_only=OFF", "SET sql_log_bin=0", "INSERT INTO app.t VALUES (1)")
		if flavor == farm.MySQL {
			f.Replica(0).Exec(t, "GRANT SELECT ON performance_schema.replication_applier_status_by_worker TO "+farmtest.Monitor.User)
		}
		f.Primary().Exec(t, "INSERT INTO app.t VALUES (1)")
		for ch.ApplierError.Code == 0 || mysqladmin.Running(ch.Applier) {
			if channels, err = replica.Replication(ctx); err != nil || len(channels) != 1 {
				t.Fatalf("%+v, %v", channels, err)
			}
			ch = channels[0]
		}
		if ch.ApplierError.Code != 1062 || !strings.Contains(ch.ApplierError.Text, "Duplicate entry") || ch.BehindKnown {
			t.Errorf("broken: %+v", ch)
		}
	})
}
