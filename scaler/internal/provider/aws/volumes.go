package aws

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	sdk "github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/ec2"
	"github.com/aws/aws-sdk-go-v2/service/ec2/types"

	"farmhand/scaler/internal/volume"
)

// Volumes are those of a farm on AWS: each is one disk of EBS, or several. What a volume
// is stands in its disks' tags; the first disk's say whose it is.
//
// An instance's own script makes and mounts the file system; here there is no Path.
type Volumes struct{ p *Provider }

var _ volume.Store = (*Volumes)(nil)

// Times of disks.
const (
	diskLimit = 5 * time.Minute // until one is there, attached or free
	gib       = 1 << 30
)

// disks is a volume as EC2 has it.
type disks struct {
	volume.Volume
	of []types.Volume // in order; some may be missing
}

func (d disks) ids() []string {
	var ids []string
	for _, v := range d.of {
		ids = append(ids, sdk.ToString(v.VolumeId))
	}
	return ids
}

func (d disks) zone() string { return sdk.ToString(d.of[0].AvailabilityZone) }

// whole returns an error if disks are missing.
func (d disks) whole() error {
	if count, _ := d.Spec.PerDisk(); len(d.of) != count {
		return fmt.Errorf("volume %s has %d of its %d disks", d.Name, len(d.of), count)
	}
	return nil
}

// all are the farm's volumes, or the one of a name, by name.
func (v *Volumes) all(ctx context.Context, name string) ([]disks, error) {
	want := v.p.filters(nil)
	if name != "" {
		want = v.p.filters(map[string]string{tagVolume: name})
	}
	byName := map[string][]types.Volume{}
	pages := ec2.NewDescribeVolumesPaginator(v.p.ec2, &ec2.DescribeVolumesInput{Filters: append(want, filter("tag-key", tagDisk)), MaxResults: sdk.Int32(pageSize)})
	for pages.HasMorePages() {
		page, err := pages.NextPage(ctx)
		if err != nil {
			return nil, err
		}
		for _, d := range page.Volumes {
			if d.State != types.VolumeStateDeleting && d.State != types.VolumeStateDeleted {
				of := tagsOf(d.Tags)[tagVolume]
				byName[of] = append(byName[of], d)
			}
		}
	}
	var list []disks
	for _, name := range sortedKeys(byName) {
		d, err := volumeOf(name, byName[name])
		if err != nil {
			return nil, err
		}
		list = append(list, d)
	}
	return list, nil
}

// volumeOf is what the tags of a volume's disks say. A disk of which there are two was
// made twice: the older one counts.
func volumeOf(name string, all []types.Volume) (disks, error) {
	number := func(d types.Volume) int {
		n, _ := strconv.Atoi(tagsOf(d.Tags)[tagDisk])
		return n
	}
	slices.SortFunc(all, func(a, b types.Volume) int {
		if n := number(a) - number(b); n != 0 {
			return n
		}
		return sdk.ToTime(a.CreateTime).Compare(sdk.ToTime(b.CreateTime))
	})
	all = slices.CompactFunc(all, func(a, b types.Volume) bool { return number(a) == number(b) })
	first := tagsOf(all[0].Tags)
	d := disks{of: all}
	if err := json.Unmarshal([]byte(first[tagSpec]), &d.Spec); err != nil || d.Name != name {
		return d, fmt.Errorf("volume %s: the tag %s of %s cannot be read: %w", name, tagSpec, sdk.ToString(all[0].VolumeId), err)
	}
	d.Created, d.Instance, d.From = sdk.ToTime(all[0].CreateTime), first[tagInstance], first[tagFrom]
	if text := first[tagEpoch]; text != "" {
		var err error
		if d.Epoch, err = strconv.ParseInt(text, 10, 64); err != nil {
			return d, fmt.Errorf("volume %s: its tag %s: %w", name, tagEpoch, err)
		}
	}
	if err := d.whole(); err != nil {
		d.Trouble = err.Error()
	}
	for _, v := range all {
		if v.State == types.VolumeStateError {
			d.Trouble = fmt.Sprintf("disk %s has failed", sdk.ToString(v.VolumeId))
		}
	}
	return d, nil
}

// find is the volume of a name.
func (v *Volumes) find(ctx context.Context, name string) (disks, error) {
	list, err := v.all(ctx, name)
	if err == nil && len(list) == 0 {
		err = volume.ErrUnknown
	}
	if err != nil {
		return disks{}, fmt.Errorf("volume %s: %w", name, err)
	}
	return list[0], nil
}

