package aws

import (
	"bytes"
	"cmp"
	"compress/flate"
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"time"

	sdk "github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/ec2"
	"github.com/aws/aws-sdk-go-v2/service/ec2/types"

	"farmhand/scaler/internal/farmfile"
	"farmhand/scaler/internal/provider"
)

// List is [provider.Provider.List]. Of two instances of one name, which only a scaler
// that was cut off in the middle can have left, it is the older one; [Provider.Keep]
// ends the other.
func (p *Provider) List(ctx context.Context) ([]provider.Instance, error) {
	all, err := p.instances(ctx, nil)
	if err != nil {
		return nil, fmt.Errorf("list instances: %w", err)
	}
	var list []provider.Instance
	for _, i := range all {
		if !slices.ContainsFunc(list, func(o provider.Instance) bool { return o.Name == nameOf(i) }) {
			one, err := instance(i)
			if err != nil {
				return nil, fmt.Errorf("list instances: %w", err)
			}
			list = append(list, one)
		}
	}
	slices.SortFunc(list, func(a, b provider.Instance) int { return strings.Compare(a.Name, b.Name) })
	return list, nil
}

// pageSize is how many of what is listed EC2 is asked for at a time.
const pageSize = 500

// instances are those with the tags that are not gone, the oldest first.
func (p *Provider) instances(ctx context.Context, want map[string]string) ([]types.Instance, error) {
	began := time.Now()
	byID := map[string]types.Instance{}
	pages := ec2.NewDescribeInstancesPaginator(p.ec2, &ec2.DescribeInstancesInput{
		Filters: append(p.filters(want), filter("tag-key", tagInstance)), MaxResults: sdk.Int32(pageSize),
	})
	for pages.HasMorePages() {
		page, err := pages.NextPage(ctx)
		if err != nil {
			return nil, err
		}
		for _, r := range page.Reservations {
			for _, i := range r.Instances {
				byID[sdk.ToString(i.InstanceId)] = i
			}
		}
	}
	p.mu.Lock()
	for id, s := range p.fresh {
		if began.After(s.until) {
			delete(p.fresh, id)
			continue
		}
		if has(s.Tags, want) {
			now, there := byID[id]
			switch {
			case there && stateOf(s.Instance) != types.InstanceStateNameTerminated:
				t := tagsOf(now.Tags)
				maps.Copy(t, tagsOf(s.Tags)) // ours may be newer
				now.Tags = tags(t)
			default:
				now = s.Instance
			}
			byID[id] = now
		}
	}
	p.mu.Unlock()
	var all []types.Instance
	for _, i := range byID {
		if stateOf(i) != types.InstanceStateNameTerminated {
			all = append(all, i)
		}
	}
	slices.SortFunc(all, func(a, b types.Instance) int {
		return cmp.Or(sdk.ToTime(a.LaunchTime).Compare(sdk.ToTime(b.LaunchTime)), strings.Compare(sdk.ToString(a.InstanceId), sdk.ToString(b.InstanceId)))
	})
	return all, nil
}

// know keeps what a call of ours has made of an instance until EC2's lists show it.
func (p *Provider) know(i types.Instance) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.fresh[sdk.ToString(i.InstanceId)] = seen{i, time.Now().Add(p.Lag)}
}

func has(list []types.Tag, want map[string]string) bool {
	there := tagsOf(list)
	for key, value := range want {
		if there[key] != value {
			return false
		}
	}
	return true
}

func stateOf(i types.Instance) types.InstanceStateName {
	if i.State == nil {
		return ""
	}
	return i.State.Name
}

func nameOf(i types.Instance) string { return tagsOf(i.Tags)[tagInstance] }

// ErrUnknown: there is no such instance.
var ErrUnknown = errors.New("there is no such instance")

// find returns the instance of a name; the older one of two.
func (p *Provider) find(ctx context.Context, name string) (types.Instance, error) {
	all, err := p.instances(ctx, map[string]string{tagInstance: name})
	if err == nil && len(all) == 0 {
		err = fmt.Errorf("%s: %w", name, ErrUnknown)
	}
	if err != nil {
		return types.Instance{}, err
	}
	return all[0], nil
}

