package service

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/http/pprof"
	"net/netip"
	"strings"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"
	"go.uber.org/zap"
)

// AdminConfig is where a program answers its operators over HTTP.
type AdminConfig struct {
	Address string `yaml:"address"` // host:port; empty for no endpoint
	Pprof   bool   `yaml:"pprof"`   // whether /debug/pprof/ answers
}

// Validate says what is wrong with the configuration; path is where it stands.
func (c AdminConfig) Validate(path string) Problems {
	var p Problems
	if c.Address != "" {
		p.ListenAddress(path+".address", c.Address)
	}
	return p
}

// Condition is one thing that must hold for a program to be ready.
type Condition struct {
	Name   string `json:"name"`
	OK     bool   `json:"ok"`
	Detail string `json:"detail,omitempty"` // what is the case, for people
}

// AdminOptions are what the endpoints show.
type AdminOptions struct {
	Config  AdminConfig
	Build   Build
	Metrics *prometheus.Registry
	Level   zap.AtomicLevel
	Log     *zap.Logger
	// Ready returns the conditions of being ready; the program is if all are
	// OK. It is called by any goroutine and must not block.
	Ready func() []Condition
}

// Admin is the HTTP server for a program's operators: /metrics, /healthz,
// /readyz, /loglevel and, where it is enabled, /debug/pprof/.
type Admin struct {
	listener net.Listener
	server   *http.Server
}

const adminShutdown = 2 * time.Second

// NewAdmin opens the address, so that a port that is taken is known at once; Run
// serves it. It returns nil without an error if the address is empty.
func NewAdmin(ctx context.Context, o AdminOptions) (*Admin, error) {
	if o.Config.Address == "" {
		return nil, nil
	}
	var config net.ListenConfig
	listener, err := config.Listen(ctx, "tcp", o.Config.Address)
	if err != nil {
		return nil, fmt.Errorf("admin endpoint: %w", err)
	}
	return &Admin{
		listener: listener,
		server: &http.Server{
			Handler:           o.handler(),
			ReadHeaderTimeout: 5 * time.Second,
			ReadTimeout:       10 * time.Second,
			WriteTimeout:      90 * time.Second, // a profile takes 30 s unless told otherwise
			IdleTimeout:       60 * time.Second,
			MaxHeaderBytes:    16 << 10,
			ErrorLog:          zap.NewStdLog(o.Log.Named("admin")),
		},
	}, nil
}

// Addr is the address that is listened on, nil for a nil Admin.
func (a *Admin) Addr() net.Addr {
	if a == nil {
		return nil
	}
	return a.listener.Addr()
}

// Run serves until ctx ends, then lets requests finish for a moment. A nil Admin
// just waits.
func (a *Admin) Run(ctx context.Context) error {
	if a == nil {
		<-ctx.Done()
		return nil
	}
	failed := make(chan error, 1)
	go func() { failed <- a.server.Serve(a.listener) }()
	select {
	case err := <-failed:
		return fmt.Errorf("serve: %w", err)
	case <-ctx.Done():
	}
	grace, cancel := context.WithTimeout(context.WithoutCancel(ctx), adminShutdown)
	defer cancel()
	err := a.server.Shutdown(grace)
	if errors.Is(err, context.DeadlineExceeded) {
		err = a.server.Close()
	}
	if served := <-failed; !errors.Is(served, http.ErrServerClosed) {
		err = errors.Join(err, served)
	}
	return err
}

func (o AdminOptions) handler() http.Handler {
	paths := []string{"/metrics", "/healthz", "/readyz", "/loglevel"}
	mux := http.NewServeMux()
	mux.Handle("GET /metrics", promhttp.InstrumentMetricHandler(o.Metrics, promhttp.HandlerFor(o.Metrics, promhttp.HandlerOpts{
		ErrorLog:            zap.NewStdLog(o.Log.Named("metrics")),
		Registry:            o.Metrics,
		MaxRequestsInFlight: 8,
		Timeout:             30 * time.Second,
		EnableOpenMetrics:   true,
	})))
	mux.HandleFunc("GET /healthz", func(w http.ResponseWriter, _ *http.Request) { fmt.Fprintln(w, "ok") })
	mux.HandleFunc("GET /readyz", o.readyz)
	mux.Handle("GET /loglevel", o.Level)
	mux.Handle("PUT /loglevel", localOnly(o.Level))
	if o.Config.Pprof {
		paths = append(paths, "/debug/pprof/")
		mux.Handle("/debug/pprof/", localOnly(http.HandlerFunc(pprof.Index)))
		for name, handler := range map[string]http.HandlerFunc{
			"cmdline": pprof.Cmdline, "profile": pprof.Profile, "symbol": pprof.Symbol, "trace": pprof.Trace,
		} {
			mux.Handle("/debug/pprof/"+name, localOnly(handler))
		}
	}
	mux.HandleFunc("GET /{$}", func(w http.ResponseWriter, _ *http.Request) {
		fmt.Fprintf(w, "%s\n\n%s\n", o.Build, strings.Join(paths, "\n"))
	})
	return http.NewCrossOriginProtection().Handler(mux)
}

// localOnly keeps what changes or slows down the process from other machines,
// even where the address is open to them for the sake of the metrics.
func localOnly(h http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		peer, err := netip.ParseAddrPort(r.RemoteAddr)
		if err != nil || !peer.Addr().Unmap().IsLoopback() {
			http.Error(w, "only for requests from the machine itself", http.StatusForbidden)
			return
		}
		h.ServeHTTP(w, r)
	})
}

func (o AdminOptions) readyz(w http.ResponseWriter, _ *http.Request) {
	answer := struct {
		Ready      bool        `json:"ready"`
		Conditions []Condition `json:"conditions"`
	}{Ready: true, Conditions: o.Ready()}
	for _, c := range answer.Conditions {
		answer.Ready = answer.Ready && c.OK
	}
	body, err := json.MarshalIndent(answer, "", "  ")
	if err != nil {
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	w.Header().Set("Content-Type", "application/json")
	if !answer.Ready {
		w.WriteHeader(http.StatusServiceUnavailable)
	}
	fmt.Fprintf(w, "%s\n", body)
}
