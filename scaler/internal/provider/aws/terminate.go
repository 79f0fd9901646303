package aws

import (
	"context"
	"errors"
	"fmt"
	"time"

	sdk "github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/ec2"
	"github.com/aws/aws-sdk-go-v2/service/ec2/types"

	"farmhand/scaler/internal/provider"
)

// endLimit is how long an instance may take to end: EC2 gives its system minutes to
// stop what runs there.
const endLimit = 15 * time.Minute

// Terminate is [provider.Provider.Terminate]: the instance is taken from its load
// balancers, which end what it serves, then terminated, and its volume is let go of.
func (p *Provider) Terminate(ctx context.Context, name string) error {
	all, err := p.instances(ctx, map[string]string{tagInstance: name})
	for _, i := range all {
		err = errors.Join(err, p.end(ctx, i))
	}
	if err != nil {
		return fmt.Errorf("terminate %s: %w", name, err)
	}
	return nil
}

func (p *Provider) end(ctx context.Context, i types.Instance) error {
	id, t := sdk.ToString(i.InstanceId), tagsOf(i.Tags)
	if stateOf(i) != types.InstanceStateNameShuttingDown {
		// Or a scaler that keeps it would put it into its target groups again.
		if _, err := p.ec2.CreateTags(ctx, &ec2.CreateTagsInput{Resources: []string{id}, Tags: tags(map[string]string{tagEnding: "true"})}); err != nil && !isCode(err, "InvalidInstanceID.NotFound") {
			return err
		}
		t[tagEnding] = "true"
		i.Tags = tags(t)
		p.know(i) // EC2 may show the tag late
		if err := p.deregister(ctx, t[tagRole], id); err != nil {
			return err
		}
		_, err := p.ec2.TerminateInstances(ctx, &ec2.TerminateInstancesInput{InstanceIds: []string{id}})
		if err != nil && !isCode(err, "InvalidInstanceID.NotFound") {
			return err
		}
	}
	if err := p.await(ctx, endLimit, "the end of "+id, func() (bool, error) { return p.gone(ctx, id) }); err != nil {
		return err
	}
	i.State = &types.InstanceState{Name: types.InstanceStateNameTerminated}
	p.know(i)
	return provider.FreeVolume(ctx, p.volumes, t[tagVolume], t[tagInstance], t[tagKeep] == "true")
}

// gone reports whether an instance has ended. One that EC2 does not know any more has,
// unless it was launched just now.
func (p *Provider) gone(ctx context.Context, id string) (bool, error) {
	out, err := p.ec2.DescribeInstances(ctx, &ec2.DescribeInstancesInput{InstanceIds: []string{id}})
	p.mu.Lock()
	s, fresh := p.fresh[id]
	fresh = fresh && time.Now().Before(s.until)
	p.mu.Unlock()
	if isCode(err, "InvalidInstanceID.NotFound") {
		return !fresh, nil
	}
	if err != nil {
		return false, err
	}
	for _, r := range out.Reservations {
		for _, i := range r.Instances {
			return stateOf(i) == types.InstanceStateNameTerminated, nil
		}
	}
	return !fresh, nil
}

// Configure is [provider.Provider.Configure]: the instance is given its files anew.
func (p *Provider) Configure(ctx context.Context, s provider.Spec) error {
	err := s.Check()
	if err == nil {
		err = p.configure(ctx, s)
	}
	if err != nil {
		return fmt.Errorf("configure %s: %w", s.Name, err)
	}
	return nil
}

func (p *Provider) configure(ctx context.Context, s provider.Spec) error {
	i, err := p.find(ctx, s.Name)
	if err != nil {
		return err
	}
	was, err := configurationOf(tagsOf(i.Tags))
	if err != nil {
		return err
	}
	now, err := provider.ConfigurationOf(s.Role)
	if err != nil {
		return err
	}
	next := was.Configured(now)
	if len(was.Changes(next)) == 0 {
		return nil
	}
	if p.Deliver == nil {
		return errors.New("an instance that runs on AWS cannot be given another configuration; scaler apply --restart has another one take its place")
	}
	files, err := p.Options.Files(s)
	if err != nil {
		return err
	}
	if err := p.Deliver(ctx, s.Name, files); err != nil {
		return err
	}
	// On record last: what is cut short is done again.
	t, err := configurationTags(next)
	if err != nil {
		return err
	}
	if _, err := p.ec2.CreateTags(ctx, &ec2.CreateTagsInput{Resources: []string{sdk.ToString(i.InstanceId)}, Tags: tags(t)}); err != nil {
		return err
	}
	all := tagsOf(i.Tags)
	for key, value := range t {
		all[key] = value
	}
	i.Tags = tags(all)
	p.know(i)
	return nil
}
