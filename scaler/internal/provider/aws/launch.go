package aws

import (
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"

	sdk "github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/ec2"
	"github.com/aws/aws-sdk-go-v2/service/ec2/types"
	"go.uber.org/zap"

	"farmhand/scaler/internal/farmfile"
	"farmhand/scaler/internal/provider"
)

// attempt is one way to have an instance.
type attempt struct {
	market farmfile.Market
	size   string
	subnet string
}

func (a attempt) String() string {
	return fmt.Sprintf("%s %s in %s", a.market, a.size, a.subnet)
}

// attempts are the ways to have the instance, the best one first: for a market each
// type in each zone, beginning with the zone that the instance's number is for.
func (p *Provider) attempts(s provider.Spec, subnets []string) []attempt {
	markets := []farmfile.Market{farmfile.OnDemand}
	if p.Role(s.RoleName).Market == farmfile.Spot {
		markets = []farmfile.Market{farmfile.Spot, farmfile.OnDemand}
	}
	number, _ := provider.Number(s.RoleName, s.Name)
	var list []attempt
	for _, market := range markets {
		for _, size := range farmfile.InstanceTypes(s.Role.Size) {
			for n := range subnets {
				list = append(list, attempt{market, size, subnets[(number-1+n)%len(subnets)]})
			}
		}
	}
	return list
}

// Launch is [provider.Provider.Launch]. What is attached to the instance, it gets by
// [Provider.Keep] once it runs.
func (p *Provider) Launch(ctx context.Context, s provider.Spec) (provider.Instance, error) {
	if err := s.CheckLaunch(); err != nil {
		return provider.Instance{}, err
	}
	i, err := p.launch(ctx, s)
	if err != nil {
		return provider.Instance{}, fmt.Errorf("launch %s: %w", s.Name, err)
	}
	return instance(i)
}

func (p *Provider) launch(ctx context.Context, s provider.Spec) (none types.Instance, err error) {
	switch there, err := p.find(ctx, s.Name); {
	case err == nil && stateOf(there) == types.InstanceStateNameShuttingDown:
		return none, fmt.Errorf("%w: %s is being terminated", provider.ErrExists, sdk.ToString(there.InstanceId))
	case err == nil:
		return none, provider.ErrExists
	case !errors.Is(err, ErrUnknown):
		return none, err
	}
	subnets, disks, inherits := p.Subnets, []string(nil), false
	if s.Volume != "" {
		v, err := p.volumes.find(ctx, s.Volume)
		if err != nil {
			return none, err
		}
		inherits, disks = v.Epoch > 0 || v.From != "", v.ids()
		if subnets, err = p.subnetsIn(ctx, v.zone()); err != nil {
			return none, err
		}
	}
	files, err := p.Options.Files(s)
	if err != nil {
		return none, err
	}
	data, err := userData(p.AWS, s, files, disk{ids: disks, fresh: !inherits})
	if err != nil {
		return none, err
	}
	configuration, err := provider.ConfigurationOf(s.Role)
	if err != nil {
		return none, err
	}
	t, err := configurationTags(configuration)
	if err != nil {
		return none, err
	}
	for key, value := range map[string]string{
		tagFarm: p.Farm, tagInstance: s.Name, tagRole: s.RoleName, tagKind: string(s.Role.Kind),
		tagKeep: strconv.FormatBool(s.Role.Storage.Keep), "Name": p.Farm + "/" + s.Name,
	} {
		t[key] = value
	}
	if s.Slot > 0 {
		t[tagSlot] = strconv.Itoa(s.Slot)
	}
	if s.Volume != "" {
		t[tagVolume], t[tagInherits] = s.Volume, strconv.FormatBool(inherits)
	}
	base, err := p.template(ctx, s.RoleName)
	if err != nil {
		return none, err
	}
	var refusals []error
	for _, a := range p.attempts(s, subnets) {
		i, err := p.run(ctx, s, a, base, data, t)
		if err == nil {
			p.know(i)
			p.Log.Info("instance launched", zap.String("instance", s.Name), zap.String("id", sdk.ToString(i.InstanceId)), zap.Stringer("as", a))
			return i, nil
		}
		if !isCode(err, noCapacity...) {
			return none, fmt.Errorf("as %v: %w", a, err)
		}
		p.Log.Warn("no capacity", zap.String("instance", s.Name), zap.Stringer("as", a), zap.Error(err))
		refusals = append(refusals, fmt.Errorf("as %v: %w", a, err))
	}
	return none, errors.Join(refusals...)
}

