package page

import (
	"context"
	"embed"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"net/http"
	"net/netip"
	"time"

	"go.uber.org/zap"

	"farmhand/internal/service"
)

//go:embed assets
var embedded embed.FS

// Page is the operator's page. Make one with [New].
type Page struct {
	listener net.Listener
	guard    guard
	feed     *feed
	source   Source
	streams  chan struct{} // has room for so many
	log      *zap.Logger
}

// Bounds of what browsers can ask for.
const (
	maxStreams   = 16
	streamPace   = 250 * time.Millisecond // between messages of a kind
	streamBeat   = 15 * time.Second       // a sign of life, when there is nothing to say
	streamWrite  = 10 * time.Second       // a browser that takes nothing for so long is let go
	shutdownTime = 2 * time.Second
)

// New listens at a loopback address, host:port; port 0 is any free one.
func New(ctx context.Context, address string, source Source, log *zap.Logger) (*Page, error) {
	if err := CheckListen(address); err != nil {
		return nil, err
	}
	var config net.ListenConfig
	listener, err := config.Listen(ctx, "tcp", address)
	if err != nil {
		return nil, fmt.Errorf("the page: %w", err)
	}
	at, err := netip.ParseAddrPort(listener.Addr().String())
	if err != nil {
		return nil, errors.Join(err, listener.Close())
	}
	return &Page{listener: listener, guard: newGuard(at.Port()), feed: newFeed(), source: source, streams: make(chan struct{}, maxStreams), log: log}, nil
}

// URL is the page's address with its token: who has it sees the farm.
func (p *Page) URL() string {
	return fmt.Sprintf("http://%s/?token=%s", p.listener.Addr(), p.guard.token)
}

// Run shows the farm until ctx ends.
func (p *Page) Run(ctx context.Context) error {
	group := service.NewGroup(ctx)
	group.Go("farm", func(ctx context.Context) error { return p.source.Farm(ctx, p.feed.tellFarm) })
	group.Go("journal", func(ctx context.Context) error {
		return p.source.Journal(ctx, journalKept, p.feed.tellEntry, func(err error) { p.log.Warn("the journal is lost for now", zap.Error(err)) })
	})
	group.Go("reports", func(ctx context.Context) error { return p.source.Reports(ctx, p.feed.tellReports) })
	group.Go("samples", p.feed.sample)
	group.Go("http", p.serve)
	return group.Wait()
}

func (p *Page) serve(ctx context.Context) error {
	handler, err := p.handler(ctx)
	if err != nil {
		return errors.Join(err, p.listener.Close())
	}
	server := &http.Server{
		Handler: handler, ReadHeaderTimeout: 5 * time.Second, ReadTimeout: 10 * time.Second, IdleTimeout: time.Minute,
		MaxHeaderBytes: 16 << 10, ErrorLog: zap.NewStdLog(p.log),
	}
	failed := make(chan error, 1)
	go func() { failed <- server.Serve(p.listener) }()
	select {
	case err := <-failed:
		return fmt.Errorf("serve the page: %w", err)
	case <-ctx.Done():
	}
	grace, cancel := context.WithTimeout(context.WithoutCancel(ctx), shutdownTime)
	defer cancel()
	if err := server.Shutdown(grace); err != nil {
		_ = server.Close() // what is left are browsers, and there is nothing to lose
	}
	<-failed
	return context.Cause(ctx)
}

func (p *Page) handler(ctx context.Context) (http.Handler, error) {
	assets, err := fs.Sub(embedded, "assets")
	if err != nil {
		return nil, err
	}
	mux := http.NewServeMux()
	mux.Handle("GET /", http.FileServerFS(assets))
	mux.HandleFunc("GET /live", func(w http.ResponseWriter, r *http.Request) { p.live(ctx, w, r) })
	return p.guard.wrap(mux), nil
}

// live sends a browser what there is and then every change, as server-sent events,
// until it goes or the page ends.
func (p *Page) live(ctx context.Context, w http.ResponseWriter, r *http.Request) {
	select {
	case p.streams <- struct{}{}:
		defer func() { <-p.streams }()
	default:
		http.Error(w, fmt.Sprintf("this page is open %d times already", maxStreams), http.StatusTooManyRequests)
		return
	}
	w.Header().Set("Content-Type", "text/event-stream")
	out := http.NewResponseController(w)
	send := func(text string) error {
		if err := out.SetWriteDeadline(time.Now().Add(streamWrite)); err != nil {
			return err
		}
		if _, err := w.Write([]byte(text)); err != nil {
			return err
		}
		return out.Flush()
	}
	// The browser tries again after so many milliseconds.
	if err := send("retry: 1000\n\n"); err != nil {
		return
	}
	sent := has{}
	for {
		list, now, more := p.feed.after(sent)
		sent = now
		for _, m := range list {
			data, err := json.Marshal(m.data)
			if err == nil {
				err = send("event: " + m.event + "\ndata: " + string(data) + "\n\n") // JSON has no line break
			}
			if err != nil {
				return // the browser has gone
			}
		}
		if !pause(ctx, r.Context(), time.After(streamPace)) {
			return
		}
		beat := time.NewTimer(streamBeat)
		select {
		case <-more:
		case <-beat.C:
			if send(": here\n\n") != nil {
				return
			}
		case <-r.Context().Done():
			return
		case <-ctx.Done():
			return
		}
		beat.Stop()
	}
}

// pause waits; false if one of the contexts ends.
func pause(a, b context.Context, c <-chan time.Time) bool {
	select {
	case <-c:
		return true
	case <-a.Done():
	case <-b.Done():
	}
	return false
}
