package load

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"time"

	"farmhand/internal/cluster"
)

// Memcached measures a memcached by its command stats. It is not for several goroutines at
// once.
type Memcached struct {
	address string
	rates   rates
}

// NewMemcached returns what measures the memcached at address, host:port.
func NewMemcached(address string) *Memcached { return &Memcached{address: address} }

// Sample measures. What is asked here counts as a read of nobody, and its connection is not
// counted.
func (m *Memcached) Sample(ctx context.Context, now time.Time) (map[string]float64, error) {
	values, err := ask(ctx, "tcp", m.address, "stats\r\n", " ", "END")
	if err != nil {
		return nil, fmt.Errorf("measure memcached: %w", err)
	}
	for _, name := range []string{"curr_connections", "cmd_get", "get_misses", "evictions", "bytes", "limit_maxbytes"} {
		if _, ok := values[name]; !ok {
			return nil, errors.New("measure memcached: it does not say " + name)
		}
	}
	load := map[string]float64{}
	if most := values["limit_maxbytes"]; most > 0 {
		load[cluster.LoadCacheShare] = values["bytes"] / most
	}
	maps.Copy(load, m.rates.next(now, map[string]float64{
		cluster.LoadCacheReads: values["cmd_get"], cluster.LoadCacheMisses: values["get_misses"], cluster.LoadCacheEvictions: values["evictions"],
	}))
	return load, nil
}
