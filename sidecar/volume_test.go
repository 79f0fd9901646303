package main

import (
	"errors"
	"slices"
	"testing"

	"farmhand/internal/farm"
	"farmhand/internal/volumemark"
	"farmhand/sidecar/internal/config"
)

func TestARoleBeginsOnItsOwnVolumeOnly(t *testing.T) {
	var told []farm.EventKind
	var fails error
	tell := func(e farm.Event) error {
		if err := e.Check(); err != nil {
			t.Error(err)
		}
		if fails == nil {
			told = append(told, e.Kind)
		}
		return fails
	}
	c := config.Config{Name: "db4", Role: "mysql", State: t.TempDir(), MySQL: config.MySQL{Listen: "127.0.0.1:3306"}}
	if err := findVolume(c, tell); err != nil || told != nil {
		t.Errorf("without a volume: %v, %v", err, told)
	}
	c.Volume = config.Volume{Name: "db-1", Directory: t.TempDir()}
	if err := findVolume(c, tell); err == nil {
		t.Error("where nothing is mounted the role begins")
	}
	mark := func(m volumemark.Mark) {
		t.Helper()
		if err := volumemark.Write(c.Volume.Directory, m); err != nil {
			t.Fatal(err)
		}
	}
	mark(volumemark.Mark{Volume: "db-1", Instance: "db3", Epoch: 2})
	if err := findVolume(c, tell); err == nil {
		t.Error("on another node's volume the role begins")
	}
	mark(volumemark.Mark{Volume: "db-1", Instance: "db4", Epoch: 3})
	fails = errors.New("the spool is full")
	if err := findVolume(c, tell); !errors.Is(err, fails) {
		t.Errorf("an event that could not be put: %v", err)
	}
	fails = nil
	for range 2 {
		if err := findVolume(c, tell); err != nil {
			t.Fatal(err)
		}
	}
	if want := []farm.EventKind{farm.VolumeAttached, farm.VolumeMounted}; !slices.Equal(told, want) {
		t.Errorf("the hooks were told %v, want %v", told, want)
	}
}
