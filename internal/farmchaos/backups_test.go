package farmchaos

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"farmhand/internal/backup"
	"farmhand/internal/cluster"
	"farmhand/internal/farm"
	"farmhand/internal/farmtest"
	"farmhand/internal/gtid"
)

// backupStatus is of scaler status --json what the tests of backups look at.
type backupStatus struct {
	Meter struct {
		Primary    loss `json:"primary"`
		Everything loss `json:"everything"`
	} `json:"meter"`
	Stock *struct {
		Fulls []struct {
			ID   string `json:"id"`
			Node string `json:"node"`
		} `json:"fulls"`
		Newest int  `json:"newest"`
		Open   bool `json:"open"`
	} `json:"stock"`
	Trouble string                           `json:"trouble"`
	Plan    *cluster.BackupPlan              `json:"plan"`
	Reports map[string]*cluster.BackupReport `json:"reports"`
	Reasons []string                         `json:"reasons"`
}

type loss struct {
	Known   bool    `json:"known"`
	Seconds float64 `json:"seconds"`
	Text    string  `json:"text"`
}

// backupsSection is the farm file's; %s is the store.
const backupsSection = `backups:
  store: %q
  schedule: 1h
  throttle: 8MiB
  retention: {last: 20}
`

// lossLimit is what would be lost at most under steady load if everything was lost.
const lossLimit = 5.0

// TestBackupsOfAFarm takes backups of a farm under load and kills what makes them:
// in the end the chain from the first one to the last commit has no gap.
func TestBackupsOfAFarm(t *testing.T) {
	farmtest.Long(t)
	t.Run("directory", func(t *testing.T) {
		dir := farmtest.ShortDir(t)
		if err := os.Chmod(dir, 0o755); err != nil {
			t.Fatal(err)
		}
		backUp(t, farm.MariaDB, dir, nil)
	})
	t.Run("MySQL", func(t *testing.T) {
		if !*all {
			t.Skip("runs in make chaos-farm")
		}
		dir := farmtest.ShortDir(t)
		if err := os.Chmod(dir, 0o755); err != nil {
			t.Fatal(err)
		}
		backUp(t, farm.MySQL, dir, nil)
	})
	t.Run("S3", func(t *testing.T) {
		s3 := farmtest.StartS3(t)
		at := forward(t, hubAddress, s3.Addr())
		backUp(t, farm.MariaDB, fmt.Sprintf("s3://%s/farms/one?endpoint=http://%s&region=%s", farmtest.S3Bucket, at, farmtest.S3Region), s3)
	})
}

// forward has what connects to a new port of host connected to address.
func forward(t *testing.T, host, address string) string {
	t.Helper()
	l, err := net.Listen("tcp", net.JoinHostPort(host, "0"))
	if err != nil {
		t.Fatal(err)
	}
	var all sync.WaitGroup
	var mu sync.Mutex
	open := map[net.Conn]bool{}
	t.Cleanup(func() {
		_ = l.Close()
		mu.Lock()
		for c := range open {
			_ = c.Close()
		}
		mu.Unlock()
		all.Wait()
	})
	all.Go(func() {
		for {
			from, err := l.Accept()
			if err != nil {
				return
			}
			to, err := net.Dial("tcp", address)
			if err != nil {
				_ = from.Close() // as of a server that is not there
				continue
			}
			mu.Lock()
			open[from], open[to] = true, true
			mu.Unlock()
			for _, pair := range [][2]net.Conn{{from, to}, {to, from}} {
				all.Go(func() {
					_, _ = io.Copy(pair[1], pair[0])
					_, _ = pair[0].Close(), pair[1].Close()
					mu.Lock()
					delete(open, pair[0])
					mu.Unlock()
				})
			}
		}
	})
	return l.Addr().String()
}

