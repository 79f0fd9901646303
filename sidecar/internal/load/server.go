package load

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"

	"farmhand/internal/cluster"
	"farmhand/internal/farm"
	"farmhand/internal/mysqladmin"
)

// Server measures a database server. It is not for several goroutines at once.
type Server struct {
	own   []string
	rates rates
}

// NewServer returns what measures a server. The sessions of the users in own are
// no clients: the sidecar's, the proxies' that watch, and so on.
func NewServer(own ...string) *Server { return &Server{own: own} }

// gauges and counters are the server's status variables, by what they are here.
var gauges = map[string]string{
	cluster.LoadThreadsConnected: "Threads_connected",
	cluster.LoadThreadsRunning:   "Threads_running",
}

var counters = map[string][]string{
	cluster.LoadQueries:        {"Questions"},
	cluster.LoadReads:          {"Com_select"},
	cluster.LoadWrites:         {"Com_insert", "Com_insert_select", "Com_update", "Com_update_multi", "Com_delete", "Com_delete_multi", "Com_replace", "Com_replace_select"},
	cluster.LoadCommits:        {"Com_commit"},
	cluster.LoadServerReceived: {"Bytes_received"},
	cluster.LoadServerSent:     {"Bytes_sent"},
	cluster.LoadPageReads:      {"Innodb_buffer_pool_reads"},
}

// uptime goes back when the server has begun anew, even if it is busier than before.
const uptime = "Uptime"

// statusQuery asks for the variables of both tables, and for the uptime.
var statusQuery = func() string {
	names := slices.Collect(maps.Values(gauges))
	for _, variables := range counters {
		names = append(names, variables...)
	}
	names = append(names, uptime)
	slices.Sort(names)
	return "SHOW GLOBAL STATUS WHERE Variable_name IN ('" + strings.Join(names, "', '") + "')"
}()

// Sample measures, in two round trips. The error is about what is missing; the
// rest is good. A server that was started anew has no rates the first time.
func (s *Server) Sample(ctx context.Context, now time.Time, c *mysqladmin.Conn) (map[string]float64, error) {
	load := map[string]float64{}
	return load, errors.Join(s.status(ctx, now, c, load), s.sessions(ctx, c, load))
}

func (s *Server) status(ctx context.Context, now time.Time, c *mysqladmin.Conn, load map[string]float64) error {
	rows, err := c.Query(ctx, statusQuery)
	if err != nil {
		return fmt.Errorf("read the server's status: %w", err)
	}
	status := map[string]float64{}
	for _, row := range rows {
		if value, err := strconv.ParseFloat(row.String("Value"), 64); err == nil {
			status[row.String("Variable_name")] = value
		}
	}
	for name, variable := range gauges {
		if value, ok := status[variable]; ok {
			load[name] = value
		}
	}
	sums := map[string]float64{uptime: status[uptime]}
	for name, variables := range counters {
		for _, variable := range variables {
			if value, ok := status[variable]; ok {
				sums[name] += value
			}
		}
	}
	maps.Copy(load, s.rates.next(now, sums))
	delete(load, uptime)
	return nil
}

func (s *Server) sessions(ctx context.Context, c *mysqladmin.Conn, load map[string]float64) error {
	list := "information_schema.processlist"
	if c.Flavor() == farm.MySQL {
		list = "performance_schema.processlist" // the other one is to go, and holds a lock
	}
	own := []string{"'system user'", "'event_scheduler'", "'unauthenticated user'"}
	for _, user := range s.own {
		own = append(own, mysqladmin.Text(user))
	}
	rows, err := c.Query(ctx, "SELECT @@max_connections AS allowed, (SELECT COUNT(*) FROM "+list+
		" WHERE id <> CONNECTION_ID() AND command NOT LIKE 'Binlog Dump%' AND command <> 'Daemon' AND user NOT IN ("+strings.Join(own, ", ")+")) AS clients")
	if err != nil {
		return fmt.Errorf("count the server's clients: %w", err)
	}
	if len(rows) != 1 {
		return fmt.Errorf("count the server's clients: %d rows", len(rows))
	}
	if clients, ok := rows[0].Int("clients"); ok {
		load[cluster.LoadClients] = float64(clients)
	}
	connected, known := load[cluster.LoadThreadsConnected]
	if allowed, ok := rows[0].Int("allowed"); ok && allowed > 0 && known {
		load[cluster.LoadConnectionsShare] = connected / float64(allowed)
	}
	return nil
}
