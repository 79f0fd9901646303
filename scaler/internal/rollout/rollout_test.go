package rollout

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"farmhand/internal/cluster"
	"farmhand/scaler/internal/decide"
)

func server(name, version string) Server {
	return Server{Name: name, State: decide.Ready, Release: &cluster.ReleaseReport{Version: version}}
}

func plan() Plan {
	return Plan{Operation: "7", Phase: Going, To: "v2", From: "v1", Batch: 2, Within: time.Minute}
}

// TestBatches: the next ones get it when those before are well with it, and the last one ends it.
func TestBatches(t *testing.T) {
	servers := []Server{server("web1", "v1"), server("web2", "v1"), server("web3", "v1"), server("web4", "v1")}
	servers[0].State = decide.Unwell
	servers = append(servers, Server{Name: "web5", State: decide.Launching}, Server{Name: "web6", State: decide.Lost})
	leaving := server("web7", "v1")
	leaving.Leaving = true
	servers = append(servers, leaving)
	now := time.Unix(1000, 0)
	p, text := plan().Next(servers, "", now)
	expect := func(phase Phase, given, say string) {
		t.Helper()
		if got := strings.Join(p.Given, " "); p.Phase != phase || got != given || !strings.Contains(text, say) {
			t.Fatalf("%s, given %q, %q; expected %s, %q, %q", p.Phase, got, text, phase, given, say)
		}
	}
	expect(Going, "web2 web3", "web2, web3 to get v2; 2 left")
	p, text = p.Next(servers, "", now)
	expect(Going, "web2 web3", "web2 does not have v2 yet: it has v1")
	servers[1], servers[2] = server("web2", "v2"), server("web3", "v2")
	servers[2].Release.Doing = "asking"
	p, text = p.Next(servers, "", now)
	expect(Going, "web2 web3", "asking")
	servers[2].Release.Doing = ""
	p, text = p.Next(servers, "the farm is paused", now)
	expect(Going, "web2 web3", "2 left to get v2; the farm is paused")
	p, text = p.Next(servers, "", now)
	expect(Going, "web2 web3 web4 web1", "web4, web1 to get v2; 0 left")
	servers[0], servers[3] = server("web1", "v2"), server("web4", "v2")
	p, text = p.Next(servers, "", now)
	expect(Ended, "", "v2 is in force: web1, web2, web3, web4")
	if !p.Done {
		t.Error("it is not done")
	}
}

// TestBack: what one server refuses, or does not get well with in time, all go back from.
func TestBack(t *testing.T) {
	now := time.Unix(1000, 0)
	for name, spoil := range map[string]func(s *Server){
		"refused": func(s *Server) {
			s.Release = &cluster.ReleaseReport{Version: "v1", Attempt: "7", Refused: "v2", Why: "500"}
		},
		"unwell":   func(s *Server) { s.State = decide.Unwell },
		"not":      func(s *Server) { s.Release.Version = "v1" },
		"unheard":  func(s *Server) { s.Release = nil },
		"too slow": func(s *Server) { s.Release.Doing = "fetching" },
	} {
		servers := []Server{server("web1", "v2"), server("web2", "v2"), server("web3", "v1")}
		p := plan()
		p.Given = []string{"web1", "web2"}
		spoil(&servers[1])
		p, _ = p.Next(servers, "", now)
		if name != "refused" {
			paused, _ := p.Next(servers, "paused", now.Add(time.Hour))
			if paused.Phase != Going || !paused.Unwell.IsZero() {
				t.Errorf("%s: goes back while paused: %+v", name, paused)
			}
			if p, _ = p.Next(servers, "", now.Add(time.Minute)); p.Phase != Going {
				t.Errorf("%s: too early: %+v", name, p)
			}
			p, _ = p.Next(servers, "", now.Add(time.Minute+1))
		}
		if p.Phase != Back || p.Why == "" || len(p.Given) != 2 {
			t.Errorf("%s: %+v", name, p)
			continue
		}
		p, text := p.Next(servers, "", now)
		if p.Phase != Back || !strings.HasPrefix(text, "web1") || !strings.Contains(text, " to go back to v1") || len(p.Given) != 0 {
			t.Errorf("%s: %+v %q", name, p, text)
		}
		p, text = p.Next([]Server{server("web1", "v1"), server("web2", "v1"), server("web3", "v1")}, "", now)
		if p.Phase != Ended || p.Done || !strings.Contains(text, "v2 is taken back") || !strings.Contains(text, "v1 is in force: web1, web2, web3") {
			t.Errorf("%s: %+v %q", name, p, text)
		}
	}
	// What was refused in an attempt before says nothing of this one.
	old := server("web1", "v1")
	old.Release.Refused, old.Release.Attempt = "v2", "6"
	if p, _ := plan().Next([]Server{old}, "", now); p.Phase != Going || len(p.Given) != 1 {
		t.Errorf("an old refusal: %+v", p)
	}
}

