package e2e

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"image"
	"image/png"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"farmhand/internal/cluster"
	"farmhand/internal/dbserver"
	"farmhand/internal/farmtest"
	"farmhand/internal/process"
	"farmhand/internal/sqstest"
	"farmhand/internal/wordpress"
)

// campaignFarm is a whole shop; %s are the farm's directory, its first address, the places of the
// first web node's proxy, the directory with a site for each web node, and the workers' queue (twice) and
// program.
const campaignFarm = `name: shop
provider: {kind: local, parameters: {directory: %[1]s, first_address: %[2]s}}
roles:
  db: {kind: mysql, count: 2}
  web:
    kind: web
    count: {min: 2, max: 3}
    scaling: [{kind: http_requests, scale_out: 60, scale_in: 25, window: 10s, out_cooldown: 5s, in_cooldown: 5s}]
    parameters:
      proxy: {tcp: "%[3]s", unix: "", admin: "%[4]s"}
      http: {port: 8081, document_root: "%[5]s/{name}", lb: lb, time_limit: 60s, php: {children: 6}}
      mounts: [{storage: files, path: "%[5]s/{name}/wp-content/uploads"}]
      drain_limit: 10s
  lb: {kind: lb, count: 2, parameters: {check_path: /farmhand-health}}
  cache: {kind: memcached, count: 1}
  files: {kind: storage, count: 1, storage: {kind: volume, size: 200MiB, keep: true, pin: true}}
  jobs:
    kind: worker
    count: {min: 1, max: 2}
    scaling: [{kind: queue, queue: %[6]q, per_server: 20, window: 10s, out_cooldown: 0s, in_cooldown: 5s}]
    parameters: {queue: %[6]q, processes: 2, hold: 10s, limit: 5m, command: [sh, -c, %[7]q]}
`

const campaignHost = "shop.test:8080"

// campaign is people who use the shop, all the time.
type campaign struct {
	t     *testing.T
	site  *wordpress.Site
	spike atomic.Bool

	mu       sync.Mutex
	pages    map[string]int // that were answered, by what they were
	lost     []lostClick
	slowest  map[string]time.Duration
	comments []string
	files    map[string][]byte // by the path at which visitors get them
	faults   []span            // in which what was lost was killed
}

// lostClick is a request that had no good answer.
type lostClick struct {
	what         string
	began, ended time.Time
	why          error
}

type span struct {
	what     string
	from, to time.Time
}

// click counts what one request came to.
func (c *campaign) click(what string, do func() error) bool {
	began := time.Now()
	err := do()
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.slowest[what] = max(c.slowest[what], time.Since(began)); err != nil {
		c.lost = append(c.lost, lostClick{what, began, time.Now(), err})
		return false
	}
	c.pages[what]++
	return true
}

// count is how many requests of a sort were answered well.
func (c *campaign) count(what string) int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.pages[what]
}

func (c *campaign) lastLost() []lostClick {
	c.mu.Lock()
	defer c.mu.Unlock()
	return slices.Clone(c.lost[max(0, len(c.lost)-3):])
}

// excused reports whether a request was under way on what was killed, as far as can be told from
// when it was.
func (c *campaign) excused(l lostClick) bool {
	return slices.ContainsFunc(c.faults, func(s span) bool { return l.began.Before(s.to) && l.ended.After(s.from) })
}

func (c *campaign) browser() *wordpress.Browser {
	b, err := c.site.NewBrowser()
	if err != nil {
		c.t.Fatal(err)
	}
	c.t.Cleanup(b.Close)
	return b
}

