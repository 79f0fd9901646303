package provider_test

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"farmhand/internal/atomicfile"
	"farmhand/internal/farmtest"
	"farmhand/internal/process"
	"farmhand/internal/service"
	"farmhand/scaler/internal/farmfile"
	"farmhand/scaler/internal/provider"
	"farmhand/scaler/internal/provider/providertest"
)

func TestMain(m *testing.M) {
	switch {
	case filepath.Base(os.Args[0]) == "sidecar":
		sidecar(os.Args[2])
	case os.Getenv(asScaler) != "":
		launchAndWait()
	}
	os.Exit(farmtest.Leakless{M: m, Patience: 5 * time.Second}.Run())
}

// sidecar makes this process what a sidecar is to its provider: it starts something
// that is not of its process group and ends on SIGTERM, unless its role is called
// "stubborn".
func sidecar(config string) {
	signals := make(chan os.Signal, 1)
	signal.Notify(signals, syscall.SIGTERM)
	left := exec.Command("sleep", "1000")
	left.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	if err := left.Start(); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	if err := atomicfile.Write(filepath.Join(filepath.Dir(config), "up"), fmt.Appendf(nil, "%d", left.Process.Pid), 0o644, nil); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	for range signals {
		if !strings.Contains(config, "stubborn") {
			os.Exit(0)
		}
	}
}

// asScaler has a directory in it for which this process is a scaler that launches
// db1 and is killed.
const asScaler = "FARMHAND_TEST_PROVIDER_SCALER"

func launchAndWait() {
	text := strings.Split(os.Getenv(asScaler), " ")
	l, err := provider.NewLocal(provider.Options{Dir: text[0], Programs: text[1], First: first})
	if err == nil {
		err = l.KeepPasswords(provider.NewPasswords(provider.Passwords{}, true))
	}
	if err == nil {
		_, err = l.Launch(context.Background(), providertest.Spec(farmfile.MySQLKind, "db", 1))
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	_ = syscall.Kill(os.Getpid(), syscall.SIGKILL)
}

var first = netip.AddrFrom4([4]byte{127, 0, 10, 1})

// made returns the options of a farm whose sidecars are this program.
func made(t *testing.T) provider.Options {
	t.Helper()
	programs, err := filepath.Abs(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(self, filepath.Join(programs, "sidecar")); err != nil {
		t.Fatal(err)
	}
	return provider.Options{Dir: filepath.Join(farmtest.ShortDir(t), "farm"), Programs: programs, First: first, StopLimit: 10 * time.Second}
}

func local(t *testing.T, o provider.Options) *provider.Local {
	t.Helper()
	l, err := provider.NewLocal(o)
	if err != nil {
		t.Fatal(err)
	}
	kept, err := l.Passwords()
	if err == nil {
		err = l.KeepPasswords(provider.NewPasswords(kept, true))
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		all, err := l.List(context.Background())
		for _, i := range all {
			err = l.Terminate(context.Background(), i.Name)
		}
		if err != nil {
			t.Error(err)
		}
	})
	return l
}

// up waits until an instance's sidecar is up and returns the instance and the
// process that it has started.
func up(t *testing.T, l *provider.Local, name string, before int) (i provider.Instance, left *farmtest.Process) {
	t.Helper()
	farmtest.Eventually(t, name+" is up", func() error {
		all, err := l.List(t.Context())
		if err != nil {
			return err
		}
		for _, i = range all {
			if i.Name != name || i.State != provider.Running || i.PID == before {
				continue
			}
			if _, err = os.Stat(filepath.Join(l.Dir, name, "up")); err == nil {
				return nil
			}
		}
		return fmt.Errorf("it is %+v, %v", i, err)
	})
	text, err := os.ReadFile(filepath.Join(l.Dir, name, "up"))
	if err != nil {
		t.Fatal(err)
	}
	var pid int
	if _, err := fmt.Sscan(string(text), &pid); err != nil {
		t.Fatal(err)
	}
	if err := os.Remove(filepath.Join(l.Dir, name, "up")); err != nil {
		t.Fatal(err)
	}
	return i, farmtest.Watch(t, pid)
}

func TestProviders(t *testing.T) {
	o := made(t)
	for name, p := range map[string]struct {
		provider.Provider
		again func() provider.Provider
	}{
		"local": {local(t, o), func() provider.Provider { return local(t, o) }},
		"fake":  {Provider: &providertest.Fake{}},
	} {
		t.Run(name, func(t *testing.T) {
			again := p.again
			if again == nil {
				again = func() provider.Provider { return p.Provider }
			}
			providertest.Contract(t, p.Provider, again)
		})
	}
}

func TestInstancesOutliveAKilledScalerAndWhatTheyStartedEndsWithThem(t *testing.T) {
	o := made(t)
	l := local(t, o)
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), asScaler+"="+o.Dir+" "+o.Programs)
	if out, err := cmd.CombinedOutput(); err == nil || cmd.ProcessState.Sys().(syscall.WaitStatus).Signal() != syscall.SIGKILL {
		t.Fatalf("%v: %s", err, out)
	}
	i, left := up(t, l, "db1", 0)
	// Without its record it is found all the same, and not started twice.
	if err := os.Remove(filepath.Join(o.Dir, "db1", "process.json")); err != nil {
		t.Fatal(err)
	}
	stop := keep(t, l)
	farmtest.Eventually(t, "the process is on record again", func() error {
		if again, err := l.List(t.Context()); err != nil || again[0].PID != i.PID {
			return fmt.Errorf("%+v, %v", again, err)
		}
		return nil
	})
	stop()
	if err := l.Terminate(t.Context(), "db1"); err != nil {
		t.Fatal(err)
	}
	left.AwaitEnd(t)
	if _, err := os.Stat(filepath.Join(o.Dir, "db1")); !os.IsNotExist(err) {
		t.Errorf("its directory: %v", err)
	}
}

