package deploy

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/zap"

	"farmhand/internal/cluster"
	"farmhand/internal/release"
)

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// errKilled is the end of the process, as far as the files are concerned.
var errKilled = errors.New("killed")

// place is a directory of releases, whatever process looks after it.
type place struct {
	dir    string
	packed map[string][]byte // by version
	of     map[string]cluster.Release
	steps  int // until the process is killed; -1 for never
	good   func(version string) bool
	told   int // how often a change was told
	owner  string
}

func newPlace(t *testing.T, versions ...string) *place {
	t.Helper()
	p := &place{dir: filepath.Join(t.TempDir(), "site"), packed: map[string][]byte{}, of: map[string]cluster.Release{}, steps: -1, good: func(string) bool { return true }}
	for _, version := range versions {
		source := t.TempDir()
		must(t, os.WriteFile(filepath.Join(source, "version"), []byte(version), 0o644))
		var packed bytes.Buffer
		is, err := release.Pack(t.Context(), source, &packed)
		must(t, err)
		p.packed[version] = packed.Bytes()
		p.of[version] = cluster.Release{
			Version: version, Object: cluster.ReleaseObject("web", version, is.SHA256), SHA256: is.SHA256, Size: is.Size, Files: is.Files, Bytes: is.Bytes,
		}
	}
	return p
}

// step is a moment at which the process may be killed.
func (p *place) step(kill context.CancelCauseFunc) error {
	if p.steps == 0 {
		kill(errKilled)
		return errKilled
	}
	p.steps--
	return nil
}

// bring has a process of its own bring a version. Killed, it does nothing more: what it would have put right stays.
func (p *place) bring(t *testing.T, version string, back bool) error {
	t.Helper()
	ctx, kill := context.WithCancelCause(t.Context())
	defer kill(nil)
	s := &Site{Dir: p.dir, Owner: p.owner, Group: -1, Keep: 2, Within: 2 * time.Second, Log: zap.NewNop(), Doing: func(string) {}}
	s.Fetch = func(_ context.Context, r cluster.Release) (io.ReadCloser, error) {
		if err := p.step(kill); err != nil {
			return nil, err
		}
		return io.NopCloser(bytes.NewReader(p.packed[r.Version])), nil
	}
	s.Check = func(context.Context, string) error { return p.step(kill) }
	s.Changed = func() error { p.told++; return p.step(kill) }
	s.Ask = func(_ context.Context, next bool) error {
		if err := p.step(kill); err != nil {
			return err
		}
		link := currentLink
		if next {
			link = nextLink
		}
		asked, err := os.ReadFile(filepath.Join(p.dir, link, "version"))
		if err != nil {
			return err
		}
		if !p.good(string(asked)) {
			return fmt.Errorf("%s is no good", asked)
		}
		return nil
	}
	must(t, s.Make())
	return s.Bring(ctx, p.of[version], back)
}

// current is what visitors get, read as they do.
func (p *place) current(t *testing.T) string {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(p.dir, currentLink, "version"))
	if errors.Is(err, os.ErrNotExist) {
		return ""
	}
	must(t, err)
	return string(text)
}

// TestKilledAtAnyMoment: whenever the process ends, visitors get a whole release, and the next process brings what is
// wanted by then: the same one, or another.
func TestKilledAtAnyMoment(t *testing.T) { synctest.Test(t, testKilledAtAnyMoment) }

func testKilledAtAnyMoment(t *testing.T) {
	for _, then := range []string{"v2", "v1", "v3"} {
		for steps := 0; ; steps++ {
			p := newPlace(t, "v1", "v2", "v3")
			must(t, p.bring(t, "v1", false))
			p.steps = steps
			err := p.bring(t, "v2", false)
			killed := errors.Is(err, errKilled)
			if !killed && err != nil {
				t.Fatalf("after %d steps: %v", steps, err)
			}
			if got := p.current(t); got != "v1" && got != "v2" {
				t.Fatalf("killed after %d steps, visitors get %q", steps, got)
			}
			p.steps = -1
			if err := p.bring(t, then, false); err != nil || p.current(t) != then {
				t.Fatalf("killed after %d steps, then %s: %v, visitors get %q", steps, then, err, p.current(t))
			}
			left, err := filepath.Glob(filepath.Join(p.dir, "*"))
			must(t, err)
			if len(left) != 3 { // current, releases and owner
				t.Errorf("killed after %d steps, there are %v", steps, left)
			}
			if !killed {
				if steps < 8 {
					t.Errorf("there are only %d moments", steps)
				}
				break
			}
		}
	}
}

