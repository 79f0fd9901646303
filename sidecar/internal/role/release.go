package role

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"math"
	"net"
	"net/http"
	"os/user"
	"reflect"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"

	"go.uber.org/zap"

	"farmhand/internal/cluster"
	"farmhand/internal/objects"
	"farmhand/internal/registry"
	"farmhand/internal/service"
	"farmhand/sidecar/internal/command"
	"farmhand/sidecar/internal/config"
	"farmhand/sidecar/internal/deploy"
	"farmhand/sidecar/internal/mask"
)

// releases keeps the node's site at the version that the farm wants it to have.
type releases struct {
	site       *deploy.Site
	role, self string
	record     registry.Record
	farm       *nodeFarm
	log        *zap.Logger
	retry      time.Duration // the longest wait between two tries

	mu    sync.Mutex
	order order
	// isKnown is set once it was told what the farm wants, or that this is not known.
	isKnown bool
	news    chan struct{} // holds one while there is another order
}

// order is what a node is to have.
type order struct {
	release cluster.Release // its version is empty for none
	current string          // the version in force
	attempt string
	back    bool
}

// recheck is how often it is looked at whether current is still what it is to be.
const recheck = 5 * time.Second

// newReleases adds releases to the node.
func newReleases(n *node, c config.Config, s *site, tools Tools) error {
	r := c.Web.Release
	if tools.Farm == nil || c.Farm.Role == "" {
		return errors.New("releases are what a farm rolls out (farm.directory, farm.role)")
	}
	record, err := registry.ClusterRecord(c.Membership.Registry.Cluster, cluster.ReleasesRecord)
	if err != nil {
		return err
	}
	store, err := objects.ParseURL(r.Store)
	if err != nil {
		return err
	}
	group, credential, err := s.readers()
	if err != nil {
		return err
	}
	n.releases = &releases{role: c.Farm.Role, self: n.self, record: record, farm: n.farm, log: tools.Log, retry: retryMost, news: make(chan struct{}, 1)}
	n.releases.site = &deploy.Site{
		Dir: c.Web.SiteDir(), Owner: n.self, Group: group, Keep: r.Keep, Within: time.Duration(r.Within), Fetch: fetchFrom(store), Ask: s.asker(r),
		Changed: s.phpFPM.reload, Doing: n.releases.doing, Log: tools.Log,
	}
	for _, one := range r.Shared {
		n.releases.site.Shared = append(n.releases.site.Shared, deploy.Shared{Path: one.Path, Target: one.Target})
	}
	if len(r.Check) > 0 {
		n.releases.site.Check = checker(r, credential, c.Secrets())
	}
	// A node without the version in force is none that visitors are to come to, and no ill one either.
	n.check(&check{interval: recheck / 20, limit: time.Second, failures: math.MaxInt, successes: 1, try: n.releases.serves})
	return n.releases.site.Make()
}

// readers are who may read a release beside its owner, and the account that runs what is in one.
func (s *site) readers() (group int, credential *syscall.Credential, err error) {
	if s.Account == "" {
		return -1, nil, nil
	}
	if credential, err = account(s.Account); err != nil {
		return 0, nil, err
	}
	g, err := user.LookupGroup(s.Group)
	if err != nil {
		return 0, nil, err
	}
	group, err = strconv.Atoi(g.Gid)
	return group, credential, err
}

// fetchFrom opens releases' files in a store.
func fetchFrom(c objects.Config) func(context.Context, cluster.Release) (io.ReadCloser, error) {
	return func(ctx context.Context, r cluster.Release) (io.ReadCloser, error) {
		c := c
		c.Patience = 20 * time.Second
		store, err := objects.Open(ctx, c)
		if err != nil {
			return nil, err
		}
		from, _, err := store.Get(ctx, r.Object, objects.GetOptions{})
		return from, err
	}
}

// checker runs the operator's command in a release's directory, as the account that will run the code.
func checker(r config.Release, credential *syscall.Credential, secrets []string) func(context.Context, string) error {
	return func(ctx context.Context, dir string) error {
		path, err := find(r.Check[0])
		if err != nil {
			return err
		}
		o := command.Run(ctx, command.Command{
			Args: append([]string{path}, r.Check[1:]...), Dir: dir, Credential: credential, Limit: time.Duration(r.CheckLimit), Grace: 5 * time.Second, Output: 1 << 10,
		})
		if o.Status == command.OK {
			return nil
		}
		hidden, err := mask.Read(secrets)
		if err != nil {
			return fmt.Errorf("the check %s: %w (what it said is withheld: %w)", r.Check[0], o.Err, err)
		}
		return fmt.Errorf("the check %s: %w: %s", r.Check[0], o.Err, strings.TrimSpace(hidden.Beginning(string(o.Output))))
	}
}

// asker asks the site for a page, of the next release by the socket that only this node reaches.
func (s *site) asker(r config.Release) func(context.Context, bool) error {
	client := func(network, address string) *http.Client {
		return &http.Client{
			Timeout: time.Duration(s.Patience()) * time.Second,
			Transport: &http.Transport{DisableKeepAlives: true, DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
				return new(net.Dialer).DialContext(ctx, network, address)
			}},
			CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
		}
	}
	clients := map[bool]*http.Client{true: client("unix", s.NextSocket), false: client("tcp", s.Listen)}
	return func(ctx context.Context, next bool) (err error) {
		request, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+cmp.Or(r.Host, s.Listen)+r.Path, nil)
		if err != nil {
			return err
		}
		response, err := clients[next].Do(request)
		if err != nil {
			return err
		}
		defer func() { err = errors.Join(err, response.Body.Close()) }()
		said, err := io.ReadAll(io.LimitReader(response.Body, 1<<20))
		if err != nil {
			return err
		}
		if response.StatusCode < 200 || response.StatusCode > 399 {
			return fmt.Errorf("%s answers %s %.100q", r.Path, response.Status, said)
		}
		return nil
	}
}

