package role

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/bradfitz/gomemcache/memcache"

	"farmhand/internal/farm"
	"farmhand/internal/farmtest"
	"farmhand/internal/report"
	"farmhand/sidecar/internal/load"
	"farmhand/sidecar/internal/membership"
)

func needProgram(t *testing.T, name string) {
	t.Helper()
	if _, err := find(name); err != nil {
		t.Skip(err)
	}
}

// backend is a web server that says its name, and counts.
type backend struct {
	*httptest.Server
	host   membership.Host
	served atomic.Int64
}

func newBackend(t *testing.T, n int) *backend {
	b := &backend{}
	b.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/page" {
			time.Sleep(2 * time.Millisecond) // some are under way when the configuration changes
			b.served.Add(1)
		}
		_, _ = fmt.Fprintf(w, "web%d %s", n, r.Header.Get("X-Forwarded-For"))
	}))
	t.Cleanup(b.Close)
	b.host = host(fmt.Sprintf("web%d", n), "web", strings.TrimPrefix(b.URL, "http://"), membership.Up)
	b.host.Address = strings.TrimPrefix(b.URL, "http://")
	b.host.Attributes = map[string]string{farm.RoleAttribute: "web", farm.SlotAttribute: fmt.Sprint(n)}
	return b
}

// TestLoadBalancer: members come, are drained and go under a load of connections, and no
// request fails. It is haproxy.
func TestLoadBalancer(t *testing.T) {
	needProgram(t, "haproxy")
	w := newWebWorld(t)
	w.config.Role, w.config.Name = "lb", "lb1"
	w.config.LB.Directory, w.config.LB.Backend, w.config.LB.Listen = filepath.Join(w.config.State, "work"), "web", farmtest.FreePort(t).String()
	w.config.LB.CheckPath = "/"
	one, two, three := newBackend(t, 1), newBackend(t, 2), newBackend(t, 3)
	w.start(t)
	primary := host("db1", "primary", "1:3306", membership.Up)
	w.source <- members(7, primary, one.host)
	w.await(t, "all well", fine)

	url := "http://" + w.config.LB.Listen + "/page"
	ctx, stop := context.WithCancel(t.Context())
	var clients sync.WaitGroup
	var served, failed atomic.Int64
	for n := range 8 {
		clients.Go(func() {
			// Half of them open a connection for each request.
			client := &http.Client{Transport: &http.Transport{DisableKeepAlives: n%2 == 0}, Timeout: 20 * time.Second}
			for ctx.Err() == nil {
				if err := request(client, url); err != nil {
					failed.Add(1)
					t.Error(err)
				}
				served.Add(1)
			}
			client.CloseIdleConnections()
		})
	}
	// more awaits that a server has answered that many more requests.
	more := func(what string, of *atomic.Int64, n int64) {
		t.Helper()
		from := of.Load()
		farmtest.Eventually(t, what, func() error {
			if got := of.Load() - from; got < n {
				return fmt.Errorf("%d of %d", got, n)
			}
			return nil
		})
	}
	more("the first server serves", &one.served, 20)
	w.source <- members(7, primary, one.host, two.host)
	more("the second server serves", &two.served, 20)
	for range 5 {
		w.source <- members(7, primary, one.host, two.host, three.host)
		more("the third server serves", &three.served, 5)
		leaves := three.host
		leaves.State = membership.Leaving
		w.source <- members(7, primary, one.host, two.host, leaves)
		farmtest.Eventually(t, "the third server is drained", func() error {
			was := three.served.Load()
			more("others serve", &served, 50)
			if now := three.served.Load(); now != was {
				return fmt.Errorf("%d requests more", now-was)
			}
			return nil
		})
		w.source <- members(7, primary, one.host, two.host)
		more("the others serve", &one.served, 10)
	}
	sample, err := load.NewHAProxy(filepath.Join(w.config.State, "haproxy.sock")).Sample(t.Context(), time.Now())
	if err != nil || sample["clients"] < 1 {
		t.Errorf("haproxy says %v, %v", sample, err)
	}
	stop()
	clients.Wait()
	if failed.Load() > 0 || served.Load() < 500 {
		t.Errorf("%d of %d requests failed", failed.Load(), served.Load())
	}
	t.Logf("%d requests, none failed, over 16 changes of the membership", served.Load())

	// What haproxy refuses does not take the place of what it has.
	file := filepath.Join(w.config.LB.Directory, "haproxy.cfg")
	wrong := two.host
	wrong.Address = "[::zz]:1:2"
	w.source <- members(7, primary, one.host, wrong)
	w.await(t, "the refusal", func(r report.Report) bool { return strings.Contains(r.Detail, "the check refuses the new file") })
	if after, err := os.ReadFile(file); err != nil || strings.Contains(string(after), "zz") {
		t.Errorf("%v: the file has\n%s", err, after)
	}
	must(t, request(http.DefaultClient, url))
	w.end(t)
}

func request(client *http.Client, url string) error {
	response, err := client.Get(url)
	if err != nil {
		return err
	}
	body, err := io.ReadAll(response.Body)
	if err = errors.Join(err, response.Body.Close()); err != nil {
		return err
	}
	if response.StatusCode != http.StatusOK || !strings.HasPrefix(string(body), "web") || !strings.Contains(string(body), "127.") {
		return fmt.Errorf("%s: %s", response.Status, body)
	}
	return nil
}

// TestMemcached: it serves, says what its reads come to, is started again when it was killed, and
// ends with its role.
func TestMemcached(t *testing.T) {
	needProgram(t, "memcached")
	w := newWebWorld(t)
	w.config.Role, w.config.Name, w.config.Memcached.Listen = "memcached", "cache1", farmtest.FreePort(t).String()
	address := w.config.Memcached.Listen
	w.start(t)
	w.source <- members(7, host("db1", "primary", "1:3306", membership.Up))
	var pid int
	w.await(t, "all well", func(r report.Report) bool { pid = r.PID; return fine(r) })
	client := memcache.New(address)
	must(t, client.Set(&memcache.Item{Key: "a", Value: []byte("1")}))
	measured := load.NewMemcached(address)
	first, err := measured.Sample(t.Context(), time.Now())
	must(t, err)
	if _, early := first["cache_reads_per_second"]; early || first["cache_share"] <= 0 {
		t.Errorf("at first %v", first)
	}
	_, err = client.Get("a")
	must(t, err)
	for range 3 {
		if _, err := client.Get("b"); !errors.Is(err, memcache.ErrCacheMiss) {
			t.Error(err)
		}
	}
	next, err := measured.Sample(t.Context(), time.Now().Add(time.Second))
	must(t, err)
	if reads, misses := next["cache_reads_per_second"], next["cache_misses_per_second"]; reads <= 0 || math.Abs(misses/reads-0.75) > 1e-9 {
		t.Errorf("of 4 reads 3 missed: %v", next)
	}
	must(t, client.Close())
	must(t, exec.Command("kill", "-9", fmt.Sprint(pid)).Run())
	w.await(t, "another process", func(r report.Report) bool { return fine(r) && r.PID != pid })
	// Before it answers, a signal may end it out of order.
	farmtest.Eventually(t, "it answers", func() error { _, err := measured.Sample(t.Context(), time.Now()); return err })
	w.end(t)
	if conn, err := net.Dial("tcp", address); err == nil {
		t.Errorf("it takes connections after its end: %v", conn.Close())
	}
}
