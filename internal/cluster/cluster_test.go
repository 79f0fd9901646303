package cluster

import (
	"reflect"
	"strings"
	"testing"

	"farmhand/internal/farm"
	"farmhand/internal/topology"
)

func three() *Assignment {
	return &Assignment{Epoch: 3, Term: 7, Serial: 9, Primary: "db1", SemiSync: true, NextID: 4, Why: "made for a test", Servers: []Server{
		{Name: "db1", Address: "127.0.10.1:3306", ID: 1, Task: Lead},
		{Name: "db2", Address: "127.0.10.2:3306", ID: 2, Task: Follow, Source: "db1", State: farm.Serving, Weight: 100, Acknowledges: true},
		{Name: "db3", Address: "127.0.10.3:3306", ID: 3, Task: Clone, Source: "db2"},
	}}
}

func TestAnAssignmentIsReadAsItWasWritten(t *testing.T) {
	a := three()
	data, err := a.Encode()
	if err != nil {
		t.Fatal(err)
	}
	b, err := Decode(data)
	if err != nil {
		t.Fatal(err)
	}
	if !reflect.DeepEqual(a, b) {
		t.Errorf("%+v", b)
	}
	if s, ok := b.Leader(); !ok || s.Name != "db1" {
		t.Errorf("leader %+v", s)
	}
	if _, ok := b.Server("db9"); ok {
		t.Error("there is a server that is not")
	}
}

// TestTheTopologyIsOneThatProxiesTake writes what proxies are to know, with and without a
// primary, as their file.
func TestTheTopologyIsOneThatProxiesTake(t *testing.T) {
	a := three()
	for _, primary := range []string{"db1", ""} {
		a.Primary = primary
		c := a.Topology()
		if _, err := topology.Encode(farm.Topology{Version: topology.Version, Clusters: map[string]farm.Cluster{"db": c}}); err != nil {
			t.Error(err)
		}
		if (c.Primary != nil) != (primary != "") || len(c.Replicas) != 1 || c.Replicas[0].Name != "db2" {
			t.Errorf("%+v", c)
		}
	}
}

func TestWrongAssignmentsAreRefused(t *testing.T) {
	for want, change := range map[string]func(*Assignment){
		"epoch 0":         func(a *Assignment) { a.Epoch = 0 },
		"serial":          func(a *Assignment) { a.Serial = 0 },
		"to lead":         func(a *Assignment) { a.Servers[1].Task = Lead },
		"the primary":     func(a *Assignment) { a.Primary = "db2" },
		"sorted":          func(a *Assignment) { a.Servers[0].Name = "db4" },
		"its source":      func(a *Assignment) { a.Servers[1].Source = "db2" },
		"both at":         func(a *Assignment) { a.Servers[2].Address = a.Servers[1].Address },
		"the id 1":        func(a *Assignment) { a.Servers[2].ID = 1 },
		"no task":         func(a *Assignment) { a.Servers[2].Task = "dance" },
		`state "serving"`: func(a *Assignment) { a.Servers[1].Weight = 0 },
		`server "db/1"`:   func(a *Assignment) { a.Servers[0].Name, a.Primary = "db/1", "" },
		"server db3":      func(a *Assignment) { a.Servers[2].Address = "127.0.10.3" },
	} {
		a := three()
		change(a)
		if _, err := a.Encode(); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v", want, err)
		}
	}
}

func TestNothingGoesBack(t *testing.T) {
	for _, c := range []struct {
		epoch  farm.Epoch
		serial uint64
		newer  bool
	}{{3, 9, false}, {3, 10, true}, {4, 10, true}, {2, 10, false}, {4, 9, false}} {
		a := three()
		a.Epoch, a.Serial = c.epoch, c.serial
		if a.Newer(three()) != c.newer {
			t.Errorf("%d, %d: %v", c.epoch, c.serial, !c.newer)
		}
	}
	if !three().Newer(nil) {
		t.Error("not newer than none")
	}
}

func TestAReportIsReadAsItWasWritten(t *testing.T) {
	r := &Report{Name: "db1", Flavor: farm.MariaDB, Task: Lead, Serial: 9, Replication: &Replication{Source: "127.0.10.1:3306"}, Load: map[string]float64{"threads_running": 3}}
	data, err := r.Encode()
	if err != nil {
		t.Fatal(err)
	}
	got, err := DecodeReport(data)
	if err != nil {
		t.Fatal(err)
	}
	if !reflect.DeepEqual(r, got) {
		t.Errorf("%+v", got)
	}
}
