package aws

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"time"

	sdk "github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/ec2"
	"github.com/aws/aws-sdk-go-v2/service/ec2/types"

	"farmhand/scaler/internal/volume"
)

// once keeps the SDK from asking again: what is asked for twice is made twice.
func once(o *ec2.Options) { o.Retryer = sdk.NopRetryer{} }

// Snapshot is [volume.Store.Snapshot]. Of a volume that an instance has, all disks are
// taken at one moment, without holding up writes; EBS copies them afterwards. What they
// take is not known: Stored is 0.
func (v *Volumes) Snapshot(ctx context.Context, name string, o volume.SnapshotOptions) (volume.Snapshot, error) {
	s, err := v.snapshot(ctx, name, o)
	if err != nil {
		return volume.Snapshot{}, fmt.Errorf("snapshot of volume %s: %w", name, err)
	}
	return s, nil
}

func (v *Volumes) snapshot(ctx context.Context, name string, o volume.SnapshotOptions) (s volume.Snapshot, err error) {
	d, err := v.find(ctx, name)
	if err == nil {
		err = d.whole()
	}
	if err != nil {
		return s, err
	}
	taken := time.Now().UTC().Truncate(time.Millisecond)
	s = volume.Snapshot{ID: name + "-" + taken.Format("20060102T150405") + fmt.Sprintf("%03d", taken.Nanosecond()/1e6), Volume: name, Spec: d.Spec, Taken: taken, Moment: volume.AtRest, Size: d.Size}
	if d.Instance != "" {
		s.Moment = volume.Crash
		if o.Hold != nil {
			s.Moment = volume.Quiet
			release, err := o.Hold(ctx)
			if err != nil {
				return s, fmt.Errorf("hold still: %w", err)
			}
			defer func() { err = errors.Join(err, release()) }()
		}
	}
	spec, err := json.Marshal(d.Spec)
	if err != nil {
		return s, err
	}
	t := map[string]string{
		tagFarm: v.p.Farm, tagSnapshot: s.ID, tagVolume: name, tagSpec: string(spec), tagMoment: string(s.Moment),
		tagTaken: taken.Format(time.RFC3339Nano), "Name": v.p.Farm + "/" + s.ID,
	}
	if o.Freeze == 0 {
		o.Freeze = volume.DefaultFreeze
	}
	limited, cancel := context.WithTimeoutCause(ctx, o.Freeze, fmt.Errorf("EC2 has not answered within %v", o.Freeze))
	defer cancel()
	began := time.Now()
	err = v.take(limited, d, t)
	if s.Moment == volume.Quiet {
		s.Held = time.Since(began)
	}
	if err != nil {
		// Whether they were made is not known: what there is of them counts for nothing.
		return s, errors.Join(err, v.DeleteSnapshot(context.WithoutCancel(ctx), s.ID))
	}
	return s, nil
}

// take has the disks' snapshots taken: at one moment, if an instance has them.
func (v *Volumes) take(ctx context.Context, d disks, t map[string]string) error {
	numbered := func(n int) []types.TagSpecification {
		t[tagDisk] = strconv.Itoa(n)
		return []types.TagSpecification{{ResourceType: types.ResourceTypeSnapshot, Tags: tags(t)}}
	}
	who := holder(d.of[0])
	if who == "" || len(d.of) == 1 {
		for n, one := range d.of {
			if _, err := v.p.ec2.CreateSnapshot(ctx, &ec2.CreateSnapshotInput{VolumeId: one.VolumeId, TagSpecifications: numbered(n + 1)}, once); err != nil {
				return err
			}
		}
		return nil
	}
	others, err := v.others(ctx, who, d)
	if err != nil {
		return err
	}
	out, err := v.p.ec2.CreateSnapshots(ctx, &ec2.CreateSnapshotsInput{
		InstanceSpecification: &types.InstanceSpecification{InstanceId: sdk.String(who), ExcludeBootVolume: sdk.Bool(true), ExcludeDataVolumeIds: others},
		TagSpecifications:     numbered(0),
	}, once)
	if err != nil {
		return err
	}
	if len(out.Snapshots) != len(d.of) {
		return fmt.Errorf("EC2 has taken %d disks of %d", len(out.Snapshots), len(d.of))
	}
	for _, one := range out.Snapshots {
		n := slices.Index(d.ids(), sdk.ToString(one.VolumeId))
		if n < 0 {
			return fmt.Errorf("EC2 has taken disk %s, which is not the volume's", sdk.ToString(one.VolumeId))
		}
		if err := v.tag(ctx, []string{sdk.ToString(one.SnapshotId)}, map[string]string{tagDisk: strconv.Itoa(n + 1)}); err != nil {
			return err
		}
	}
	return nil
}

// others are an instance's disks, but for the root disk, that are not the volume's.
func (v *Volumes) others(ctx context.Context, instance string, d disks) ([]string, error) {
	out, err := v.p.ec2.DescribeInstances(ctx, &ec2.DescribeInstancesInput{InstanceIds: []string{instance}})
	if err != nil {
		return nil, err
	}
	var ids []string
	for _, r := range out.Reservations {
		for _, i := range r.Instances {
			for _, m := range i.BlockDeviceMappings {
				if m.Ebs == nil || sdk.ToString(m.DeviceName) == sdk.ToString(i.RootDeviceName) {
					continue
				}
				if id := sdk.ToString(m.Ebs.VolumeId); !slices.Contains(d.ids(), id) {
					ids = append(ids, id)
				}
			}
		}
	}
	return ids, nil
}

