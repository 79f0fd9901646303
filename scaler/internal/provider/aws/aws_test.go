package aws

import (
	"context"
	"errors"
	"flag"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"
	"go.uber.org/zap/zaptest"

	"farmhand/internal/awstest"
	"farmhand/scaler/internal/farmfile"
	"farmhand/scaler/internal/provider"
	"farmhand/scaler/internal/provider/providertest"
	"farmhand/scaler/internal/volume"
	"farmhand/scaler/internal/volume/volumetest"
)

func TestMain(m *testing.M) {
	flag.Parse()
	if !*realAccount {
		if err := awstest.Setenv(); err != nil {
			panic(err)
		}
	}
	goleak.VerifyTestMain(m, goleak.IgnoreTopFunction("internal/poll.runtime_pollWait"), goleak.IgnoreTopFunction("net/http.(*persistConn).writeLoop"))
}

func options(t *testing.T, s *awstest.Server) Options {
	return Options{
		Farm: "shop",
		AWS: farmfile.AWS{
			Region: "eu-test-1", Endpoint: s.URL, Subnets: []string{awstest.Subnet(0), awstest.Subnet(1)}, SecurityGroups: []string{"sg-0000000000000000a"},
			Directory: "/opt/farmhand", DiskType: "gp3", Roles: map[string]farmfile.AWSRole{},
		},
		Files: func(s provider.Spec) (Files, error) {
			return Files{Places{"/opt/farmhand"}.Config(): "name: " + s.Name + "\n"}, nil
		},
		Deliver: func(context.Context, string, Files) error { return nil },
		Poll:    time.Millisecond, Lag: 100 * time.Millisecond, Attempts: 4, Backoff: 10 * time.Millisecond, Log: zaptest.NewLogger(t),
	}
}

func opened(t *testing.T, o Options) *Provider {
	t.Helper()
	p, err := New(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func spec(kind farmfile.RoleKind, role string, number int) provider.Spec {
	s := providertest.Spec(kind, role, number)
	sized(&s)
	return s
}

func sized(s *provider.Spec) {
	s.Role.Image, s.Role.Size = "ami-00000000000000001", "m7g.large, m6g.large"
}

func TestContract(t *testing.T) {
	t.Parallel()
	s := awstest.New(t)
	o := options(t, s)
	providertest.Contract(t, opened(t, o), func() provider.Provider { return opened(t, o) }, sized)
	if n := s.Calls("DescribeInstances"); n < 10 {
		t.Errorf("%d looks", n)
	}
}

func TestAnInstanceIsAsTheFarmFileSays(t *testing.T) {
	t.Parallel()
	s := awstest.New(t)
	o := options(t, s)
	o.Key, o.InstanceProfile = "ops", "backups"
	p := opened(t, o)
	i, err := p.Launch(t.Context(), spec(farmfile.WebKind, "web", 2))
	if err != nil {
		t.Fatal(err)
	}
	if i.Listen != "127.0.0.1:3306" || i.Kind != farmfile.WebKind || !i.Address.IsValid() {
		t.Errorf("launched %+v", i)
	}
	in := s.Last("RunInstances")
	metadata := in["MetadataOptions"].(awstest.Fields)
	if metadata["HttpTokens"] != "required" || metadata["HttpPutResponseHopLimit"] != 1 || in["KeyName"] != "ops" ||
		in["IamInstanceProfile"].(awstest.Fields)["Name"] != "backups" || in["InstanceType"] != "m7g.large" ||
		in["SubnetId"] != awstest.Subnet(1) || in["InstanceMarketOptions"] != nil { // the second is in the second zone
		t.Errorf("asked for %v", in)
	}
}

func TestLaunchesGoThroughFaults(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		faults []*awstest.Fault
		market farmfile.Market
		lag    int
		size   string
		calls  int
		spot   bool
	}{
		"throttled":                {faults: []*awstest.Fault{awstest.Throttled, awstest.Throttled}, calls: 3, size: "m7g.large"},
		"a lost answer":            {faults: []*awstest.Fault{awstest.Lost}, calls: 2, size: "m7g.large"},
		"no capacity of one type":  {faults: []*awstest.Fault{awstest.NoCapacity, awstest.NoCapacity}, calls: 3, size: "m6g.large"},
		"spot":                     {market: farmfile.Spot, calls: 1, size: "m7g.large", spot: true},
		"no spot capacity":         {market: farmfile.Spot, faults: []*awstest.Fault{awstest.NoCapacity, awstest.NoCapacity, awstest.NoCapacity, awstest.NoCapacity}, calls: 5, size: "m7g.large"},
		"shown late":               {lag: 3, calls: 1, size: "m7g.large"},
		"lost, throttled and late": {faults: []*awstest.Fault{awstest.Lost, awstest.Throttled}, lag: 2, calls: 3, size: "m7g.large"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := awstest.New(t)
			o := options(t, s)
			o.Roles = map[string]farmfile.AWSRole{"web": {Market: c.market, Port: 80}}
			p := opened(t, o)
			s.Lag(c.lag)
			s.Script("RunInstances", c.faults...)
			sp := spec(farmfile.WebKind, "web", 1)
			if _, err := p.Launch(t.Context(), sp); err != nil {
				t.Fatal(err)
			}
			in := s.Last("RunInstances")
			if n := s.Calls("RunInstances"); n != c.calls || in["InstanceType"] != c.size || (in["InstanceMarketOptions"] != nil) != c.spot {
				t.Errorf("%d calls, the last with %v", n, in)
			}
			// By our own knowledge, and by that of a scaler that sees what is shown late.
			sp.Token += "-of-another-scaler"
			for _, p := range []*Provider{p, opened(t, o)} {
				if _, err := p.Launch(t.Context(), sp); !errors.Is(err, provider.ErrExists) {
					t.Errorf("launched again: %v", err)
				}
			}
			s.Lag(0)
			for range 4 { // until it is shown
				if _, err := opened(t, o).List(t.Context()); err != nil {
					t.Fatal(err)
				}
			}
			if all, err := opened(t, o).List(t.Context()); err != nil || len(all) != 1 || all[0].Name != "web1" {
				t.Errorf("there are %+v, %v", all, err)
			}
			if err := opened(t, o).Terminate(t.Context(), "web1"); err != nil {
				t.Error(err)
			}
		})
	}
}