// TestNotAllAtOnce: there is always another server that visitors can come to, also on the way back; one that does not
// go back holds the others up for a time only.
func TestNotAllAtOnce(t *testing.T) {
	now := time.Unix(1000, 0)
	p := plan()
	p.Batch = 9
	servers := []Server{server("web1", "v1"), server("web2", "v1"), server("web3", "v1")}
	p, _ = p.Next(servers, "", now)
	if got := strings.Join(p.Given, " "); got != "web1 web2" {
		t.Fatalf("given %s", got)
	}
	servers = []Server{server("web1", "v2"), server("web2", "v2"), server("web3", "v1")}
	p, _ = p.Next(servers, "", now)
	if got := strings.Join(p.Given, " "); got != "web1 web2 web3" {
		t.Fatalf("given %s", got)
	}
	servers[2] = server("web3", "v2")
	p, _ = p.Stop("somebody says so").Next(servers, "", now)
	if got := strings.Join(p.Given, " "); p.Phase != Back || got != "web3" {
		t.Fatalf("%s, given %s", p.Phase, got)
	}
	servers[0] = server("web1", "v1")
	if p, _ = p.Next(servers, "", now.Add(time.Minute)); len(p.Given) != 1 {
		t.Errorf("web2 is not waited for: %+v", p)
	}
	if p, _ = p.Next(servers, "", now.Add(time.Minute+1)); len(p.Given) != 0 || p.Phase != Back {
		t.Errorf("web2 is waited for for ever: %+v", p)
	}
	first := plan()
	first.Batch, first.From = 9, ""
	if first, _ = first.Next([]Server{server("web1", ""), server("web2", "")}, "", now); len(first.Given) != 2 {
		t.Errorf("the first release: %+v", first)
	}
}

// TestWhoIsNotHeardOf is waited for: a scaler that has just begun to lead knows nothing yet.
func TestWhoIsNotHeardOf(t *testing.T) {
	servers := []Server{{Name: "web1", State: decide.Ready}, {Name: "web2", State: decide.Ready}}
	p, text := plan().Next(servers, "", time.Unix(1, 0))
	if p.Phase != Going || len(p.Given) != 0 || !strings.Contains(text, "web1, web2: nothing is heard") {
		t.Errorf("%+v %q", p, text)
	}
	servers[1] = server("web2", "v1")
	if p, _ = p.Next(servers, "", time.Unix(2, 0)); strings.Join(p.Given, " ") != "web2" {
		t.Errorf("%+v", p)
	}
	servers[1] = server("web2", "v2")
	if p, text = p.Next(servers, "", time.Unix(3, 0)); p.Phase != Going || !strings.Contains(text, "web1: nothing is heard") {
		t.Errorf("%+v %q", p, text)
	}
}

// TestTheFirst: there is nothing to go back to.
func TestTheFirst(t *testing.T) {
	p := plan()
	p.From = ""
	p, _ = p.Next([]Server{server("web1", ""), server("web2", "")}, "", time.Unix(1, 0))
	if len(p.Given) != 2 {
		t.Errorf("%+v", p)
	}
	p, text := p.Stop("cancelled by a").Next([]Server{server("web1", "v2"), server("web2", "")}, "", time.Unix(2, 0))
	if p.Phase != Ended || p.Done || !strings.Contains(text, "there was none before") {
		t.Errorf("%+v %q", p, text)
	}
}

// TestEveryRollOutEnds: whatever servers come, go, refuse and take their time, no more than a batch is between the
// two versions, and at the end all that serve have the same.
func TestEveryRollOutEnds(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		p := plan()
		p.Batch = rapid.IntRange(1, 3).Draw(t, "batch")
		servers := map[string]*Server{}
		for i := range rapid.IntRange(1, 6).Draw(t, "servers") {
			s := server(fmt.Sprint("web", i), "v1")
			servers[s.Name] = &s
		}
		now, came := time.Unix(1000, 0), 0
		for round := 0; p.Phase != Ended; round++ {
			if round > 1000 {
				t.Fatalf("it does not end: %+v", p)
			}
			now = now.Add(time.Second)
			var list []Server
			between := 0
			for _, s := range servers {
				list = append(list, *s)
				if slices.Contains(p.Given, s.Name) && s.Release.Version != "v2" {
					between++
				}
			}
			if between > p.Batch {
				t.Fatalf("%d are between two versions, a batch is %d", between, p.Batch)
			}
			p, _ = p.Next(list, "", now)
			for name, s := range servers {
				wanted := "v1"
				if slices.Contains(p.Given, name) || p.Phase == Ended && p.Done {
					wanted = "v2"
				}
				switch rapid.IntRange(0, 9).Draw(t, "event") {
				case 0:
					if came < 5 && len(servers) > 1 {
						delete(servers, name)
						came++
						next := server(fmt.Sprint("new", came), "v1")
						servers[next.Name] = &next
					}
				case 1:
					if wanted == "v2" && s.Release.Version == "v1" && rapid.IntRange(0, 3).Draw(t, "refuses") == 0 {
						s.Release.Refused, s.Release.Attempt = "v2", "7"
					}
				case 2: // it takes its time
				default:
					s.Release.Version = wanted
				}
			}
		}
		want := "v1"
		if p.Done {
			want = "v2"
		}
		for _, s := range servers {
			if s.Release.Version != want && !strings.HasPrefix(s.Name, "new") {
				t.Fatalf("%s has %s, %s is in force", s.Name, s.Release.Version, want)
			}
		}
	})
}
