package mysqld

import (
	"context"
	"fmt"
	"maps"
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
	compare:       mariaDBErrant,
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
	receivers: "SHOW SLAVE HOSTS", serverID: "Server_id",
	clients: "SELECT ID AS id, USER AS user, COMMAND AS command FROM information_schema.PROCESSLIST",
	open:    "SELECT COUNT(*) AS n FROM information_schema.INNODB_TRX t JOIN information_schema.PROCESSLIST p ON p.ID=t.trx_mysql_thread_id WHERE p.USER NOT IN ('system user','')",
	// The sequence numbers of a domain rise, whoever writes in it: what is errant comes
	// after the last one of its server that the source has.
	readBinlog: func(c comparison) []string {
		var servers []string
		for stream := range strings.SplitSeq(c.Errant, ",") {
			servers = append(servers, strings.Split(stream, "-")[1])
		}
		return []string{
			"mariadb-binlog", "--no-defaults", "--skip-gtid-strict-mode", "--verbose", "--verbose", "--base64-output=decode-rows",
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

// mariaDBErrant goes by gtid_binlog_state, which has the last sequence number for
// each domain and server that ever wrote in it. gtid_slave_pos and gtid_binlog_pos
// have one for each domain, in which another server's transactions do not show.
func mariaDBErrant(ctx context.Context, own, source *mysqladmin.Conn) (comparison, error) {
	const query = "SELECT @@gtid_binlog_state AS state, @@gtid_binlog_pos AS pos"
	var c comparison
	var states [2][]stream
	for i, conn := range []*mysqladmin.Conn{own, source} {
		rows, err := conn.Query(ctx, query)
		if err != nil {
			return c, err
		}
		if len(rows) != 1 {
			return c, fmt.Errorf("%d rows", len(rows))
		}
		if states[i], err = binlogState(rows[0].String("state")); err != nil {
			return c, err
		}
		if c.sourceHas, err = gtid.Parse(farm.MariaDB, rows[0].String("pos")); err != nil {
			return c, err
		}
	}
	c.Errant, c.After = compareStreams(states[0], states[1])
	return c, nil
}

// stream is what one server has written in one domain, up to the last.
type stream struct {
	domain, server uint32
	last           uint64
}

func (s stream) String() string { return fmt.Sprintf("%d-%d-%d", s.domain, s.server, s.last) }

// compareStreams returns the last of each stream of which own has more than the
// source, and for each of their domains the position after which that begins.
func compareStreams(own, source []stream) (errant, after string) {
	type key struct{ domain, server uint32 }
	has := map[key]uint64{}
	for _, s := range source {
		has[key{s.domain, s.server}] = s.last
	}
	var list []string
	begins := map[uint32]stream{}
	for _, s := range own {
		last := has[key{s.domain, s.server}]
		if s.last <= last {
			continue
		}
		list = append(list, s.String())
		if known, ok := begins[s.domain]; !ok || last < known.last {
			begins[s.domain] = stream{s.domain, s.server, last}
		}
	}
	var positions []string
	for _, domain := range slices.Sorted(maps.Keys(begins)) {
		positions = append(positions, begins[domain].String())
	}
	slices.Sort(list)
	return strings.Join(list, ","), strings.Join(positions, ",")
}

// binlogState reads "D-S-N,…".
func binlogState(text string) ([]stream, error) {
	var state []stream
	for one := range strings.SplitSeq(text, ",") {
		if one = strings.TrimSpace(one); one == "" {
			continue
		}
		var s stream
		if _, err := fmt.Sscanf(one, "%d-%d-%d", &s.domain, &s.server, &s.last); err != nil {
			return nil, fmt.Errorf("gtid_binlog_state has %q: %w", one, err)
		}
		state = append(state, s)
	}
	return state, nil
}