func TestWhatIsRefusedIsTold(t *testing.T) {
	t.Parallel()
	s := awstest.New(t)
	p := opened(t, options(t, s))
	s.Script("RunInstances", awstest.Refused(403, "UnauthorizedOperation"))
	if _, err := p.Launch(t.Context(), spec(farmfile.WebKind, "web", 1)); err == nil || !strings.Contains(err.Error(), "UnauthorizedOperation") || s.Calls("RunInstances") != 1 {
		t.Errorf("%v after %d calls", err, s.Calls("RunInstances"))
	}
	s.Script("RunInstances", awstest.NoCapacity, awstest.NoCapacity, awstest.NoCapacity, awstest.NoCapacity)
	_, err := p.Launch(t.Context(), spec(farmfile.WebKind, "web", 1))
	if err == nil || strings.Count(err.Error(), "InsufficientInstanceCapacity") != 4 || s.Calls("RunInstances") != 5 {
		t.Errorf("%v after %d calls", err, s.Calls("RunInstances"))
	}
	if all, err := p.List(t.Context()); err != nil || len(all) != 0 {
		t.Errorf("there are %v, %v", all, err)
	}
	if strings.Contains(err.Error(), "farmhand-join") {
		t.Errorf("the token is in %q", err)
	}
}

func TestWhatBelongsToInstances(t *testing.T) {
	t.Parallel()
	s := awstest.New(t)
	o := options(t, s)
	o.Roles = map[string]farmfile.AWSRole{"web": {ElasticIPs: []string{s.AddAddress(), s.AddAddress()}}}
	p := opened(t, o)
	for n := range 2 {
		if _, err := p.Launch(t.Context(), spec(farmfile.WebKind, "web", n+1)); err != nil {
			t.Fatal(err)
		}
	}
	db := spec(farmfile.MySQLKind, "db", 1)
	db.Role.Storage = farmfile.Storage{Kind: farmfile.VolumeStorage, Keep: true}
	db.Volume = "db-1"
	if _, err := p.Volumes().Create(t.Context(), volume.Spec{Name: "db-1", Kind: volume.Single, Size: 5 << 30}); err != nil {
		t.Fatal(err)
	}
	if _, err := p.Launch(t.Context(), db); err != nil {
		t.Fatal(err)
	}
	if s.Last("RunInstances")["SubnetId"] != awstest.Subnet(0) {
		t.Error("it is not in its volume's zone")
	}
	for range 3 { // until all run; what is there is left as it is
		time.Sleep(o.Lag) // what we know of them ourselves has aged
		if err := opened(t, o).Tend(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	if a, v := s.Calls("AssociateAddress"), s.Calls("AttachVolume"); a != 2 || v != 1 {
		t.Errorf("%d addresses, %d attachments", a, v)
	}
	v, err := p.Volumes().Describe(t.Context(), "db-1")
	if err != nil || v.Instance != "db1" || v.Epoch != 1 {
		t.Errorf("the volume is %+v, %v", v, err)
	}
	for _, name := range []string{"web1", "db1"} {
		if err := p.Terminate(t.Context(), name); err != nil {
			t.Fatal(err)
		}
	}
	if s.Calls("DeleteVolume") != 0 {
		t.Errorf("%d volumes deleted", s.Calls("DeleteVolume"))
	}
	if v, err := p.Volumes().Describe(t.Context(), "db-1"); err != nil || v.Instance != "" {
		t.Errorf("then the volume is %+v, %v", v, err)
	}
}

func TestVolumes(t *testing.T) {
	t.Parallel()
	for name, sp := range map[string]volume.Spec{
		"single": {Kind: volume.Single, Size: 5 << 30},
		"array":  {Kind: volume.Array, Size: 6 << 30, Disks: 4, Layout: volume.Both},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := awstest.New(t)
			o := options(t, s)
			o.Subnets = o.Subnets[:1]
			o.Lag = 10 * time.Millisecond
			s.Script("CreateVolume", awstest.Lost, awstest.Throttled)
			s.Script("AttachVolume", awstest.Lost)
			volumetest.Contract(t, func() volume.Store { return held{opened(t, o).Volumes(), t} }, sp)
		})
	}
}