// backupStatus is what is known of the backups; what is not there yet is an error.
func (f *chaosFarm) backupStatus() (*backupStatus, error) {
	s, err := f.look()
	if err != nil {
		return nil, err
	}
	if s.Backups == nil || s.Backups.Stock == nil || s.Old > 0 {
		return nil, fmt.Errorf("nothing is known of backups: %+v", s.Backups)
	}
	return s.Backups, nil
}

// fulls waits until n full backups are whole.
func (f *chaosFarm) fulls(n int) *backupStatus {
	f.t.Helper()
	var got *backupStatus
	f.await(fmt.Sprintf("%d full backups", n), func() (err error) {
		if got, err = f.backupStatus(); err != nil {
			return err
		}
		if len(got.Stock.Fulls) < n || got.Plan.Full != nil {
			return fmt.Errorf("there are %+v; %v", got.Stock.Fulls, got.Reasons)
		}
		return nil
	})
	return got
}

// position is where a server's binlog ends.
func (f *chaosFarm) position(s server) (position string) {
	f.t.Helper()
	query := map[farm.Flavor]string{farm.MariaDB: "SELECT @@gtid_binlog_pos", farm.MySQL: "SELECT REPLACE(@@GLOBAL.gtid_executed, '\n', '')"}[f.flavor]
	if err := f.database(s).QueryRow(query).Scan(&position); err != nil {
		f.t.Fatal(err)
	}
	return position
}

// archived waits until everything that the primary has is in the store.
func (f *chaosFarm) archived() (position string) {
	f.t.Helper()
	primary, _ := f.servers()
	position = f.position(primary)
	want, err := gtid.Read(position)
	if err != nil {
		f.t.Fatal(err)
	}
	f.await("the archive has "+position, func() error {
		b, err := f.backupStatus()
		if err != nil {
			return err
		}
		r := b.Reports[primary.name]
		if r == nil || r.Archive == nil {
			return fmt.Errorf("%s reports %+v", primary.name, r)
		}
		got, err := gtid.Read(r.Archive.Position)
		if err == nil && !got.Contains(want) {
			err = fmt.Errorf("it has %s: %+v", got, r.Archive)
		}
		return err
	})
	return position
}