// keep keeps instances running until stop.
func keep(t *testing.T, l *provider.Local) (stop func()) {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- l.Keep(ctx) }()
	return func() {
		cancel()
		if err := <-done; !errors.Is(err, context.Canceled) {
			t.Error(err)
		}
	}
}

func TestASidecarThatEndsIsStartedAgain(t *testing.T) {
	l := local(t, made(t))
	if _, err := l.Launch(t.Context(), providertest.Spec(farmfile.WebKind, "web", 1)); err != nil {
		t.Fatal(err)
	}
	stop := keep(t, l)
	defer stop()
	i, _ := up(t, l, "web1", 0)
	if err := syscall.Kill(i.PID, syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	again, left := up(t, l, "web1", i.PID)
	// Terminated while it is kept: it is not started again.
	if err := l.Terminate(t.Context(), "web1"); err != nil {
		t.Fatal(err)
	}
	left.AwaitEnd(t)
	if _, err := process.Identify(again.PID); err == nil {
		t.Error("its sidecar runs")
	}
	// A termination that was cut short is gone on with.
	if _, err := l.Launch(t.Context(), providertest.Spec(farmfile.WebKind, "web", 2)); err != nil {
		t.Fatal(err)
	}
	up(t, l, "web2", 0)
	ended, cancel := context.WithCancel(t.Context())
	cancel()
	if err := l.Terminate(ended, "web2"); err == nil {
		t.Error("terminated within no time")
	}
	farmtest.Eventually(t, "the termination is gone on with", func() error {
		if all, err := l.List(t.Context()); err != nil || len(all) != 0 {
			return fmt.Errorf("%+v, %v", all, err)
		}
		return nil
	})
}

func TestWhatDoesNotStopIsKilledAndDataIsKeptIfThatIsAsked(t *testing.T) {
	o := made(t)
	o.StopLimit = 100 * time.Millisecond
	l := local(t, o)
	s := providertest.Spec(farmfile.MySQLKind, "stubborn", 1)
	s.Role.Storage.Keep = true
	if _, err := l.Launch(t.Context(), s); err != nil {
		t.Fatal(err)
	}
	_, left := up(t, l, "stubborn1", 0)
	if err := os.MkdirAll(filepath.Join(o.Dir, "stubborn1", "mysql", "data"), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := l.Terminate(t.Context(), "stubborn1"); err != nil {
		t.Fatal(err)
	}
	left.AwaitEnd(t)
	if _, err := os.Stat(filepath.Join(o.Dir, "kept", "stubborn1", "data")); err != nil {
		t.Errorf("the data that was to be kept: %v", err)
	}
	// Data that no instance has is not removed either.
	if err := os.MkdirAll(filepath.Join(o.Dir, "stubborn1", "mysql", "older"), 0o755); err != nil {
		t.Fatal(err)
	}
	if _, err := l.Launch(t.Context(), s); err != nil {
		t.Fatal(err)
	}
	if found, err := filepath.Glob(filepath.Join(o.Dir, "kept", "stubborn1-*", "older")); err != nil || len(found) != 1 {
		t.Errorf("the data that was there before: %v, %v", found, err)
	}
}

// TestSecretsAreForTheirOwnerOnly looks at the files that a sidecar runs from.
func TestSecretsAreForTheirOwnerOnly(t *testing.T) {
	l := local(t, made(t))
	for n, kind := range []farmfile.RoleKind{farmfile.MySQLKind, farmfile.WebKind, farmfile.WebKind} {
		s := providertest.Spec(kind, "node", n+1)
		if kind == farmfile.WebKind {
			s.Role.Parameters.Web.Proxy.Unix = filepath.Join(l.Dir, "mysqld.sock")
		}
		i, err := l.Launch(t.Context(), s)
		if err != nil {
			t.Fatal(err)
		}
		if want := map[int]string{1: "127.0.0.1:3306", 2: i.Address.String() + ":3306"}[n]; i.Listen != want {
			t.Errorf("%s listens on %q, want %q", i.Name, i.Listen, want)
		}
		if err := service.CheckSecretFile(filepath.Join(l.Dir, i.Name, "token")); err != nil {
			t.Error(err)
		}
		config, err := os.ReadFile(filepath.Join(l.Dir, i.Name, "sidecar.yaml"))
		if err != nil || strings.Contains(string(config), s.Token) {
			t.Errorf("%v, %s", err, config)
		}
	}
	for _, who := range []string{"replication", "monitor", "app"} {
		if _, err := service.ReadSecret(filepath.Join(l.Dir, "secrets", who+".password")); err != nil {
			t.Error(err)
		}
	}
	// Others take the place of those that there are, which are kept.
	old, err := l.Passwords()
	if err != nil || !old.Whole() {
		t.Fatal(err)
	}
	now := old
	now.Monitor = "another"
	if err := l.KeepPasswords(now); err != nil {
		t.Fatal(err)
	}
	if got, err := l.Passwords(); err != nil || got.Monitor != "another" || got.Replication != old.Replication {
		t.Errorf("kept is another, or %v", err)
	}
	before, err := filepath.Glob(filepath.Join(l.Dir, "secrets", "monitor.password.*"))
	if err != nil || len(before) != 1 {
		t.Fatalf("%v, %v", before, err)
	}
	if text, err := service.ReadSecret(before[0]); err != nil || text != old.Monitor {
		t.Errorf("the one before: %v", err)
	}
	for _, text := range []string{fmt.Sprint(now), fmt.Sprintf("%+v", now), fmt.Sprintf("%#v", now), fmt.Sprintf("%v", &now)} {
		if strings.Contains(text, now.Replication) || strings.Contains(text, "another") {
			t.Error("passwords are printed")
		}
	}
	if err := l.KeepPasswords(provider.Passwords{Monitor: "x"}); err == nil {
		t.Error("some are lacking")
	}
}

func TestNames(t *testing.T) {
	for name, want := range map[string]bool{"db1": true, "db10": true, "db": false, "db0": false, "db01": false, "dbx": false, "web1": false, "db-1": false} {
		if _, ok := provider.Number("db", name); ok != want {
			t.Errorf("%s: %v", name, ok)
		}
	}
}
