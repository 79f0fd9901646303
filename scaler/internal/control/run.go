package control

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"strings"
	"time"

	"go.uber.org/zap"
	"golang.org/x/sys/unix"

	"farmhand/internal/pki"
	"farmhand/internal/registry"
	"farmhand/internal/service"
)

// Running is what the ready line says.
type Running struct {
	Farm, Member string
	Endpoints    []string // of the registry
	Join         string   // where nodes join
	Embedded     bool
}

// ErrRunning: the directory is in use.
var ErrRunning = errors.New("a registry runs from this directory already")

// Run runs the registry of d and the endpoint at which nodes join, calls ready
// when both answer, and stops them when ctx ends. What it returns then is nil
// unless stopping failed.
func Run(ctx context.Context, d Dir, log *zap.Logger, ready func(Running)) (err error) {
	c, m, err := d.load()
	if err != nil {
		return err
	}
	lock, err := d.hold()
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, lock.Close()) }()
	authority, err := pki.ReadAuthority(d.Path)
	if err != nil {
		return err
	}
	if err := d.renewIfDue(authority, m, log); err != nil {
		return err
	}

	client, err := d.open(&c, m, log)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, client.Close()) }()
	group := service.NewGroup(ctx)
	embedded := len(c.External.Endpoints) == 0
	if embedded {
		server, err := d.embed(ctx, &c, m, client, log)
		if err != nil {
			return stopped(ctx, err)
		}
		defer server.Close()
		group.Go("etcd", server.Run)
	}
	roster := newRoster(d, m, c, log)
	if err := d.ready(group.Context(), roster, client, embedded); err != nil {
		if failed := end(group); failed != nil {
			return failed
		}
		return stopped(ctx, err)
	}
	if embedded {
		group.Go("control nodes", func(ctx context.Context) error { return roster.follow(ctx, client) })
	}
	server, listener, err := d.joinServer(ctx, roster, authority, client)
	if err != nil {
		return errors.Join(err, end(group))
	}
	group.Go("join endpoint", func(ctx context.Context) error { return serve(ctx, server, listener) })
	group.Go("certificates", func(ctx context.Context) error { return d.keepRenewed(ctx, authority, m, log) })
	log.Info("registry ready", zap.String("farm", c.Farm), zap.String("member", m.Name), zap.Strings("endpoints", c.endpoints()), zap.Stringer("join", listener.Addr()))
	ready(Running{Farm: c.Farm, Member: m.Name, Endpoints: c.endpoints(), Join: listener.Addr().String(), Embedded: embedded})
	err = group.Wait()
	log.Info("registry stops", zap.String("member", m.Name))
	return err
}

// ready waits until the registry answers, is secured and has this member.
func (d Dir) ready(ctx context.Context, r *roster, client *registry.Client, embedded bool) error {
	if err := secure(ctx, client, embedded, r.log); err != nil || !embedded {
		return err
	}
	return d.settle(ctx, r.config(), r.own, client, r.log)
}

// end stops a group early.
func end(g *service.Group) error {
	g.Stop(errors.New("the start failed"))
	return g.Wait()
}

// stopped is nil if err came of ctx's end, which somebody asked for.
func stopped(ctx context.Context, err error) error {
	if ctx.Err() != nil {
		return nil
	}
	return err
}

// secure waits until the registry answers and switches its access control on.
// An external registry's owner has to have done that: others may be using it.
func secure(ctx context.Context, client *registry.Client, embedded bool, log *zap.Logger) error {
	said := false
	for {
		err := func() error {
			if embedded {
				return client.Secure(ctx)
			}
			return client.RequireSecured(ctx)
		}()
		if err == nil || !errors.Is(err, registry.ErrUnavailable) {
			return err
		}
		if !said {
			said = true
			log.Warn("registry does not answer yet", zap.Error(err))
		}
		select {
		case <-time.After(time.Second):
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}

func (d Dir) joinServer(ctx context.Context, r *roster, authority *pki.Authority, client *registry.Client) (*http.Server, net.Listener, error) {
	config, err := d.server().ServerTLS()
	if err != nil {
		return nil, nil, err
	}
	signer, err := pki.ReadCertificate(d.registryFiles(r.config()).Authority)
	if err != nil {
		return nil, nil, err
	}
	j := &joins{
		client: client, authority: authority, registry: pki.EncodeCertificate(signer), dir: d, roster: r,
		who: "scaler " + r.own.Name, limiter: newLimiter(), log: r.log.Named("join"),
	}
	var listen net.ListenConfig
	listener, err := listen.Listen(ctx, "tcp", r.own.at(r.own.JoinPort))
	if err != nil {
		return nil, nil, fmt.Errorf("endpoint for nodes that join: %w", err)
	}
	return &http.Server{
		Handler: j.handler(), TLSConfig: config,
		ReadHeaderTimeout: 5 * time.Second, ReadTimeout: 10 * time.Second, WriteTimeout: joinLimit + 5*time.Second, IdleTimeout: 10 * time.Second,
		MaxHeaderBytes: 8 << 10, ErrorLog: zap.NewStdLog(j.log),
	}, listener, nil
}

// serve serves until ctx ends, then lets requests finish for a moment.
func serve(ctx context.Context, server *http.Server, listener net.Listener) error {
	failed := make(chan error, 1)
	go func() { failed <- server.ServeTLS(listener, "", "") }()
	select {
	case err := <-failed:
		return err
	case <-ctx.Done():
	}
	grace, cancel := context.WithTimeout(context.WithoutCancel(ctx), 2*time.Second)
	defer cancel()
	err := server.Shutdown(grace)
	if errors.Is(err, context.DeadlineExceeded) {
		err = server.Close()
	}
	if served := <-failed; !errors.Is(served, http.ErrServerClosed) {
		err = errors.Join(err, served)
	}
	return err
}

// renewIfDue signs the node's own certificates anew when it is time; etcd and
// the join endpoint read them at every handshake.
func (d Dir) renewIfDue(authority *pki.Authority, m Member, log *zap.Logger) error {
	at, err := d.renewAt()
	if err != nil || time.Now().Before(at) {
		return err
	}
	if err := d.certify(authority, m, time.Now()); err != nil {
		return fmt.Errorf("renew the certificates in %s: %w", d.Path, err)
	}
	log.Info("certificates renewed", zap.String("directory", d.Path))
	return nil
}

func (d Dir) keepRenewed(ctx context.Context, authority *pki.Authority, m Member, log *zap.Logger) error {
	tick := time.NewTicker(time.Hour)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
			if err := d.renewIfDue(authority, m, log); err != nil {
				log.Error("certificates not renewed", zap.Error(err))
			}
		}
	}
}

// hold keeps a second process from running on the same directory.
func (d Dir) hold() (*os.File, error) {
	f, err := os.OpenFile(d.lock(), os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, fmt.Errorf("lock the registry's directory: %w", err)
	}
	if err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != nil {
		if errors.Is(err, unix.EWOULDBLOCK) {
			err = ErrRunning
		}
		return nil, errors.Join(fmt.Errorf("%s: %w", d.Path, err), f.Close())
	}
	return f, nil
}

// String is the line for people and for programs that wait.
func (r Running) String() string {
	return fmt.Sprintf("registry ready: farm %s, member %s, etcd at %s, nodes join at %s", r.Farm, r.Member, strings.Join(r.Endpoints, " "), r.Join)
}
