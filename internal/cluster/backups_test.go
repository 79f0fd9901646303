package cluster_test

import (
	"reflect"
	"strings"
	"testing"
	"time"

	"farmhand/internal/cluster"
)

func TestAPlanOfBackupsIsWhatItWas(t *testing.T) {
	at := time.Date(2026, 11, 28, 17, 0, 0, 0, time.UTC)
	p := &cluster.BackupPlan{
		Term: 7, Serial: 3, Store: "/backups", EncryptTo: []string{"age1x"}, Throttle: 1 << 20, Every: 3 * time.Second, Size: 8 << 20,
		Archive: &cluster.ArchiveTask{Node: "db1", Epoch: 4},
		Full:    &cluster.FullTask{ID: "20261128T170000Z-abcdef", Node: "db2", Since: at, Why: "it is time"},
		Drill:   &cluster.DrillTask{ID: "d1", Node: "db3", Since: at, IdentityFile: "/etc/key"},
	}
	data, err := p.Encode()
	if err != nil {
		t.Fatal(err)
	}
	if got, err := cluster.DecodeBackupPlan(data); err != nil || !reflect.DeepEqual(got, p) {
		t.Errorf("it became %+v, %v", got, err)
	}
	if got, err := cluster.DecodeBackupPlan(nil); got != nil || err != nil {
		t.Errorf("no plan is %+v, %v", got, err)
	}
	for what, change := range map[string]func(*cluster.BackupPlan){
		"serial":  func(p *cluster.BackupPlan) { p.Serial = 0 },
		"store":   func(p *cluster.BackupPlan) { p.Store = "" },
		"archive": func(p *cluster.BackupPlan) { p.Every = 0 },
		"epoch":   func(p *cluster.BackupPlan) { p.Archive = &cluster.ArchiveTask{Node: "db1"} },
		"full":    func(p *cluster.BackupPlan) { p.Full = &cluster.FullTask{Node: "db1"} },
		"drill":   func(p *cluster.BackupPlan) { p.Drill = &cluster.DrillTask{ID: "x", Node: "no name"} },
	} {
		wrong := *p
		change(&wrong)
		if _, err := wrong.Encode(); err == nil || !strings.Contains(err.Error(), what) {
			t.Errorf("%s: %v", what, err)
		}
	}
}