// run is one attempt. A reply that is lost is asked for again by the SDK, with the same
// client token: the instance is the same.
func (p *Provider) run(ctx context.Context, s provider.Spec, a attempt, base *template, data string, t map[string]string) (none types.Instance, err error) {
	in := &ec2.RunInstancesInput{
		MinCount: sdk.Int32(1), MaxCount: sdk.Int32(1),
		ClientToken: p.clientToken("instance", s.Name, s.Asked.UTC().Format("20060102T150405.000000000"), a.String()),
		ImageId:     sdk.String(s.Role.Image), InstanceType: types.InstanceType(a.size),
		SubnetId: sdk.String(a.subnet), SecurityGroupIds: p.SecurityGroups,
		UserData: sdk.String(base64.StdEncoding.EncodeToString([]byte(data))),
		// A request that somebody has a program of the instance send, or a packet that is
		// forwarded, gets nothing.
		MetadataOptions: &types.InstanceMetadataOptionsRequest{
			HttpEndpoint: types.InstanceMetadataEndpointStateEnabled, HttpTokens: types.HttpTokensStateRequired, HttpPutResponseHopLimit: sdk.Int32(1),
		},
		// An instance that is shut down from within is started again by whoever did that.
		InstanceInitiatedShutdownBehavior: types.ShutdownBehaviorStop,
		TagSpecifications: []types.TagSpecification{
			{ResourceType: types.ResourceTypeInstance, Tags: tags(t)},
			{ResourceType: types.ResourceTypeVolume, Tags: tags(map[string]string{tagFarm: p.Farm, "Name": p.Farm + "/" + s.Name + " root"})},
		},
	}
	if p.Key != "" {
		in.KeyName = sdk.String(p.Key)
	}
	if p.InstanceProfile != "" {
		in.IamInstanceProfile = &types.IamInstanceProfileSpecification{Name: sdk.String(p.InstanceProfile)}
	}
	if a.market == farmfile.Spot {
		in.InstanceMarketOptions = &types.InstanceMarketOptionsRequest{MarketType: types.MarketTypeSpot}
		in.InstanceInitiatedShutdownBehavior = types.ShutdownBehaviorTerminate // as spot has it
	}
	base.base(in)
	out, err := p.ec2.RunInstances(ctx, in)
	if isCode(err, "IdempotentParameterMismatch") {
		// The same was asked for with another token to join with, by a scaler before us.
		return none, fmt.Errorf("%w: it was launched with this client token before: %w", provider.ErrExists, err)
	}
	if err != nil {
		return none, err
	}
	if len(out.Instances) != 1 {
		return none, fmt.Errorf("EC2 has launched %d instances in the place of one", len(out.Instances))
	}
	i := out.Instances[0]
	if state := stateOf(i); state != types.InstanceStateNamePending && state != types.InstanceStateNameRunning {
		why := ""
		if i.StateReason != nil {
			why = ": " + sdk.ToString(i.StateReason.Message)
		}
		return none, fmt.Errorf("instance %s is %s%s", sdk.ToString(i.InstanceId), state, why)
	}
	return i, nil
}

// subnetZones are the zones of the farm's subnets.
func (p *Provider) subnetZones(ctx context.Context) (map[string]string, error) {
	p.mu.Lock()
	zones := p.zones
	p.mu.Unlock()
	if zones != nil {
		return zones, nil
	}
	out, err := p.ec2.DescribeSubnets(ctx, &ec2.DescribeSubnetsInput{SubnetIds: p.Subnets})
	if err != nil {
		return nil, fmt.Errorf("the zones of the subnets: %w", err)
	}
	zones = map[string]string{}
	for _, s := range out.Subnets {
		zones[sdk.ToString(s.SubnetId)] = sdk.ToString(s.AvailabilityZone)
	}
	for _, id := range p.Subnets {
		if zones[id] == "" {
			return nil, fmt.Errorf("EC2 does not say in which zone subnet %s is", id)
		}
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.zones = zones
	return zones, nil
}

// subnetsIn are the farm's subnets in a zone.
func (p *Provider) subnetsIn(ctx context.Context, zone string) ([]string, error) {
	zones, err := p.subnetZones(ctx)
	if err != nil {
		return nil, err
	}
	subnets := slices.DeleteFunc(slices.Clone(p.Subnets), func(id string) bool { return zones[id] != zone })
	if len(subnets) == 0 {
		return nil, fmt.Errorf("its volume is in zone %s, and of the farm's subnets (%s) none is", zone, strings.Join(p.Subnets, ", "))
	}
	return subnets, nil
}