// held gives volumes to instances that come when a volume is attached to them and go
// before it is detached, as instances do.
type held struct {
	*Volumes
	t *testing.T
}

func (h held) Attach(ctx context.Context, name, instance string) (volume.Volume, error) {
	role := strings.TrimRight(instance, "0123456789")
	if instance != "" && strings.TrimPrefix(instance, role) != "" {
		sp := spec(farmfile.WebKind, role, 1)
		sp.Name = instance
		if _, err := h.p.Launch(ctx, sp); err != nil && !errors.Is(err, provider.ErrExists) {
			h.t.Error(err)
		}
		err := h.p.await(ctx, time.Second, "running", func() (bool, error) {
			time.Sleep(h.p.Lag)
			i, err := h.p.find(ctx, instance)
			return err == nil && stateOf(i) == "running", nil
		})
		if err != nil {
			h.t.Error(err)
		}
	}
	return h.Volumes.Attach(ctx, name, instance)
}

func (h held) Detach(ctx context.Context, name, instance string) error {
	if v, err := h.Describe(ctx, name); err == nil && v.Instance == instance {
		if err := h.Volumes.Detach(ctx, name, instance); !errors.Is(err, volume.ErrInUse) {
			h.t.Errorf("detached from an instance that is there: %v", err)
		}
		if err := h.p.Terminate(ctx, instance); err != nil {
			return err
		}
	}
	return h.Volumes.Detach(ctx, name, instance)
}

func TestImages(t *testing.T) {
	t.Parallel()
	s := awstest.New(t)
	p := opened(t, options(t, s))
	if _, err := p.Launch(t.Context(), spec(farmfile.WebKind, "web", 1)); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		i, err := p.MakeImage(t.Context(), "web1", "web-2")
		if err != nil || !i.Ready || i.From != "web1" || !strings.HasPrefix(i.ID, "ami-") {
			t.Fatalf("%+v, %v", i, err)
		}
	}
	if i, err := p.MakeImage(t.Context(), "web2", "web-2"); err == nil {
		t.Errorf("an image of web1 is one of web2: %+v", i)
	}
	images, err := p.Images(t.Context())
	if err != nil || len(images) != 1 || images[0].Name != "web-2" || s.Calls("CreateImage") != 1 {
		t.Fatalf("images %+v, %v", images, err)
	}
	for range 2 {
		if err := p.RemoveImage(t.Context(), "web-2"); err != nil {
			t.Error(err)
		}
	}
	if s.Calls("DeregisterImage") != 1 || s.Calls("DeleteSnapshot") != 1 {
		t.Errorf("%d images and %d snapshots were removed", s.Calls("DeregisterImage"), s.Calls("DeleteSnapshot"))
	}
}

