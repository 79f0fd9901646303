package aws

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	"farmhand/internal/awstest"
	"farmhand/scaler/internal/farmfile"
	"farmhand/scaler/internal/provider"
)

const (
	group     = "arn:aws:elasticloadbalancing:eu-test-1:123456789012:targetgroup/web/1"
	otherARN  = "arn:aws:elasticloadbalancing:eu-test-1:123456789012:targetgroup/api/2"
	foreign   = "i-0000000000000beef"
	albGroup  = "sg-0000000000000000b"
	otherSG   = "sg-0000000000000000c"
	serversSG = "sg-0000000000000000a"
)

// balancedFarm has so many web servers that run, and two target groups; ids are theirs.
func balancedFarm(t *testing.T, servers int) (s *awstest.Server, p *Provider, ids map[string]string) {
	t.Helper()
	s = awstest.New(t)
	o := options(t, s)
	o.Lag = 10 * time.Millisecond
	s.AddTargetGroup(group, albGroup)
	s.AddTargetGroup(otherARN, albGroup)
	o.Roles = map[string]farmfile.AWSRole{"web": {TargetGroups: []string{group, otherARN}, Port: 8081}}
	p = opened(t, o)
	for n := range servers {
		if _, err := p.Launch(t.Context(), spec(farmfile.WebKind, "web", n+1)); err != nil {
			t.Fatal(err)
		}
	}
	ids = map[string]string{}
	err := p.await(t.Context(), 10*time.Second, "all run", func() (bool, error) {
		all, err := p.instances(t.Context(), nil)
		running := 0
		for _, i := range all {
			ids[nameOf(i)] = *i.InstanceId
			if stateOf(i) == "running" {
				running++
			}
		}
		return running == servers, err
	})
	if err != nil {
		t.Fatal(err)
	}
	return s, p, ids
}

// balance is one round; texts are the changes that it asked for.
func balance(t *testing.T, p *Provider, serve, release []string) (list []provider.Target, texts []string, err error) {
	t.Helper()
	list, err = p.Balance(t.Context(), "web", serve, release, func(text string) error {
		texts = append(texts, text)
		return nil
	})
	return list, texts, err
}

func states(list []provider.Target, group string) map[string]string {
	m := map[string]string{}
	for _, one := range list {
		if one.Group == group {
			m[one.Instance] = one.State
		}
	}
	return m
}

func TestClientsAreLedToServersThatAreUp(t *testing.T) {
	t.Parallel()
	s, p, ids := balancedFarm(t, 3)
	s.Register(group, foreign, 80)
	if !p.Balances("web") || p.Balances("db") {
		t.Error("which roles are balanced is not known")
	}
	// web3 is neither up nor on its way out.
	if _, texts, err := balance(t, p, []string{"web1", "web2"}, nil); err != nil || len(texts) != 2 || !strings.HasPrefix(texts[0], "target group web registers web1 (i-") {
		t.Errorf("%q, %v", texts, err)
	}
	if in := s.Last("RegisterTargets")["Targets"].([]any)[0].(awstest.Fields); in["Port"] != 8081 {
		t.Errorf("registered %v", in)
	}
	var list []provider.Target
	for range 3 {
		var texts []string
		var err error
		if list, texts, err = balance(t, p, []string{"web1", "web2"}, nil); err != nil || len(texts) != 0 {
			t.Errorf("again: %q, %v", texts, err)
		}
	}
	if got := states(list, "web"); !maps.Equal(got, map[string]string{"web1": "healthy", "web2": "healthy"}) || s.Calls("RegisterTargets") != 2 {
		t.Errorf("targets %+v after %d calls", list, s.Calls("RegisterTargets"))
	}
	// One is not well, and one is drained.
	s.Unwell(group, ids["web1"], 8081, "Health checks failed with these codes: [503]")
	s.Drain(group, 2, "300")
	if _, texts, err := balance(t, p, []string{"web1"}, []string{"web2"}); err != nil || len(texts) != 2 || !strings.Contains(texts[0], "deregisters web2") {
		t.Errorf("%q, %v", texts, err)
	}
	list, texts, err := balance(t, p, []string{"web1"}, []string{"web2"})
	if err != nil || len(texts) != 0 || !maps.Equal(states(list, "web"), map[string]string{"web1": "unhealthy", "web2": "draining"}) {
		t.Errorf("%+v, %q, %v", list, texts, err)
	}
	for _, one := range list {
		if one.Group == "web" && (one.Well || one.Draining != (one.Instance == "web2") || one.Instance == "web1" && !strings.Contains(one.Why, "[503]")) {
			t.Errorf("it is shown as %+v", one)
		}
	}
	// It stays after all, while it is drained.
	if _, texts, err := balance(t, p, []string{"web1", "web2"}, nil); err != nil || len(texts) == 0 || !strings.Contains(texts[0], "registers web2") {
		t.Errorf("%q, %v", texts, err)
	}
	if got := s.Targets(group); got[foreign] != "healthy" || len(got) != 3 {
		t.Errorf("in the end there are %v", got)
	}
}

