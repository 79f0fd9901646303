package mysqld

import (
	"context"
	"fmt"
	"strings"

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
	compare:       mySQLCompare,
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
		return mySQLServer(host, port, user, password) + ", SOURCE_AUTO_POSITION=1, SOURCE_DELAY=0"
	},
	// An applier that is stopped in the middle of a transaction, because the receiver was,
	// waits for a minute for the rest. One that runs gives it up when the next source
	// sends it anew.
	changeServer: mySQLServer,
	waiting:      "Rpl_semi_sync_source_wait_sessions", isReceived: mySQLIsReceived,
	receivers: "SHOW REPLICAS", serverID: "Server_Id",
	clients:    "SELECT ID AS id, USER AS user, COMMAND AS command FROM performance_schema.processlist",
	open:       "SELECT COUNT(*) AS n, COALESCE(SUM(p.COMMAND='Sleep'),0) AS idle FROM information_schema.INNODB_TRX t JOIN performance_schema.processlist p ON p.ID=t.trx_mysql_thread_id WHERE p.USER NOT IN ('system user','event_scheduler')",
	binlogTool: "mysqlbinlog",
	errantOnly: func(c comparison) []string {
		return []string{"--no-defaults", "--verbose", "--verbose", "--base64-output=decode-rows", "--include-gtids=" + c.Errant}
	},
}

func mySQLServer(host, port, user, password string) string {
	return "CHANGE REPLICATION SOURCE TO SOURCE_HOST=" + quote(host) + ", SOURCE_PORT=" + port + ", SOURCE_USER=" + quote(user) + ", SOURCE_PASSWORD=" + quote(password) +
		", SOURCE_CONNECT_RETRY=1, SOURCE_RETRY_COUNT=0, SOURCE_HEARTBEAT_PERIOD=1, GET_SOURCE_PUBLIC_KEY=1"
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

// mySQLCompare goes by gtid_executed, which is exact. A copy has that of its donor.
//
// What a source has executed is the beginning of its binlog, and a follower applies
// in its order (replica_preserve_commit_order). So one that has something which the
// source had not yet at an earlier look has all that it had then, or it is missing.
func mySQLCompare(ctx context.Context, own, source *mysqladmin.Conn, earlier string) (c comparison, err error) {
	var ownHas, sourceHas, uuid string
	for _, ask := range []struct {
		of     *mysqladmin.Conn
		what   string
		answer *string
	}{
		{own, "gtid_executed", &ownHas},
		{source, "gtid_executed", &sourceHas},
		{source, "server_uuid", &uuid},
	} {
		if *ask.answer, err = variable(ctx, ask.of, ask.what); err != nil {
			return c, fmt.Errorf("%s: %w", ask.what, err)
		}
	}
	c.seen = sourceHas
	if c.sourceHas, err = gtid.Parse(farm.MySQL, sourceHas); err != nil {
		return c, err
	}
	// A source counts its own transactions as executed once they are acknowledged,
	// which is after its followers have them.
	ofSource := sourceHas + "," + uuid + ":1-9223372036854775806"
	rows, err := own.Query(ctx, fmt.Sprintf("SELECT GTID_SUBTRACT(has, later) AS errant, GTID_SUBTRACT(had, has) AS lacks,"+
		" GTID_SUBTRACT(GTID_SUBTRACT(has, had), GTID_SUBTRACT(has, later)) AS newer FROM (SELECT %s AS has, %s AS had, %s AS later) AS sets",
		mysqladmin.Text(ownHas), mysqladmin.Text(earlier), mysqladmin.Text(ofSource)))
	if err != nil {
		return c, err
	}
	if len(rows) != 1 {
		return c, fmt.Errorf("compare sets: %d rows", len(rows))
	}
	c.Errant = rows[0].String("errant")
	c.missing = strings.ReplaceAll(rows[0].String("lacks"), "\n", "")
	if earlier == "" || c.missing != "" && rows[0].String("newer") == "" {
		c.missing, c.unsure = "", true
	}
	return c, nil
}
