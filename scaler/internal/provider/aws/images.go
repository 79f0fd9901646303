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

	"farmhand/scaler/internal/provider"
)

var _ provider.Imager = (*Provider)(nil)

// imageLimit is how long EC2 may take until an image can be launched: it copies the root
// disk.
const imageLimit = time.Hour

// MakeImage is [provider.Imager.MakeImage]. The instance is started anew for that: its file
// systems are at rest then. What is its own is in the image, and removed by the first start
// of each instance that is launched from it (boot.sh).
func (p *Provider) MakeImage(ctx context.Context, instance, name string) (provider.Image, error) {
	made, err := p.image(ctx, name)
	if errors.Is(err, errNoImage) {
		err = p.createImage(ctx, instance, name)
	} else if err == nil && made.From != instance {
		err = fmt.Errorf("there is one of that name, of %s", made.From)
	}
	if err == nil {
		err = p.await(ctx, imageLimit, "image "+name, func() (bool, error) {
			made, err = p.image(ctx, name)
			if errors.Is(err, errNoImage) { // EC2 does not show it yet
				return false, nil
			}
			return made.Ready, err
		})
	}
	if err != nil {
		return provider.Image{}, fmt.Errorf("image %s of %s: %w", name, instance, err)
	}
	return made, nil
}

var errNoImage = errors.New("there is no such image")

// image is the one of a name. Its error is errNoImage if EC2 shows none.
func (p *Provider) image(ctx context.Context, name string) (provider.Image, error) {
	all, err := p.images(ctx)
	if err != nil {
		return provider.Image{}, err
	}
	for _, i := range all {
		if tagsOf(i.Tags)[tagImage] != name {
			continue
		}
		if i.State != types.ImageStatePending && i.State != types.ImageStateAvailable {
			return provider.Image{}, fmt.Errorf("%s is %s: %s", sdk.ToString(i.ImageId), i.State, reasonOf(i.StateReason))
		}
		return imageOf(i)
	}
	return provider.Image{}, errNoImage
}

func reasonOf(r *types.StateReason) string {
	if r == nil {
		return "EC2 does not say why"
	}
	return sdk.ToString(r.Message)
}

func (p *Provider) createImage(ctx context.Context, instance, name string) error {
	i, err := p.find(ctx, instance)
	if err != nil {
		return err
	}
	t := tags(map[string]string{tagFarm: p.Farm, tagImage: name, tagFrom: instance})
	_, err = p.ec2.CreateImage(ctx, &ec2.CreateImageInput{
		InstanceId: i.InstanceId, Name: sdk.String(p.Farm + "-" + name), NoReboot: sdk.Bool(false),
		TagSpecifications: []types.TagSpecification{{ResourceType: types.ResourceTypeImage, Tags: t}, {ResourceType: types.ResourceTypeSnapshot, Tags: t}},
	})
	if isCode(err, "InvalidAMIName.Duplicate") { // our own call, whose answer was lost
		return nil
	}
	return err
}

// Images is [provider.Imager.Images].
func (p *Provider) Images(ctx context.Context) ([]provider.Image, error) {
	all, err := p.images(ctx)
	if err != nil {
		return nil, err
	}
	var list []provider.Image
	for _, i := range all {
		image, err := imageOf(i)
		if err != nil {
			return nil, err
		}
		list = append(list, image)
	}
	slices.SortFunc(list, func(a, b provider.Image) int { return a.Made.Compare(b.Made) })
	return list, nil
}

func (p *Provider) images(ctx context.Context) (list []types.Image, err error) {
	pages := ec2.NewDescribeImagesPaginator(p.ec2, &ec2.DescribeImagesInput{Owners: []string{"self"}, Filters: append(p.filters(nil), filter("tag-key", tagImage))})
	for pages.HasMorePages() {
		page, err := pages.NextPage(ctx)
		if err != nil {
			return nil, fmt.Errorf("list images: %w", err)
		}
		list = append(list, page.Images...)
	}
	return list, nil
}

func imageOf(i types.Image) (provider.Image, error) {
	made, err := time.Parse(time.RFC3339, sdk.ToString(i.CreationDate))
	if err != nil {
		return provider.Image{}, fmt.Errorf("image %s: %w", sdk.ToString(i.ImageId), err)
	}
	t := tagsOf(i.Tags)
	return provider.Image{ID: sdk.ToString(i.ImageId), Name: t[tagImage], From: t[tagFrom], Made: made, Ready: i.State == types.ImageStateAvailable}, nil
}

// RemoveImage is [provider.Imager.RemoveImage]; the snapshots that it is made of go, too.
func (p *Provider) RemoveImage(ctx context.Context, name string) error {
	images, err := p.Images(ctx)
	if err != nil {
		return err
	}
	for _, i := range images {
		if i.Name == name {
			_, err := p.ec2.DeregisterImage(ctx, &ec2.DeregisterImageInput{ImageId: sdk.String(i.ID)})
			if err != nil && !isCode(err, "InvalidAMIID.NotFound", "InvalidAMIID.Unavailable") {
				return fmt.Errorf("delete image %s: %w", name, err)
			}
		}
	}
	// Also of an attempt before, whose image is gone.
	pages := ec2.NewDescribeSnapshotsPaginator(p.ec2, &ec2.DescribeSnapshotsInput{OwnerIds: []string{"self"}, Filters: p.filters(map[string]string{tagImage: name}), MaxResults: sdk.Int32(pageSize)})
	var errs []error
	for pages.HasMorePages() {
		page, err := pages.NextPage(ctx)
		if err != nil {
			return fmt.Errorf("delete image %s: %w", name, err)
		}
		for _, s := range page.Snapshots {
			_, err := p.ec2.DeleteSnapshot(ctx, &ec2.DeleteSnapshotInput{SnapshotId: s.SnapshotId})
			if err != nil && !isCode(err, "InvalidSnapshot.NotFound") {
				errs = append(errs, err)
			}
		}
	}
	if err := errors.Join(errs...); err != nil {
		return fmt.Errorf("delete image %s: %w", name, err)
	}
	return nil
}
