package aws

import (
	"context"
	"errors"
	"fmt"
	"slices"

	sdk "github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/ec2"
	"github.com/aws/aws-sdk-go-v2/service/ec2/types"
	"github.com/aws/aws-sdk-go-v2/service/elasticloadbalancingv2"
	elb "github.com/aws/aws-sdk-go-v2/service/elasticloadbalancingv2/types"
)

// examineBalancers looks whether a role's target groups can be used as they are, and
// whether nobody but their load balancers reaches the role's port.
func (p *Provider) examineBalancers(ctx context.Context, role string) []Finding {
	r := p.Role(role)
	what := "the target groups of " + role
	out, err := p.elb.DescribeTargetGroups(ctx, &elasticloadbalancingv2.DescribeTargetGroupsInput{TargetGroupArns: r.TargetGroups})
	if err != nil {
		return []Finding{{what, "provider.parameters.roles." + role + ".target_groups", err}}
	}
	var errs []error
	var balancers []string
	for _, g := range out.TargetGroups {
		name := sdk.ToString(g.TargetGroupName)
		if g.TargetType != elb.TargetTypeEnumInstance {
			errs = append(errs, fmt.Errorf("%s takes targets of type %s, and the farm registers instances", name, g.TargetType))
		}
		if len(g.LoadBalancerArns) == 0 {
			errs = append(errs, fmt.Errorf("no load balancer sends requests to %s", name))
		}
		balancers = append(balancers, g.LoadBalancerArns...)
	}
	list := []Finding{{what, "a target group of type instance that a load balancer's listener forwards to", errors.Join(errs...)}}
	if slices.Sort(balancers); len(balancers) > 0 {
		list = append(list, Finding{
			fmt.Sprintf("only the load balancer reaches port %d of %s", r.Port, role),
			"one rule: that port from the load balancer's security group", p.behind(ctx, slices.Compact(balancers), int32(r.Port)),
		})
	}
	return list
}

// behind returns an error unless the servers' security groups let the load balancers,
// the servers themselves and nobody else in at a port.
func (p *Provider) behind(ctx context.Context, balancers []string, port int32) error {
	out, err := p.elb.DescribeLoadBalancers(ctx, &elasticloadbalancingv2.DescribeLoadBalancersInput{LoadBalancerArns: balancers})
	if err != nil {
		return err
	}
	groups, err := p.ec2.DescribeSecurityGroups(ctx, &ec2.DescribeSecurityGroupsInput{GroupIds: p.SecurityGroups})
	if err != nil {
		return err
	}
	var errs []error
	let := map[string]bool{} // groups
	for _, g := range groups.SecurityGroups {
		for _, r := range g.IpPermissions {
			if !covers(r, port) {
				continue
			}
			for _, from := range r.UserIdGroupPairs {
				let[sdk.ToString(from.GroupId)] = true
			}
			for _, from := range sources(r) {
				errs = append(errs, fmt.Errorf("%s lets %s in", sdk.ToString(g.GroupId), from))
			}
		}
	}
	known := slices.Clone(p.SecurityGroups)
	for _, b := range out.LoadBalancers {
		name := sdk.ToString(b.LoadBalancerName)
		known = append(known, b.SecurityGroups...)
		switch {
		case len(b.SecurityGroups) == 0:
			errs = append(errs, fmt.Errorf("load balancer %s has no security group by which it could be let in alone", name))
		case !slices.ContainsFunc(b.SecurityGroups, func(id string) bool { return let[id] }):
			errs = append(errs, fmt.Errorf("load balancer %s is not let in: of its groups %v none is", name, b.SecurityGroups))
		}
	}
	for _, id := range sortedKeys(let) {
		if !slices.Contains(known, id) {
			errs = append(errs, fmt.Errorf("group %s is let in, which is no load balancer's of the role", id))
		}
	}
	return errors.Join(errs...)
}

// covers reports whether a rule is about a TCP port.
func covers(r types.IpPermission, port int32) bool {
	switch sdk.ToString(r.IpProtocol) {
	case "-1":
		return true
	case "tcp", "6":
		return sdk.ToInt32(r.FromPort) <= port && port <= sdk.ToInt32(r.ToPort)
	}
	return false
}

// sources are the networks and prefix lists that a rule lets in.
func sources(r types.IpPermission) (list []string) {
	for _, n := range r.IpRanges {
		list = append(list, sdk.ToString(n.CidrIp))
	}
	for _, n := range r.Ipv6Ranges {
		list = append(list, sdk.ToString(n.CidrIpv6))
	}
	for _, n := range r.PrefixListIds {
		list = append(list, sdk.ToString(n.PrefixListId))
	}
	return list
}
