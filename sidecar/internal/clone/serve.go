package clone

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"time"

	"go.uber.org/zap"

	"farmhand/internal/dbserver"
	"farmhand/internal/pki"
)

// Donor is a server whose data may be copied.
type Donor struct {
	Install dbserver.Install
	// Config is that of the server, which need not run all the time; who asks while it
	// does not is told so.
	Config dbserver.Config
	// Files are the node's.
	Files pki.Files
	// Allow says why the node called joiner does not get the data; nil if it does.
	Allow func(ctx context.Context, joiner string) error
	// Rate bounds what is sent, in bytes per second; 0 is no bound.
	Rate int64
	// Stall is how long nothing may go out before the copy is given up; default 2
	// minutes. A backup can wait for the server's locks, and commits then wait for it.
	Stall time.Duration
	Log   *zap.Logger // may be nil
	// Tell is told of every copy that was begun, when it has ended; may be nil.
	Tell func(Given)
}

// Given is a copy that was sent, or was not.
type Given struct {
	Joiner string
	Bytes  int64
	Took   time.Duration
	Err    error // why it is not whole; nil if it is
}

// Serve gives d's data to whom it is allowed, at l, until ctx ends. It closes l.
// A copy under way ends with ctx.
func Serve(ctx context.Context, l net.Listener, d Donor) error {
	if d.Stall == 0 {
		d.Stall = stallLimit
	}
	if d.Log == nil {
		d.Log = zap.NewNop()
	}
	how, err := flavorOf(d.Install)
	if err != nil {
		return errors.Join(fmt.Errorf("give data at %v: %w", l.Addr(), err), l.Close())
	}
	// Any node gets an answer, if only to be told why it gets no data.
	config, err := d.Files.PeerTLS(func(string) error { return nil })
	if err != nil {
		return errors.Join(fmt.Errorf("give data at %v: %w", l.Addr(), err), l.Close())
	}
	s := &server{Donor: d, how: how}
	mux := http.NewServeMux()
	mux.HandleFunc("GET "+dataPath, s.handled(s.data))
	mux.HandleFunc("POST "+connectPath, s.handled(s.connect))
	mux.HandleFunc("POST "+donePath, s.handled(s.done))
	h := &http.Server{
		Handler: mux, TLSConfig: config,
		ReadHeaderTimeout: connectLimit, IdleTimeout: connectLimit, MaxHeaderBytes: maxHeader,
		BaseContext: func(net.Listener) context.Context { return ctx },
		ErrorLog:    zap.NewStdLog(d.Log),
		Protocols:   new(http.Protocols),
	}
	h.Protocols.SetHTTP1(true) // one stream a connection; HTTP/2 would add its own windows
	closed := make(chan error, 1)
	stop := context.AfterFunc(ctx, func() { closed <- h.Close() })
	err = h.ServeTLS(l, "", "")
	if stop() {
		err = errors.Join(err, h.Close())
	} else {
		err = <-closed // it was our own doing
	}
	s.end()
	if err != nil {
		return fmt.Errorf("give data at %v: %w", l.Addr(), err)
	}
	return nil
}

// server is a Donor that serves.
type server struct {
	Donor
	how      flavor
	handlers sync.WaitGroup

	mu    sync.Mutex
	ended bool  // no handler may begin
	gift  *gift // what is given now; nil if nothing
}

// handled counts a handler in: http.Server.Close does not wait for them.
func (s *server) handled(do func(w http.ResponseWriter, r *http.Request, peer string)) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		if s.begin() {
			defer s.handlers.Done()
			do(w, r, r.TLS.PeerCertificates[0].Subject.CommonName)
		}
	}
}

func (s *server) begin() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.ended {
		s.handlers.Add(1)
	}
	return !s.ended
}

func (s *server) end() {
	s.mu.Lock()
	s.ended = true
	s.mu.Unlock()
	s.handlers.Wait()
}

