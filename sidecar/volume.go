package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"time"

	"farmhand/internal/atomicfile"
	"farmhand/internal/farm"
	"farmhand/internal/volumemark"
	"farmhand/sidecar/internal/config"
	"farmhand/sidecar/internal/hook"
)

// findVolume makes sure that the node's volume is where it is to be, so that nothing
// is written to a directory that only looks like it, and tells the hooks of a volume that
// the node has got.
func findVolume(c config.Config, tell func(farm.Event) error) error {
	v := c.Volume
	if v.Name == "" {
		return nil
	}
	mark, err := volumemark.Read(v.Directory, v.Name, c.Name)
	if err != nil {
		return fmt.Errorf("%w; the role does not begin without it", err)
	}
	told := filepath.Join(c.State, "volume.json")
	text, err := os.ReadFile(told)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	var last volumemark.Mark
	if err == nil {
		if err := json.Unmarshal(text, &last); err != nil {
			return fmt.Errorf("%s: %w", told, err)
		}
	}
	if last == mark {
		return nil // an earlier run has told
	}
	now := time.Now().UTC()
	for _, kind := range []farm.EventKind{farm.VolumeAttached, farm.VolumeMounted} {
		if err := tell(farm.Event{
			ID: hook.NewID(), Kind: kind, Time: now, Host: farm.EventHost{Name: c.Name, Role: c.Role, Address: c.NodeAddress()},
			Fields: map[string]string{"volume": mark.Volume, "epoch": strconv.FormatInt(mark.Epoch, 10), "directory": v.Directory},
		}); err != nil {
			return fmt.Errorf("tell the hooks of volume %s: %w", v.Name, err)
		}
	}
	if text, err = json.Marshal(mark); err != nil {
		return err
	}
	if err := os.MkdirAll(c.State, 0o700); err != nil {
		return err
	}
	return atomicfile.Write(told, text, 0o600, nil)
}
