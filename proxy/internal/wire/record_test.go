package wire_test

import (
	"bufio"
	"context"
	"database/sql"
	"flag"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/go-sql-driver/mysql"

	"farmhand/internal/farm"
	"farmhand/internal/farmtest"
	"farmhand/proxy/internal/wire"
)

var record = flag.Bool("record", false, "record testdata/transcripts anew from the servers and clients of this machine")

// recorder forwards one connection to a server and keeps its packets in the
// order in which they came.
type recorder struct {
	mu    sync.Mutex
	lines []string
}

func (r *recorder) copy(who string, to io.WriteCloser, from io.Reader) {
	defer to.Close() //nolint:errcheck // the other side has ended
	b := bufio.NewReader(from)
	for {
		head, err := b.Peek(wire.HeaderSize)
		if err != nil {
			return
		}
		n, seq := wire.Header(head)
		whole := make([]byte, wire.HeaderSize+n)
		if _, err := io.ReadFull(b, whole); err != nil {
			return
		}
		r.mu.Lock()
		r.lines = append(r.lines, fmt.Sprintf("%s %d %x", who, seq, whole[wire.HeaderSize:]))
		r.mu.Unlock()
		if _, err := to.Write(whole); err != nil {
			return
		}
	}
}

// capture has a client talk to a server through a recorder, and writes what
// both said.
func capture(t *testing.T, name string, s *farmtest.Server, client func(host, port string) error) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close() //nolint:errcheck // nothing is lost
	var r recorder
	done := make(chan error, 1)
	go func() {
		from, err := l.Accept()
		if err != nil {
			done <- err
			return
		}
		to, err := net.Dial("tcp", s.Addr())
		if err != nil {
			done <- err
			return
		}
		var both sync.WaitGroup
		both.Go(func() { r.copy("C", to, from) })
		both.Go(func() { r.copy("S", from, to) })
		both.Wait()
		done <- nil
	}()
	host, port, err := net.SplitHostPort(l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	if err := client(host, port); err != nil {
		t.Errorf("%s: %v", name, err)
	}
	if err := <-done; err != nil {
		t.Fatal(err)
	}
	head := fmt.Sprintf("# %s, recorded between a real client and a real server by go test -record\n", name)
	path := filepath.Join("testdata", "transcripts", name+".txt")
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(head+strings.Join(r.lines, "\n")+"\n"), 0o644); err != nil {
		t.Fatal(err)
	}
}

func program(name string, args ...string) error {
	ctx, cancel := context.WithTimeout(context.Background(), exchangeLimit)
	defer cancel()
	out, err := exec.CommandContext(ctx, name, args...).CombinedOutput()
	if err != nil {
		return fmt.Errorf("%s: %w: %s", name, err, out)
	}
	return nil
}

const phpSession = `mysqli_report(MYSQLI_REPORT_ERROR|MYSQLI_REPORT_STRICT);
$m = new mysqli($argv[1], 'boss', 'boss', 'app', (int) $argv[2]);
$m->set_charset('utf8mb4'); $m->query('SELECT id, v FROM numbers');
try { $m->query('nonsense'); } catch (mysqli_sql_exception $e) {}
$m->query("INSERT INTO counted (v) VALUES ('php')");
$s = $m->prepare('SELECT v FROM numbers WHERE id > ?'); $i = 1; $s->bind_param('i', $i); $s->execute(); $s->get_result(); $s->close();
$s = $m->prepare('CALL out_params(1, ?, ?)'); $s->bind_param('ii', $i, $i); $s->execute();
for ($n = 0; $n < 2; $n++) { $s->get_result(); $s->next_result(); } $s->close();
$m->multi_query('SELECT 1; DO 1; SELECT 2'); do { $r = $m->store_result(); } while ($m->more_results() && $m->next_result());
$m->change_user('app', 'app', 'app'); $m->query('SELECT CURRENT_USER()'); $m->select_db('app'); $m->stat(); $m->close();`

// TestRecord records the transcripts that TestTranscripts reads.
func TestRecord(t *testing.T) {
	if !*record {
		t.Skip("only with -record")
	}
	for _, flavor := range []farm.Flavor{farm.MariaDB, farm.MySQL} {
		s := startServer(t, flavor)
		name := strings.ToLower(flavor.String())
		capture(t, name+"-php-mysqli", s, func(host, port string) error {
			return program("php", "-r", phpSession, "--", host, port)
		})
		capture(t, name+"-go", s, goSession)
		script := "SELECT id, v FROM numbers; SET time_zone = '+01:00'; INSERT INTO counted (v) VALUES ('cli'); CALL two_results(); USE mysql"
		if flavor == farm.MariaDB {
			capture(t, name+"-mariadb", s, func(host, port string) error {
				return program("mariadb", "--no-defaults", "--skip-ssl", "-h", host, "-P", port, "-uboss", "-pboss", "-f", "-e", script, "app")
			})
		} else {
			capture(t, name+"-mysql", s, func(host, port string) error {
				return program("chroot", farmtest.MySQLRoot(), "mysql", "--no-defaults", "--ssl-mode=DISABLED", "--get-server-public-key",
					"-h", host, "-P", port, "-uboss", "-pboss", "-f", "-e", script, "app")
			})
		}
		capture(t, name+"-tracking", s, trackingSession)
	}
}

func goSession(host, port string) error {
	c := mysql.NewConfig()
	c.Net, c.Addr, c.User, c.Passwd, c.DBName = "tcp", net.JoinHostPort(host, port), "boss", "boss", "app"
	connector, err := mysql.NewConnector(c)
	if err != nil {
		return err
	}
	db := sql.OpenDB(connector)
	defer db.Close() //nolint:errcheck // nothing is lost
	db.SetMaxOpenConns(1)
	ctx := context.Background()
	for _, q := range []string{"SELECT 1", "SELECT v FROM numbers WHERE id > ?"} {
		args := []any{}
		if strings.Contains(q, "?") {
			args = append(args, 2)
		}
		rows, err := db.QueryContext(ctx, q, args...)
		if err != nil {
			return err
		}
		if err := rows.Close(); err != nil {
			return err
		}
	}
	_, err = db.ExecContext(ctx, "UPDATE counted SET v = 'go'")
	return err
}

func trackingSession(host, port string) error {
	raw, err := net.Dial("tcp", net.JoinHostPort(host, port))
	if err != nil {
		return err
	}
	defer raw.Close() //nolint:errcheck // nothing is lost
	c, err := login(raw, boss, farmtest.Schema, wire.ClientSessionTrack|wire.ClientDeprecateEOF|wire.ClientQueryAttributes)
	if err != nil {
		return err
	}
	track := "SET SESSION session_track_system_variables = '*', SESSION session_track_schema = ON, SESSION session_track_state_change = ON"
	if !c.mariaDB {
		track += ", SESSION session_track_gtids = OWN_GTID"
	}
	for _, q := range []string{
		track, "SET SESSION session_track_transaction_info = 'CHARACTERISTICS'", "SET NAMES latin1", "USE mysql", "USE app",
		"START TRANSACTION READ ONLY", "SELECT COUNT(*) FROM numbers", "COMMIT", "INSERT INTO counted (v) VALUES ('tracked')",
	} {
		if _, err := c.run(c.query(q), nil); err != nil {
			return err
		}
	}
	return nil
}
