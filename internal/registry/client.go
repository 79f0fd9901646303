package registry

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync/atomic"
	"time"

	"go.uber.org/zap"

	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"

	"farmhand/internal/farm"
	"farmhand/internal/pki"
)

// Administrator is the name (of etcd's user and in the certificate) that may do
// everything: the scaler's.
const Administrator = "root"

// Options are where the registry is and who calls it.
type Options struct {
	Farm      string   // the farm's name
	Endpoints []string // host:port of the members of the registry
	Files     pki.Files
	Log       *zap.Logger // nil for none
}

// Client talks to the registry under one name. Its methods may be called from
// any goroutine.
type Client struct {
	farm      string
	name      string // of the certificate
	endpoints atomic.Pointer[[]string]
	keys      keys
	tls       *tls.Config
	etcd      *clientv3.Client
	log       *zap.Logger
}

const (
	// callLimit bounds one question to the registry, for callers without a
	// deadline of their own: a registry that is away must be noticed.
	callLimit = 5 * time.Second

	dialLimit = 3 * time.Second
	// A connection whose other side is silent for so long is given up.
	pingAfter = 10 * time.Second
	pingLimit = 3 * time.Second
)

// Open makes a client. It does not wait for the registry to answer; only what
// is wrong on this side is an error.
func Open(o Options) (*Client, error) {
	if err := farm.CheckName(o.Farm); err != nil {
		return nil, fmt.Errorf("open registry: farm: %w", err)
	}
	if len(o.Endpoints) == 0 {
		return nil, errors.New("open registry: no endpoint is named")
	}
	config, err := o.Files.ClientTLS()
	if err != nil {
		return nil, fmt.Errorf("open registry: %w", err)
	}
	cert, err := pki.ReadCertificate(o.Files.Certificate)
	if err != nil {
		return nil, fmt.Errorf("open registry: %w", err)
	}
	log := o.Log
	if log == nil {
		log = zap.NewNop()
	}
	etcd, err := dial(o.Endpoints, config, log)
	if err != nil {
		return nil, fmt.Errorf("open registry at %s: %w", strings.Join(o.Endpoints, ", "), err)
	}
	c := &Client{farm: o.Farm, name: cert.Subject.CommonName, keys: farmKeys(o.Farm), tls: config, etcd: etcd, log: log}
	c.endpoints.Store(&o.Endpoints)
	return c, nil
}

func dial(endpoints []string, config *tls.Config, log *zap.Logger) (*clientv3.Client, error) {
	return clientv3.New(clientv3.Config{
		Endpoints: urls(endpoints), TLS: config,
		DialTimeout: dialLimit, DialKeepAliveTime: pingAfter, DialKeepAliveTimeout: pingLimit,
		// Its own messages are about single attempts; what comes of them is
		// returned, and logged where that stops.
		Logger: log.Named("etcd-client").WithOptions(zap.IncreaseLevel(zap.ErrorLevel)),
	})
}

func urls(endpoints []string) []string {
	all := make([]string, len(endpoints))
	for i, endpoint := range endpoints {
		all[i] = "https://" + endpoint
	}
	return all
}

// Endpoints are the host:port at which the client looks for the registry.
func (c *Client) Endpoints() []string { return *c.endpoints.Load() }

// SetEndpoints has the client look for the registry at other places from now on;
// calls under way may end with ErrUnavailable. None is no change.
func (c *Client) SetEndpoints(endpoints []string) {
	if len(endpoints) == 0 || slices.Equal(endpoints, c.Endpoints()) {
		return
	}
	endpoints = slices.Clone(endpoints)
	c.endpoints.Store(&endpoints)
	c.etcd.SetEndpoints(urls(endpoints)...)
}

// Close ends the client's connections.
func (c *Client) Close() error {
	if err := c.etcd.Close(); err != nil && !errors.Is(err, context.Canceled) {
		return fmt.Errorf("close the connection to the registry: %w", err)
	}
	return nil
}

// Name is who the client is to the registry.
func (c *Client) Name() string { return c.name }

// Ping asks the registry for an answer that a majority of its members agrees on.
func (c *Client) Ping(ctx context.Context) error {
	ctx, cancel := limited(ctx)
	defer cancel()
	_, err := c.etcd.Get(ctx, c.keys.clusters(), clientv3.WithLimit(1), clientv3.WithKeysOnly())
	return c.failed(err, "ask for the clusters")
}

// limited bounds one call.
func limited(ctx context.Context) (context.Context, context.CancelFunc) {
	return context.WithTimeoutCause(ctx, callLimit, errSilent)
}

var errSilent = fmt.Errorf("no answer within %v", callLimit)

// What callers branch on.
var (
	// ErrDenied: the certificate's name may not do this.
	ErrDenied = errors.New("the registry does not allow it")
	// ErrUnavailable: no member answered, or they have no majority.
	ErrUnavailable = errors.New("the registry does not answer")
	// ErrFull: the registry has reached its quota and takes no writes.
	ErrFull = errors.New("the registry is full")
)

// failed says what was tried and what can be done about it. The result wraps
// one of the errors above where it is one of them.
func (c *Client) failed(err error, format string, args ...any) error {
	if err == nil {
		return nil
	}
	what := fmt.Sprintf(format, args...)
	at := strings.Join(c.Endpoints(), ", ")
	switch {
	case is(err, rpctypes.ErrPermissionDenied), is(err, rpctypes.ErrAuthFailed), is(err, rpctypes.ErrUserEmpty), is(err, rpctypes.ErrUserNotFound):
		return fmt.Errorf("registry: %s as %q: %w (%w); a node writes only below its own name, and one that was expelled nothing", what, c.name, ErrDenied, err)
	case is(err, rpctypes.ErrNoSpace):
		return fmt.Errorf("registry: %s: %w (%w); raise its quota and clear its alarm", what, ErrFull, err)
	case errors.Is(err, ErrUnsettled):
		return fmt.Errorf("registry: %s: %w", what, err)
	case isUnavailable(err):
		return fmt.Errorf("registry: %s: %w at %s (%w); does it run there, and does a majority of its members?", what, ErrUnavailable, at, err)
	}
	return fmt.Errorf("registry: %s: %w", what, err)
}

// diagnoseLimit bounds the look at one endpoint.
const diagnoseLimit = 2 * time.Second

// Diagnose says what keeps each endpoint from answering, as far as a connection
// shows it: nobody listens, a certificate has expired, one is of another farm.
// etcd's client knows but does not tell. It returns nil where the connections
// are fine.
func (c *Client) Diagnose(ctx context.Context) error {
	var found error
	for _, endpoint := range c.Endpoints() {
		if err := c.diagnose(ctx, endpoint); err != nil {
			found = errors.Join(found, fmt.Errorf("%s: %w", endpoint, err))
		}
	}
	return found
}

func (c *Client) diagnose(ctx context.Context, endpoint string) (err error) {
	ctx, cancel := context.WithTimeoutCause(ctx, diagnoseLimit, fmt.Errorf("no answer within %v", diagnoseLimit))
	defer cancel()
	config := c.tls.Clone()
	config.NextProtos = []string{"h2"} // etcd speaks nothing else
	dialer := tls.Dialer{Config: config}
	conn, err := dialer.DialContext(ctx, "tcp", endpoint)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, conn.Close()) }()
	// What a server has against our certificate comes with the first read; one that
	// has nothing sends its settings.
	if err := conn.SetReadDeadline(time.Now().Add(diagnoseLimit)); err != nil {
		return err
	}
	if _, err := conn.Read(make([]byte, 1)); err != nil {
		return fmt.Errorf("it ended the connection: %w", err)
	}
	return nil
}
