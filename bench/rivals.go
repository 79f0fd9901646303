package main

import (
	"context"
	"fmt"
	"net"
	"os"
	"path/filepath"
)

// startProxySQL runs ProxySQL with the rules of its manual for the splitting of
// reads and writes.
func (b *bench) startProxySQL(ctx context.Context, program string) error {
	s := &subject{name: "proxysql", to: map[path]endpoint{}}
	for _, late := range []bool{false, true} {
		label := "proxysql"
		if late {
			label = "proxysql-late"
		}
		dir := filepath.Join(b.dir, label)
		if err := os.Mkdir(dir, 0o755); err != nil {
			return err
		}
		near := endpoint{network: "tcp", address: b.place()}
		socket := endpoint{network: "unix", address: filepath.Join(dir, "proxysql.sock")}
		servers := ""
		for i, server := range b.servers {
			group, address := min(i, 1), server.address
			if late {
				address = server.late
			}
			host, port, err := net.SplitHostPort(address)
			if err != nil {
				return err
			}
			if i > 0 {
				servers += ", "
			}
			servers += fmt.Sprintf("{ address=%q, port=%s, hostgroup=%d, max_connections=400 }", host, port, group)
		}
		text := fmt.Sprintf(`datadir=%q
admin_variables={ admin_credentials="admin:admin" mysql_ifaces=%q }
mysql_variables={ threads=2 max_connections=20000 interfaces="%s;%s" server_version="10.11.0" default_schema=%q monitor_enabled=false }
mysql_servers=( %s )
mysql_users=( { username=%q, password=%q, default_hostgroup=0, transaction_persistent=1, active=1 } )
mysql_query_rules=(
  { rule_id=1, active=1, match_digest="^SELECT.*FOR UPDATE", destination_hostgroup=0, apply=1 },
  { rule_id=2, active=1, match_digest="^SELECT", destination_hostgroup=1, apply=1 } )
`, dir, b.place(), near.address, socket.address, schema, servers, user, password)
		config := filepath.Join(dir, "proxysql.cnf")
		if err := os.WriteFile(config, []byte(text), 0o600); err != nil {
			return err
		}
		c, err := b.launch(label, program, "-f", "--initial", "-c", config, "-D", dir)
		if err != nil {
			return err
		}
		if err := answers(ctx, near, c, filepath.Join(b.dir, label+".log")); err != nil {
			return err
		}
		near.pids, socket.pids = []int{c.PID()}, []int{c.PID()}
		if late {
			s.to[byDelay], s.to[localDelay] = near, socket
		} else {
			s.to[byTCP], s.to[bySocket] = near, socket
		}
	}
	b.subjects = append(b.subjects, s)
	return nil
}

// startRouter runs MySQL Router with a port for writes and one for reads, as it
// does without a metadata server. Which one is the application's choice: loads
// that only read use the second.
func (b *bench) startRouter(ctx context.Context, program string) error {
	dir := filepath.Join(b.dir, "mysqlrouter")
	if err := os.Mkdir(dir, 0o755); err != nil {
		return err
	}
	text := fmt.Sprintf("[DEFAULT]\nlogging_folder=%[1]s\nruntime_folder=%[1]s\ndata_folder=%[1]s\nmax_total_connections=20000\n[logger]\nlevel=WARNING\n", dir)
	route := func(name, strategy, servers string) endpoint {
		to := endpoint{network: "tcp", address: b.place()}
		text += fmt.Sprintf("[routing:%s]\nbind_address=%s\ndestinations=%s\nrouting_strategy=%s\nprotocol=classic\nclient_ssl_mode=PASSTHROUGH\nserver_ssl_mode=AS_CLIENT\nmax_connect_errors=100000\n",
			name, to.address, servers, strategy)
		return to
	}
	primary, two := b.servers[0], b.servers[1:]
	s := &subject{
		name: "mysqlrouter",
		to: map[path]endpoint{
			byTCP:   route("write", "first-available", primary.address),
			byDelay: route("write_late", "first-available", primary.late),
		},
		reads: map[path]endpoint{
			byTCP:   route("read", "round-robin", two[0].address+","+two[1].address),
			byDelay: route("read_late", "round-robin", two[0].late+","+two[1].late),
		},
	}
	config := filepath.Join(dir, "mysqlrouter.conf")
	if err := os.WriteFile(config, []byte(text), 0o600); err != nil {
		return err
	}
	c, err := b.launch("mysqlrouter", program, "-c", config)
	if err != nil {
		return err
	}
	behind(c, s.to)
	behind(c, s.reads)
	if err := answers(ctx, s.to[byTCP], c, filepath.Join(b.dir, "mysqlrouter.log")); err != nil {
		return err
	}
	b.subjects = append(b.subjects, s)
	return nil
}