func TestAPortThatHasChanged(t *testing.T) {
	t.Parallel()
	s, p, ids := balancedFarm(t, 1)
	s.Register(group, ids["web1"], 80)
	for range 3 {
		if _, _, err := balance(t, p, []string{"web1"}, nil); err != nil {
			t.Fatal(err)
		}
	}
	list, _, err := balance(t, p, []string{"web1"}, nil)
	if err != nil || !maps.Equal(states(list, "web"), map[string]string{"web1": "healthy"}) || s.Calls("DeregisterTargets") != 1 {
		t.Errorf("%+v, %v", list, err)
	}
}

func TestNothingIsChangedThatIsNotAllowed(t *testing.T) {
	t.Parallel()
	s, p, _ := balancedFarm(t, 1)
	over := errors.New("the term is over")
	_, err := p.Balance(t.Context(), "web", []string{"web1"}, nil, func(string) error { return over })
	if !errors.Is(err, over) || s.Calls("RegisterTargets") != 0 {
		t.Errorf("%v, %d calls", err, s.Calls("RegisterTargets"))
	}
}

func TestTargetsGoThroughFaults(t *testing.T) {
	t.Parallel()
	throttled := awstest.Refused(400, "Throttling")
	for name, script := range map[string]func(s *awstest.Server){
		"fine":                   func(*awstest.Server) {},
		"throttled":              func(s *awstest.Server) { s.Script("RegisterTargets", throttled, throttled) },
		"throttled when looking": func(s *awstest.Server) { s.Script("DescribeTargetHealth", throttled, throttled) },
		"a lost answer":          func(s *awstest.Server) { s.Script("RegisterTargets", awstest.Lost, awstest.Lost) },
		"shown late":             func(s *awstest.Server) { s.Lag(3) },
		"lost and late": func(s *awstest.Server) {
			s.Lag(2)
			s.Script("RegisterTargets", awstest.Lost)
			s.Script("DeregisterTargets", awstest.Lost, throttled)
		},
		"it fails": func(s *awstest.Server) {
			s.Script("RegisterTargets", slices.Repeat([]*awstest.Fault{awstest.Refused(500, "InternalFailure")}, 5)...)
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s, p, ids := balancedFarm(t, 2)
			script(s)
			until := func(what string, serve, release []string, want map[string]string) {
				t.Helper()
				var last error
				for range 20 {
					list, _, err := balance(t, p, serve, release)
					got := states(list, "web")
					if last = fmt.Errorf("%v, %w", got, err); err == nil && maps.Equal(got, want) && maps.Equal(states(list, "api"), want) {
						return
					}
				}
				t.Fatalf("%s: %v", what, last)
			}
			until("both are led to", []string{"web1", "web2"}, nil, map[string]string{"web1": "healthy", "web2": "healthy"})
			until("one is let go of", []string{"web1"}, []string{"web2"}, map[string]string{"web1": "healthy"})
			if got := s.Targets(group); len(got) != 1 || got[ids["web1"]] != "healthy" {
				t.Errorf("there are %v", got)
			}
		})
	}
}

// TestTheEndOfATarget: an instance is terminated only when its target groups have let go of
// it or have had the time to.
func TestTheEndOfATarget(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		script     func(s *awstest.Server, id string)
		registered bool
		looks      int // at the least
	}{
		"drained at once": {func(*awstest.Server, string) {}, true, 3},
		"it drains long":  {func(s *awstest.Server, _ string) { s.Drain(group, 12, "3600") }, true, 14},
		"lost and throttled": {func(s *awstest.Server, _ string) {
			s.Drain(group, 3, "60")
			s.Script("DeregisterTargets", awstest.Lost, awstest.Refused(400, "Throttling"))
			s.Script("DescribeTargetGroupAttributes", awstest.Lost)
		}, true, 5},
		"shown late":       {func(s *awstest.Server, _ string) { s.Lag(3) }, true, 6},
		"it was never one": {func(*awstest.Server, string) {}, false, 2},
		"ELB knows it none": {func(s *awstest.Server, _ string) {
			s.Script("DeregisterTargets", awstest.Refused(400, "InvalidTarget"))
		}, false, 2},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s, p, ids := balancedFarm(t, 1)
			if c.registered {
				if _, _, err := balance(t, p, []string{"web1"}, nil); err != nil {
					t.Fatal(err)
				}
			}
			before := s.Calls("DescribeTargetHealth")
			c.script(s, ids["web1"])
			if err := p.Terminate(t.Context(), "web1"); err != nil {
				t.Fatal(err)
			}
			if got := s.Targets(group); len(got) != 0 || s.Calls("DescribeTargetHealth")-before < c.looks || s.Calls("TerminateInstances") != 1 {
				t.Errorf("it ended with %v after %d looks", got, s.Calls("DescribeTargetHealth")-before)
			}
			// Who still believes that it is up registers it no more.
			if _, texts, err := balance(t, p, []string{"web1"}, nil); err != nil || len(texts) != 0 {
				t.Errorf("then %q, %v", texts, err)
			}
		})
	}
}

