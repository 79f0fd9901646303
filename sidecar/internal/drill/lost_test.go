package drill_test

import (
	"context"
	"errors"
	"fmt"
	"testing"

	format "farmhand/internal/backup"
	"farmhand/internal/dbserver"
	"farmhand/internal/farm"
	"farmhand/internal/farmtest"
	"farmhand/internal/mysqladmin"
	"farmhand/internal/restore"
)

// TestWhatNobodyAcknowledgedIsNotRestored: a primary of MySQL archives a commit that no
// replica has, and dies. Its successor's archive says that it is no history.
func TestWhatNobodyAcknowledgedIsNotRestored(t *testing.T) {
	farmtest.Long(t)
	f := farmtest.Start(t, farmtest.Options{Flavor: farm.MySQL, Replicas: 1})
	old, replica := f.Primary(), f.Replica(0)
	tables(t, old)
	f.WaitCaughtUp(t)
	f.SemiSync(t)
	store, _ := directory(t)
	m := full(t, replica, store, 1)
	a := archiving(t, old, store, 1, position(t, m.Position))
	old.Exec(t, "INSERT INTO app.ledger VALUES ('known')")
	known := position(t, old.Position(t))
	a.await(t, known)
	f.WaitCaughtUp(t)
	replica.StopReplication(t)
	db := old.Open(t, farmtest.App)
	ended := make(chan error, 1)
	go func() {
		_, err := db.Exec("INSERT INTO ledger VALUES ('lost')")
		ended <- err
	}()
	farmtest.Eventually(t, "what nobody has acknowledged is archived", func() error {
		a.mu.Lock()
		defer a.mu.Unlock()
		if a.status.Position.Equal(known) {
			return fmt.Errorf("it has %s; %w", a.status.Position, errors.Join(a.status.Err, errNotYet))
		}
		return nil
	})
	old.Kill9(t)
	if err := <-ended; err == nil {
		t.Fatal("the commit was acknowledged")
	}
	a.stop(t)
	f.Promote(t)
	now := f.Primary()
	now.Exec(t, "SET GLOBAL rpl_semi_sync_source_enabled=OFF", "INSERT INTO app.ledger VALUES ('new')")
	a = archiving(t, now, store, 2, known)
	end := position(t, now.Position(t))
	a.await(t, end)
	a.stop(t)

	segments, faults, err := format.ListSegments(t.Context(), store, cluster)
	if err != nil || faults != nil {
		t.Fatal(err, faults)
	}
	if gone, err := format.Overruled(segments); err != nil || len(gone) == 0 {
		t.Errorf("of %d segments %v are no history, %v", len(segments), gone, err)
	}
	plan, err := restore.Find(t.Context(), restore.Source{Store: store, Cluster: cluster}, restore.Target{}, "")
	if err != nil {
		t.Fatal(err)
	}
	into := place(t, farm.MySQL, farmtest.ShortDir(t))
	data, err := plan.Restore(t.Context(), into)
	if err != nil {
		t.Fatal(err)
	}
	if !position(t, data.Position).Equal(end) {
		t.Errorf("the data is at %s, and the primary is at %s", data.Position, end)
	}
	if err := data.Swap(); err != nil {
		t.Fatal(err)
	}
	if err := dbserver.Settle(t.Context(), into.Install, into.Config, func(ctx context.Context, conn *mysqladmin.Conn) error {
		rows, err := conn.Query(ctx, "SELECT GROUP_CONCAT(id ORDER BY id) AS lines_there FROM app.ledger")
		if err == nil && rows[0].String("lines_there") != "known,new" {
			err = fmt.Errorf("there are %s", rows[0].String("lines_there"))
		}
		return err
	}); err != nil {
		t.Error(err)
	}
}
