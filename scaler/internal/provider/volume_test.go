package provider_test

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"testing"
	"time"

	"farmhand/internal/volumemark"
	"farmhand/scaler/internal/farmfile"
	"farmhand/scaler/internal/provider"
	"farmhand/scaler/internal/provider/providertest"
	"farmhand/scaler/internal/volume"
)

// onVolume is a database server on a volume.
func onVolume(number int, name string, keep bool) provider.Spec {
	s := providertest.Spec(farmfile.MySQLKind, "db", number)
	s.Role.Storage = farmfile.Storage{Kind: farmfile.VolumeStorage, Keep: keep}
	s.Volume = name
	return s
}

// TestAnInstanceHasItsVolume from before its sidecar begins until nothing of it is left.
func TestAnInstanceHasItsVolume(t *testing.T) {
	for name, spec := range map[string]volume.Spec{
		"directory": {Name: "db-1", Kind: volume.Directory}, "ext4": {Name: "db-1", Kind: volume.Single, Size: 32 << 20, FileSystem: "ext4"},
	} {
		t.Run(name, func(t *testing.T) {
			o := made(t)
			l := local(t, o)
			t.Cleanup(func() { // nothing may be mounted when the directory is removed
				var errs []error
				for _, name := range []string{"db1", "db2", "db3"} {
					errs = append(errs, l.Terminate(context.Background(), name))
				}
				if err := errors.Join(append(errs, l.Volumes().Delete(context.Background(), "db-1"))...); err != nil {
					t.Error(err)
				}
			})
			store := l.Volumes()
			_, err := store.Create(t.Context(), spec)
			if errors.Is(err, volume.ErrUnable) {
				t.Skipf("not tested: %v", err)
			}
			if err != nil {
				t.Fatal(err)
			}
			if _, err := l.Launch(t.Context(), onVolume(7, "", true)); err == nil {
				t.Error("launched without the volume that it is to have")
			}
			if _, err := l.Launch(t.Context(), onVolume(8, "db-9", true)); !errors.Is(err, volume.ErrUnknown) {
				t.Errorf("launched with a volume that is not there: %v", err)
			}
			i, err := l.Launch(t.Context(), onVolume(1, "db-1", true))
			if err != nil || i.Volume != "db-1" || i.Inherits {
				t.Fatalf("launched %+v, %v", i, err)
			}
			v, err := store.Describe(t.Context(), "db-1")
			if err != nil || v.Instance != "db1" || v.Trouble != "" {
				t.Fatalf("its volume is %+v, %v", v, err)
			}
			if _, err := volumemark.Read(v.Path, "db-1", "db1"); err != nil {
				t.Error(err)
			}
			if err := os.WriteFile(filepath.Join(v.Path, "data"), []byte("data"), 0o600); err != nil {
				t.Fatal(err)
			}
			i, left := up(t, l, "db1", 0)
			if err := store.Detach(t.Context(), "db-1", "db1"); !errors.Is(err, volume.ErrInUse) {
				t.Errorf("taken from an instance that runs: %v", err)
			}
			// Another that is to have it waits.
			if _, err := l.Launch(t.Context(), onVolume(2, "db-1", true)); !errors.Is(err, volume.ErrAttached) {
				t.Errorf("launched with another's volume: %v", err)
			}
			// Stopped, it still has it.
			if err := l.Halt(t.Context(), "db1", 10*time.Second); err != nil {
				t.Fatal(err)
			}
			left.AwaitEnd(t)
			if v, err := store.Describe(t.Context(), "db-1"); err != nil || v.Instance != "db1" || len(v.Devices) != 0 {
				t.Errorf("stopped, its volume is %+v, %v", v, err)
			}
			if err := l.Terminate(t.Context(), "db1"); err != nil {
				t.Fatal(err)
			}
			stop := keep(t, l)
			i, left = up(t, l, "db2", i.PID)
			stop()
			if !i.Inherits {
				t.Errorf("%+v does not know that it has another's disk", i)
			}
			v, err = store.Describe(t.Context(), "db-1")
			if err != nil || v.Instance != "db2" || v.Epoch != 2 {
				t.Errorf("its volume is %+v, %v", v, err)
			}
			if text, err := os.ReadFile(filepath.Join(v.Path, "data")); err != nil || string(text) != "data" {
				t.Errorf("it has %q, %v", text, err)
			}
			for _, name := range []string{"db2", "db2"} {
				if err := l.Terminate(t.Context(), name); err != nil {
					t.Fatal(err)
				}
			}
			left.AwaitEnd(t)
			// One that is not to be kept goes with its instance.
			if _, err := l.Launch(t.Context(), onVolume(3, "db-1", false)); err != nil {
				t.Fatal(err)
			}
			if err := l.Terminate(t.Context(), "db3"); err != nil {
				t.Fatal(err)
			}
			if all, err := store.List(t.Context()); err != nil || len(all) != 0 {
				t.Errorf("there are %+v, %v", all, err)
			}
		})
	}
}