// open lets people come, until ctx ends and all have gone.
func (c *campaign) open(ctx context.Context, people *sync.WaitGroup) {
	every := func(pause time.Duration, do func(n int)) {
		people.Go(func() {
			for n := 0; ctx.Err() == nil; n++ {
				do(n)
				select {
				case <-ctx.Done():
				case <-time.After(pause):
				}
			}
		})
	}
	// Requests end by themselves: one that is cut off at the end would be none that failed.
	whole := context.WithoutCancel(ctx)
	for range 2 {
		b := c.browser()
		every(200*time.Millisecond, func(int) {
			c.click("front page", func() error { return look(b, "", owner.Title)(whole) })
		})
	}
	writer, reader := c.browser(), c.browser()
	if err := writer.LogIn(whole, owner.User, owner.Password); err != nil {
		c.t.Fatal(err)
	}
	every(300*time.Millisecond, func(n int) {
		text := fmt.Sprintf("Comment number %d of the night.", n)
		var form *wordpress.Form
		if !c.click("post", func() error {
			page, err := writer.Get(whole, "?p=1")
			if err == nil {
				form, err = page.Form("commentform")
			}
			return err
		}) {
			return
		}
		if !c.click("comment", func() error {
			answer, err := writer.Submit(whole, form, url.Values{"comment": {text}})
			if err == nil && answer.Status != http.StatusFound {
				err = fmt.Errorf("status %d: %s", answer.Status, wordpress.Excerpt(answer.Body))
			}
			return err
		}) {
			return
		}
		c.mu.Lock()
		c.comments = append(c.comments, text)
		c.mu.Unlock()
		c.click("own comment, seen by another", func() error { return look(reader, "?p=1", text)(whole) })
	})
	uploader := c.browser()
	if err := uploader.LogIn(whole, owner.User, owner.Password); err != nil {
		c.t.Fatal(err)
	}
	every(time.Second, func(n int) {
		picture := noise()
		c.click("upload", func() error {
			address, err := uploader.Upload(whole, fmt.Sprintf("picture-%d.png", n), picture)
			if err != nil {
				return err
			}
			at, err := url.Parse(address)
			if err != nil {
				return err
			}
			c.mu.Lock()
			defer c.mu.Unlock()
			c.files[at.Path] = picture
			return nil
		})
	})
	client := c.client()
	every(500*time.Millisecond, func(int) {
		c.mu.Lock()
		var path string
		for path = range c.files {
			break // any
		}
		want := c.files[path]
		c.mu.Unlock()
		if path != "" {
			c.click("picture", func() error { return shown(client, "http://"+campaignHost+path, want) })
		}
	})
	for range 4 {
		client := c.client()
		every(5*time.Millisecond, func(int) {
			if c.spike.Load() {
				c.click("style sheet", func() error {
					return shown(client, "http://"+campaignHost+"/wp-includes/css/buttons.css", nil)
				})
			}
		})
	}
}

func (c *campaign) client() *http.Client {
	client := &http.Client{Timeout: 2 * time.Minute, Transport: &http.Transport{DialContext: c.site.Dial, DisableKeepAlives: true}}
	c.t.Cleanup(client.CloseIdleConnections)
	return client
}

// noise is a picture that no other is like.
func noise() []byte {
	picture := image.NewGray(image.Rect(0, 0, 40, 40))
	for i := range picture.Pix {
		picture.Pix[i] = uint8(rand.IntN(256))
	}
	var b bytes.Buffer
	_ = png.Encode(&b, picture) // to memory
	return b.Bytes()
}

// shown gets a file and holds it against what it must be; nil is anything.
func shown(client *http.Client, address string, want []byte) error {
	response, err := client.Get(address)
	if err != nil {
		return err
	}
	body, err := io.ReadAll(response.Body)
	if err = errors.Join(err, response.Body.Close()); err != nil {
		return err
	}
	if response.StatusCode != http.StatusOK || want != nil && !bytes.Equal(body, want) {
		return fmt.Errorf("%s: %s, %d bytes of %d", address, response.Status, len(body), len(want))
	}
	return nil
}

// processesOf are all that run on a node.
func (f *localFarm) processesOf(name string) []process.Found {
	f.t.Helper()
	found, err := process.Find(func(p process.Found) bool {
		return slices.Contains(p.Environment, "FARMHAND_INSTANCE="+filepath.Join(f.dir, name))
	})
	if err != nil {
		f.t.Fatal(err)
	}
	return found
}