// Describe is [volume.Store.Describe].
func (v *Volumes) Describe(ctx context.Context, name string) (volume.Volume, error) {
	d, err := v.find(ctx, name)
	return d.Volume, err
}

// List is [volume.Store.List].
func (v *Volumes) List(ctx context.Context) ([]volume.Volume, error) {
	all, err := v.all(ctx, "")
	if err != nil {
		return nil, fmt.Errorf("list volumes: %w", err)
	}
	var list []volume.Volume
	for _, d := range all {
		list = append(list, d.Volume)
	}
	return list, nil
}

// Create is [volume.Store.Create].
func (v *Volumes) Create(ctx context.Context, s volume.Spec) (volume.Volume, error) {
	return v.create(ctx, s, "", nil)
}

// create makes the disks of a volume that are not there yet, empty or from snapshots.
func (v *Volumes) create(ctx context.Context, s volume.Spec, from string, snapshots []string) (volume.Volume, error) {
	if err := s.Check(); err != nil {
		return volume.Volume{}, err
	}
	if s.Kind == volume.Directory {
		return volume.Volume{}, fmt.Errorf("volume %s: %w have a directory as a volume on AWS", s.Name, volume.ErrUnable)
	}
	d, err := v.find(ctx, s.Name)
	if err == nil && (d.Spec != s || d.From != from) {
		return volume.Volume{}, fmt.Errorf("create volume %s: %w", s.Name, volume.ErrExists)
	}
	if err != nil && !errors.Is(err, volume.ErrUnknown) {
		return volume.Volume{}, err
	}
	if err == nil && d.whole() == nil {
		return d.Volume, nil
	}
	zone, err := v.zoneFor(ctx, s.Name)
	if err != nil {
		return volume.Volume{}, err
	}
	count, size := s.PerDisk()
	d.of = nil
	for n := range count {
		from1 := ""
		if n < len(snapshots) {
			from1 = snapshots[n]
		}
		one, err := v.disk(ctx, s, n+1, zone, size, from, from1)
		if isCode(err, "IdempotentParameterMismatch") {
			err = volume.ErrExists
		}
		if err != nil {
			return volume.Volume{}, fmt.Errorf("create volume %s: disk %d: %w", s.Name, n+1, err)
		}
		d.of = append(d.of, one)
	}
	d, err = volumeOf(s.Name, d.of)
	return d.Volume, err
}

// zoneFor is the zone of a new volume: they are spread as their numbers say.
func (v *Volumes) zoneFor(ctx context.Context, name string) (string, error) {
	zones, err := v.p.subnetZones(ctx)
	if err != nil {
		return "", err
	}
	number := 1
	if n, err := strconv.Atoi(name[strings.LastIndex(name, "-")+1:]); err == nil && n > 0 {
		number = n
	}
	return zones[v.p.Subnets[(number-1)%len(v.p.Subnets)]], nil
}

// maxReuse is how many deleted disks of one name are looked past.
const maxReuse = 100

// disk makes one disk, or finds the one that was made by the same call before. EC2
// answers for a day with the same disk, also if that was deleted since.
func (v *Volumes) disk(ctx context.Context, s volume.Spec, number int, zone string, size int64, from, snapshot string) (none types.Volume, err error) {
	spec, err := json.Marshal(s)
	if err != nil {
		return none, err
	}
	t := map[string]string{
		tagFarm: v.p.Farm, tagVolume: s.Name, tagDisk: strconv.Itoa(number), tagSpec: string(spec),
		"Name": fmt.Sprintf("%s/%s disk %d", v.p.Farm, s.Name, number),
	}
	if from != "" {
		t[tagFrom] = from
	}
	in := &ec2.CreateVolumeInput{
		AvailabilityZone: sdk.String(zone), Size: sdk.Int32(int32((size + gib - 1) / gib)), VolumeType: types.VolumeType(v.p.DiskType), Encrypted: sdk.Bool(true),
		TagSpecifications: []types.TagSpecification{{ResourceType: types.ResourceTypeVolume, Tags: tags(t)}},
	}
	if v.p.KMSKey != "" {
		in.KmsKeyId = sdk.String(v.p.KMSKey)
	}
	if snapshot != "" {
		in.SnapshotId = sdk.String(snapshot)
	}
	for reuse := range maxReuse {
		in.ClientToken = v.p.clientToken("disk", s.Name, strconv.Itoa(number), strconv.Itoa(reuse))
		made, err := v.p.ec2.CreateVolume(ctx, in)
		if err != nil {
			return none, err
		}
		id := sdk.ToString(made.VolumeId)
		var now types.Volume
		began := time.Now()
		deleted := false
		err = v.p.await(ctx, diskLimit, "disk "+id, func() (bool, error) {
			var err error
			now, err = v.one(ctx, id)
			switch {
			case errors.Is(err, volume.ErrUnknown):
				deleted = time.Since(began) > v.p.Lag
				return deleted, nil
			case now.State == types.VolumeStateError:
				return false, fmt.Errorf("disk %s has failed", id)
			case now.State == types.VolumeStateDeleting, now.State == types.VolumeStateDeleted:
				deleted = true
			}
			return deleted || now.State == types.VolumeStateAvailable || now.State == types.VolumeStateInUse, err
		})
		if err != nil {
			return none, err
		}
		if !deleted {
			return now, nil
		}
	}
	return none, fmt.Errorf("of this name %d disks were made and deleted within a day", maxReuse)
}

