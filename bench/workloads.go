package main

import (
	"context"
	"fmt"
)

// workload is a load with the number of its clients and all that belongs to it.
type workload struct {
	name    string
	clients int
	unit    unit
	path    path
	// onlyReads: it can be spread over the replicas.
	onlyReads bool
	// quick: it is in the short selection.
	quick bool
	load  load
	// before is run before each run, nil for nothing.
	before func(ctx context.Context, b *bench) error
}

// unit is what a workload counts.
type unit string

const (
	query      unit = "query"
	connection unit = "connection"
	mb         unit = "MB"
)

func (w workload) title() string { return fmt.Sprintf("%s, %d", w.name, w.clients) }

// The names of the workloads that the acceptance rows name.
const (
	selectText     = "point select, text"
	selectPrepared = "point select, prepared"
	selectTLS      = "point select, TLS"
	selectAtShare  = "point select at 70 % of haproxy's rate"
	connectTCP     = "connect, query, close"
	connectSocket  = "connect, query, close: socket"
	connectDelay   = "connect, query, close: +1 ms to the servers"
	connectLocal   = "connect, query, close: localhost, +1 ms to the servers"
	result16Name   = "16 MB result"
	resultTLS      = "16 MB result, TLS"
)

var (
	text     = bySysbench("--db-ps-mode=disable", "oltp_point_select")
	prepared = bySysbench("--db-ps-mode=auto", "oltp_point_select")
)

// workloads are all there are, in the order in which they run.
var workloads = []workload{
	{name: selectText, clients: 1, unit: query, path: byTCP, onlyReads: true, load: text},
	{name: selectText, clients: 16, unit: query, path: byTCP, onlyReads: true, load: text, quick: true},
	{name: selectText, clients: 64, unit: query, path: byTCP, onlyReads: true, load: text, quick: true},
	{name: selectText, clients: 256, unit: query, path: byTCP, onlyReads: true, load: text},
	{name: selectPrepared, clients: 1, unit: query, path: byTCP, onlyReads: true, load: prepared},
	{name: selectPrepared, clients: 16, unit: query, path: byTCP, onlyReads: true, load: prepared},
	{name: selectPrepared, clients: 64, unit: query, path: byTCP, onlyReads: true, load: prepared, quick: true},
	{name: selectPrepared, clients: 256, unit: query, path: byTCP, onlyReads: true, load: prepared},
	{name: "read only, text", clients: 16, unit: query, path: byTCP, onlyReads: true, load: bySysbench("--db-ps-mode=disable", "oltp_read_only")},
	{name: "read only without transaction, text", clients: 16, unit: query, path: byTCP, onlyReads: true, load: bySysbench("--db-ps-mode=disable", "--skip-trx=on", "oltp_read_only")},
	{name: "read only, prepared", clients: 16, unit: query, path: byTCP, onlyReads: true, load: bySysbench("--db-ps-mode=auto", "oltp_read_only")},
	{name: "read write, text", clients: 16, unit: query, path: byTCP, load: bySysbench("--db-ps-mode=disable", "oltp_read_write"), quick: true},
	{name: "read write, prepared", clients: 16, unit: query, path: byTCP, load: bySysbench("--db-ps-mode=auto", "oltp_read_write")},
	{name: "sessions of 20", clients: 16, unit: query, path: byTCP, onlyReads: true, load: inSessions(20)},
	{name: connectTCP, clients: 16, unit: connection, path: byTCP, onlyReads: true, load: inSessions(1), quick: true},
	{name: connectSocket, clients: 16, unit: connection, path: bySocket, onlyReads: true, load: inSessions(1)},
	{name: connectDelay, clients: 4, unit: connection, path: byDelay, onlyReads: true, load: inSessions(1), quick: true},
	{name: connectDelay, clients: 16, unit: connection, path: byDelay, onlyReads: true, load: inSessions(1), quick: true},
	{name: connectLocal, clients: 16, unit: connection, path: localDelay, onlyReads: true, load: inSessions(1), quick: true},
	{name: selectAtShare, clients: 16, unit: query, path: byTCP, onlyReads: true, load: atShare, quick: true},
	{name: result16Name, clients: 1, unit: mb, path: byTCP, onlyReads: true, load: again(result16), quick: true},
	{name: "1 GB result", clients: 1, unit: mb, path: byTCP, onlyReads: true, load: again(result1G)},
	{name: "4 MB blob read", clients: 1, unit: mb, path: byTCP, onlyReads: true, load: again(blobRead)},
	{name: "4 MB blob written", clients: 1, unit: mb, path: byTCP, load: storeBlobs(), before: emptyTables},
	{name: "bulk insert", clients: 1, unit: mb, path: byTCP, load: bulkInsert(), before: emptyTables},
	{name: "LOAD DATA LOCAL", clients: 1, unit: mb, path: byTCP, load: loadData(), before: emptyTables},
	{name: selectTLS, clients: 16, unit: query, path: encrypted, onlyReads: true, load: perQuery(again(pointSelects("")[0]))},
	{name: resultTLS, clients: 1, unit: mb, path: encrypted, onlyReads: true, load: again(result16), quick: true},
}