// instance is an instance in the farm's words.
func instance(i types.Instance) (provider.Instance, error) {
	t := tagsOf(i.Tags)
	one := provider.Instance{
		Name: t[tagInstance], RoleName: t[tagRole], Kind: farmfile.RoleKind(t[tagKind]), Launched: sdk.ToTime(i.LaunchTime),
		Volume: t[tagVolume], Inherits: t[tagInherits] == "true",
		Log: "instance " + sdk.ToString(i.InstanceId) + ": journalctl -u farmhand-sidecar, or /var/log/farmhand-sidecar.log",
	}
	switch stateOf(i) {
	case types.InstanceStateNamePending, types.InstanceStateNameRunning:
		one.State = provider.Running
	case types.InstanceStateNameShuttingDown, types.InstanceStateNameTerminated:
		one.State = provider.Terminating
	default:
		one.State = provider.Stopped
	}
	if t[tagEnding] != "" {
		one.State = provider.Terminating
	}
	var err error
	if i.PrivateIpAddress != nil { // it has none any more when it ends
		if one.Address, err = netip.ParseAddr(*i.PrivateIpAddress); err != nil {
			return one, fmt.Errorf("instance %s: %w", one.Name, err)
		}
	}
	if one.Configuration, err = configurationOf(t); err != nil {
		return one, fmt.Errorf("instance %s: %w", one.Name, err)
	}
	if slot := t[tagSlot]; slot != "" {
		if one.Slot, err = strconv.Atoi(slot); err != nil {
			return one, fmt.Errorf("instance %s: tag %s: %w", one.Name, tagSlot, err)
		}
	}
	one.Listen, one.Socket = one.Configuration["parameters.proxy.tcp"], one.Configuration["parameters.proxy.unix"]
	return one, nil
}

// Bounds of a configuration in tags: EC2 has 256 characters for a value, and 50 tags.
const (
	tagSize      = 256
	maxTags      = 36
	maxUnpacked  = 1 << 20
	configPieces = "%s%d" // tagConfiguration and a number
)

// configurationTags are the tags in which a configuration stands.
func configurationTags(c provider.Configuration) (map[string]string, error) {
	text, err := json.Marshal(c)
	if err != nil {
		return nil, err
	}
	var packed bytes.Buffer
	w, err := flate.NewWriter(&packed, flate.BestCompression)
	if err == nil {
		_, err = w.Write(text)
	}
	if err = errors.Join(err, w.Close()); err != nil {
		return nil, err
	}
	coded := base64.RawURLEncoding.EncodeToString(packed.Bytes())
	coded = fmt.Sprintf("%d.%s", len(coded), coded)
	if len(coded) > maxTags*tagSize {
		return nil, fmt.Errorf("its role's configuration needs %d characters in tags, and there is room for %d: fewer hooks and templates are needed", len(coded), maxTags*tagSize)
	}
	t := map[string]string{}
	for n := range maxTags {
		piece := coded[min(n*tagSize, len(coded)):min((n+1)*tagSize, len(coded))]
		if piece == "" {
			break
		}
		t[fmt.Sprintf(configPieces, tagConfiguration, n)] = piece
	}
	return t, nil
}

// configurationOf reads it; nil if there is none. The length that it begins with
// says where what is left of a longer one begins.
func configurationOf(t map[string]string) (provider.Configuration, error) {
	var coded strings.Builder
	for n := range maxTags {
		coded.WriteString(t[fmt.Sprintf(configPieces, tagConfiguration, n)])
	}
	if coded.Len() == 0 {
		return nil, nil
	}
	digits, text64, _ := strings.Cut(coded.String(), ".")
	length, err := strconv.Atoi(digits)
	if err != nil || length < 0 || length > len(text64) {
		return nil, fmt.Errorf("its configuration in tags is not whole: %d of %q characters", len(text64), digits)
	}
	packed, err := base64.RawURLEncoding.DecodeString(text64[:length])
	if err != nil {
		return nil, fmt.Errorf("its configuration in tags: %w", err)
	}
	text, err := io.ReadAll(io.LimitReader(flate.NewReader(bytes.NewReader(packed)), maxUnpacked))
	if err != nil {
		return nil, fmt.Errorf("its configuration in tags: %w", err)
	}
	var c provider.Configuration
	if err := json.Unmarshal(text, &c); err != nil {
		return nil, fmt.Errorf("its configuration in tags: %w", err)
	}
	return c, nil
}
