// Package etcdserver is the registry's own etcd: a server inside this process,
// or one of several that are a cluster. It is the only package with etcd's
// server.
//
// It owns how etcd is set up: mutual TLS for everyone, members told apart from
// nodes by their certificates, bounds on what is stored and asked for. Who may
// write what is access control, which package registry switches on.
package etcdserver

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"slices"
	"strings"
	"time"

	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"

	"go.etcd.io/etcd/client/pkg/v3/transport"
	"go.etcd.io/etcd/server/v3/embed"

	"farmhand/internal/pki"
)

// Member is one server of the cluster.
type Member struct {
	Name    string
	Clients string // ip:port for clients
	Peers   string // ip:port for the other members
}

// Options are what a server is like. All of its files belong to it alone.
type Options struct {
	Farm    string
	Name    string   // which of the members this is
	Members []Member // of the whole cluster, the same for each
	Join    bool     // the other members run already; they know of this one
	Dir     string   // its data; made if it is not there
	Files   pki.Files
	Quota   int64         // bytes; beyond that it takes no writes
	History time.Duration // how long old values are kept
	// Heartbeat and Election are the times by which the members notice that their
	// leader is gone.
	Heartbeat, Election time.Duration
	LogLevel            zapcore.Level // the least of etcd's own messages
	Log                 *zap.Logger
}

const (
	// maxRequest bounds what one write may bring, in bytes: a node that may write
	// only below its own name may still write a lot.
	maxRequest  = 256 << 10
	maxLearners = 6
	maxStreams  = 4096 // calls and watches at a time on one connection
)

// Server is a server that runs.
type Server struct {
	etcd  *embed.Etcd
	level zap.AtomicLevel
}

// Start starts the server and waits until it and a majority of the members have
// found each other. The caller closes what it returns.
func Start(ctx context.Context, o Options) (*Server, error) {
	if err := pki.MakeDir(o.Dir); err != nil {
		return nil, err
	}
	s := &Server{level: zap.NewAtomicLevelAt(max(o.LogLevel, zapcore.LevelOf(o.Log.Core())))}
	config, err := o.etcd(s.level)
	if err != nil {
		return nil, err
	}
	if s.etcd, err = embed.StartEtcd(config); err != nil {
		return nil, fmt.Errorf("start etcd: %w", err)
	}
	select {
	case <-s.etcd.Server.ReadyNotify():
		return s, nil
	case <-s.etcd.Server.StopNotify():
		err = errors.New("it stopped by itself; its log says why")
	case err = <-s.etcd.Err():
	case <-ctx.Done():
		err = context.Cause(ctx)
	}
	// Close alone waits for a listener that waits for the server to be ready.
	s.etcd.Server.Stop()
	s.Close()
	return nil, fmt.Errorf("start etcd: %w", err)
}

// Run waits until ctx ends; it returns an error if the server stops before.
func (s *Server) Run(ctx context.Context) error {
	select {
	case <-ctx.Done():
		return nil
	case err := <-s.etcd.Err():
		return err
	case <-s.etcd.Server.StopNotify():
		return errors.New("it stopped by itself; its log says why")
	}
}

// Close stops the server and waits until it has. Its data is safe at any moment.
func (s *Server) Close() {
	// etcd calls it an error that its listeners are closed, which is what we do.
	s.level.SetLevel(zap.DPanicLevel)
	s.etcd.Close()
}

// etcd is etcd's own configuration.
func (o Options) etcd(level zap.AtomicLevel) (*embed.Config, error) {
	e := embed.NewConfig()
	e.Name = o.Name
	e.Dir = o.Dir
	var cluster []string
	for _, m := range o.Members {
		cluster = append(cluster, m.Name+"=https://"+m.Peers)
		if m.Name == o.Name {
			e.ListenClientUrls, e.ListenPeerUrls = at(m.Clients), at(m.Peers)
		}
	}
	if !slices.ContainsFunc(o.Members, func(m Member) bool { return m.Name == o.Name }) {
		return nil, fmt.Errorf("start etcd: %q is not one of the members", o.Name)
	}
	e.AdvertiseClientUrls, e.AdvertisePeerUrls = e.ListenClientUrls, e.ListenPeerUrls
	e.InitialCluster = strings.Join(cluster, ",")
	e.InitialClusterToken = "farmhand-" + o.Farm
	if o.Join {
		e.ClusterState = embed.ClusterStateFlagExisting
	}
	// One that was added and never starts must not be in the way of the next.
	e.MaxLearners = maxLearners

	e.ClientTLSInfo = transport.TLSInfo{
		CertFile: o.Files.Certificate, KeyFile: o.Files.Key, TrustedCAFile: o.Files.Authority, ClientCertAuth: true,
	}
	e.PeerTLSInfo = e.ClientTLSInfo
	// The farm's authority signs for nodes too; a member is who has this host name.
	// etcd's other check, of the caller's address, asks the DNS, and refuses a
	// member whose connections leave by another address.
	e.PeerTLSInfo.AllowedHostnames = []string{pki.PeerHost}
	e.PeerTLSInfo.SkipClientSANVerify = true
	e.TlsMinVersion = "TLS1.3"
	// The gateway calls with the server's own certificate, whoever asks.
	e.EnableGRPCGateway = false

	e.QuotaBackendBytes = o.Quota
	e.AutoCompactionMode = embed.CompactorModePeriodic
	e.AutoCompactionRetention = o.History.String()
	e.MaxRequestBytes = maxRequest
	e.MaxConcurrentStreams = maxStreams
	e.TickMs = uint(o.Heartbeat.Milliseconds())
	e.ElectionMs = uint(o.Election.Milliseconds())
	e.ZapLoggerBuilder = embed.NewZapLoggerBuilder(o.Log.Named("etcd").WithOptions(zap.IncreaseLevel(level)))
	return e, nil
}

func at(hostPort string) []url.URL { return []url.URL{{Scheme: "https", Host: hostPort}} }
