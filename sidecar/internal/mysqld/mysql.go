package mysqld

import (
	"context"
	"fmt"

	"farmhand/internal/farm"
	"farmhand/internal/gtid"
	"farmhand/internal/mysqladmin"
)

// mySQL is MySQL from 8.4 on:
// https://dev.mysql.com/doc/refman/8.4/en/replication-semisync.html
//
// It cannot give up, when it starts, what nobody has acknowledged: that of a
// primary which has crashed stays and is seen as errant.
var mySQL = dialect{
	arguments: func(_, semiSync bool) []string {
		return []string{
			"--rpl-semi-sync-source-enabled=" + onOff(semiSync),
			"--rpl-semi-sync-replica-enabled=ON",
			"--rpl-semi-sync-source-wait-point=AFTER_SYNC",
			"--rpl-semi-sync-source-timeout=4294967295",
			"--rpl-semi-sync-source-wait-no-replica=ON",
			"--log-replica-updates=ON",
		}
	},
	facts:         mySQLFacts,
	compare:       mySQLErrant,
	readOnly:      []string{"SET GLOBAL super_read_only=ON"}, // implies read_only
	writable:      []string{"SET GLOBAL super_read_only=OFF", "SET GLOBAL read_only=OFF"},
	release:       []string{"SET GLOBAL rpl_semi_sync_source_enabled=OFF"},
	startReceiver: "START REPLICA IO_THREAD", stopReceiver: "STOP REPLICA IO_THREAD",
	startApplier: "START REPLICA SQL_THREAD", stopApplier: "STOP REPLICA SQL_THREAD",
	startBoth: "START REPLICA", stopBoth: "STOP REPLICA",
	forget:      "RESET REPLICA ALL",
	semiSync:    func(on bool) string { return "SET GLOBAL rpl_semi_sync_source_enabled=" + onOff(on) },
	acknowledge: func(on bool) string { return "SET GLOBAL rpl_semi_sync_replica_enabled=" + onOff(on) },
	changeSource: func(host, port, user, password string) string {
		return "CHANGE REPLICATION SOURCE TO SOURCE_HOST=" + quote(host) + ", SOURCE_PORT=" + port + ", SOURCE_USER=" + quote(user) + ", SOURCE_PASSWORD=" + quote(password) +
			", SOURCE_AUTO_POSITION=1, SOURCE_CONNECT_RETRY=1, SOURCE_RETRY_COUNT=0, SOURCE_HEARTBEAT_PERIOD=1, GET_SOURCE_PUBLIC_KEY=1, SOURCE_DELAY=0"
	},
	receivers: "SHOW REPLICAS", serverID: "Server_Id",
	clients: "SELECT ID AS id, USER AS user, COMMAND AS command FROM performance_schema.processlist",
	open:    "SELECT COUNT(*) AS n FROM information_schema.INNODB_TRX t JOIN performance_schema.processlist p ON p.ID=t.trx_mysql_thread_id WHERE p.USER NOT IN ('system user','event_scheduler')",
	readBinlog: func(c comparison) []string {
		return []string{"mysqlbinlog", "--no-defaults", "--verbose", "--verbose", "--base64-output=decode-rows", "--include-gtids=" + c.Errant}
	},
}

func mySQLFacts(ctx context.Context, conn *mysqladmin.Conn) (facts, error) {
	rows, err := conn.Query(ctx, "SELECT @@super_read_only AS ro, @@gtid_executed AS executed, @@rpl_semi_sync_source_enabled AS waits,"+
		" (SELECT VARIABLE_VALUE FROM performance_schema.global_status WHERE VARIABLE_NAME='Rpl_semi_sync_replica_status') AS acknowledges")
	if err != nil {
		return facts{}, fmt.Errorf("ask the server for its state: %w", err)
	}
	if len(rows) != 1 {
		return facts{}, fmt.Errorf("ask the server for its state: %d rows", len(rows))
	}
	row := rows[0]
	f := facts{readOnly: isOn(row.String("ro")), semiSync: isOn(row.String("waits"))}
	if f.executed, err = gtid.Parse(farm.MySQL, row.String("executed")); err != nil {
		return facts{}, err
	}
	f.received = f.executed
	channels, err := conn.Replication(ctx)
	if err != nil || len(channels) == 0 {
		return f, err
	}
	f.channel = &channels[0]
	f.acknowledges = f.channel.Receiver == "Yes" && isOn(row.String("acknowledges"))
	// Threads that have stopped keep what was received.
	f.received = f.executed.Merge(f.channel.Received)
	return f, nil
}

func mySQLErrant(ctx context.Context, own, source *mysqladmin.Conn) (comparison, error) {
	var c comparison
	var executed [2]string
	var uuid string // the source's
	for i, conn := range []*mysqladmin.Conn{own, source} {
		rows, err := conn.Query(ctx, "SELECT @@gtid_executed AS executed, @@server_uuid AS uuid")
		if err != nil {
			return c, err
		}
		if len(rows) != 1 {
			return c, fmt.Errorf("%d rows", len(rows))
		}
		executed[i], uuid = rows[0].String("executed"), rows[0].String("uuid")
	}
	var err error
	if c.sourceHas, err = gtid.Parse(farm.MySQL, executed[1]); err != nil {
		return c, err
	}
	// A source counts its own transactions as executed once they are acknowledged,
	// which is after its followers have them.
	ofSource := executed[1] + "," + uuid + ":1-9223372036854775806"
	rows, err := own.Query(ctx, "SELECT GTID_SUBTRACT("+mysqladmin.Text(executed[0])+", "+mysqladmin.Text(ofSource)+") AS errant")
	if err == nil && len(rows) == 1 {
		c.Errant = rows[0].String("errant")
	}
	return c, err
}
