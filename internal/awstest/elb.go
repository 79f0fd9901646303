package awstest

import (
	"cmp"
	"slices"
	"strings"
)

var elbOperations = map[string]operation{
	"DescribeTargetHealth":          (*Server).describeTargetHealth,
	"RegisterTargets":               (*Server).registerTargets,
	"DeregisterTargets":             (*Server).deregisterTargets,
	"DescribeTargetGroups":          (*Server).describeTargetGroups,
	"DescribeTargetGroupAttributes": (*Server).describeTargetGroupAttributes,
	"DescribeLoadBalancers":         (*Server).describeLoadBalancers,
}

// targetGroup is a target group and the load balancer that uses it.
type targetGroup struct {
	fields    Fields
	balancer  Fields
	drains    int // how many looks show a target draining
	targets   map[targetKey]*target
	delayText string
}

type targetKey struct {
	id   string
	port int
}

type target struct {
	state, reason, description string
	hidden                     int // looks until it is shown as it is
	shown                      string
	drains                     int
}

// AddTargetGroup makes a target group of that ARN for instances, and a load balancer that
// sends it requests and has the security groups.
func (s *Server) AddTargetGroup(arn string, securityGroups ...string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	name := strings.Split(arn, "/")[1]
	balancer := strings.Replace(arn, "targetgroup/", "loadbalancer/app/", 1)
	groups := []any{}
	for _, g := range securityGroups {
		groups = append(groups, g)
	}
	s.targets[arn] = &targetGroup{
		fields: Fields{
			"TargetGroupArn": arn, "TargetGroupName": name, "Protocol": "HTTP", "Port": 80, "TargetType": "instance",
			"HealthCheckPath": "/farmhand-health", "LoadBalancerArns": []any{balancer},
		},
		balancer: Fields{"LoadBalancerArn": balancer, "LoadBalancerName": name, "Type": "application", "SecurityGroups": groups},
		drains:   1, delayText: "300", targets: map[targetKey]*target{},
	}
}

// ChangeTargetGroup sets members of a target group, as the model calls them.
func (s *Server) ChangeTargetGroup(arn string, change Fields) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for key, value := range change {
		s.targets[arn].fields[key] = value
	}
}

// Drain has a target group drain what is deregistered for so many looks, and say that it
// takes at most delay seconds.
func (s *Server) Drain(arn string, looks int, delay string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.targets[arn].drains, s.targets[arn].delayText = looks, delay
}

// Unwell has a target answer the load balancer's health checks with the description.
func (s *Server) Unwell(arn, id string, port int, description string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	t := s.targets[arn].targets[targetKey{id, port}]
	t.state, t.reason, t.description = "unhealthy", "Target.ResponseCodeMismatch", description
}

// Register registers what is no instance of the farm's.
func (s *Server) Register(arn, id string, port int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.targets[arn].targets[targetKey{id, port}] = &target{state: "healthy"}
}

// Targets are the states of a target group's targets, as they are and not as they are
// shown, by their ids.
func (s *Server) Targets(arn string) map[string]string {
	s.mu.Lock()
	defer s.mu.Unlock()
	states := map[string]string{}
	for key, t := range s.targets[arn].targets {
		states[key.id] = t.state
	}
	return states
}

func (s *Server) group(arn any) (*targetGroup, error) {
	g := s.targets[arn.(string)]
	if g == nil {
		return nil, refuse("TargetGroupNotFound", "One or more target groups not found")
	}
	return g, nil
}

