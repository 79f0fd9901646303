package aws

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	sdk "github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/ec2/types"
	"github.com/aws/aws-sdk-go-v2/service/elasticloadbalancingv2"
	elb "github.com/aws/aws-sdk-go-v2/service/elasticloadbalancingv2/types"
	"go.uber.org/zap"

	"farmhand/scaler/internal/provider"
)

var _ provider.Balancer = (*Provider)(nil)

// Balances is [provider.Balancer.Balances].
func (p *Provider) Balances(role string) bool { return len(p.Role(role).TargetGroups) > 0 }

// target is an instance in a target group, at one port.
type target struct {
	id   string
	port int32
	elb.TargetHealth
}

// draining reports whether it was deregistered and ends what it has.
func (t target) draining() bool { return t.State == elb.TargetHealthStateEnumDraining }

func (t target) asked() elb.TargetDescription {
	return elb.TargetDescription{Id: sdk.String(t.id), Port: sdk.Int32(t.port)}
}

// Balance is [provider.Balancer.Balance]: registered are the instances in serve that run,
// and none that is about to be terminated. What else is in a target group is left alone.
func (p *Provider) Balance(ctx context.Context, role string, serve, release []string, change func(text string) error) ([]provider.Target, error) {
	all, err := p.instances(ctx, map[string]string{tagRole: role})
	if err != nil {
		return nil, fmt.Errorf("target groups of %s: %w", role, err)
	}
	b := balancing{Provider: p, port: int32(p.Role(role).Port), names: map[string]string{}, change: change}
	for _, i := range all {
		id, name := sdk.ToString(i.InstanceId), nameOf(i)
		b.names[id] = name
		ending := tagsOf(i.Tags)[tagEnding] != "" || stateOf(i) == types.InstanceStateNameShuttingDown
		switch {
		case slices.Contains(release, name) || ending:
			b.release = append(b.release, id)
		case slices.Contains(serve, name) && stateOf(i) == types.InstanceStateNameRunning:
			b.serve = append(b.serve, id)
		}
	}
	var list []provider.Target
	var errs []error
	for _, arn := range p.Role(role).TargetGroups {
		found, err := b.keep(ctx, arn)
		list, errs = append(list, found...), append(errs, err)
	}
	slices.SortFunc(list, func(a, b provider.Target) int {
		return strings.Compare(a.Instance+" "+a.Group, b.Instance+" "+b.Group)
	})
	return list, errors.Join(errs...)
}

// balancing is one round over a role's target groups.
type balancing struct {
	*Provider
	port           int32
	serve, release []string          // ids
	names          map[string]string // of the role's instances, by id
	change         func(text string) error
}

// keep registers and deregisters what one target group has otherwise.
func (b *balancing) keep(ctx context.Context, arn string) (list []provider.Target, err error) {
	there, err := b.targets(ctx, arn)
	if err != nil {
		return nil, err
	}
	var come, leave []target
	for _, id := range b.serve {
		if !slices.ContainsFunc(there, func(t target) bool { return t.id == id && t.port == b.port && !t.draining() }) {
			come = append(come, target{id: id, port: b.port})
		}
	}
	for _, t := range there {
		name, ours := b.names[t.id]
		if !ours {
			continue
		}
		list = append(list, b.shown(arn, name, t))
		moved := slices.Contains(b.serve, t.id) && t.port != b.port
		if !t.draining() && (moved || slices.Contains(b.release, t.id)) {
			leave = append(leave, t)
		}
	}
	return list, errors.Join(
		b.do("registers", arn, come, func(asked []elb.TargetDescription) error {
			_, err := b.elb.RegisterTargets(ctx, &elasticloadbalancingv2.RegisterTargetsInput{TargetGroupArn: sdk.String(arn), Targets: asked})
			return err
		}),
		b.do("deregisters", arn, leave, func(asked []elb.TargetDescription) error { return b.take(ctx, arn, asked) }),
	)
}

// do makes one change, if there is one and nobody objects.
func (b *balancing) do(what, arn string, of []target, call func([]elb.TargetDescription) error) error {
	if len(of) == 0 {
		return nil
	}
	var asked []elb.TargetDescription
	var names []string
	for _, t := range of {
		asked, names = append(asked, t.asked()), append(names, fmt.Sprintf("%s (%s:%d)", b.names[t.id], t.id, t.port))
	}
	text := fmt.Sprintf("target group %s %s %s", groupName(arn), what, strings.Join(names, ", "))
	err := b.change(text)
	if err == nil {
		err = call(asked)
	}
	if err != nil {
		return fmt.Errorf("%s: %w", text, err)
	}
	return nil
}

