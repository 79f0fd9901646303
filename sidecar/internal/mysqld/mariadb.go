package mysqld

import (
	"context"
	"fmt"
	"slices"
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
	errant:        mariaDBErrant,
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
	adoptOwn:    []string{"SET GLOBAL gtid_slave_pos=@@GLOBAL.gtid_current_pos"},
	changeSource: func(host, port, user, password string) string {
		return "CHANGE MASTER TO MASTER_HOST=" + quote(host) + ", MASTER_PORT=" + port + ", MASTER_USER=" + quote(user) + ", MASTER_PASSWORD=" + quote(password) +
			", MASTER_USE_GTID=slave_pos, MASTER_CONNECT_RETRY=1, MASTER_HEARTBEAT_PERIOD=1, MASTER_DELAY=0"
	},
	receivers: "SHOW SLAVE HOSTS", serverID: "Server_id",
	clients: "SELECT ID AS id, USER AS user, COMMAND AS command FROM information_schema.PROCESSLIST",
	open:    "SELECT COUNT(*) AS n FROM information_schema.INNODB_TRX t JOIN information_schema.PROCESSLIST p ON p.ID=t.trx_mysql_thread_id WHERE p.USER NOT IN ('system user','')",
	status:  "SHOW GLOBAL STATUS WHERE Variable_name IN ('Threads_connected','Threads_running','Questions','Uptime')",
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
	rows, err := conn.Query(ctx, "SELECT @@read_only AS ro, @@gtid_binlog_pos AS logged, @@gtid_slave_pos AS applied, @@gtid_current_pos AS now,"+
		" @@rpl_semi_sync_master_enabled AS waits,"+
		" (SELECT VARIABLE_VALUE FROM information_schema.GLOBAL_STATUS WHERE VARIABLE_NAME='RPL_SEMI_SYNC_SLAVE_STATUS') AS acknowledges")
	if err != nil {
		return facts{}, fmt.Errorf("ask the server for its state: %w", err)
	}
	if len(rows) != 1 {
		return facts{}, fmt.Errorf("ask the server for its state: %d rows", len(rows))
	}
	var positions [3]gtid.Position
	for i, column := range []string{"logged", "applied", "now"} {
		if positions[i], err = gtid.Parse(farm.MariaDB, rows[0].String(column)); err != nil {
			return facts{}, err
		}
	}
	logged, applied, current := positions[0], positions[1], positions[2]
	executed := applied.Merge(logged)
	return facts{
		readOnly: isOn(rows[0].String("ro")), semiSync: isOn(rows[0].String("waits")), acknowledges: isOn(rows[0].String("acknowledges")),
		executed: executed, received: executed, own: !applied.Contains(current),
	}, nil
}

// mariaDBErrant goes by gtid_binlog_state, which has the last sequence number for
// each domain and server that ever wrote in it. gtid_slave_pos and gtid_binlog_pos
// have one for each domain, in which another server's transactions do not show.
func mariaDBErrant(ctx context.Context, own, source *mysqladmin.Conn) (string, gtid.Position, error) {
	const query = "SELECT @@gtid_binlog_state AS state, @@gtid_binlog_pos AS pos"
	var states [2]map[string]uint64
	var sourceHas gtid.Position
	for i, conn := range []*mysqladmin.Conn{own, source} {
		rows, err := conn.Query(ctx, query)
		if err != nil {
			return "", sourceHas, err
		}
		if len(rows) != 1 {
			return "", sourceHas, fmt.Errorf("%d rows", len(rows))
		}
		if states[i], err = binlogState(rows[0].String("state")); err != nil {
			return "", sourceHas, err
		}
		if sourceHas, err = gtid.Parse(farm.MariaDB, rows[0].String("pos")); err != nil {
			return "", sourceHas, err
		}
	}
	var errant []string
	for stream, last := range states[0] {
		if last > states[1][stream] {
			errant = append(errant, fmt.Sprintf("%s-%d", stream, last))
		}
	}
	slices.Sort(errant)
	return strings.Join(errant, ","), sourceHas, nil
}

// binlogState reads "D-S-N,…" as "D-S" to N.
func binlogState(text string) (map[string]uint64, error) {
	state := map[string]uint64{}
	for one := range strings.SplitSeq(text, ",") {
		if one = strings.TrimSpace(one); one == "" {
			continue
		}
		var domain, server uint32
		var last uint64
		if _, err := fmt.Sscanf(one, "%d-%d-%d", &domain, &server, &last); err != nil {
			return nil, fmt.Errorf("gtid_binlog_state has %q: %w", one, err)
		}
		state[fmt.Sprintf("%d-%d", domain, server)] = last
	}
	return state, nil
}
