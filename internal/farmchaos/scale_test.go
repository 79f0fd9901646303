package farmchaos

import (
	"bufio"
	"context"
	"database/sql"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"farmhand/internal/farm"
	"farmhand/internal/registry"
)

// The load that has the farm grow: each server that shares it may have scale_out
// reads a second. The crowd reads at a pace that one replica has too much of and two
// have not, on a slow machine as well.
const (
	scaling = `    scaling:
      - {kind: queries, scale_out: 450, scale_in: 200, window: 10s, out_cooldown: 5s, in_cooldown: 5s, out_step: 1, in_step: 1}
`
	crowd       = 20
	crowdPace   = 40 * time.Millisecond
	lightBreath = 20 * time.Millisecond // of those who are there all the time
	growthLimit = time.Minute
)

// load is a crowd of clients who read, and who has answered them.
type load struct {
	db   *sql.DB
	stop context.CancelFunc
	done sync.WaitGroup

	mu      sync.Mutex
	reads   int
	failed  int
	why     error
	answers map[uint32]time.Time // when each server answered first
}

func (f *chaosFarm) crowd() *load {
	ctx, stop := context.WithCancel(context.Background())
	l := &load{db: open(f.t, f.proxy), stop: stop, answers: map[uint32]time.Time{}}
	l.db.SetMaxIdleConns(crowd) // sessions stay, as a crowd's do
	for range crowd {
		l.done.Go(func() { l.read(ctx) })
	}
	f.t.Cleanup(l.end)
	return l
}

func (l *load) end() { l.stop(); l.done.Wait() }

func (l *load) read(ctx context.Context) {
	tick := time.NewTicker(crowdPace)
	defer tick.Stop()
	for ctx.Err() == nil {
		var server, n uint32
		err := l.db.QueryRow("SELECT @@server_id, COUNT(*) FROM ledger WHERE id < 100").Scan(&server, &n)
		l.mu.Lock()
		if l.reads++; err != nil {
			l.failed, l.why = l.failed+1, err
		} else if l.answers[server].IsZero() {
			l.answers[server] = time.Now()
		}
		l.mu.Unlock()
		<-tick.C
	}
}

// answered is when a server answered first; zero if it has not.
func (l *load) answered(server uint32) time.Time {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.answers[server]
}

// said is when the journal has it, after from, that something was decided, which has
// the text.
func (f *chaosFarm) said(from time.Time, text string) (time.Time, error) {
	out, err := f.run("events", "--json")
	if err != nil {
		return time.Time{}, err
	}
	lines := bufio.NewScanner(strings.NewReader(out))
	for lines.Scan() {
		var e registry.Entry
		if err := json.Unmarshal(lines.Bytes(), &e); err != nil {
			return time.Time{}, fmt.Errorf("journal: %w: %s", err, lines.Text())
		}
		if e.Kind == registry.Decision && e.Time.After(from) && strings.Contains(e.Text, text) {
			return e.Time, nil
		}
	}
	return time.Time{}, fmt.Errorf("the journal has no %q", text)
}

// databases are the names of the farm's database servers.
func (s *status) databases() []string {
	var names []string
	for _, n := range s.Nodes {
		if n.Kind == "mysql" {
			names = append(names, n.Name)
		}
	}
	return names
}

func (s *status) launched(name string) (at time.Time) {
	for _, n := range s.Nodes {
		if n.Name == name {
			at = n.Launched
		}
	}
	return at
}

// TestAFarmGrowsWithItsLoad: a crowd that reads more than one replica is to bear brings
// another, which serves within a minute; when it is gone that one leaves, and nobody
// notices.
func TestAFarmGrowsWithItsLoad(t *testing.T) {
	if !*all {
		t.Skip("needs -farm.all; make chaos-farm gives it")
	}
	f := start(t, options{count: "{min: 2, max: 4}", scaling: scaling})
	l := begin(t, f.proxy, lightBreath)
	before := f.status()
	names := before.databases()
	if len(names) != 2 {
		t.Fatalf("the farm begins with %v", names)
	}

	passed := time.Now()
	crowd := f.crowd()
	var launched, serves time.Time
	added := ""
	f.await("another replica answers reads", func() error {
		s := f.status()
		for _, name := range s.databases() {
			server, ok := s.Assignment.Server(name)
			if slices.Contains(names, name) || !ok {
				continue
			}
			if serves = crowd.answered(server.ID); !serves.IsZero() {
				added, launched = name, s.launched(name)
				return nil
			}
		}
		return fmt.Errorf("there are %v: %v, %s", s.databases(), s.Reasons, s.Roles["db"])
	})
	after := func(at time.Time) time.Duration { return at.Sub(passed).Round(100 * time.Millisecond) }
	if took := after(serves); took > growthLimit {
		t.Errorf("%s answered its first read %v after the load had come, the limit is %v", added, took, growthLimit)
	}
	f.await(added+" has its whole share", func() error {
		server, _ := f.status().Assignment.Server(added)
		if server.State != farm.Serving || server.Weight != farm.DefaultWeight {
			return fmt.Errorf("%+v", server)
		}
		return nil
	})
	whole := time.Now()
	decided, err := f.said(passed, added+" is launched")
	if err != nil {
		t.Error(err)
	}

	crowd.end()
	gone := time.Now()
	f.await("the farm has two servers again", func() error {
		if s := f.status(); len(s.databases()) != 2 || len(s.Assignment.Servers) != 2 {
			return fmt.Errorf("there are %v: %v, %s", s.databases(), s.Reasons, s.Roles["db"])
		}
		return nil
	})
	shrunk := time.Now()
	leaves, err := f.said(gone, " is to leave")
	if err != nil {
		t.Error(err)
	}
	f.settle()
	sum := l.since(passed)
	t.Logf("| load grows and goes | decided %v | launched %v | serves %v | whole share %v | gone: decided %v, away %v | acknowledged %d | failed %d | reads failed %d of the crowd's %d, %d of others | gap %v, of reads %v |",
		after(decided), after(launched), after(serves), after(whole), leaves.Sub(gone).Round(100*time.Millisecond), shrunk.Sub(gone).Round(100*time.Millisecond),
		sum.Acked, sum.Failed+sum.Unknown, crowd.failed, crowd.reads, sum.ReadErr, sum.Gap.Round(time.Millisecond), sum.ReadGap.Round(time.Millisecond))
	if sum.Failed+sum.Unknown+sum.ReadErr > 0 {
		t.Errorf("%d writes and %d reads failed: %v", sum.Failed+sum.Unknown, sum.ReadErr, sum.First)
	}
	if crowd.failed > 0 {
		t.Errorf("%d reads of the crowd failed: %v", crowd.failed, crowd.why)
	}
	f.auditAll(l, time.Time{}, 0)
}