// data gives the data to one joiner.
func (s *server) data(w http.ResponseWriter, r *http.Request, joiner string) {
	refuse := func(status int, err error) {
		s.Log.Info("data not given", zap.String("joiner", joiner), zap.Error(err))
		http.Error(w, short(err.Error()), status)
	}
	if err := s.Allow(r.Context(), joiner); err != nil {
		refuse(http.StatusForbidden, err)
		return
	}
	if err := s.fits(r.Header.Get(flavorHeader), r.Header.Get(versionHeader)); err != nil {
		refuse(http.StatusConflict, err)
		return
	}
	g := newGift(r.Context(), &s.Donor, joiner, w)
	defer g.end(nil)
	if other := s.take(g); other != "" {
		refuse(http.StatusServiceUnavailable, fmt.Errorf("busy: it gives its data to %s now", other))
		return
	}
	defer s.release()
	size, err := dbserver.DataSize(s.Config.DataDir())
	if err != nil {
		refuse(http.StatusInternalServerError, err)
		return
	}
	w.Header().Set("Content-Type", "application/octet-stream")
	w.Header().Set("Trailer", strings.Join([]string{bytesTrailer, faultTrailer, beforeTrailer, afterTrailer}, ", "))
	w.Header().Set(sizeHeader, strconv.FormatInt(size, 10))
	began := time.Now()
	s.Log.Info("data is given", zap.String("joiner", joiner), zap.Int64("size", size))
	err = http.NewResponseController(w).Flush()
	if err == nil {
		err = s.how.give(g.ctx, g)
	}
	// The limit of the last piece may be over, and the end is still to be said.
	if late := g.body.deadline(time.Now().Add(connectLimit)); late != nil {
		err = errors.Join(err, late)
	}
	w.Header().Set(bytesTrailer, strconv.FormatInt(g.body.sent.Load(), 10))
	given := Given{Joiner: joiner, Bytes: g.bytes(), Took: time.Since(began), Err: err}
	if err != nil {
		w.Header().Set(faultTrailer, fault(err))
		s.Log.Warn("data not given to its end", zap.String("joiner", joiner), zap.Int64("bytes", given.Bytes), zap.Error(err))
	} else {
		w.Header().Set(beforeTrailer, g.before)
		w.Header().Set(afterTrailer, g.after)
		s.Log.Info("data was given", zap.String("joiner", joiner), zap.Int64("bytes", given.Bytes), zap.Duration("took", given.Took))
	}
	if s.Tell != nil {
		s.Tell(given)
	}
}

// take makes g what is given; it returns who is given something already.
func (s *server) take(g *gift) (other string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.gift != nil {
		return s.gift.joiner
	}
	s.gift = g
	return ""
}

func (s *server) release() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.gift = nil
}

// current returns what is given to joiner, or refuses a request about it.
func (s *server) current(w http.ResponseWriter, joiner string) *gift {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.gift == nil || s.gift.joiner != joiner {
		http.Error(w, "no data is given to "+joiner, http.StatusForbidden)
		return nil
	}
	return s.gift
}

// connect makes the request's connection one to the database server.
func (s *server) connect(w http.ResponseWriter, r *http.Request, joiner string) {
	if g := s.current(w, joiner); g != nil {
		if err := g.connect(w); err != nil {
			s.Log.Info("connection to the server for a copy", zap.String("joiner", joiner), zap.Error(err))
		}
	}
}

// done takes the joiner's word that it has all.
func (s *server) done(w http.ResponseWriter, _ *http.Request, joiner string) {
	if g := s.current(w, joiner); g != nil {
		g.finish()
	}
}

// fits says why a joiner's server cannot run on the donor's data: one of another
// series would have to upgrade it first, or could not read it.
func (s *server) fits(flavor, version string) error {
	if flavor != s.Install.Flavor.String() || series(version) != series(s.Install.Version) {
		return fmt.Errorf("a %s %s server cannot run on the data of %v %s", flavor, version, s.Install.Flavor, s.Install.Version)
	}
	return nil
}

// series is a version's first two numbers.
func series(version string) string {
	parts := strings.SplitN(version, ".", 3)
	return strings.Join(parts[:min(2, len(parts))], ".")
}
