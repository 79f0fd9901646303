package farmtest

import (
	"slices"

	"farmhand/internal/farm"
)

// frugal are settings, by flavor, that spare a server's start memory which it fills
// with zeros and tests do not need.
var frugal = map[farm.Flavor][]string{
	farm.MariaDB: {"--key-buffer-size=64K", "--aria-pagecache-buffer-size=8M"},
	farm.MySQL: {
		"--innodb-log-buffer-size=1M",
		"--innodb-doublewrite-pages=4",
		// The performance schema's tables of sessions, status and replication work
		// without what it counts.
		"--performance-schema-instrument=%=OFF",
		"--performance-schema-error-size=0",
		"--performance-schema-digests-size=0",
		"--performance-schema-max-memory-classes=0",
		"--performance-schema-max-mutex-classes=0",
		"--performance-schema-max-rwlock-classes=0",
		"--performance-schema-max-cond-classes=0",
		"--performance-schema-max-file-classes=0",
		"--performance-schema-max-socket-classes=0",
		"--performance-schema-max-statement-classes=0",
		"--performance-schema-max-stage-classes=0",
		"--performance-schema-events-waits-history-size=0",
		"--performance-schema-events-waits-history-long-size=0",
		"--performance-schema-events-stages-history-size=0",
		"--performance-schema-events-stages-history-long-size=0",
		"--performance-schema-events-statements-history-size=0",
		"--performance-schema-events-statements-history-long-size=0",
		"--performance-schema-events-transactions-history-size=0",
		"--performance-schema-events-transactions-history-long-size=0",
	},
}

// Frugal are arguments that make a test's server cheap to start and to run. They
// give up safety against a crash of the machine, not of the server. A MySQL
// server's start takes a third of the processor time that it takes without them, a
// MariaDB server's two thirds.
func Frugal(flavor farm.Flavor) []string {
	return slices.Concat([]string{"--sync-binlog=0", "--innodb-flush-log-at-trx-commit=2"}, frugal[flavor])
}
