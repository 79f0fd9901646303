package role

import (
	"cmp"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"time"

	"farmhand/sidecar/internal/command"
	"farmhand/sidecar/internal/config"
)

// condition is what a health check says of a node.
type condition int

// The conditions.
const (
	unknown condition = iota // it has neither succeeded yet, nor failed often enough
	healthy
	unwell
)

// verdict is what the tries of a health check come to.
type verdict struct {
	state condition
	why   error // of the last try; nil if that succeeded
	row   int   // tries in a row that say otherwise than state
}

// next is the verdict after one more try. The first success is enough for a node of which
// nothing is known.
func (v verdict) next(err error, failures, successes int) verdict {
	said, enough := unwell, failures
	if err == nil {
		said, enough = healthy, successes
		if v.state == unknown {
			enough = 1
		}
	}
	if said == v.state {
		return verdict{state: v.state, why: err}
	}
	row := 1
	if v.state != unknown || v.why != nil {
		row = v.row + 1
	}
	if row >= enough {
		return verdict{state: said, why: err}
	}
	return verdict{state: v.state, why: cmp.Or(err, v.why), row: row}
}

// check is one way to see whether the node is well.
type check struct {
	try                 func(ctx context.Context) error
	interval, limit     time.Duration
	failures, successes int
}

// newCheck is one of the configuration's.
func newCheck(h config.Health) *check {
	c := &check{
		interval: cmp.Or(time.Duration(h.Interval), 5*time.Second), limit: cmp.Or(time.Duration(h.TimeLimit), 2*time.Second),
		failures: cmp.Or(h.Failures, 3), successes: cmp.Or(h.Successes, 2),
	}
	switch {
	case h.HTTP != "":
		c.try = get(h.HTTP)
	case h.TCP != "":
		c.try = func(ctx context.Context) error {
			conn, err := new(net.Dialer).DialContext(ctx, "tcp", h.TCP)
			if err != nil {
				return err
			}
			return conn.Close()
		}
	default:
		c.try = func(ctx context.Context) error {
			o := command.Run(ctx, command.Command{Args: h.Command, Limit: c.limit, Grace: time.Second, Output: 256})
			if o.Status == command.OK || ctx.Err() != nil {
				return nil
			}
			return fmt.Errorf("health check %s: %w %s", h.Command[0], o.Err, strings.TrimSpace(string(o.Output)))
		}
	}
	return c
}

// get is a check by HTTP: nothing of the environment is between, no redirection is followed, and
// who has the certificate is not asked: it is this node's own service.
func get(url string) func(context.Context) error {
	client := &http.Client{
		Transport:     &http.Transport{DisableKeepAlives: true, TLSClientConfig: &tls.Config{InsecureSkipVerify: true}}, //nolint:gosec // see above
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
	return func(ctx context.Context) (err error) {
		request, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
		if err != nil {
			return err
		}
		response, err := client.Do(request)
		if err != nil {
			return fmt.Errorf("health check: %w", err)
		}
		defer func() { err = errors.Join(err, response.Body.Close()) }()
		if _, err := io.Copy(io.Discard, io.LimitReader(response.Body, 1<<20)); err != nil {
			return fmt.Errorf("health check: %s: %w", url, err)
		}
		if response.StatusCode < 200 || response.StatusCode > 399 {
			return fmt.Errorf("health check: %s answers %s", url, response.Status)
		}
		return nil
	}
}

// watch tries again and again until ctx ends, and tells what that comes to.
func (c *check) watch(ctx context.Context, tell func(verdict)) {
	var v verdict
	tick := time.NewTicker(c.interval)
	defer tick.Stop()
	for {
		limited, cancel := context.WithTimeoutCause(ctx, c.limit, fmt.Errorf("no answer within %v", c.limit))
		err := c.try(limited)
		cancel()
		if ctx.Err() != nil {
			return
		}
		v = v.next(err, c.failures, c.successes)
		tell(v)
		select {
		case <-tick.C:
		case <-ctx.Done():
			return
		}
	}
}