// taken is a snapshot as EC2 has it: the disks' own, in order.
type taken struct {
	volume.Snapshot
	of map[int]types.Snapshot
}

// pieces are all the farm's snapshots, whole or not, by id; or those of one id.
func (v *Volumes) pieces(ctx context.Context, id string) (map[string][]types.Snapshot, error) {
	want := v.p.filters(nil)
	if id != "" {
		want = v.p.filters(map[string]string{tagSnapshot: id})
	}
	all := map[string][]types.Snapshot{}
	pages := ec2.NewDescribeSnapshotsPaginator(v.p.ec2, &ec2.DescribeSnapshotsInput{
		OwnerIds: []string{"self"}, Filters: append(want, filter("tag-key", tagSnapshot)), MaxResults: sdk.Int32(pageSize),
	})
	for pages.HasMorePages() {
		page, err := pages.NextPage(ctx)
		if err != nil {
			return nil, err
		}
		for _, s := range page.Snapshots {
			of := tagsOf(s.Tags)[tagSnapshot]
			all[of] = append(all[of], s)
		}
	}
	return all, nil
}

// whole is the snapshot that the pieces make; false if they make none.
func whole(id string, pieces []types.Snapshot) (taken, bool) {
	s := taken{of: map[int]types.Snapshot{}}
	for _, piece := range pieces {
		t := tagsOf(piece.Tags)
		n, err := strconv.Atoi(t[tagDisk])
		if _, twice := s.of[n]; err != nil || twice || piece.State == types.SnapshotStateError {
			return s, false
		}
		s.of[n] = piece
		s.ID, s.Volume, s.Moment = id, t[tagVolume], volume.Moment(t[tagMoment])
		if s.Taken, err = time.Parse(time.RFC3339Nano, t[tagTaken]); err != nil {
			return s, false
		}
		if err := json.Unmarshal([]byte(t[tagSpec]), &s.Spec); err != nil {
			return s, false
		}
	}
	s.Size = s.Spec.Size
	count, _ := s.Spec.PerDisk()
	for n := range count {
		if _, there := s.of[n+1]; !there {
			return s, false
		}
	}
	return s, len(s.of) == count
}

// Snapshots is [volume.Store.Snapshots]. One of which a disk is missing is none.
func (v *Volumes) Snapshots(ctx context.Context) ([]volume.Snapshot, error) {
	all, err := v.pieces(ctx, "")
	if err != nil {
		return nil, fmt.Errorf("list snapshots: %w", err)
	}
	var list []volume.Snapshot
	for id, pieces := range all {
		if s, ok := whole(id, pieces); ok {
			list = append(list, s.Snapshot)
		}
	}
	slices.SortFunc(list, func(a, b volume.Snapshot) int { return a.Taken.Compare(b.Taken) })
	return list, nil
}

// Restore is [volume.Store.Restore].
func (v *Volumes) Restore(ctx context.Context, snapshot string, s volume.Spec) (volume.Volume, error) {
	all, err := v.pieces(ctx, snapshot)
	if err != nil {
		return volume.Volume{}, fmt.Errorf("restore %s: %w", snapshot, err)
	}
	from, ok := whole(snapshot, all[snapshot])
	there, err := v.find(ctx, s.Name)
	switch {
	case err == nil && (there.From != snapshot || there.Spec != s):
		return volume.Volume{}, fmt.Errorf("restore %s to volume %s: %w", snapshot, s.Name, volume.ErrExists)
	case err != nil && !errors.Is(err, volume.ErrUnknown):
		return volume.Volume{}, fmt.Errorf("restore %s: %w", snapshot, err)
	case !ok:
		return volume.Volume{}, fmt.Errorf("restore %s: there is no such snapshot, or not all of it", snapshot)
	case s.Size < from.Size:
		return volume.Volume{}, fmt.Errorf("restore %s: volume %s has %d bytes, and it needs %d", snapshot, s.Name, s.Size, from.Size)
	case s.Kind != from.Spec.Kind || s.Disks != from.Spec.Disks || s.Layout != from.Spec.Layout:
		return volume.Volume{}, fmt.Errorf("restore %s: it is of a %s of %d disks (%s), and so must the volume be", snapshot, from.Spec.Kind, from.Spec.Disks, from.Spec.Layout)
	}
	var ids []string
	for n := range len(from.of) {
		piece := from.of[n+1]
		if piece.State != types.SnapshotStateCompleted {
			return volume.Volume{}, fmt.Errorf("restore %s: EBS has copied %s of disk %d; it can be restored from when that is all", snapshot, sdk.ToString(piece.Progress), n+1)
		}
		ids = append(ids, sdk.ToString(piece.SnapshotId))
	}
	return v.create(ctx, s, snapshot, ids)
}

// DeleteSnapshot is [volume.Store.DeleteSnapshot].
func (v *Volumes) DeleteSnapshot(ctx context.Context, id string) error {
	all, err := v.pieces(ctx, id)
	for _, piece := range all[id] {
		_, derr := v.p.ec2.DeleteSnapshot(ctx, &ec2.DeleteSnapshotInput{SnapshotId: piece.SnapshotId})
		if !isCode(derr, "InvalidSnapshot.NotFound") {
			err = errors.Join(err, derr)
		}
	}
	if err != nil {
		return fmt.Errorf("delete snapshot %s: %w", id, err)
	}
	return nil
}