// one is a disk; ErrUnknown if EC2 has it not, or does not show it yet.
func (v *Volumes) one(ctx context.Context, id string) (types.Volume, error) {
	out, err := v.p.ec2.DescribeVolumes(ctx, &ec2.DescribeVolumesInput{VolumeIds: []string{id}})
	if isCode(err, "InvalidVolume.NotFound") || err == nil && len(out.Volumes) == 0 {
		return types.Volume{}, fmt.Errorf("disk %s: %w", id, volume.ErrUnknown)
	}
	if err != nil {
		return types.Volume{}, err
	}
	return out.Volumes[0], nil
}

// Grow is [volume.Store.Grow]. The instance's file system has the space after its next
// start.
func (v *Volumes) Grow(ctx context.Context, name string, size int64) (volume.Volume, error) {
	d, err := v.find(ctx, name)
	if err == nil {
		err = d.whole()
	}
	if err == nil && size < d.Size {
		err = fmt.Errorf("it has %d bytes, and %d are fewer", d.Size, size)
	}
	if err != nil {
		return volume.Volume{}, fmt.Errorf("grow volume %s: %w", name, err)
	}
	if size == d.Size {
		return d.Volume, nil
	}
	d.Size = size
	_, each := d.Spec.PerDisk()
	wanted := int32((each + gib - 1) / gib)
	for _, one := range d.of {
		if sdk.ToInt32(one.Size) >= wanted {
			continue
		}
		if _, err := v.p.ec2.ModifyVolume(ctx, &ec2.ModifyVolumeInput{VolumeId: one.VolumeId, Size: sdk.Int32(wanted)}); err != nil {
			return volume.Volume{}, fmt.Errorf("grow volume %s: %w", name, err)
		}
	}
	spec, err := json.Marshal(d.Spec)
	if err == nil {
		err = v.tag(ctx, d.ids(), map[string]string{tagSpec: string(spec)})
	}
	if err != nil {
		return volume.Volume{}, fmt.Errorf("grow volume %s: %w", name, err)
	}
	return d.Volume, nil
}

func (v *Volumes) tag(ctx context.Context, ids []string, t map[string]string) error {
	_, err := v.p.ec2.CreateTags(ctx, &ec2.CreateTagsInput{Resources: ids, Tags: tags(t)})
	return err
}

// holder is the id of the instance that has a disk; empty for nobody.
func holder(d types.Volume) string {
	for _, a := range d.Attachments {
		if a.State != types.VolumeAttachmentStateDetached {
			return sdk.ToString(a.InstanceId)
		}
	}
	return ""
}

// Attach is [volume.Store.Attach]. EC2 gives a disk to one instance only: who has the
// first one has the volume.
func (v *Volumes) Attach(ctx context.Context, name, instance string) (volume.Volume, error) {
	d, err := v.attach(ctx, name, instance)
	if err != nil {
		return volume.Volume{}, fmt.Errorf("attach volume %s to %s: %w", name, instance, err)
	}
	return d.Volume, nil
}