// serves is an error as long as the node does not have the version in force, or the one that it is to have.
func (r *releases) serves(context.Context) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	version := r.site.Version()
	switch o := r.order; {
	case !r.isKnown:
		return errors.New("it is not known yet which release this node is to have")
	case o.release.Version == "" && o.current == "", version != "" && (version == o.current || version == o.release.Version):
		return nil
	default:
		return fmt.Errorf("this node does not have release %s yet", cmp.Or(o.release.Version, o.current))
	}
}

// run has the site be what the farm wants, until ctx ends.
func (r *releases) run(ctx context.Context) error {
	group := service.NewGroup(ctx)
	group.Go("releases of the farm", r.watch)
	group.Go("release", func(ctx context.Context) error {
		for ctx.Err() == nil {
			select {
			case <-ctx.Done():
				return nil
			case <-r.news:
			}
			r.mu.Lock()
			o := r.order
			r.mu.Unlock()
			r.follow(ctx, o)
		}
		return nil
	})
	return group.Wait()
}

// watch hears what the farm wants. What it cannot read changes nothing.
func (r *releases) watch(ctx context.Context) error {
	err := r.farm.farm.Watch(ctx, r.record, func(v registry.Value) error {
		if v.Lost != nil && v.Data == nil {
			r.take(nil) // what the node has is good enough
			return nil
		}
		all, err := cluster.DecodeReleases(v.Data)
		if err != nil {
			r.log.Error("which release this node is to have cannot be read; what it has stays", zap.Error(err))
			r.take(nil)
			return nil
		}
		now := all.Roles[r.role]
		if now == nil {
			now = &cluster.RoleReleases{}
		}
		r.take(now)
		return nil
	})
	if errors.Is(err, registry.ErrDenied) {
		r.take(nil)
		<-ctx.Done() // whether the node goes on is for who holds the membership
		return nil
	}
	return err
}

// take notes what the farm wants; nil for what is not known: then the node serves what it has.
func (r *releases) take(of *cluster.RoleReleases) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if of == nil {
		if !r.isKnown {
			r.order.current, r.isKnown = r.site.Version(), true
		}
		return
	}
	next := order{current: of.Current, attempt: of.Attempt, back: of.Back}
	next.release, _ = of.For(r.self)
	if r.isKnown && reflect.DeepEqual(next, r.order) {
		return
	}
	r.order, r.isKnown = next, true
	select {
	case r.news <- struct{}{}:
	default:
	}
}

// follow has the site be what the order says, until there is another one or ctx ends.
func (r *releases) follow(ctx context.Context, o order) {
	ctx, stop := context.WithCancel(ctx)
	defer stop()
	var watching sync.WaitGroup
	defer watching.Wait()
	defer stop()
	watching.Go(func() { r.stopAtNews(ctx, stop) })
	var wait time.Duration
	for ctx.Err() == nil {
		if o.release.Version == "" {
			r.report(cluster.ReleaseReport{Attempt: o.attempt})
			<-ctx.Done()
			return
		}
		back := o.back && o.release.Version == o.current && r.site.Version() != ""
		err := r.site.Bring(ctx, o.release, back)
		if ctx.Err() != nil {
			return
		}
		refused := (*deploy.RefusedError)(nil)
		switch {
		case err == nil:
			wait = 0
			r.report(cluster.ReleaseReport{Attempt: o.attempt})
			sleep(ctx, recheck)
			continue
		case errors.As(err, &refused) && r.site.Version() != "":
			r.log.Error("release refused", zap.String("version", o.release.Version), zap.Error(err))
			r.report(cluster.ReleaseReport{Attempt: o.attempt, Refused: o.release.Version, Why: bound(err.Error())})
			<-ctx.Done()
			return
		}
		wait = min(max(2*wait, retryFirst), r.retry)
		r.log.Error("the node does not have its release; tried again", zap.String("version", o.release.Version), zap.Error(err), zap.Duration("after", wait))
		r.report(cluster.ReleaseReport{Attempt: o.attempt, Doing: bound(fmt.Sprintf("tried again in %v: %v", wait, err))})
		sleep(ctx, wait)
	}
}

// stopAtNews ends what is done by an order when there is another one, which stays to be taken.
func (r *releases) stopAtNews(ctx context.Context, stop func()) {
	select {
	case <-ctx.Done():
	case <-r.news:
		stop()
		select {
		case r.news <- struct{}{}:
		default:
		}
	}
}

func sleep(ctx context.Context, d time.Duration) {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-ctx.Done():
	}
}

// bound is the beginning of a text, as the registry takes it.
func bound(text string) string {
	if len(text) > maxDetail/2 {
		return strings.ToValidUTF8(text[:maxDetail/2], "") + " …"
	}
	return text
}

// doing tells the farm what takes time.
func (r *releases) doing(what string) {
	r.mu.Lock()
	attempt := r.order.attempt
	r.mu.Unlock()
	r.report(cluster.ReleaseReport{Attempt: attempt, Doing: what})
}

func (r *releases) report(report cluster.ReleaseReport) {
	report.Version = r.site.Version()
	r.farm.change(func(n *cluster.NodeReport) { n.Release = &report })
}
