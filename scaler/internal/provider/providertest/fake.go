package providertest

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"time"

	"farmhand/scaler/internal/provider"
)

// Fake is a provider of instances that are only thought of.
type Fake struct {
	// Launched and Terminated are called, if they are not nil, after an instance has
	// come, with what it was launched as, and before one goes.
	Launched   func(provider.Spec, provider.Instance)
	Terminated func(name string)

	mu        sync.Mutex
	instances map[string]provider.Instance
	images    []provider.Image
}

var (
	_ provider.Provider = (*Fake)(nil)
	_ provider.Imager   = (*Fake)(nil)
)

// MakeImage is [provider.Imager.MakeImage].
func (f *Fake) MakeImage(_ context.Context, instance, name string) (provider.Image, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if _, there := f.instances[instance]; !there {
		return provider.Image{}, fmt.Errorf("image of %s: there is no such instance", instance)
	}
	if n := slices.IndexFunc(f.images, func(i provider.Image) bool { return i.Name == name }); n >= 0 {
		return f.images[n], nil
	}
	i := provider.Image{Name: name, ID: name, From: instance, Made: time.Now(), Ready: true}
	f.images = append(f.images, i)
	return i, nil
}

// Images is [provider.Imager.Images].
func (f *Fake) Images(context.Context) ([]provider.Image, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	return slices.Clone(f.images), nil
}

// RemoveImage is [provider.Imager.RemoveImage].
func (f *Fake) RemoveImage(_ context.Context, name string) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.images = slices.DeleteFunc(f.images, func(i provider.Image) bool { return i.Name == name })
	return nil
}

// Launch is [provider.Provider.Launch].
func (f *Fake) Launch(_ context.Context, s provider.Spec) (provider.Instance, error) {
	if _, ok := provider.Number(s.RoleName, s.Name); !ok || s.Token == "" {
		return provider.Instance{}, errors.New("fake provider: that is no spec")
	}
	i, err := f.add(s)
	if err == nil && f.Launched != nil {
		f.Launched(s, i)
	}
	return i, err
}

func (f *Fake) add(s provider.Spec) (provider.Instance, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if _, there := f.instances[s.Name]; there {
		return provider.Instance{}, fmt.Errorf("launch %s: %w", s.Name, provider.ErrExists)
	}
	i := provider.Instance{Name: s.Name, RoleName: s.RoleName, Kind: s.Role.Kind, Launched: time.Now(), State: provider.Running, Slot: s.Slot, Volume: s.Volume}
	var err error
	if i.Configuration, err = provider.ConfigurationOf(s.Role); err != nil {
		return i, err
	}
	i.Address = netip.AddrFrom4([4]byte{127, 0, 10, 1})
	for slices.ContainsFunc(slices.Collect(maps.Values(f.instances)), func(o provider.Instance) bool { return o.Address == i.Address }) {
		i.Address = i.Address.Next()
	}
	if f.instances == nil {
		f.instances = map[string]provider.Instance{}
	}
	f.instances[s.Name] = i
	return i, nil
}

// Configure is [provider.Provider.Configure].
func (f *Fake) Configure(_ context.Context, s provider.Spec) error {
	now, err := provider.ConfigurationOf(s.Role)
	if err != nil {
		return err
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	i, there := f.instances[s.Name]
	if !there {
		return fmt.Errorf("configure %s: there is no such instance", s.Name)
	}
	i.Configuration = i.Configuration.Configured(now)
	f.instances[s.Name] = i
	return nil
}

// List is [provider.Provider.List].
func (f *Fake) List(context.Context) ([]provider.Instance, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	return slices.SortedFunc(maps.Values(f.instances), func(a, b provider.Instance) int { return strings.Compare(a.Name, b.Name) }), nil
}

// Terminate is [provider.Provider.Terminate].
func (f *Fake) Terminate(_ context.Context, name string) error {
	if f.Terminated != nil {
		f.Terminated(name)
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	delete(f.instances, name)
	return nil
}
