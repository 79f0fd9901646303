package cli

import (
	"encoding/json"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"

	"farmhand/scaler/internal/simulate"
)

// TestScalingPageShowsWhatHappens runs the commands of docs/SCALING.md and
// compares what it shows.
func TestScalingPageShowsWhatHappens(t *testing.T) {
	t.Chdir("../../..")
	const page = "docs/SCALING.md"
	data, err := os.ReadFile(page)
	must(t, err)
	text, commands := string(data), 0
	for _, block := range regexp.MustCompile("(?s)```\n(\\$ scaler [^\n]*\n)(.*?)```").FindAllStringSubmatch(text, -1) {
		commands++
		command, head, limited := strings.Cut(strings.TrimPrefix(block[1], "$ scaler "), " | head -")
		out, err := scaler(t, strings.Fields(command)...)
		must(t, err)
		if limited {
			n, err := strconv.Atoi(strings.TrimSpace(head))
			must(t, err)
			out = strings.Join(strings.SplitAfterN(out, "\n", n+1)[:n], "")
		}
		if *update {
			text = strings.Replace(text, block[0], "```\n"+block[1]+out+"```", 1)
		} else if block[2] != out {
			t.Errorf("the page shows\n%s\nbut it is\n%s", block[2], out)
		}
	}
	if commands != 2 {
		t.Errorf("found %d commands", commands)
	}
	if *update {
		must(t, os.WriteFile(page, []byte(text), 0o644))
	}
	// The trace that it shows can be read.
	trace := regexp.MustCompile("(?s)```\n(# comments.*?)```").FindStringSubmatch(text)
	if trace == nil {
		t.Fatal("no trace")
	}
	if _, err := simulate.Read("page", []byte(trace[1])); err != nil {
		t.Error(err)
	}
}

var night = []string{"simulate", "../../../testdata/campaign-night.csv", "--farm", "../../../testdata/campaign-farm.yaml", "--capacity", "db=2500,web=700"}

func result(t *testing.T, args ...string) simulate.Result {
	t.Helper()
	out, err := scaler(t, append(args, "--json")...)
	must(t, err)
	var r simulate.Result
	must(t, json.Unmarshal([]byte(out), &r))
	return r
}

// TestAScheduleSparesTheOverload: as docs/SCALING.md says.
func TestAScheduleSparesTheOverload(t *testing.T) {
	before := result(t, night...)
	data, err := os.ReadFile("../../../testdata/campaign-farm.yaml")
	must(t, err)
	farm := filepath.Join(t.TempDir(), "farm.yaml")
	must(t, os.WriteFile(farm, []byte(strings.Replace(string(data), "    scaling:\n",
		"    schedule: [{from: 17:45, to: 21:30, at_least: 12}]\n    scaling:\n", 1)), 0o644))
	args := append([]string{}, night...)
	args[3] = farm
	after := result(t, args...)
	if before.Roles[0].Name != "db" || before.Roles[0].Fleet.Overloaded == 0 || after.Roles[0].Fleet.Overloaded != 0 {
		t.Errorf("overloaded for %v s, with a schedule for %v s", before.Roles[0].Fleet.Overloaded, after.Roles[0].Fleet.Overloaded)
	}
}

func TestSimulationAsJSONAndPlot(t *testing.T) {
	dir := t.TempDir()
	for _, name := range []string{"night.svg", "night.HTML"} {
		file := filepath.Join(dir, name)
		r := result(t, append(night, "--plot", file)...)
		if len(r.Roles) != 2 || r.To.Sub(r.From) != 24*time.Hour || len(r.LeftOut) != 1 || len(r.Roles[0].Steps) == 0 || len(r.Roles[0].Steps[0].Reasons) < 2 {
			t.Errorf("got %+v", r)
		}
		data, err := os.ReadFile(file)
		must(t, err)
		if want := map[string]string{"night.svg": "<svg ", "night.HTML": "<!DOCTYPE html>"}[name]; !strings.HasPrefix(string(data), want) || !strings.Contains(string(data), "<title>campaign-night.csv with campaign-farm.yaml</title>") {
			t.Errorf("%s begins with %.200s", name, data)
		}
	}
}

func TestWhatCannotBeSimulated(t *testing.T) {
	dir := t.TempDir()
	wrong := filepath.Join(dir, "wrong.csv")
	must(t, os.WriteFile(wrong, []byte("time,db.reads\nnow,1\n"), 0o644))
	farm := filepath.Join(dir, "farm.yaml")
	must(t, os.WriteFile(farm, []byte("name: X\n"), 0o644))
	for _, test := range []struct {
		args []string
		want string
	}{
		{[]string{"simulate"}, "accepts 1 arg(s), received 0"},
		{append(night, "--plot", "night.png"), "--plot night.png: expected a name that ends with .svg or .html"},
		{append(night, "--plot", filepath.Join(dir, "none", "x.svg")), "write plot: open "},
		{append(night, "--price", "db=much"), "--price db=much: expected a number"},
		{append(night, "--price", "x=1"), "something is assumed of x, but the farm has no such role"},
		{night[:4], "what a server of db can do is not known; expected --capacity db=N, its queries per second"},
		{[]string{"simulate", wrong, "--farm", night[3]}, wrong + " is not good:\n" + wrong + `:2:1: "now" is not a time`},
		{[]string{"simulate", dir + "/none.csv", "--farm", night[3]}, "read trace: open "},
		{[]string{"simulate", wrong, "--farm", dir + "/none.yaml"}, "there is no " + dir + "/none.yaml (scaler init "},
		{[]string{"simulate", wrong, "--farm", farm}, farm + " is not good:\n" + farm + ":1:1: roles: it is missing"},
	} {
		if out, err := scaler(t, test.args...); err == nil || !strings.HasPrefix(err.Error(), test.want) || out != "" {
			t.Errorf("scaler %v: got %v and %q; want %s", test.args, err, out, test.want)
		}
	}
}
