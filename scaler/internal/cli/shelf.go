package cli

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"farmhand/internal/backup"
	"farmhand/internal/farm"
	"farmhand/internal/objects"
	farmregistry "farmhand/internal/registry"
	"farmhand/scaler/internal/daemon"
	"farmhand/scaler/internal/safekeep"
)

// shelf is where a cluster's backups are, and what is known of them beside.
type shelf struct {
	store   objects.Store
	cluster string
	policy  *safekeep.Policy // nil without a farm
	memory  safekeep.Memory
	client  *farmregistry.Client // nil without a farm
}

// shelving names a shelf by the farm, or by itself.
type shelving struct {
	where
	store, cluster *string // nil for commands that need the farm
}

func shelfFlags(c *cobra.Command, alone bool) shelving {
	if !alone {
		return shelving{where: farmFlags(c)}
	}
	s := shelving{
		where:   whereFlags(c),
		store:   c.Flags().String("store", "", "without a farm: where the backups are, /path or s3://bucket/prefix?endpoint=URL&region=NAME"),
		cluster: c.Flags().String("cluster", "", "without a farm: the cluster's name, as of the farm's role of kind mysql"),
	}
	c.MarkFlagsOneRequired("local", "control", "store")
	c.MarkFlagsMutuallyExclusive("local", "control", "store")
	c.MarkFlagsRequiredTogether("store", "cluster")
	return s
}

// with runs do with the shelf.
func (s shelving) with(ctx context.Context, do func(*shelf) error) error {
	if s.store != nil && *s.store != "" {
		if err := farm.CheckName(*s.cluster); err != nil {
			return fmt.Errorf("--cluster: %w", err)
		}
		store, err := openStore(ctx, *s.store)
		if err != nil {
			return err
		}
		return do(&shelf{store: store, cluster: *s.cluster})
	}
	return s.where.with(func(client *farmregistry.Client) error {
		f, err := appliedFarm(ctx, client)
		if err != nil {
			return err
		}
		policy := f.Safekeeping()
		if policy.Store == "" {
			return errors.New("the farm file has no store for backups; backups.store says where they are to be, and scaler apply makes that so")
		}
		store, err := openStore(ctx, policy.Store)
		if err != nil {
			return err
		}
		memory, err := daemon.BackupMemory(ctx, client)
		if err != nil {
			return err
		}
		return do(&shelf{store: store, cluster: f.Database(), policy: &policy, memory: memory, client: client})
	})
}

// patience is how long a command waits for a store that does not answer.
const patience = 20 * time.Second

func openStore(ctx context.Context, text string) (objects.Store, error) {
	c, err := objects.ParseURL(text)
	if err != nil {
		return nil, err
	}
	c.Patience = patience
	return objects.Open(ctx, c)
}

// find returns the entry of a backup; a name may be cut short.
func (s *shelf) find(ctx context.Context, id string) (backup.Entry, error) {
	entries, err := backup.List(ctx, s.store, s.cluster)
	if err != nil {
		return backup.Entry{}, err
	}
	return s.among(entries, id)
}

// among returns the entry of a backup of those that there are.
func (s *shelf) among(entries []backup.Entry, id string) (backup.Entry, error) {
	var found []backup.Entry
	var names []string
	for _, e := range entries {
		if e.ID == id {
			return e, nil
		}
		if strings.HasPrefix(e.ID, id) {
			found = append(found, e)
		}
		names = append(names, e.ID)
	}
	switch {
	case len(found) == 1:
		return found[0], nil
	case len(found) > 1:
		return backup.Entry{}, fmt.Errorf("%q is the beginning of %d backups; give more of the name", id, len(found))
	case len(names) == 0:
		return backup.Entry{}, fmt.Errorf("%v has no backups of %s", s.store, s.cluster)
	}
	return backup.Entry{}, fmt.Errorf("there is no backup %q of %s; the newest are %s", id, s.cluster, strings.Join(names[max(0, len(names)-3):], ", "))
}

// journal notes what a person does to backups.
func (s *shelf) journal(ctx context.Context, format string, args ...any) error {
	_, err := s.client.Append(ctx, farmregistry.Entry{
		Time: time.Now(), Kind: "backup-changed", Who: operator(), Text: fmt.Sprintf(format, args...), Fields: map[string]string{"cluster": s.cluster},
	})
	return err
}