// TestKilledOnTrial: a release that visitors get and that was not found good goes back, also by another process.
func TestKilledOnTrial(t *testing.T) { synctest.Test(t, testKilledOnTrial) }

func testKilledOnTrial(t *testing.T) {
	for steps := 0; ; steps++ {
		p := newPlace(t, "v1", "v2")
		must(t, p.bring(t, "v1", false))
		p.good = func(version string) bool { return version != "v2" || p.current(t) != "v2" }
		p.steps = steps
		err := p.bring(t, "v2", false)
		p.steps = -1
		killed := errors.Is(err, errKilled)
		if killed {
			err = p.bring(t, "v2", false)
		}
		refused := (*RefusedError)(nil)
		if !errors.As(err, &refused) || p.current(t) != "v1" {
			t.Fatalf("killed after %d steps: %v, visitors get %q", steps, err, p.current(t))
		}
		if !killed {
			break
		}
	}
}

// TestBackAsksNothing: what was good before is so again, though nothing answers.
func TestBackAsksNothing(t *testing.T) { synctest.Test(t, testBackAsksNothing) }

func testBackAsksNothing(t *testing.T) {
	p := newPlace(t, "v1", "v2")
	must(t, p.bring(t, "v1", false))
	must(t, p.bring(t, "v2", false))
	p.good = func(string) bool { return false }
	must(t, p.bring(t, "v1", true))
	if p.current(t) != "v1" || p.told != 3 {
		t.Errorf("visitors get %q, told %d times", p.current(t), p.told)
	}
}

// TestAnotherNodesReleases are not believed: an image of a node lacks what could be a secret.
func TestAnotherNodesReleases(t *testing.T) { synctest.Test(t, anotherNodesReleases) }

func anotherNodesReleases(t *testing.T) {
	p := newPlace(t, "v1")
	p.owner = "web1"
	must(t, p.bring(t, "v1", false))
	must(t, os.Remove(filepath.Join(p.dir, currentLink, "version")))
	p.owner = "web2"
	must(t, p.bring(t, "v1", false))
	if p.current(t) != "v1" {
		t.Errorf("visitors get %q", p.current(t))
	}
	// What somebody else has there is not ours to remove.
	other := &Site{Dir: t.TempDir(), Owner: "web1", Group: -1}
	theirs := filepath.Join(other.Dir, "index.php")
	must(t, os.WriteFile(theirs, nil, 0o644))
	if err := other.Make(); err == nil || !strings.Contains(err.Error(), "index.php") {
		t.Errorf("made beside that: %v", err)
	}
	if _, err := os.Stat(theirs); err != nil {
		t.Error(err)
	}
}

// TestNotBeforeVisitors: what is no good is never what they get.
func TestNotBeforeVisitors(t *testing.T) { synctest.Test(t, testNotBeforeVisitors) }

func testNotBeforeVisitors(t *testing.T) {
	p := newPlace(t, "v1", "v2", "v3")
	must(t, p.bring(t, "v1", false))
	p.good = func(version string) bool { return version != "v2" }
	refused := (*RefusedError)(nil)
	if err := p.bring(t, "v2", false); !errors.As(err, &refused) || p.current(t) != "v1" || p.told != 1 {
		t.Errorf("%v, visitors get %q, told %d times", err, p.current(t), p.told)
	}
	p.packed["v3"] = p.packed["v1"]
	if err := p.bring(t, "v3", false); !errors.As(err, &refused) || !errors.Is(err, release.ErrContent) || p.current(t) != "v1" {
		t.Errorf("other content: %v, visitors get %q", err, p.current(t))
	}
	// The first one of all is not given up: there is nothing else.
	first := newPlace(t, "v1")
	first.good = func(string) bool { return false }
	if err := first.bring(t, "v1", false); err == nil || first.current(t) != "" {
		t.Errorf("%v, visitors get %q", err, first.current(t))
	}
	first.good = func(string) bool { return true }
	must(t, first.bring(t, "v1", false))
}