func backUp(t *testing.T, flavor farm.Flavor, store string, s3 *farmtest.S3) {
	f := start(t, options{count: "3", flavor: flavor, backups: fmt.Sprintf(backupsSection, store)})
	l := begin(t, f.proxy, lightBreath)
	b := f.fulls(1)
	primary, _ := f.servers()
	if node := b.Stock.Fulls[0].Node; node == primary.name {
		t.Errorf("the first full backup is of the primary, %s", node)
	}
	f.archived()

	// The loss window under steady load.
	worst, known := 0.0, 0
	for began := time.Now(); time.Since(began) < 20*time.Second; {
		b, err := f.backupStatus()
		if err != nil {
			t.Fatal(err)
		}
		if m := b.Meter.Everything; m.Known {
			known++
			worst = max(worst, m.Seconds)
		}
		if m := b.Meter.Primary; !m.Known || m.Seconds != 0 {
			t.Errorf("with the primary would be lost: %s", m.Text)
		}
	}
	t.Logf("steady load: of %d looks the largest loss window is %.1f s", known, worst)
	if known == 0 {
		t.Error("the loss window is never known")
	}
	if *all && worst > lossLimit {
		t.Errorf("the loss window is %.1f s; the limit is %v s", worst, lossLimit)
	}

	// Who takes a full backup is killed in the middle; another attempt succeeds.
	asked := time.Now()
	if _, err := f.run("backup", "now", "--no-wait"); err != nil {
		t.Fatal(err)
	}
	var busy string
	f.await("a backup is under way", func() error {
		b, err := f.backupStatus()
		if err != nil {
			return err
		}
		if b.Plan.Full == nil {
			return errors.New("none is wanted")
		}
		r := b.Reports[b.Plan.Full.Node]
		if r == nil || r.Full == nil || r.Full.ID != b.Plan.Full.ID || r.Full.State != cluster.Working || r.Full.Bytes == 0 {
			return fmt.Errorf("%s reports %+v", b.Plan.Full.Node, r)
		}
		busy = b.Plan.Full.Node
		return nil
	})
	for _, n := range f.status().Nodes {
		if n.Name == busy {
			f.kill(syscall.SIGKILL, n.PID)
		}
	}
	// If nothing of it was in the store yet, the next sidecar takes it after all.
	f.await("the attempt has ended", func() error {
		b, err := f.backupStatus()
		if err == nil && b.Plan.Full != nil {
			err = fmt.Errorf("it is wanted still: %v", b.Reasons)
		}
		if err == nil && len(b.Stock.Fulls) < 2 {
			_, err = f.said(asked, "has failed")
		}
		return err
	})
	if b, err := f.backupStatus(); err != nil {
		t.Fatal(err)
	} else if len(b.Stock.Fulls) < 2 {
		if _, err := f.run("backup", "now"); err != nil {
			t.Fatal(err)
		}
	}
	f.fulls(2)
	f.settle()

	// The archiver dies with its sidecar, the store for a while, the primary for good.
	primary, _ = f.servers()
	f.kill(syscall.SIGKILL, primary.sidecar)
	f.settle()
	f.archived()
	if s3 != nil {
		s3.Kill9(t)
		f.await("the meter shows that the store is away", func() error {
			s, err := f.look()
			if err != nil {
				return err
			}
			if m := s.Backups.Meter.Everything; m.Known && m.Seconds < lossLimit {
				return errors.New(m.Text)
			}
			return nil
		})
		s3.Restart(t)
		f.archived()
	}
	epoch := f.status().Assignment.Epoch
	f.kill(syscall.SIGKILL, primary.mysqld)
	f.await("the primary's end is noticed", func() error { // what is reported is a second old
		s, err := f.look()
		if err == nil && (s.Assignment == nil || s.Assignment.Epoch == epoch) {
			err = fmt.Errorf("it is epoch %d still", epoch)
		}
		return err
	})
	f.settle()
	f.archived()
	if _, err := f.run("switchover", "--yes"); err != nil {
		t.Fatal(err)
	}
	f.settle()
	if _, err := f.run("backup", "now"); err != nil {
		t.Fatal(err)
	}
	l.end()
	f.settle()
	position := f.archived()
	f.whole(store, position)
}

// whole wants the chain to have no gap, from the first full backup to a position.
func (f *chaosFarm) whole(store, position string) {
	f.t.Helper()
	want, err := gtid.Read(position)
	if err != nil {
		f.t.Fatal(err)
	}
	// Once by the farm, and once without.
	alone := []string{"backup", "list", "--json", "--store", store, "--cluster", "db"}
	for _, list := range []func() (string, error){
		func() (string, error) { return f.run("backup", "list", "--json") },
		func() (string, error) { return f.inScaler(alone...) },
	} {
		text, err := list()
		if err != nil {
			f.t.Fatal(err)
		}
		var l struct {
			Backups []struct {
				ID, Fault, Reached string
			}
			Archive struct {
				Gaps []backup.Gap
				Fork *backup.Fork
			}
			Problems []string
		}
		if err := json.Unmarshal([]byte(text), &l); err != nil {
			f.t.Fatal(err)
		}
		if len(l.Backups) < 3 || len(l.Archive.Gaps) > 0 || l.Archive.Fork != nil || len(l.Problems) > 0 {
			f.t.Errorf("the list is %s", text)
		}
		for _, b := range l.Backups {
			if got, err := gtid.Read(b.Reached); err != nil || !got.Contains(want) {
				f.t.Errorf("backup %s goes to %s, and the primary was at %s: %v", b.ID, b.Reached, position, err)
			}
		}
	}
	text, err := f.run("backup", "verify", "--archive")
	if err != nil || !strings.Contains(text, "archive is whole") {
		f.t.Errorf("verify: %v: %s", err, text)
	}
	text, err = f.run("backup", "list")
	if err != nil {
		f.t.Error(err)
	}
	f.t.Logf("%s", text)
}
