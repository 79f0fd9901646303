package daemon

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"reflect"
	"slices"
	"strings"
	"time"

	"go.uber.org/zap"

	"farmhand/internal/backup"
	"farmhand/internal/cluster"
	"farmhand/internal/registry"
	"farmhand/scaler/internal/safekeep"
	"farmhand/scaler/internal/steer"
)

// OpBackup has a full backup taken, OpDrill a restore tried out, now; name: the server
// that is to do it, empty for the best; logical: a backup is to be statements.
const (
	OpBackup = "backup"
	OpDrill  = "drill"
)

// backupsMemory is what a leader leaves to the next about backups.
var backupsMemory = controlRecord("backups")

// backups is what a leader knows of the cluster's backups. What takes time, the
// store, is the shelf's.
type backups struct {
	policy safekeep.Policy
	plan   registry.Record
	shelf  *shelf

	read    bool // what follows is as the registry has it
	current *cluster.BackupPlan
	memory  safekeep.Memory
	kept    []byte // the memory as the registry has it

	reasons []string
	meter   safekeep.Meter
	told    map[string]bool // gaps that were told of in this term
	meters  *meters
}

// keepBackups goes on with the cluster's backups. Nothing else waits for them: what
// goes wrong is tried again in the next round.
func (l *leader) keepBackups(ctx context.Context, m *moment) error {
	b := l.backups
	if b == nil {
		return nil
	}
	request, operation := backupRequest(m)
	step, err := l.stepBackups(ctx, m, request)
	if err != nil {
		b.read = false // written or not: what stands there decides how it goes on
		b.reasons = []string{err.Error()}
		if errors.Is(err, registry.ErrDeposed) {
			return err
		}
		l.log.Warn("plan of backups not written", zap.Error(err))
		return nil
	}
	if operation != nil {
		return l.answer(ctx, m, *operation, answer{done: step.Answer.Done, refused: step.Answer.Refused, text: step.Answer.Text})
	}
	return nil
}

func (l *leader) stepBackups(ctx context.Context, m *moment, request *safekeep.Request) (safekeep.Step, error) {
	b := l.backups
	if err := b.load(ctx, l.client); err != nil {
		return safekeep.Step{}, err
	}
	b.shelf.let(b.memory.Proven, l.memory.Paused == "" && b.policy.Store != "")
	v := l.backupView(m, request)
	step := safekeep.Next(v, b.policy, b.memory, m.now)
	b.reasons, b.meter = step.Reasons, safekeep.Measure(v, b.policy)
	b.meters.set(b.meter, v.Stock, step.Memory)
	memory, err := json.Marshal(step.Memory)
	if err != nil {
		return step, fmt.Errorf("remember backups: %w", err)
	}
	values := map[registry.Record][]byte{}
	if !bytes.Equal(memory, b.kept) {
		values[backupsMemory] = memory
	}
	next := b.current
	switch {
	case step.Plan != nil:
		next = step.Plan
		if values[b.plan], err = next.Encode(); err != nil {
			return step, err
		}
	case b.policy.Store == "" && b.current != nil:
		next, values[b.plan] = nil, nil
	}
	if len(values) > 0 {
		if err := l.client.WriteAll(ctx, l.term, values); err != nil {
			return step, err
		}
		b.current, b.memory, b.kept = next, step.Memory, memory
	}
	if step.Plan != nil {
		fields := map[string]string{"cluster": l.database}
		if step.Minor {
			fields[registry.Minor] = "true"
		}
		l.journal.put(registry.Entry{Kind: registry.Decision, Text: step.Why, Fields: fields})
	}
	for _, e := range step.Events {
		l.event(e)
	}
	if step.Look {
		b.shelf.look()
	}
	l.tellGaps(v.Stock)
	return step, nil
}

// load reads what the registry has, once and after each doubt.
func (b *backups) load(ctx context.Context, client *registry.Client) error {
	if b.read {
		return nil
	}
	data, err := client.Read(ctx, b.plan)
	if err != nil {
		return err
	}
	plan, err := cluster.DecodeBackupPlan(data)
	if err != nil {
		return err
	}
	kept, err := client.Read(ctx, backupsMemory)
	if err != nil {
		return err
	}
	memory, err := backupMemory(kept)
	if err != nil {
		return err
	}
	b.current, b.memory, b.kept, b.read = plan, memory, kept, true
	return nil
}

