package aws

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	sdk "github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/ec2"
	"github.com/aws/aws-sdk-go-v2/service/ec2/types"
	"go.uber.org/zap"
)

// keepEvery is the time between two looks at what instances are to have.
const keepEvery = 5 * time.Second

// Keep gives the instances that run what belongs to them (volumes, addresses) and ends
// those of which there are two, until ctx ends. Several scalers may do that at a time.
func (p *Provider) Keep(ctx context.Context) error {
	tick := time.NewTicker(keepEvery)
	defer tick.Stop()
	last := ""
	for {
		switch err := p.Tend(ctx); {
		case ctx.Err() != nil:
			return context.Cause(ctx)
		case err != nil && err.Error() != last:
			last = err.Error()
			p.Log.Error("instances do not have all that belongs to them; tried again", zap.Error(err))
		case err == nil:
			last = ""
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}

// Tend is one round of Keep. What fails of one instance keeps nobody else's from being
// done.
func (p *Provider) Tend(ctx context.Context) error {
	all, err := p.instances(ctx, nil)
	if err != nil {
		return err
	}
	var errs []error
	names := map[string]bool{}
	var running []types.Instance
	for _, i := range all {
		name := nameOf(i)
		state := stateOf(i)
		if names[name] && state != types.InstanceStateNameShuttingDown {
			p.Log.Warn("of one name there were two instances; the younger one is terminated", zap.String("instance", name), zap.String("id", sdk.ToString(i.InstanceId)))
			_, err := p.ec2.TerminateInstances(ctx, &ec2.TerminateInstancesInput{InstanceIds: []string{sdk.ToString(i.InstanceId)}})
			errs = append(errs, err)
			continue
		}
		names[name] = true
		if state == types.InstanceStateNameRunning && tagsOf(i.Tags)[tagEnding] == "" {
			running = append(running, i)
		}
	}
	for _, i := range running {
		if name := tagsOf(i.Tags)[tagVolume]; name != "" {
			_, err := p.volumes.Attach(ctx, name, nameOf(i))
			errs = append(errs, err)
		}
	}
	for role, r := range p.Roles {
		var of []types.Instance
		for _, i := range running {
			if tagsOf(i.Tags)[tagRole] == role {
				of = append(of, i)
			}
		}
		errs = append(errs, p.associate(ctx, r.ElasticIPs, of))
	}
	return errors.Join(errs...)
}

// associate gives each instance that has none of the addresses one that nobody has.
func (p *Provider) associate(ctx context.Context, allocations []string, instances []types.Instance) error {
	if len(allocations) == 0 || len(instances) == 0 {
		return nil
	}
	out, err := p.ec2.DescribeAddresses(ctx, &ec2.DescribeAddressesInput{AllocationIds: allocations})
	if err != nil {
		return fmt.Errorf("elastic addresses: %w", err)
	}
	holders, free := map[string]bool{}, []string(nil)
	for _, a := range out.Addresses {
		if a.AssociationId == nil {
			free = append(free, sdk.ToString(a.AllocationId))
		}
		holders[sdk.ToString(a.InstanceId)] = true
	}
	slices.Sort(free)
	for _, i := range instances {
		id := sdk.ToString(i.InstanceId)
		if holders[id] {
			continue
		}
		if len(free) == 0 {
			return fmt.Errorf("no elastic address is left for %s", nameOf(i))
		}
		// Of another scaler that was quicker nothing is taken away.
		_, err := p.ec2.AssociateAddress(ctx, &ec2.AssociateAddressInput{AllocationId: sdk.String(free[0]), InstanceId: i.InstanceId, AllowReassociation: sdk.Bool(false)})
		if err != nil && !isCode(err, "Resource.AlreadyAssociated") {
			return fmt.Errorf("elastic address of %s: %w", nameOf(i), err)
		}
		free = free[1:]
	}
	return nil
}
