package farmfile

import (
	"net/netip"
	"time"

	"farmhand/scaler/internal/cron"
	"farmhand/scaler/internal/schedule"
)

// values are what a file means that does not say otherwise.
type values struct {
	farm      Farm
	providers map[ProviderKind]Provider
	roles     map[RoleKind]Role
	metrics   map[MetricKind]Metric
	template  Template
	cron      Cron
	program   Program
	mount     Mount
	health    Health
	site      Site
}

// recurrence is for constants.
func recurrence(text string) Recurrence {
	s, err := schedule.Parse(text)
	if err != nil {
		panic(err)
	}
	return Recurrence{s}
}

// defaults returns every default there is, anew each time: files are read over
// them.
func defaults() values {
	const (
		second = Duration(time.Second)
		minute = Duration(time.Minute)
	)
	hooks := func() Hooks { return Hooks{TimeLimit: 30 * second, Wait: 5 * minute, Events: Events{}} }
	storage := func(size Size, keep bool) Storage {
		return Storage{Kind: DirectoryStorage, Size: size, FileSystem: AnyFileSystem, Layout: "raid10", Keep: keep, Pin: keep}
	}
	role := func(kind RoleKind, parameters Parameters) Role {
		return Role{
			Kind: kind, Image: HostImage, Size: localSize, Count: Count{1, 1},
			Scaling: []Metric{}, Schedule: []Schedule{}, Storage: storage(0, false), Hooks: hooks(), Parameters: parameters,
		}
	}
	metric := func(kind MetricKind, out, in float64) Metric {
		m := Metric{
			Kind: kind, Window: minute,
			OutCooldown: 3 * minute, InCooldown: 15 * minute, OutStep: 2, InStep: 1,
			TimeLimit: 10 * second,
		}
		if out > 0 {
			unit := metricKinds[kind].unit
			m.ScaleOut, m.ScaleIn = Level{out, unit}, Level{in, unit}
		}
		return m
	}
	aws := defaultAWS()
	providers := map[ProviderKind]Provider{
		LocalKind: {Kind: LocalKind, Parameters: ProviderParameters{Local: &Local{Directory: ".farm", FirstAddress: Address{netip.AddrFrom4([4]byte{127, 0, 10, 1})}}}},
		AWSKind:   {Kind: AWSKind, Parameters: ProviderParameters{AWS: &aws}},
	}
	return values{
		providers: providers,
		farm: Farm{
			TimeZone: TimeZone{time.UTC},
			Provider: providers[LocalKind],
			Backups: Backups{
				Schedule: recurrence("24h"), Windows: []Window{}, Method: Physical, FromPrimary: true, EncryptTo: []string{},
				Retention: Retention{Last: 7}, Archive: Archive{Every: 3 * second, Size: 8 << 20},
			},
			Cron: map[string]Cron{},
			Policies: Policies{
				Failover: Failover{
					Role: "db", Mode: Automatic, Interval: second / 2, Failures: 3,
					Deadline: minute, Quiet: 10 * minute, MinReplicas: 1,
				},
				Maintenance: Maintenance{Windows: []Window{}},
			},
		},
		roles: map[RoleKind]Role{
			MySQLKind: {
				Kind: MySQLKind, Image: HostImage, Size: localSize, Count: Count{3, 3},
				Scaling: []Metric{}, Schedule: []Schedule{},
				Storage: storage(10<<30, true), Hooks: hooks(),
				Parameters: Parameters{MySQL: &MySQL{
					Flavor: MariaDB, Port: 3306, BufferPool: 128 << 20,
					Durability: Available, AvailableAfter: 10 * second, RestoreFrom: RestoreFrom{To: "latest"},
				}},
			},
			WebKind: role(WebKind, Parameters{Web: &Web{
				Database: "db",
				// As the proxy's own configuration has it.
				Proxy: Proxy{
					TCP: "127.0.0.1:3306", Unix: "/run/mysqld/mysqld.sock", Admin: "127.0.0.1:9104",
					Consistency: "farm", MaxLag: 10 * second, MaxPerServer: 200,
				},
				HTTP:    HTTP{FrontController: "/index.php", BalancerNets: []string{}, MaxBody: 64 << 20, TimeLimit: 30 * second, Nginx: "nginx", Sites: map[string]Site{}, PHP: PHP{Children: 8, Settings: Settings{}}},
				Mail:    Mail{TLS: StartTLS, TimeLimit: 15 * second, Program: "msmtp"},
				Release: Release{Keep: 5, Check: Command{}, CheckLimit: minute, Path: "/", Within: 30 * second, Shared: []Shared{}},
				Frame:   defaultFrame(15*minute, minute),
			}}),
			BaseKind: role(BaseKind, Parameters{Base: &Base{Frame: defaultFrame(15*minute, minute)}}),
			LBKind: role(LBKind, Parameters{LB: &LB{
				Backend: "web", Port: 8080, Balance: "leastconn", CheckPath: "/", MaxConnections: 4000, Program: "haproxy",
				Frame: defaultFrame(15*minute, minute),
			}}),
			MemcachedKind: role(MemcachedKind, Parameters{Memcached: &Memcached{
				Port: 11211, Memory: 64 << 20, MaxItem: 1 << 20, MaxConnections: 1024, Program: "memcached",
				Frame: defaultFrame(15*minute, 0),
			}}),
			StorageServerKind: {
				Kind: StorageServerKind, Image: HostImage, Size: localSize, Count: Count{1, 1},
				Scaling: []Metric{}, Schedule: []Schedule{},
				Storage: Storage{Kind: VolumeStorage, Size: 10 << 30, FileSystem: AnyFileSystem, Layout: "raid10", Keep: true, Pin: true}, Hooks: hooks(),
				Parameters: Parameters{StorageServer: &StorageServer{
					Port: 24010, Durable: true, LostAfter: 30 * second, Program: "glusterfsd", Frame: defaultFrame(3*minute, 0),
				}},
			},
			// As sidecar work has them.
			WorkerKind: role(WorkerKind, Parameters{Worker: &Worker{
				Command: Command{}, Processes: 1, Hold: 30 * second, Limit: 60 * minute, Retry: 5 * second, Environment: Environment{},
				Frame: defaultFrame(15*minute, 60*minute),
			}}),
		},
		metrics: map[MetricKind]Metric{
			LoadMetric:        metric(LoadMetric, 1, 0.4),
			CPUMetric:         metric(CPUMetric, 0.75, 0.3),
			ConnectionsMetric: metric(ConnectionsMetric, 0, 0), // what is many depends on the server
			QueriesMetric:     metric(QueriesMetric, 0, 0),
			LagMetric:         metric(LagMetric, 10, 1),
			QueueWaitMetric:   metric(QueueWaitMetric, 0.05, 0.005),
			ForcedReadsMetric: metric(ForcedReadsMetric, 0.2, 0.02),
			RequestsMetric:    metric(RequestsMetric, 0, 0),
			MissesMetric:      metric(MissesMetric, 0.4, 0.1),
			QueueAgeMetric:    metric(QueueAgeMetric, 0, 0), // how long a job may wait is the farm's own
			CommandMetric:     metric(CommandMetric, 0, 0),
			// SQS counts with a lag of up to a minute.
			QueueMetric: {
				Kind: QueueMetric, Window: 2 * minute, InCooldown: 2 * minute, OutStep: 10, InStep: 10, TimeLimit: 10 * second,
			},
		},
		cron:     Cron{CatchUp: CatchUp(cron.None), Limit: 10, Unsure: Unsure(cron.Repeat)},
		template: Template{Mode: 0o644, TimeLimit: 10 * second},
		site:     Site{Names: []string{}, FrontController: "/index.php", Children: 4, Settings: Settings{}},
		program:  Program{Environment: Environment{}, StopSignal: "TERM", StopAfter: 30 * second, ReloadSignal: "HUP"},
		mount:    Mount{Wait: minute, Program: "glusterfs"},
		health:   Health{Interval: 5 * second, TimeLimit: 2 * second, Failures: 3, Successes: 2},
	}
}
