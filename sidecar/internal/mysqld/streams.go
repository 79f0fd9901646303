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

// mariaDBCompare goes by gtid_binlog_state, which has the last sequence number for
// each domain and server that ever wrote in it. gtid_slave_pos and gtid_binlog_pos
// have one for each domain, in which another server's transactions do not show.
//
// The order of the questions matters: see dialect. A server logs a transaction before
// its position says that it is executed.
func mariaDBCompare(ctx context.Context, own, source *mysqladmin.Conn, _ string) (c comparison, err error) {
	var sourceHad, executed, ownHas, sourceHas gtid.Streams
	for _, ask := range []struct {
		of     *mysqladmin.Conn
		what   string
		answer *gtid.Streams
	}{
		{source, "gtid_binlog_state", &sourceHad},
		{own, "gtid_slave_pos", &executed},
		{own, "gtid_binlog_state", &ownHas},
		{source, "gtid_binlog_state", &sourceHas},
	} {
		text, err := variable(ctx, ask.of, ask.what)
		if err == nil {
			*ask.answer, err = gtid.ParseStreams(text)
		}
		if err != nil {
			return c, fmt.Errorf("%s: %w", ask.what, err)
		}
	}
	text, err := variable(ctx, source, "gtid_binlog_pos")
	if err == nil {
		c.sourceHas, err = gtid.Parse(farm.MariaDB, text)
	}
	c.Errant, c.After = errantStreams(ownHas, sourceHas)
	c.missing = missingStreams(ownHas, sourceHad, executed)
	return c, err
}

func variable(ctx context.Context, conn *mysqladmin.Conn, name string) (string, error) {
	rows, err := conn.Query(ctx, "SELECT @@GLOBAL."+name+" AS v")
	if err != nil {
		return "", err
	}
	if len(rows) != 1 {
		return "", fmt.Errorf("%d rows", len(rows))
	}
	return rows[0].String("v"), nil
}

// errantStreams returns the last of each stream of which own has more than the
// source, and for each of their domains the position after which that begins.
func errantStreams(own, source gtid.Streams) (errant, after string) {
	beyond, begins := gtid.Streams{}, map[uint32]gtid.Stream{}
	for s, n := range own {
		if n <= source[s] {
			continue
		}
		beyond[s] = n
		if known, ok := begins[s.Domain]; !ok || source[s] < source[known] {
			begins[s.Domain] = s
		}
	}
	var positions []string
	for _, domain := range slices.Sorted(maps.Keys(begins)) {
		s := begins[domain]
		positions = append(positions, fmt.Sprintf("%d-%d-%d", s.Domain, s.Server, source[s]))
	}
	return beyond.String(), strings.Join(positions, ",")
}

// missingStreams returns the last of each stream of the source's that own has not up
// to there, though it is within what own has executed. Numbers rise in a domain,
// whoever writes: what has a lower one comes before.
func missingStreams(own, source, executed gtid.Streams) string {
	reached, lacks := executed.Domains(), gtid.Streams{}
	for s, n := range source {
		if own[s] < n && n <= reached[s.Domain] {
			lacks[s] = n
		}
	}
	return lacks.String()
}