func (s *Server) describeTargetHealth(in Fields) (Fields, error) {
	g, err := s.group(in["TargetGroupArn"])
	if err != nil {
		return nil, err
	}
	var keys []targetKey
	for key := range g.targets {
		keys = append(keys, key)
	}
	slices.SortFunc(keys, func(a, b targetKey) int { return cmp.Or(strings.Compare(a.id, b.id), a.port-b.port) })
	list := []any{}
	for _, key := range keys {
		t := g.targets[key]
		health := Fields{"State": t.state}
		if t.hidden > 0 { // how it was before
			if t.hidden--; t.shown == "" {
				continue
			}
			health["State"] = t.shown
		} else if t.reason != "" {
			health["Reason"] = t.reason
			if t.description != "" {
				health["Description"] = t.description
			}
		}
		list = append(list, Fields{"Target": Fields{"Id": key.id, "Port": key.port}, "TargetHealth": health})
		if t.hidden > 0 {
			continue
		}
		switch t.state { // each look brings it further
		case "initial":
			t.state, t.reason = "healthy", ""
		case "draining":
			if t.drains--; t.drains <= 0 {
				delete(g.targets, key)
			}
		}
	}
	return Fields{"TargetHealthDescriptions": list}, nil
}

// keyOf is what a request's target names: without a port it is the group's.
func (g *targetGroup) keyOf(asked any) targetKey {
	t := asked.(Fields)
	port, ok := t["Port"].(int)
	if !ok {
		port = g.fields["Port"].(int)
	}
	return targetKey{t["Id"].(string), port}
}

func (s *Server) registerTargets(in Fields) (Fields, error) {
	g, err := s.group(in["TargetGroupArn"])
	if err != nil {
		return nil, err
	}
	for _, asked := range asList(in["Targets"]) {
		i, err := byID(s.instances, g.keyOf(asked).id, "InvalidTarget")
		if err != nil {
			return nil, err
		}
		if i.instanceState() != "running" {
			return nil, refuse("InvalidTarget", "The following targets are not in a running state and cannot be registered: '%s'", i.id)
		}
	}
	for _, asked := range asList(in["Targets"]) {
		key := g.keyOf(asked)
		if t := g.targets[key]; t == nil || t.state == "draining" {
			now := &target{state: "initial", reason: "Elb.RegistrationInProgress", hidden: s.lag}
			if t != nil {
				now.shown = t.state
			}
			g.targets[key] = now
		}
	}
	return Fields{}, nil
}

// deregisterTargets succeeds also for targets that are not there, as ELB's does.
func (s *Server) deregisterTargets(in Fields) (Fields, error) {
	g, err := s.group(in["TargetGroupArn"])
	if err != nil {
		return nil, err
	}
	for _, asked := range asList(in["Targets"]) {
		if t := g.targets[g.keyOf(asked)]; t != nil && t.state != "draining" {
			t.shown, t.hidden = t.state, s.lag
			t.state, t.reason, t.description, t.drains = "draining", "Target.DeregistrationInProgress", "", g.drains
		}
	}
	return Fields{}, nil
}

func (s *Server) describeTargetGroups(in Fields) (Fields, error) {
	list := []any{}
	for _, arn := range texts(in["TargetGroupArns"]) {
		g, err := s.group(arn)
		if err != nil {
			return nil, err
		}
		list = append(list, g.fields)
	}
	return Fields{"TargetGroups": list}, nil
}

func (s *Server) describeTargetGroupAttributes(in Fields) (Fields, error) {
	g, err := s.group(in["TargetGroupArn"])
	if err != nil {
		return nil, err
	}
	return Fields{"Attributes": []any{
		Fields{"Key": "stickiness.enabled", "Value": "false"},
		Fields{"Key": "deregistration_delay.timeout_seconds", "Value": g.delayText},
	}}, nil
}

func (s *Server) describeLoadBalancers(in Fields) (Fields, error) {
	list := []any{}
	for _, arn := range texts(in["LoadBalancerArns"]) {
		found := false
		for _, g := range s.targets {
			if g.balancer["LoadBalancerArn"] == arn {
				list, found = append(list, g.balancer), true
			}
		}
		if !found {
			return nil, refuse("LoadBalancerNotFound", "One or more load balancers not found")
		}
	}
	return Fields{"LoadBalancers": list}, nil
}
