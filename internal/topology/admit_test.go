package topology

import (
	"os"
	"strings"
	"testing"

	"farmhand/internal/farm"
	"farmhand/internal/filewatch"
)

// TestAdmit plays sequences of files: each is a list of "epoch primary" for the
// cluster main, "-" for no primary, "gone" for a file without the cluster.
func TestAdmit(t *testing.T) {
	for _, sequence := range []struct{ files, want string }{
		{"1:a 1:a 2:b 3:a", "ok ok ok ok"},
		{"7:a 6:a 7:a", "ok older_epoch ok"},
		{"7:a 7:b 8:b", "ok second_primary ok"},
		{"7:a 7:- 7:b 7:a", "ok ok second_primary ok"}, // an epoch remembers its primary
		{"7:- 7:a 7:b", "ok ok second_primary"},
		{"7:a 8:- 8:b 8:a", "ok ok ok second_primary"},
		{"7:a gone 6:a 7:b 7:a", "ok ok older_epoch second_primary ok"}, // so does a cluster that left
	} {
		terms := map[string]term{}
		var got []string
		for file := range strings.FieldsSeq(sequence.files) {
			data := `{"version": 1, "clusters": {"other": {"epoch": 1, "primary": null}}}`
			if epoch, primary, ok := strings.Cut(file, ":"); ok {
				data = `{"version": 1, "clusters": {"main": {"epoch": ` + epoch + `, "primary": null}}}`
				if primary != "-" {
					data = strings.Replace(data, "null", `{"name": "`+primary+`", "address": "`+primary+`:1"}`, 1)
				}
			}
			v := admit("f", filewatch.Reading{Data: []byte(data)}, terms, nil)
			if v.refusal != nil {
				got = append(got, string(v.refusal.Reason))
				continue
			}
			terms = v.terms
			got = append(got, "ok")
		}
		if strings.Join(got, " ") != sequence.want {
			t.Errorf("%s: got %v; want %s", sequence.files, got, sequence.want)
		}
	}
}

func TestRefusalsTellWhatToDo(t *testing.T) {
	terms := map[string]term{"main": {epoch: 7, primary: "db1"}}
	for want, r := range map[string]filewatch.Reading{
		"topology file f: cluster main: epoch 6 is older than 7, which was in force already":                           {Data: content(6, "db1")},
		"topology file f: cluster main: epoch 7 has db1 for its primary already; a change to db2 needs a higher epoch": {Data: content(7, "db2")},
		`topology file f: there is no cluster "main" in it; it has other`:                                              {Data: []byte(strings.Replace(string(content(8, "x")), "main", "other", 1))},
		"topology file f: open f: file does not exist":                                                                 {Err: &os.PathError{Op: "open", Path: "f", Err: os.ErrNotExist}},
		"topology file f: line 1, column 1: the file is empty; expected a topology":                                    {},
	} {
		v := admit("f", r, terms, []string{"main"})
		if v.refusal == nil || v.refusal.Error() != want {
			t.Errorf("got %v; want %s", v.refusal, want)
		}
	}
}

func TestDiff(t *testing.T) {
	server := func(name string, state farm.State, weight int) farm.Server {
		return farm.Server{Name: name, Address: name + ":3306", State: state, Weight: weight}
	}
	cluster := func(epoch farm.Epoch, primary string, replicas ...farm.Server) farm.Cluster {
		c := farm.Cluster{Epoch: epoch, Replicas: replicas}
		if primary != "" {
			p := server(primary, "", 100)
			c.Primary = &p
		}
		return c
	}
	moved := server("db2", farm.Serving, 50)
	moved.Address, moved.Attributes = "10.0.0.9:3306", map[string]string{"zone": "b"}
	for _, test := range []struct {
		old, now farm.Cluster
		want     string
	}{
		{cluster(7, "db1"), cluster(7, "db1"), ""},
		{
			cluster(7, "db1", server("db2", farm.Serving, 100), server("db3", farm.Serving, 100)),
			cluster(8, "db2", server("db1", farm.Serving, 100), server("db3", farm.Draining, 100), server("db4", farm.Serving, 100)),
			"primary db1 -> db2, epoch 7 -> 8, draining db3, added db4",
		},
		{cluster(7, "db1", server("db2", farm.Warming, 100)), cluster(8, ""), "primary db1 -> none, epoch 7 -> 8, removed db1, removed db2"},
		{cluster(8, ""), cluster(8, "db1", server("db2", farm.Warming, 100)), "primary none -> db1, added db1, added db2 (warming)"},
		{cluster(1, "", server("db2", farm.Serving, 100)), cluster(1, "", moved), "db2 moved db2:3306 -> 10.0.0.9:3306, weight of db2 100 -> 50, attributes of db2"},
	} {
		if got := Diff(test.old, test.now); got != test.want {
			t.Errorf("got  %s\nwant %s", got, test.want)
		}
	}
}
