package farmfile

import (
	"net/netip"
	"time"

	"farmhand/scaler/internal/safekeep"
)

// values are what a file means that does not say otherwise.
type values struct {
	farm     Farm
	roles    map[RoleKind]Role
	metrics  map[MetricKind]Metric
	template Template
}

// recurrence is for constants.
func recurrence(text string) Recurrence {
	s, err := safekeep.ParseSchedule(text)
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
	return values{
		farm: Farm{
			TimeZone: TimeZone{time.UTC},
			Provider: Provider{
				Kind:       LocalKind,
				Parameters: ProviderParameters{Local: &Local{Directory: ".farm", FirstAddress: Address{netip.AddrFrom4([4]byte{127, 0, 10, 1})}}},
			},
			Backups: Backups{
				Schedule: recurrence("24h"), Windows: []Window{}, FromPrimary: true, EncryptTo: []string{},
				Retention: Retention{Last: 7}, Archive: Archive{Every: 3 * second, Size: 8 << 20},
			},
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
				Kind: MySQLKind, Image: localImage, Size: localSize, Count: Count{3, 3},
				Scaling: []Metric{}, Schedule: []Schedule{},
				Storage: storage(10<<30, true), Hooks: hooks(),
				Parameters: Parameters{MySQL: &MySQL{
					Flavor: MariaDB, Port: 3306, BufferPool: 128 << 20,
					Durability: Available, AvailableAfter: 10 * second,
				}},
			},
			WebKind: {
				Kind: WebKind, Image: localImage, Size: localSize, Count: Count{1, 1},
				Scaling: []Metric{}, Schedule: []Schedule{}, Storage: storage(0, false), Hooks: hooks(),
				Parameters: Parameters{Web: &Web{
					Database: "db",
					// As the proxy's own configuration has it.
					Proxy: Proxy{
						TCP: "127.0.0.1:3306", Unix: "/run/mysqld/mysqld.sock", Admin: "127.0.0.1:9104",
						Consistency: "farm", MaxLag: 10 * second, MaxPerServer: 200,
					},
					Templates: []Template{},
				}},
			},
		},
		metrics: map[MetricKind]Metric{
			LoadMetric:        metric(LoadMetric, 1, 0.4),
			CPUMetric:         metric(CPUMetric, 0.75, 0.3),
			ConnectionsMetric: metric(ConnectionsMetric, 0, 0), // what is many depends on the server
			QueriesMetric:     metric(QueriesMetric, 0, 0),
			LagMetric:         metric(LagMetric, 10, 1),
			QueueWaitMetric:   metric(QueueWaitMetric, 0.05, 0.005),
			ForcedReadsMetric: metric(ForcedReadsMetric, 0.2, 0.02),
			CommandMetric:     metric(CommandMetric, 0, 0),
		},
		template: Template{Mode: 0o644, TimeLimit: 10 * second},
	}
}
