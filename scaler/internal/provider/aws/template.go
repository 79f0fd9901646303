package aws

import (
	"context"
	"errors"
	"fmt"
	"regexp"
	"strconv"
	"strings"

	sdk "github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/ec2"
	"github.com/aws/aws-sdk-go-v2/service/ec2/types"

	"farmhand/scaler/internal/farmfile"
)

// template is a launch template of the operator's in one of its versions, as it was looked
// at; nil for none. What a request says comes before what it says.
type template struct {
	name string
	*types.LaunchTemplateSpecification
	data *types.ResponseLaunchTemplateData
}

// template looks up a role's. One with which an instance would not be what the farm file
// says, or which EC2 does not take with it, is an error.
func (p *Provider) template(ctx context.Context, role string) (*template, error) {
	t := p.Role(role).LaunchTemplate
	if t.Name == "" {
		return nil, nil
	}
	in := &ec2.DescribeLaunchTemplateVersionsInput{Versions: []string{t.Version}}
	spec := &types.LaunchTemplateSpecification{}
	if strings.HasPrefix(t.Name, "lt-") {
		in.LaunchTemplateId, spec.LaunchTemplateId = sdk.String(t.Name), sdk.String(t.Name)
	} else {
		in.LaunchTemplateName, spec.LaunchTemplateName = sdk.String(t.Name), sdk.String(t.Name)
	}
	out, err := p.ec2.DescribeLaunchTemplateVersions(ctx, in)
	if err != nil {
		return nil, fmt.Errorf("launch template %s: %w", t.Name, err)
	}
	if len(out.LaunchTemplateVersions) != 1 || out.LaunchTemplateVersions[0].LaunchTemplateData == nil {
		return nil, fmt.Errorf("launch template %s has no version %s", t.Name, t.Version)
	}
	// What was looked at is what is launched, whatever the newest is by then.
	number := sdk.ToInt64(out.LaunchTemplateVersions[0].VersionNumber)
	spec.Version = sdk.String(strconv.FormatInt(number, 10))
	one := &template{fmt.Sprintf("launch template %s, version %d", t.Name, number), spec, out.LaunchTemplateVersions[0].LaunchTemplateData}
	if err := one.check(); err != nil {
		return nil, fmt.Errorf("%s: %w", one.name, err)
	}
	return one, nil
}

// ours are the names of the devices as which volumes are attached.
var ours = regexp.MustCompile(`^/dev/(sd|xvd)[f-z]`)

// check returns an error for each thing in the template that is the farm file's to say and
// that a request cannot override, or that EC2 refuses together with what a request has.
func (t *template) check() error {
	var errs []error
	not := func(is bool, what, why string) {
		if is {
			errs = append(errs, fmt.Errorf("it must not have %s: %s", what, why))
		}
	}
	d := t.data
	not(len(d.NetworkInterfaces) > 0, "network interfaces", "subnets and security_groups are the farm file's")
	not(len(d.SecurityGroups) > 0, "security groups by name", "security_groups is the farm file's")
	not(d.InstanceMarketOptions != nil, "market options", "market is the farm file's")
	not(d.InstanceRequirements != nil, "instance requirements", "size is the farm file's")
	if d.Placement != nil {
		not(sdk.ToString(d.Placement.AvailabilityZone) != "", "an availability zone", "the subnet has one")
	}
	for _, b := range d.BlockDeviceMappings {
		name := sdk.ToString(b.DeviceName)
		not(ours.MatchString(name), "the device "+name, "the farm attaches volumes there; the root disk may be set")
	}
	return errors.Join(errs...)
}

// base makes the template the base of a request.
func (t *template) base(in *ec2.RunInstancesInput) {
	if t == nil {
		return
	}
	in.LaunchTemplate = t.LaunchTemplateSpecification
	in.DisableApiTermination = sdk.Bool(false) // what the scaler cannot terminate is not its
	// Whoever sends some of the metadata options sends them all.
	if m := t.data.MetadataOptions; m != nil {
		o := in.MetadataOptions
		if m.HttpPutResponseHopLimit != nil {
			o.HttpPutResponseHopLimit = m.HttpPutResponseHopLimit
		}
		o.HttpProtocolIpv6 = types.InstanceMetadataProtocolState(m.HttpProtocolIpv6)
		o.InstanceMetadataTags = types.InstanceMetadataTagsState(m.InstanceMetadataTags)
	}
}

// examineTemplate looks whether a role's launch template can be used.
func (p *Provider) examineTemplate(ctx context.Context, role string, t farmfile.LaunchTemplate) Finding {
	_, err := p.template(ctx, role)
	return Finding{"launch template " + t.Name + " of " + role, "provider.parameters.roles." + role + ".launch_template; docs/AWS.md says what it may have", err}
}
