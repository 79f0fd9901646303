package aws

import (
	"context"
	"errors"
	"fmt"
	"strings"

	sdk "github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/ec2"
	"github.com/aws/aws-sdk-go-v2/service/ec2/types"
)

// Finding is one thing that was looked at; Err is nil if it is as it should be.
type Finding struct {
	What, Cure string
	Err        error
}

// Examine looks whether AWS has what the farm needs, and changes nothing. images are
// those of the roles.
func (p *Provider) Examine(ctx context.Context, images []string) []Finding {
	_, err := p.List(ctx)
	list := []Finding{{"AWS answers, with the farm's instances", "docs/AWS.md has the rights that a control node needs; see also the region", err}}
	if err != nil {
		return list
	}
	_, err = p.subnetZones(ctx)
	list = append(list,
		Finding{"the farm's subnets", "provider.parameters.subnets", err},
		Finding{"the security groups let nobody in from everywhere", "allow the farm's own network, or the load balancer's security group", p.closed(ctx)},
	)
	for _, role := range sortedKeys(p.Roles) {
		if t := p.Role(role).LaunchTemplate; t.Name != "" {
			list = append(list, p.examineTemplate(ctx, role, t))
		}
		if p.Balances(role) {
			list = append(list, p.examineBalancers(ctx, role)...)
		}
	}
	for _, image := range images {
		if !strings.HasPrefix(image, "ami-") {
			continue // EC2 looks the parameter up when it launches
		}
		list = append(list, Finding{"image " + image, "the role's image", p.launchable(ctx, image)})
	}
	return list
}

// closed returns an error if a security group of the servers lets the world in.
func (p *Provider) closed(ctx context.Context) error {
	out, err := p.ec2.DescribeSecurityGroups(ctx, &ec2.DescribeSecurityGroupsInput{GroupIds: p.SecurityGroups})
	if err != nil {
		return err
	}
	var errs []error
	for _, g := range out.SecurityGroups {
		for _, r := range g.IpPermissions {
			if from := everywhere(r); from != "" {
				errs = append(errs, fmt.Errorf("%s lets %s in: %s, ports %d to %d", sdk.ToString(g.GroupId), from, sdk.ToString(r.IpProtocol), sdk.ToInt32(r.FromPort), sdk.ToInt32(r.ToPort)))
			}
		}
	}
	return errors.Join(errs...)
}

func everywhere(r types.IpPermission) string {
	for _, n := range r.IpRanges {
		if strings.HasSuffix(sdk.ToString(n.CidrIp), "/0") {
			return *n.CidrIp
		}
	}
	for _, n := range r.Ipv6Ranges {
		if strings.HasSuffix(sdk.ToString(n.CidrIpv6), "/0") {
			return *n.CidrIpv6
		}
	}
	return ""
}

func (p *Provider) launchable(ctx context.Context, image string) error {
	out, err := p.ec2.DescribeImages(ctx, &ec2.DescribeImagesInput{ImageIds: []string{image}})
	if err != nil {
		return err
	}
	if len(out.Images) != 1 || out.Images[0].State != types.ImageStateAvailable {
		return errors.New("it cannot be launched (yet)")
	}
	return nil
}