func (b *balancing) shown(arn, name string, t target) provider.Target {
	one := provider.Target{
		Instance: name, Group: groupName(arn), State: string(t.State), Well: t.State == elb.TargetHealthStateEnumHealthy,
		Starting: t.State == elb.TargetHealthStateEnumInitial, Draining: t.draining(),
	}
	if !one.Well {
		one.Why = strings.Trim(string(t.Reason)+": "+sdk.ToString(t.Description), ": ")
	}
	return one
}

// groupName is the name in a target group's ARN, which has it between two slashes.
func groupName(arn string) string {
	if parts := strings.Split(arn, "/"); len(parts) > 1 {
		return parts[1]
	}
	return arn
}

// targets are those of a target group.
func (p *Provider) targets(ctx context.Context, arn string) ([]target, error) {
	out, err := p.elb.DescribeTargetHealth(ctx, &elasticloadbalancingv2.DescribeTargetHealthInput{TargetGroupArn: sdk.String(arn)})
	if err != nil {
		return nil, fmt.Errorf("targets of %s: %w", groupName(arn), err)
	}
	var list []target
	for _, d := range out.TargetHealthDescriptions {
		t := target{id: sdk.ToString(d.Target.Id), port: sdk.ToInt32(d.Target.Port)}
		if d.TargetHealth != nil {
			t.TargetHealth = *d.TargetHealth
		}
		list = append(list, t)
	}
	return list, nil
}

// take deregisters targets. One that ELB does not take for one is in no group.
func (p *Provider) take(ctx context.Context, arn string, asked []elb.TargetDescription) error {
	_, err := p.elb.DeregisterTargets(ctx, &elasticloadbalancingv2.DeregisterTargetsInput{TargetGroupArn: sdk.String(arn), Targets: asked})
	if isCode(err, "InvalidTarget") {
		return nil
	}
	return err
}

// drainMargin is how much longer than a target group's own delay its drain is waited for.
const drainMargin = 30 * time.Second

// deregister takes an instance out of the role's target groups, and returns when these
// have drained it, or have not within their deregistration delay.
func (p *Provider) deregister(ctx context.Context, role, id string) error {
	r := p.Role(role)
	for _, arn := range r.TargetGroups {
		// Also if it is not shown there: what was registered just now may be shown late.
		if err := p.take(ctx, arn, []elb.TargetDescription{target{id: id, port: int32(r.Port)}.asked()}); err != nil {
			return fmt.Errorf("deregister from %s: %w", groupName(arn), err)
		}
	}
	for _, arn := range r.TargetGroups {
		delay, err := p.deregistrationDelay(ctx, arn)
		if err != nil {
			return err
		}
		err = p.await(ctx, delay+drainMargin, "the drain of "+id, func() (bool, error) { return p.drained(ctx, arn, id) })
		if err != nil && ctx.Err() == nil && errors.Is(err, errLate) {
			p.Log.Warn("a target group has not drained an instance within its deregistration delay; it is terminated now", zap.String("id", id), zap.String("group", groupName(arn)), zap.Error(err))
		} else if err != nil {
			return err
		}
	}
	return nil
}

// drained reports whether a target group has let go of an instance. Where it is, or is
// shown, as registered it is deregistered again: a scaler that led before us may have been
// late.
func (p *Provider) drained(ctx context.Context, arn, id string) (bool, error) {
	there, err := p.targets(ctx, arn)
	if err != nil {
		return false, err
	}
	done := true
	for _, t := range there {
		switch {
		case t.id != id || t.State == elb.TargetHealthStateEnumUnused:
		case t.draining():
			done = false
		default:
			done = false
			if err := p.take(ctx, arn, []elb.TargetDescription{t.asked()}); err != nil {
				return false, fmt.Errorf("deregister from %s: %w", groupName(arn), err)
			}
		}
	}
	return done, nil
}

// delayAttribute is how many seconds a target group waits for what a target that was
// deregistered has under way.
const delayAttribute = "deregistration_delay.timeout_seconds"

func (p *Provider) deregistrationDelay(ctx context.Context, arn string) (time.Duration, error) {
	out, err := p.elb.DescribeTargetGroupAttributes(ctx, &elasticloadbalancingv2.DescribeTargetGroupAttributesInput{TargetGroupArn: sdk.String(arn)})
	if err != nil {
		return 0, fmt.Errorf("the deregistration delay of %s: %w", groupName(arn), err)
	}
	for _, a := range out.Attributes {
		if sdk.ToString(a.Key) == delayAttribute {
			seconds, err := strconv.Atoi(sdk.ToString(a.Value))
			if err != nil {
				return 0, fmt.Errorf("the deregistration delay of %s: %w", groupName(arn), err)
			}
			return time.Duration(seconds) * time.Second, nil
		}
	}
	return 0, fmt.Errorf("target group %s does not say its %s", groupName(arn), delayAttribute)
}
