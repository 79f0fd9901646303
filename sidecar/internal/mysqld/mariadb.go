package mysqld

import (
	"context"
	"fmt"
	"strings"

	"farmhand/internal/farm"
	"farmhand/internal/gtid"
	"farmhand/internal/mysqladmin"
)

// mariaDB is MariaDB from 10.6 on, which has --init-rpl-role:
// https://mariadb.com/kb/en/semisynchronous-replication/
var mariaDB = dialect{
	arguments: func(master, semiSync bool) []string {
		role := "SLAVE"
		if master {
			role = "MASTER"
		}
		return []string{
			"--init-rpl-role=" + role,
			"--rpl-semi-sync-master-enabled=" + onOff(semiSync),
			"--rpl-semi-sync-slave-enabled=ON",
			// The default lets a commit be seen that nobody has acknowledged, and gives up
			// waiting after ten seconds.
			"--rpl-semi-sync-master-wait-point=AFTER_SYNC",
			"--rpl-semi-sync-master-timeout=4294967295", // ms, seven weeks
			"--rpl-semi-sync-master-wait-no-slave=ON",
		}
	},
	facts:         mariaDBFacts,
	compare:       mariaDBCompare,
	readOnly:      []string{"SET GLOBAL read_only=ON"},
	writable:      []string{"SET GLOBAL read_only=OFF"},
	freeze:        []string{"FLUSH TABLES WITH READ LOCK"},
	thaw:          []string{"UNLOCK TABLES"},
	startReceiver: "START SLAVE IO_THREAD", stopReceiver: "STOP SLAVE IO_THREAD",
	startApplier: "START SLAVE SQL_THREAD", stopApplier: "STOP SLAVE SQL_THREAD",
	startBoth: "START SLAVE", stopBoth: "STOP SLAVE",
	forget:      "RESET SLAVE ALL",
	semiSync:    func(on bool) string { return "SET GLOBAL rpl_semi_sync_master_enabled=" + onOff(on) },
	acknowledge: func(on bool) string { return "SET GLOBAL rpl_semi_sync_slave_enabled=" + onOff(on) },
	// Not gtid_current_pos: that knows what was written under the present server id only.
	adoptOwn: func(executed gtid.Position) []string {
		return []string{"SET GLOBAL gtid_slave_pos='" + executed.String() + "'"}
	},
	changeSource: func(host, port, user, password string) string {
		return "CHANGE MASTER TO MASTER_HOST=" + quote(host) + ", MASTER_PORT=" + port + ", MASTER_USER=" + quote(user) + ", MASTER_PASSWORD=" + quote(password) +
			", MASTER_USE_GTID=slave_pos, MASTER_CONNECT_RETRY=1, MASTER_HEARTBEAT_PERIOD=1, MASTER_DELAY=0"
	},
	waiting: "Rpl_semi_sync_master_wait_sessions", isReceived: mariaDBIsReceived,
	receivers: "SHOW SLAVE HOSTS", serverID: "Server_id",
	clients:    "SELECT ID AS id, USER AS user, COMMAND AS command FROM information_schema.PROCESSLIST",
	open:       "SELECT COUNT(*) AS n, COALESCE(SUM(p.COMMAND='Sleep'),0) AS idle FROM information_schema.INNODB_TRX t JOIN information_schema.PROCESSLIST p ON p.ID=t.trx_mysql_thread_id WHERE p.USER NOT IN ('system user','')",
	binlogTool: "mariadb-binlog",
	// The sequence numbers of a domain rise, whoever writes in it: what is errant comes
	// after the last one of its server that the source has.
	errantOnly: func(c comparison) []string {
		var servers []string
		for stream := range strings.SplitSeq(c.Errant, ",") {
			servers = append(servers, strings.Split(stream, "-")[1])
		}
		return []string{
			"--no-defaults", "--skip-gtid-strict-mode", "--verbose", "--verbose", "--base64-output=decode-rows",
			"--start-position=" + c.After, "--do-server-ids=" + strings.Join(servers, ","),
		}
	},
}

func mariaDBFacts(ctx context.Context, conn *mysqladmin.Conn) (facts, error) {
	f, err := mariaDBState(ctx, conn)
	if err != nil {
		return facts{}, err
	}
	channels, err := conn.Replication(ctx)
	if err != nil || len(channels) == 0 {
		return f, err
	}
	f.channel = &channels[0]
	if f.channel.Receiver == "No" && f.channel.Applier == "No" {
		// It may have applied more before it stopped.
		now, err := mariaDBState(ctx, conn)
		if err != nil {
			return facts{}, err
		}
		now.channel, now.lost, now.acknowledges = f.channel, !now.executed.Contains(f.channel.Received), false
		return now, nil
	}
	f.acknowledges = f.acknowledges && f.channel.Receiver == "Yes"
	f.received = f.executed.Merge(f.channel.Received)
	return f, nil
}

// mariaDBState is what does not concern the replication's threads.
func mariaDBState(ctx context.Context, conn *mysqladmin.Conn) (facts, error) {
	rows, err := conn.Query(ctx, "SELECT @@read_only AS ro, @@gtid_binlog_pos AS logged, @@gtid_slave_pos AS applied,"+
		" @@rpl_semi_sync_master_enabled AS waits,"+
		" (SELECT VARIABLE_VALUE FROM information_schema.GLOBAL_STATUS WHERE VARIABLE_NAME='RPL_SEMI_SYNC_SLAVE_STATUS') AS acknowledges")
	if err != nil {
		return facts{}, fmt.Errorf("ask the server for its state: %w", err)
	}
	if len(rows) != 1 {
		return facts{}, fmt.Errorf("ask the server for its state: %d rows", len(rows))
	}
	var positions [2]gtid.Position
	for i, column := range []string{"logged", "applied"} {
		if positions[i], err = gtid.Parse(farm.MariaDB, rows[0].String(column)); err != nil {
			return facts{}, err
		}
	}
	logged, applied := positions[0], positions[1]
	executed := applied.Merge(logged)
	return facts{
		readOnly: isOn(rows[0].String("ro")), semiSync: isOn(rows[0].String("waits")), acknowledges: isOn(rows[0].String("acknowledges")),
		executed: executed, received: executed, own: !applied.Contains(logged),
	}, nil
}
