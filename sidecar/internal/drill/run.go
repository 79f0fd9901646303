package drill

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"time"

	"farmhand/internal/dbserver"
	"farmhand/internal/farm"
	"farmhand/internal/gtid"
	"farmhand/internal/mysqladmin"
	"farmhand/internal/restore"
)

const (
	// catchUp is how long the archive and the replica may be behind each other.
	catchUp = 3 * time.Minute
	look    = time.Second // in which they are asked meanwhile
	// rounds is how often a table must differ: one that is made or altered while it is
	// compared seems to.
	rounds = 3
	// scratchID is the scratch server's id; it replicates from nobody.
	scratchID = 1<<32 - 2
)

// Run restores the newest that the store has and compares it with the replica at the same
// position. A store that cannot give it is a restore.UnreachableError; data that is not
// the replica's is a DiffersError. Nothing is left in Scratch.
func Run(ctx context.Context, c Config) (proof Proof, err error) {
	if err := os.RemoveAll(c.Scratch); err != nil {
		return Proof{}, fmt.Errorf("drill: remove what an earlier one has left: %w", err)
	}
	defer func() {
		if err = errors.Join(err, os.RemoveAll(c.Scratch)); err != nil {
			proof, err = Proof{}, fmt.Errorf("drill: %w", err)
		}
	}()
	began := time.Now()
	from := restore.Source{Store: c.Store, Cluster: c.Cluster, Keys: c.Identities}
	plan, err := restore.Find(ctx, from, restore.Target{}, c.Backup)
	if err != nil {
		return Proof{}, err
	}
	into := restore.Into{Install: c.Install, Config: dbserver.Config{
		Dir: c.Scratch, Address: c.Server.Address, Port: c.Server.Port, Socket: filepath.Join(c.Scratch, "s"), // neither is listened on
		ServerID: scratchID, BufferPool: c.Server.BufferPool, RedoLog: c.Server.RedoLog, Credential: c.Server.Credential,
		StartLimit: c.Server.StartLimit, StopLimit: c.Server.StopLimit,
	}}
	if c.Progress != nil {
		into.Tell = func(p restore.Progress) { c.Progress(p.Done, p.Total) }
	}
	data, err := plan.Restore(ctx, into)
	if err != nil {
		return Proof{}, err
	}
	if err := data.Swap(); err != nil {
		return Proof{}, err
	}
	proof = Proof{Backup: plan.Manifest.ID, Position: data.Position, Time: data.Time, Restoring: time.Since(began)}
	if proof.Time.IsZero() {
		proof.Time = plan.Manifest.Ended
	}
	began = time.Now()
	var only []string
	for round := 1; ; round++ {
		differences, err := compare(ctx, c, from, into, &proof, only)
		if err != nil {
			return Proof{}, err
		}
		if round == rounds {
			// What is altered all the time cannot be compared.
			differences = slices.DeleteFunc(differences, func(d Difference) bool {
				if d.moving {
					proof.Passed = append(proof.Passed, fmt.Sprintf("%s: it was altered each time it was looked at", d.Table))
				}
				return d.moving
			})
			if len(differences) > 0 {
				return Proof{}, &DiffersError{Backup: proof.Backup, Position: proof.Position, Differences: differences}
			}
		}
		if len(differences) == 0 {
			proof.Comparing = time.Since(began)
			return proof, nil
		}
		only = nil
		for _, d := range differences {
			only = append(only, d.Table)
		}
	}
}

// compare takes the scratch server to a position at which the replica was a moment ago
// and compares all tables there, or only some.
func compare(ctx context.Context, c Config, from restore.Source, into restore.Into, proof *Proof, only []string) (_ []Difference, err error) {
	limited, end := context.WithTimeoutCause(ctx, catchUp, fmt.Errorf("that took longer than %v", catchUp))
	defer end()
	replica, at, err := snapshot(limited, c, proof.Position)
	if err != nil {
		return nil, fmt.Errorf("look at the replica where it has %s: %w", proof.Position, err)
	}
	defer func() { err = errors.Join(err, replica.Close()) }()
	plan, err := onward(limited, from, c.Install.Flavor, proof.Position, at)
	if err != nil {
		return nil, fmt.Errorf("have the archive catch up with the replica: %w", err)
	}
	reached, err := plan.Replay(ctx, into)
	if err != nil {
		return nil, err
	}
	proof.Position = reached.Position
	if !reached.Time.IsZero() {
		proof.Time = reached.Time
	}
	var differences []Difference
	err = dbserver.Settle(ctx, c.Install, into.Config, func(ctx context.Context, scratch *mysqladmin.Conn) error {
		differences, err = tables(ctx, scratch, replica, proof, only)
		return err
	})
	return differences, err
}

// onward waits until the archive goes from one position to another.
func onward(ctx context.Context, from restore.Source, of farm.Flavor, position string, to gtid.Position) (*restore.Plan, error) {
	tick := time.NewTicker(look)
	defer tick.Stop()
	for {
		plan, err := restore.Onward(ctx, from, of, position, restore.Target{Position: to.String()})
		var far *restore.UnreachableError
		if err == nil || !errors.As(err, &far) {
			return plan, err
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return nil, errors.Join(context.Cause(ctx), err)
		}
	}
}

// tables compares every table, or only some, and counts them.
func tables(ctx context.Context, scratch, replica *mysqladmin.Conn, proof *Proof, only []string) ([]Difference, error) {
	names, err := list(ctx, scratch)
	if err != nil {
		return nil, fmt.Errorf("list what was restored: %w", err)
	}
	theirs, err := list(ctx, replica)
	if err != nil {
		return nil, fmt.Errorf("list the replica's tables: %w", err)
	}
	for name, engine := range theirs {
		if _, ok := names[name]; !ok {
			names[name] = engine
		}
	}
	if only == nil {
		proof.Passed = nil
	}
	var differences []Difference
	for _, t := range sorted(names) {
		if only != nil && !slices.Contains(only, t.String()) {
			continue
		}
		if engine := names[t]; engine != "InnoDB" {
			proof.Passed = append(proof.Passed, fmt.Sprintf("%s: a table of the engine %s cannot be seen as it was at a position", t, engine))
			continue
		}
		restored, rerr := read(ctx, scratch, t)
		there, terr := read(ctx, replica, t)
		if err := errors.Join(rerr, terr); err != nil {
			return nil, fmt.Errorf("compare %s: %w", t, err)
		}
		if restored != there {
			differences = append(differences, Difference{Table: t.String(), Restored: restored.String(), Replica: there.String(), moving: there.moving})
			continue
		}
		if restored.absent != "" {
			proof.Passed = append(proof.Passed, fmt.Sprintf("%s: %s on either side", t, restored.absent))
			continue
		}
		proof.Tables++
		proof.Rows += restored.rows
	}
	return differences, nil
}