// TestALateRegistrationIsUndone: a scaler that led before may register what is on its way
// out.
func TestALateRegistrationIsUndone(t *testing.T) {
	t.Parallel()
	s, p, ids := balancedFarm(t, 1)
	s.Register(group, ids["web1"], 8081)
	if done, err := p.drained(t.Context(), group, ids["web1"]); err != nil || done || s.Targets(group)[ids["web1"]] != "draining" {
		t.Errorf("%v, %v, %v", done, err, s.Targets(group))
	}
}

func TestExamineBalancers(t *testing.T) {
	t.Parallel()
	rule := func(port int, from awstest.Fields) awstest.Fields {
		all := awstest.Fields{"IpProtocol": "tcp", "FromPort": port, "ToPort": port}
		maps.Copy(all, from)
		return all
	}
	groups := func(ids ...string) awstest.Fields {
		list := []any{}
		for _, id := range ids {
			list = append(list, awstest.Fields{"GroupId": id})
		}
		return awstest.Fields{"UserIdGroupPairs": list}
	}
	network := func(text string) awstest.Fields {
		return awstest.Fields{"IpRanges": []any{awstest.Fields{"CidrIp": text}}}
	}
	for name, c := range map[string]struct {
		rules []awstest.Fields
		group awstest.Fields
		says  []string // in the findings that are not fine
	}{
		"as it should be":        {rules: []awstest.Fields{rule(8081, groups(albGroup)), rule(3306, network("10.0.0.0/16"))}},
		"and among the servers":  {rules: []awstest.Fields{rule(8081, groups(albGroup, serversSG))}},
		"all ports among them":   {rules: []awstest.Fields{rule(8081, groups(albGroup)), {"IpProtocol": "-1", "UserIdGroupPairs": []any{awstest.Fields{"GroupId": serversSG}}}}},
		"it is not let in":       {rules: []awstest.Fields{rule(80, groups(albGroup))}, says: []string{"load balancer web is not let in"}},
		"a network is":           {rules: []awstest.Fields{rule(8081, groups(albGroup)), rule(8081, network("10.0.0.0/16"))}, says: []string{serversSG + " lets 10.0.0.0/16 in"}},
		"another group is":       {rules: []awstest.Fields{rule(8081, groups(albGroup, otherSG))}, says: []string{"group " + otherSG + " is let in"}},
		"everything is":          {rules: []awstest.Fields{rule(8081, groups(albGroup)), {"IpProtocol": "-1", "IpRanges": []any{awstest.Fields{"CidrIp": "0.0.0.0/0"}}}}, says: []string{"lets 0.0.0.0/0 in", "lets 0.0.0.0/0 in"}},
		"it wants addresses":     {rules: []awstest.Fields{rule(8081, groups(albGroup))}, group: awstest.Fields{"TargetType": "ip"}, says: []string{"web takes targets of type ip"}},
		"no load balancer wants": {rules: []awstest.Fields{rule(8081, groups(albGroup))}, group: awstest.Fields{"LoadBalancerArns": []any{}}, says: []string{"no load balancer sends requests to web"}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s, p, _ := balancedFarm(t, 0)
			for _, r := range c.rules {
				s.LetIn(serversSG, r)
			}
			s.ChangeTargetGroup(group, c.group)
			var wrong []string
			for _, f := range p.Examine(t.Context(), nil) {
				if f.Err != nil {
					wrong = append(wrong, f.Err.Error())
				}
			}
			slices.Sort(wrong)
			if len(wrong) != len(c.says) {
				t.Fatalf("found %q, want %q", wrong, c.says)
			}
			for i := range wrong {
				if !strings.Contains(wrong[i], c.says[i]) {
					t.Errorf("found %q, want %q", wrong[i], c.says[i])
				}
			}
		})
	}
	s, p, _ := balancedFarm(t, 0)
	s.Script("DescribeTargetGroups", awstest.Refused(400, "TargetGroupNotFound"))
	if all := p.Examine(t.Context(), nil); !slices.ContainsFunc(all, func(f Finding) bool { return f.Err != nil && strings.Contains(f.Err.Error(), "TargetGroupNotFound") }) {
		t.Errorf("found %v", all)
	}
}