// strike kills all of a node at once, as the loss of its machine would, and waits until it is well
// again.
func (c *campaign) strike(f *localFarm, name string) {
	f.t.Helper()
	before := f.nodes()[name]
	s := span{what: name, from: time.Now()}
	pids := []int{before.PID} // the sidecar first: it would start the others again
	for _, n := range f.status().Nodes {
		if n.Name == name && n.Database != nil {
			pids = append(pids, n.Database.PID)
		}
	}
	for _, p := range f.processesOf(name) {
		pids = append(pids, p.PID)
	}
	if before.Report != nil && before.Report.PID > 0 {
		pids = append(pids, before.Report.PID) // the proxy of a web node
	}
	// Programs that write their title over their environment are known by the sidecar's notes.
	notes, err := filepath.Glob(filepath.Join(f.dir, name, "state", "program-*.json"))
	if err != nil {
		f.t.Fatal(err)
	}
	for _, note := range notes {
		pids = append(pids, -f.notedPID(note))
	}
	for _, pid := range pids {
		if err := syscall.Kill(pid, syscall.SIGKILL); err != nil && !errors.Is(err, syscall.ESRCH) {
			f.t.Fatalf("kill %d of %s: %v", pid, name, err)
		}
	}
	time.Sleep(200 * time.Millisecond) // in which the kernel closes what they had open
	s.to = time.Now()
	c.mu.Lock()
	c.faults = append(c.faults, s)
	c.mu.Unlock()
	farmtest.Eventually(f.t, name+" is well again", func() error {
		if n := f.nodes()[name]; n.PID == before.PID || n.Report != nil && !n.Report.Well {
			return fmt.Errorf("pid %d: %+v", n.PID, n.Report)
		}
		return nil
	})
	f.t.Logf("%s was killed (%d processes), and was well again after %v", name, len(pids), time.Since(s.from).Round(100*time.Millisecond))
}

