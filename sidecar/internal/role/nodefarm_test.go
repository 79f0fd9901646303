package role

import (
	"context"
	"testing"
	"testing/synctest"

	"go.uber.org/zap"

	"farmhand/internal/cluster"
	"farmhand/internal/report"
	"farmhand/sidecar/internal/membership"
)

// toldFarm is a farm that takes reports one at a time, when the test lets it.
type toldFarm struct {
	Farm
	reports chan *cluster.NodeReport
}

func (f toldFarm) Report(_ context.Context, _ string, value []byte) error {
	r, err := cluster.DecodeNodeReport(value)
	f.reports <- r
	return err
}

// TestAWebNodeTellsEachChangeOnce: that writes wait is the next thing that the farm hears,
// not said behind repetitions of what it knows.
func TestAWebNodeTellsEachChangeOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		farm := toldFarm{reports: make(chan *cluster.NodeReport)}
		f := newNodeFarm("web1", Tools{Farm: farm, Log: zap.NewNop()})
		ctx, stop := context.WithCancel(t.Context())
		ended := make(chan error)
		go func() { ended <- f.run(ctx) }()
		next := func() *cluster.NodeReport {
			select {
			case r := <-farm.reports:
				return r
			case <-t.Context().Done():
				return nil
			}
		}
		f.is(report.Report{State: report.Running, PID: 7}, true)
		if r := next(); r.PID != 7 || r.Serial != 0 {
			t.Errorf("first: %+v", r)
		}
		synctest.Wait()
		// As the role does: what it told before, and the file that is as it was.
		f.is(report.Report{State: report.Running, PID: 7}, true)
		f.wrote(membership.Snapshot{})
		synctest.Wait() // whatever of that is told would be on its way now
		f.wrote(membership.Snapshot{Epoch: 1, Serial: 2})
		if r := next(); r.Serial != 2 {
			t.Errorf("told behind a repetition: %+v", r)
		}
		// What has not changed is told now and then all the same.
		if r := next(); r.Serial != 2 {
			t.Errorf("after a while: %+v", r)
		}
		stop()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	})
}