func (v *Volumes) attach(ctx context.Context, name, instance string) (disks, error) {
	if instance == "" {
		return disks{}, errors.New("no instance is named")
	}
	d, err := v.find(ctx, name)
	if err == nil {
		err = d.whole()
	}
	if err != nil {
		return d, err
	}
	if d.Instance != "" && d.Instance != instance {
		return d, fmt.Errorf("%w to %s; it is given to another when that is proven gone", volume.ErrAttached, d.Instance)
	}
	i, err := v.p.find(ctx, instance)
	if err != nil {
		return d, err
	}
	id := sdk.ToString(i.InstanceId)
	for n, one := range d.of {
		if holder(one) == id {
			continue
		}
		_, err := v.p.ec2.AttachVolume(ctx, &ec2.AttachVolumeInput{VolumeId: one.VolumeId, InstanceId: sdk.String(id), Device: sdk.String(fmt.Sprintf("/dev/sd%c", 'f'+n))})
		if isCode(err, "VolumeInUse", "IncorrectState") {
			now, lerr := v.one(ctx, sdk.ToString(one.VolumeId))
			if lerr == nil && holder(now) == id {
				err = nil // by a scaler beside us, or by a call of ours whose answer was lost
			} else if lerr == nil && holder(now) != "" {
				err = fmt.Errorf("%w: EC2 says to %s", volume.ErrAttached, holder(now))
			}
		}
		if err != nil {
			return d, err
		}
	}
	if d.Instance == instance {
		return d, nil
	}
	d.Instance, d.Epoch = instance, d.Epoch+1
	return d, v.tag(ctx, d.ids()[:1], map[string]string{tagInstance: instance, tagEpoch: strconv.FormatInt(d.Epoch, 10)})
}

// Detach is [volume.Store.Detach]. An instance is proven gone when EC2 says that it is
// terminated, or has none of that name.
func (v *Volumes) Detach(ctx context.Context, name, instance string) error {
	if err := v.detach(ctx, name, instance); err != nil {
		return fmt.Errorf("detach volume %s from %s: %w", name, instance, err)
	}
	return nil
}

func (v *Volumes) detach(ctx context.Context, name, instance string) error {
	d, err := v.find(ctx, name)
	if err != nil || d.Instance == "" || d.Instance != instance {
		return err
	}
	switch _, err := v.p.find(ctx, instance); {
	case err == nil:
		return fmt.Errorf("%w: %s is there", volume.ErrInUse, instance)
	case !errors.Is(err, ErrUnknown):
		return fmt.Errorf("whether %s is gone is not known: %w", instance, err)
	}
	for _, one := range d.of {
		id := sdk.ToString(one.VolumeId)
		if who := holder(one); who != "" {
			// The name's instance is not there; is this one of it?
			if ended, err := v.p.gone(ctx, who); err != nil || !ended {
				return errors.Join(err, fmt.Errorf("%w: disk %s is attached to %s", volume.ErrInUse, id, who))
			}
			if _, err := v.p.ec2.DetachVolume(ctx, &ec2.DetachVolumeInput{VolumeId: one.VolumeId}); err != nil && !isCode(err, "IncorrectState") {
				return err
			}
		}
		free := func() (bool, error) {
			now, err := v.one(ctx, id)
			return err == nil && now.State == types.VolumeStateAvailable, err
		}
		if err := v.p.await(ctx, diskLimit, "the detachment of "+id, free); err != nil {
			return err
		}
	}
	_, err = v.p.ec2.DeleteTags(ctx, &ec2.DeleteTagsInput{Resources: d.ids()[:1], Tags: []types.Tag{{Key: sdk.String(tagInstance)}}})
	return err
}

// Delete is [volume.Store.Delete].
func (v *Volumes) Delete(ctx context.Context, name string) error {
	d, err := v.find(ctx, name)
	if errors.Is(err, volume.ErrUnknown) {
		return nil
	}
	if err == nil && d.Instance != "" {
		err = fmt.Errorf("%w to %s", volume.ErrAttached, d.Instance)
	}
	if err != nil {
		return fmt.Errorf("delete volume %s: %w", name, err)
	}
	// The first disk, by which the volume is known, goes last.
	for _, id := range slices.Backward(d.ids()) {
		_, err := v.p.ec2.DeleteVolume(ctx, &ec2.DeleteVolumeInput{VolumeId: sdk.String(id)})
		if isCode(err, "VolumeInUse") {
			err = fmt.Errorf("%w: %w", volume.ErrAttached, err)
		}
		if err != nil && !isCode(err, "InvalidVolume.NotFound") {
			return fmt.Errorf("delete volume %s: %w", name, err)
		}
	}
	return nil
}