// backupView is what is known of the backups.
func (l *leader) backupView(m *moment, request *safekeep.Request) safekeep.View {
	b := l.backups
	stock, trouble := b.shelf.stock()
	v := safekeep.View{
		Term: l.term.Number, Assignment: m.assignment, Plan: b.current, Servers: map[string]safekeep.Server{},
		Stock: stock, StockError: trouble, Paused: l.memory.Paused != "", NewID: backup.NewID(m.now), Request: request,
	}
	if m.assignment == nil {
		return v
	}
	for _, s := range m.assignment.Servers {
		seen := safekeep.Server{Leaving: l.leaves(s.Name) != steer.Stay}
		seen.Database, seen.DatabaseAge = m.report(s.Name)
		if r, ok := m.backups[s.Name]; ok {
			seen.Backup, seen.BackupAge = r.report, r.age(m.now)
		}
		_, seen.Member = m.members[s.Name]
		v.Servers[s.Name] = seen
	}
	return v
}

// Bounds of what is known of a store from which a server may get its data: what was
// archived since must be enough for it to follow.
const (
	oldStock   = 15 * time.Minute
	oldArchive = time.Minute
)

// stored is the backup that servers can get their data from instead of another server;
// nil if there is none that is known to go on to just now.
func (l *leader) stored(m *moment) *steer.Stored {
	b := l.backups
	if b == nil || b.policy.Store == "" || m.assignment == nil {
		return nil
	}
	stock, trouble := b.shelf.stock()
	if stock == nil || trouble != "" || m.now.Sub(stock.At) > oldStock || stock.Newest < 0 || stock.Open || !stock.Follows {
		return nil
	}
	if len(b.policy.EncryptTo) > 0 && b.policy.IdentityFile == "" {
		return nil
	}
	leader, _ := m.assignment.Leader()
	r, ok := m.backups[leader.Name]
	if !ok || r.report.Archive == nil || r.report.Archive.Epoch != m.assignment.Epoch || r.report.Archive.Unstored == nil ||
		*r.report.Archive.Unstored+r.age(m.now) > oldArchive {
		return nil
	}
	return &steer.Stored{
		Restore: cluster.Restore{Store: b.policy.Store, Cluster: l.database, IdentityFile: b.policy.IdentityFile},
		Data:    stock.Data, Bytes: stock.Read,
	}
}

// backupRequest is what a person asks for, the oldest first.
func backupRequest(m *moment) (*safekeep.Request, *registry.Operation) {
	o, ok := m.operation(func(o registry.Operation) bool { return isBackupKind(o.Kind) })
	if !ok {
		return nil, nil
	}
	return &safekeep.Request{Drill: o.Kind == OpDrill, Logical: o.Args["logical"] == "true", Node: o.Args["name"], By: o.ID}, &o
}

func isBackupKind(kind string) bool { return kind == OpBackup || kind == OpDrill }

// tellGaps has the journal say, once in a term, where point-in-time recovery is
// unsafe.
func (l *leader) tellGaps(stock *safekeep.Assessment) {
	if stock == nil {
		return
	}
	tell := func(text string) {
		if !l.backups.told[text] {
			l.backups.told[text] = true
			l.journal.put(registry.Entry{Kind: "archive-gap", Text: text, Fields: map[string]string{"cluster": l.database}})
		}
	}
	for _, g := range stock.Gaps {
		tell("point-in-time recovery is unsafe: " + g.String())
	}
	if stock.Fork != nil {
		tell("point-in-time recovery is unsafe: " + stock.Fork.String())
	}
	for _, f := range stock.Faults {
		tell("damaged in the store: " + f)
	}
}

// BackupsView is what is known of the backups, for people.
type BackupsView struct {
	Store string `json:"store"`
	// Meter is what would be lost now.
	Meter safekeep.Meter `json:"meter"`
	// Stock is what the store has, without the older of many backups; nil while that is
	// not known, and Trouble may say why.
	Stock   *safekeep.Assessment `json:"stock,omitempty"`
	Trouble string               `json:"trouble,omitempty"`
	Fulls   int                  `json:"fulls"`
	// Proven is the newest backup of which a restore has been proven, and the proof.
	ProvenBackup string          `json:"proven_backup,omitempty"`
	Proven       *safekeep.Proof `json:"proven,omitempty"`
	// Plan is what the servers are to do, Reports what they say of it.
	Plan    *cluster.BackupPlan              `json:"plan,omitempty"`
	Reports map[string]*cluster.BackupReport `json:"reports,omitempty"`
	// Failure is the last full backup that failed, if none has succeeded since.
	Failure      *safekeep.Attempt `json:"failure,omitempty"`
	DrillFailure *safekeep.Attempt `json:"drill_failure,omitempty"`
	Reasons      []string          `json:"reasons"`
}