// TestCampaignNight: a shop with everything that there is, under visitors: it grows with a spike, one
// server of each role is killed in turn, it shrinks, and its web nodes are replaced by those of a new
// image. No page fails but what was under way on what was killed; no comment and no picture is lost.
func TestCampaignNight(t *testing.T) {
	farmtest.Long(t)
	for _, program := range []string{"haproxy", "nginx", "memcached"} {
		if _, err := exec.LookPath(program); err != nil {
			t.Skip(err)
		}
	}
	farmtest.NeedGlusterFS(t)
	f := newFarm(t)
	sites, work := filepath.Join(f.top, "sites"), filepath.Join(f.top, "jobs")
	if err := errors.Join(os.Mkdir(sites, 0o755), os.Mkdir(work, 0o777), os.Chmod(work, 0o777)); err != nil {
		t.Fatal(err)
	}
	sqstest.SetCredentials(t)
	sqs := sqstest.NewSQS(t)
	queue := sqs.Queue("jobs", sqstest.QueueOptions{})
	file, addresses := filepath.Join(f.top, "farm.yaml"), farmtest.AddressBlock(24)
	last := addresses
	for range 23 {
		last = last.Next()
	}
	text := fmt.Sprintf(campaignFarm, f.dir, addresses, f.listen, farmtest.FreePort(t), sites, queue,
		fmt.Sprintf("job=$(cat); sleep 0.3; echo $job >>%s/done", work))
	if err := os.WriteFile(file, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
	// Every web node that there may be has the site's files; what visitors upload, all have.
	site, err := wordpress.Place(filepath.Join(sites, "web1"), "http://"+campaignHost, wordpress.Database{Schema: "app_shop", User: "app", Password: "app"})
	if errors.Is(err, wordpress.ErrMissing) {
		t.Skip(err)
	}
	if err != nil {
		t.Fatal(err)
	}
	for n := 2; n <= 8; n++ {
		if out, err := exec.Command("cp", "-a", filepath.Join(sites, "web1"), filepath.Join(sites, fmt.Sprint("web", n))).CombinedOutput(); err != nil {
			t.Fatalf("%v: %s", err, out)
		}
	}
	f.up("--file", file, "--control-address", last.String())
	db := farmtest.OpenSchemaless(t, "tcp", f.listen.String(), dbserver.Account{User: "app", Password: f.password("app")})
	if _, err := db.Exec("CREATE DATABASE app_shop CHARACTER SET utf8mb4"); err != nil {
		t.Fatal(err)
	}
	well := func(names ...string) {
		t.Helper()
		farmtest.Eventually(t, fmt.Sprintf("%v are well", names), func() error {
			nodes := f.nodes()
			for _, name := range names {
				if n := nodes[name]; n.Report == nil || !n.Report.Well {
					return fmt.Errorf("%s: %+v", name, n.Report)
				}
			}
			return nil
		})
	}
	well("web1", "web2", "lb1", "lb2", "cache1", "files1", "jobs1")
	// A name with the addresses of both load balancers.
	nodes := f.nodes()
	balancers := []string{net.JoinHostPort(nodes["lb1"].Address.String(), "8080"), net.JoinHostPort(nodes["lb2"].Address.String(), "8080")}
	site.Dial = func(ctx context.Context, network, _ string) (conn net.Conn, err error) {
		first := rand.IntN(len(balancers))
		for n := range balancers {
			if conn, err = new(net.Dialer).DialContext(ctx, network, balancers[(first+n)%len(balancers)]); err == nil {
				return conn, nil
			}
		}
		return nil, err
	}
	if _, err := site.Install(t.Context(), owner); err != nil {
		t.Fatal(err)
	}
	c := &campaign{t: t, site: site, pages: map[string]int{}, slowest: map[string]time.Duration{}, files: map[string][]byte{}}
	ctx, stop := context.WithCancel(t.Context())
	var people sync.WaitGroup
	defer people.Wait()
	defer stop()
	c.open(ctx, &people)
	goOn := func() {
		t.Helper()
		var from []int
		kinds := []string{"front page", "comment", "own comment, seen by another", "upload", "picture"}
		for _, kind := range kinds {
			from = append(from, c.count(kind))
		}
		farmtest.Eventually(t, "people go on", func() error {
			for n, kind := range kinds {
				if c.count(kind) < from[n]+3 {
					return fmt.Errorf("%d of %s since; lost at last: %v", c.count(kind)-from[n], kind, c.lastLost())
				}
			}
			return nil
		})
	}
	webs := func() (names []string) {
		for name, n := range f.nodes() {
			if n.Role == "web" {
				names = append(names, name)
			}
		}
		slices.Sort(names)
		return names
	}
	goOn()

	c.spike.Store(true)
	farmtest.Eventually(t, "a third web node came with the spike", func() error {
		if w := webs(); len(w) != 3 {
			return fmt.Errorf("there are %v", w)
		}
		return nil
	})
	const jobs = 60
	for n := range jobs {
		sqs.Put("jobs", fmt.Sprint("job", n))
	}
	well("web3")
	goOn()

	for _, name := range []string{"web1", "lb1", "cache1", "files1", "jobs1", f.status().primary(), "web3", "lb2"} {
		c.strike(f, name)
		goOn()
	}
	f.awaitWhole(1, "")

	c.spike.Store(false)
	farmtest.Eventually(t, "the third web node went with the spike", func() error {
		if w := webs(); len(w) != 2 {
			return fmt.Errorf("there are %v", w)
		}
		return nil
	})
	goOn()
	before := webs()
	f.order("rebundle", before[0], "--as", "shop", "--yes")
	if now := webs(); len(now) != 2 || slices.ContainsFunc(now, func(name string) bool { return slices.Contains(before, name) }) {
		t.Errorf("after the rebundle there are %v, before it %v", now, before)
	}
	goOn()
	stop()
	people.Wait()

	for _, l := range c.lost {
		text := fmt.Sprintf("%s, asked for at %s, %v later: %v", l.what, l.began.Format("15:04:05.000"), l.ended.Sub(l.began).Round(time.Millisecond), l.why)
		if c.excused(l) {
			t.Log("lost with what was killed: " + text)
		} else {
			t.Error("lost: " + text)
		}
	}
	farmtest.Eventually(t, "every job is done", func() error {
		text, err := os.ReadFile(filepath.Join(work, "done"))
		for n := range jobs {
			if !slices.Contains(strings.Fields(string(text)), fmt.Sprint("job", n)) {
				return errors.Join(fmt.Errorf("job%d is not done", n), err)
			}
		}
		return nil
	})
	for _, server := range f.awaitWhole(1, "").Assignment.Servers {
		if server.Task != cluster.Lead && server.Task != cluster.Follow {
			continue
		}
		there := farmtest.Open(t, "tcp", server.Address, dbserver.Account{User: "app", Password: f.password("app")})
		farmtest.Eventually(t, "every comment is on "+server.Name, func() error { return comments(there, "app_shop", c.comments) })
	}
	for _, name := range webs() {
		client := &http.Client{Timeout: time.Minute}
		for path, want := range c.files {
			if err := shown(client, "http://"+net.JoinHostPort(f.nodes()[name].Address.String(), "8081")+path, want); err != nil {
				t.Errorf("%s: %v", name, err)
			}
		}
	}
	for _, s := range c.faults {
		t.Logf("%s was killed at %s", s.what, s.from.Format("15:04:05.000"))
	}
	t.Logf("answered %v; the slowest %v; %d comments, %d pictures", c.pages, c.slowest, len(c.comments), len(c.files))
}

// password is that of one of the farm's own accounts.
func (f *localFarm) password(user string) string {
	f.t.Helper()
	text, err := os.ReadFile(filepath.Join(f.dir, "secrets", user+".password"))
	if err != nil {
		f.t.Fatal(err)
	}
	return strings.TrimSpace(string(text))
}
