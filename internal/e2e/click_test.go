package e2e

import (
	"context"
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"farmhand/internal/wordpress"
)

// visitor is one person who clicks on and on. Each has a browser, and what he does
// is one request at a time.
type visitor struct {
	name string
	// click is one round. What it returns is what the visitor complains of.
	click func(context.Context) error
	// writes says that a round has a request that writes.
	writes bool

	rounds   atomic.Int64
	slowest  time.Duration
	failures []failure
}

// failure is a round that went wrong.
type failure struct {
	at  time.Time
	err error
}

// crowd clicks until it is told to stop.
type crowd struct {
	t        *testing.T
	site     *wordpress.Site
	visitors []*visitor
	stop     context.CancelFunc
	clicking sync.WaitGroup

	mu           sync.Mutex
	acknowledged []string // the comments that a page has said are posted
}

// look is a round of one page, which must show something.
func look(b *wordpress.Browser, reference, text string) func(context.Context) error {
	return func(ctx context.Context) error {
		page, err := b.Get(ctx, reference)
		if err != nil {
			return err
		}
		if page.Status != http.StatusOK {
			return fmt.Errorf("%s: status %d: %s", page.URL, page.Status, wordpress.Excerpt(page.Body))
		}
		if err := shows(text)(page); err != nil {
			return fmt.Errorf("%s: %w: %s", page.URL, err, wordpress.Excerpt(page.Body))
		}
		return nil
	}
}

// commenting is a round of a comment that is posted and must be on the very next
// page: the writer's own and a stranger's. The owner comments, since a stranger may
// do so only every 15 seconds.
func (c *crowd) commenting(writer, reader *wordpress.Browser) func(context.Context) error {
	number := 0
	return func(ctx context.Context) error {
		number++
		text := fmt.Sprintf("Comment number %d of the day.", number)
		page, err := writer.Get(ctx, "?p=1")
		if err != nil {
			return err
		}
		form, err := page.Form("commentform")
		if err != nil {
			return err
		}
		answer, err := writer.Submit(ctx, form, url.Values{"comment": {text}})
		if err != nil {
			return fmt.Errorf("posting: %w", err)
		}
		if answer.Status != http.StatusFound {
			return fmt.Errorf("posting: status %d: %s", answer.Status, wordpress.Excerpt(answer.Body))
		}
		c.mu.Lock()
		c.acknowledged = append(c.acknowledged, text)
		c.mu.Unlock()
		for _, b := range []*wordpress.Browser{writer, reader} {
			if err := look(b, "?p=1", text)(ctx); err != nil {
				return fmt.Errorf("after it was posted: %w", err)
			}
		}
		return nil
	}
}

// startCrowd lets people click until stop is called.
func startCrowd(t *testing.T, site *wordpress.Site) *crowd {
	t.Helper()
	browser := func() *wordpress.Browser {
		b, err := site.NewBrowser()
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(b.Close)
		return b
	}
	writer, admin := browser(), browser()
	for _, b := range []*wordpress.Browser{writer, admin} {
		if err := b.LogIn(t.Context(), owner.User, owner.Password); err != nil {
			t.Fatal(err)
		}
	}
	c := &crowd{t: t, site: site}
	c.visitors = []*visitor{
		{name: "front page", click: look(browser(), "", owner.Title)},
		{name: "post", click: look(browser(), "?p=1", "Hello world!")},
		{name: "administration", click: look(admin, "wp-admin/", "Dashboard")},
		{name: "comment", click: c.commenting(writer, browser()), writes: true},
	}
	ctx, stop := context.WithCancel(context.Background())
	c.stop = stop
	t.Cleanup(func() { stop(); c.clicking.Wait() })
	for _, v := range c.visitors {
		c.clicking.Go(func() { v.run(ctx) })
	}
	return c
}

func (v *visitor) run(ctx context.Context) {
	for ctx.Err() == nil {
		began := time.Now()
		// The last round is gone through to its end.
		if err := v.click(context.WithoutCancel(ctx)); err != nil {
			v.failures = append(v.failures, failure{time.Now(), err})
		}
		v.slowest = max(v.slowest, time.Since(began))
		v.rounds.Add(1)
	}
}

// goOn returns when every visitor has gone through some more rounds.
func (c *crowd) goOn(rounds int64) {
	c.t.Helper()
	until := make([]int64, len(c.visitors))
	for i, v := range c.visitors {
		until[i] = v.rounds.Load() + rounds
	}
	deadline := time.NewTimer(time.Minute)
	defer deadline.Stop()
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for i, v := range c.visitors {
		for v.rounds.Load() < until[i] {
			select {
			case <-tick.C:
			case <-deadline.C:
				c.t.Fatalf("%s stands still after %d rounds", v.name, v.rounds.Load())
			}
		}
	}
}

// end stops the clicking. What went wrong before the kill, or with a visitor who
// only reads, is an error; the rest is counted.
func (c *crowd) end(killed time.Time) {
	c.t.Helper()
	c.stop()
	c.clicking.Wait()
	for _, v := range c.visitors {
		c.t.Logf("%-15s %3d rounds, the slowest %v, %d failed", v.name, v.rounds.Load(), v.slowest.Round(time.Millisecond), len(v.failures))
		for _, f := range v.failures {
			if f.at.Before(killed) || !v.writes {
				c.t.Errorf("%s: %v after the kill: %v", v.name, f.at.Sub(killed).Round(time.Millisecond), f.err)
				continue
			}
			c.t.Logf("%s: %v after the kill: %v", v.name, f.at.Sub(killed).Round(time.Millisecond), f.err)
		}
	}
}

// complaints are the lines in which WordPress has complained of its database.
func (c *crowd) complaints() []string {
	c.t.Helper()
	lines, err := c.site.DatabaseErrors()
	if err != nil {
		c.t.Fatal(err)
	}
	return lines
}

// checkUnharmed fails the test if anything went wrong by now.
func (c *crowd) checkUnharmed() {
	c.t.Helper()
	for _, line := range c.complaints() {
		c.t.Errorf("PHP's log: %s", line)
	}
}

// checkWrites fails the test if WordPress complains of anything but statements that
// write, of which nobody can know whether they were carried out.
func (c *crowd) checkWrites() {
	c.t.Helper()
	lines := c.complaints()
	c.t.Logf("%d lines in PHP's log", len(lines))
	for _, line := range lines {
		_, statement, found := strings.Cut(line, " for query ")
		verb, _, _ := strings.Cut(strings.TrimSpace(statement), " ")
		switch strings.ToUpper(verb) {
		case "INSERT", "UPDATE", "DELETE", "REPLACE":
			c.t.Logf("PHP's log: %s", line)
		default:
			c.t.Errorf("PHP's log, of a statement that does not write (%v): %s", found, line)
		}
	}
}