func TestExamine(t *testing.T) {
	t.Parallel()
	s := awstest.New(t)
	o := options(t, s)
	for _, f := range opened(t, o).Examine(t.Context(), []string{"resolve:ssm:/farm/web"}) {
		if f.Err != nil {
			t.Errorf("%s: %v", f.What, f.Err)
		}
	}
	o.SecurityGroups = append(o.SecurityGroups, awstest.OpenGroup)
	var wrong []string
	for _, f := range opened(t, o).Examine(t.Context(), []string{"ami-00000000000000001"}) {
		if f.Err != nil {
			wrong = append(wrong, f.Err.Error())
		}
	}
	if len(wrong) != 2 || !strings.Contains(wrong[0], awstest.OpenGroup+" lets 0.0.0.0/0 in: tcp, ports 22 to 22") || !strings.Contains(wrong[1], "InvalidAMIID.NotFound") {
		t.Errorf("found %q", wrong)
	}
}

// TestOfTwoInstancesOfAName, as two scalers can make them that do not see each other's,
// the older one is left.
func TestOfTwoInstancesOfAName(t *testing.T) {
	t.Parallel()
	s := awstest.New(t)
	o := options(t, s)
	s.Lag(4)
	var launched []provider.Instance
	for range 2 {
		i, err := opened(t, o).Launch(t.Context(), spec(farmfile.WebKind, "web", 1)) // each is asked for at another time
		if err != nil {
			t.Fatal(err)
		}
		launched = append(launched, i)
	}
	p := opened(t, o)
	for range 9 {
		if err := p.Tend(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	all, err := p.List(t.Context())
	if err != nil || len(all) != 1 || all[0].Address != launched[0].Address || s.Calls("RunInstances") != 2 || s.Calls("TerminateInstances") == 0 {
		t.Errorf("there are %+v, %v", all, err)
	}
}

// TestASnapshotThatMayNotBeWholeIsNone: a call that makes things twice if it is made
// twice is not made again, and what there is of it goes.
func TestASnapshotThatMayNotBeWholeIsNone(t *testing.T) {
	t.Parallel()
	s := awstest.New(t)
	o := options(t, s)
	store := held{opened(t, o).Volumes(), t}
	if _, err := store.Create(t.Context(), volume.Spec{Name: "db-1", Kind: volume.Array, Size: 4 << 30, Disks: 2, Layout: volume.Mirrored}); err != nil {
		t.Fatal(err)
	}
	if _, err := store.Attach(t.Context(), "db-1", "db1"); err != nil {
		t.Fatal(err)
	}
	s.Script("CreateSnapshots", awstest.Lost)
	if one, err := store.Snapshot(t.Context(), "db-1", volume.SnapshotOptions{}); err == nil {
		t.Errorf("the answer was lost, and yet there is %+v", one)
	}
	if all, err := store.Snapshots(t.Context()); err != nil || len(all) != 0 || s.Calls("CreateSnapshots") != 1 || s.Calls("DeleteSnapshot") != 2 {
		t.Errorf("there are %+v, %v, after %d calls", all, err, s.Calls("CreateSnapshots"))
	}
	one, err := store.Snapshot(t.Context(), "db-1", volume.SnapshotOptions{Hold: func(context.Context) (func() error, error) {
		return func() error { return nil }, nil
	}})
	if err != nil || one.Moment != volume.Quiet || one.Held == 0 {
		t.Errorf("then %+v, %v", one, err)
	}
	if in := s.Last("CreateSnapshots")["InstanceSpecification"].(awstest.Fields); in["ExcludeBootVolume"] != true {
		t.Errorf("asked for %v", in)
	}
}