// shown bounds what a view has of each.
const shownBackups = 10

func (l *leader) viewBackups(m *moment) *BackupsView {
	b := l.backups
	if b == nil || b.policy.Store == "" {
		return nil
	}
	v := &BackupsView{
		Store: b.policy.Store, Meter: b.meter, Plan: b.current, Reasons: b.reasons, Reports: map[string]*cluster.BackupReport{},
		Failure: b.memory.Full.Failure, DrillFailure: b.memory.Drill.Failure,
	}
	if stock, trouble := b.shelf.stock(); stock != nil {
		short := *stock
		v.Fulls, v.Trouble = len(short.Fulls), trouble
		cut := max(0, len(short.Fulls)-shownBackups)
		if short.Newest >= 0 {
			cut = min(cut, short.Newest)
			short.Newest -= cut
		}
		short.Fulls = short.Fulls[cut:min(len(short.Fulls), cut+shownBackups)]
		short.Gaps = short.Gaps[max(0, len(short.Gaps)-shownBackups):]
		short.Faults = short.Faults[max(0, len(short.Faults)-shownBackups):]
		v.Stock = &short
	} else {
		v.Trouble = trouble
	}
	v.ProvenBackup, v.Proven = newestProof(b.memory.Proven)
	for name, r := range m.backups {
		v.Reports[name] = r.report
	}
	return v
}

// newestProof is the one that reaches furthest.
func newestProof(proven map[string]safekeep.Proof) (id string, best *safekeep.Proof) {
	for name, p := range proven {
		if best == nil || cmp.Or(p.Until.Compare(best.Until), p.At.Compare(best.At), strings.Compare(name, id)) > 0 {
			id, best = name, &p
		}
	}
	return id, best
}

// BackupMemory is what the leader remembers of backups, for who lists them.
func BackupMemory(ctx context.Context, client *registry.Client) (m safekeep.Memory, err error) {
	data, err := client.Read(ctx, backupsMemory)
	if err != nil {
		return m, err
	}
	return backupMemory(data)
}

// backupMemory reads the record's value; of no record it is that of nothing.
func backupMemory(data []byte) (m safekeep.Memory, err error) {
	if data == nil {
		return m, nil
	}
	if err := json.Unmarshal(data, &m); err != nil {
		return m, fmt.Errorf("what the leader remembers of backups cannot be read: %w", err)
	}
	return m, nil
}

// newBackups is nil for a farm without a database.
func (f *following) newBackups(l *leader) (*backups, error) {
	if l.database == "" {
		return nil, nil
	}
	plan, err := registry.ClusterRecord(l.database, cluster.BackupsRecord)
	if err != nil {
		return nil, err
	}
	policy := l.farm.Safekeeping()
	return &backups{
		policy: policy, plan: plan, told: map[string]bool{}, meters: f.o.meters,
		shelf: newShelf(policy, l.database, func() { poke(l.wake) }, func(ctx context.Context, text string, minor bool) error {
			fields := map[string]string{"cluster": l.database}
			if minor {
				fields[registry.Minor] = "true"
			}
			return l.fence(ctx, registry.Entry{Kind: registry.Decision, Text: text, Fields: fields})
		}, l.log.Named("backups")),
	}, nil
}

// sameStock reports whether two assessments say the same but for their time.
func sameStock(a, b *safekeep.Assessment) bool {
	if a == nil || b == nil {
		return a == b
	}
	x := *a
	x.At = b.At
	return reflect.DeepEqual(&x, b)
}

// removals says for the journal what is let go.
func removals(a *safekeep.Assessment) (ids []string) {
	for _, v := range a.Prune.Verdicts {
		if !v.Keep {
			ids = append(ids, v.ID)
		}
	}
	return slices.Concat(ids, a.Prune.Abandoned)
}
