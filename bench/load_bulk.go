package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"time"
)

// megabyte is the unit of the large loads.
const megabyte = 1e6

// makeTables makes the tables of the large loads and returns when the replicas
// have them.
func (b *bench) makeTables(ctx context.Context) error {
	if err := b.onPrimary(
		ctx,
		"USE "+schema,
		"CREATE TABLE bulk (id INT PRIMARY KEY AUTO_INCREMENT, a INT, b CHAR(60), c VARCHAR(200))",
		"CREATE TABLE stored (id INT PRIMARY KEY, data LONGBLOB)",
		"CREATE TABLE blobs (id INT PRIMARY KEY, data LONGBLOB)",
		// Rows of 1 kB and of 64 kB, 16 MB of each.
		"CREATE TABLE kilo (id INT PRIMARY KEY, data VARCHAR(1100))",
		"INSERT INTO kilo SELECT seq, REPEAT('x', 1020) FROM seq_1_to_16000",
		"CREATE TABLE wide (id INT PRIMARY KEY, data MEDIUMBLOB)",
		"INSERT INTO wide SELECT seq, REPEAT('x', 65500) FROM seq_1_to_256",
		fmt.Sprintf("INSERT INTO blobs SELECT seq, REPEAT('0123456789abcdef', %d) FROM seq_1_to_4", 4<<20/16),
	); err != nil {
		return err
	}
	return b.catchUp(ctx)
}

// emptyTables takes away what the run before has written.
func emptyTables(ctx context.Context, b *bench) error {
	if err := b.onPrimary(ctx, "TRUNCATE bulk", "TRUNCATE stored"); err != nil {
		return err
	}
	return b.catchUp(ctx)
}

// The commands of the large loads.
var (
	result16 = command("SELECT data FROM kilo")
	result1G = command("SELECT STRAIGHT_JOIN data FROM seq_1_to_60, wide")
	blobRead = command("SELECT data FROM blobs WHERE id = 1")
)

// again runs one command over and over in every client; the times are the
// commands'.
func again(command []byte) load {
	return commands(func(int, int) ([]byte, []byte) { return command, nil })
}

// storeBlobs writes 4 MiB at a time.
func storeBlobs() load {
	data := strings.Repeat("0123456789abcdef", 4<<20/16)
	return commands(func(client, _ int) ([]byte, []byte) {
		return command(fmt.Sprintf("REPLACE INTO stored VALUES (%d, '%s')", client, data)), nil
	})
}

// bulkInsert inserts 4000 rows, some 800 kB, with one statement.
func bulkInsert() load {
	rows := make([]string, 4000)
	for i := range rows {
		rows[i] = fmt.Sprintf("(%d, '%060d', '%0120d')", i, i*7, i*13)
	}
	insert := command("INSERT INTO bulk (a, b, c) VALUES " + strings.Join(rows, ", "))
	return commands(func(int, int) ([]byte, []byte) { return insert, nil })
}

// loadData loads a file of 20000 rows, some 4 MB, with LOAD DATA LOCAL.
func loadData() load {
	var file bytes.Buffer
	for i := range 20000 {
		fmt.Fprintf(&file, "%d\t%060d\t%0120d\n", i, i*7, i*13)
	}
	load := command("LOAD DATA LOCAL INFILE 'rows' INTO TABLE bulk (a, b, c)")
	return commands(func(int, int) ([]byte, []byte) { return load, file.Bytes() })
}

// perQuery counts a load's commands instead of its bytes.
func perQuery(l load) load {
	return func(ctx context.Context, b *bench, r run, h hooks) (work, error) {
		w, err := l(ctx, b, r, h)
		w.units = 0
		if w.times != nil {
			w.units = float64(w.times.total)
		}
		return w, err
	}
}

// commands is the load of clients that run the commands which next gives, by
// client and number, with the files that they load. What has begun is ended, so
// a run may take longer than it should; the unit is the megabyte.
func commands(next func(client, n int) (command, file []byte)) load {
	return func(ctx context.Context, _ *bench, r run, h hooks) (work, error) {
		clients := make([]*client, 0, r.clients)
		defer func() {
			for _, c := range clients {
				c.close()
			}
		}()
		for range r.clients {
			c, err := dial(ctx, r.to)
			if err != nil {
				return work{}, err
			}
			clients = append(clients, c)
		}
		if err := h.begin(); err != nil {
			return work{}, err
		}
		began := time.Now()
		var mu sync.Mutex
		w := work{times: new(latencies)}
		var errs []error
		var running sync.WaitGroup
		for i, c := range clients {
			running.Go(func() {
				for n := 0; ctx.Err() == nil && (n == 0 || time.Since(began) < r.length); n++ {
					command, file := next(i, n)
					start := time.Now()
					size, err := c.do(command, file)
					mu.Lock()
					if err != nil {
						errs = append(errs, err)
						mu.Unlock()
						return
					}
					w.units += float64(size) / megabyte
					w.times.add(time.Since(start), 1)
					mu.Unlock()
				}
			})
		}
		running.Wait()
		w.elapsed = time.Since(began)
		if ctx.Err() != nil {
			return work{}, context.Cause(ctx)
		}
		return w, errors.Join(append(errs, h.end())...)
	}
}
