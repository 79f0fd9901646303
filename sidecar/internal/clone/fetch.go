package clone

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strconv"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"farmhand/internal/dbserver"
	"farmhand/internal/pki"
)

// Joiner is a server that is to get the data of another.
type Joiner struct {
	Install dbserver.Install
	// Config is that of the server, which may run on its old data meanwhile, or have
	// none.
	Config dbserver.Config
	// Files are the node's.
	Files pki.Files
	// Donor is the name of the node that gives the data, and Address the host:port
	// where it does.
	Donor, Address string
	// Stall is how long nothing may come in before the copy is given up; default 2
	// minutes.
	Stall time.Duration
	// Tell is told of every phase, and twice a second while data comes in; may be nil.
	// It is called by one goroutine at a time and must not block.
	Tell func(Progress)
}

// Progress is how far a copy has come.
type Progress struct {
	Phase Phase
	Bytes int64 // that came in
	Total int64 // about how many will; Bytes can exceed it
}

// Phase is what is being done.
type Phase string

// The phases, in order.
const (
	Asking     Phase = "asking"     // the donor is connected to
	Copying    Phase = "copying"    // data comes in
	Recovering Phase = "recovering" // the data is made consistent
	Checking   Phase = "checking"   // a server runs on the copy
)

// tellEvery is how often progress is told.
const tellEvery = 500 * time.Millisecond

// Copy is whole data that waits beside a server's own.
type Copy struct {
	// Position is the GTID position up to which it holds the donor's transactions;
	// the data itself knows it, too (gtid_slave_pos, gtid_executed).
	Position string
	Bytes    int64 // that came in
	Took     time.Duration

	config dbserver.Config
}

// Fetch makes a copy of the donor's data beside j's own. An attempt before is
// forgotten. A failed one leaves nothing.
func Fetch(ctx context.Context, j Joiner) (_ *Copy, err error) {
	began := time.Now()
	if j.Stall == 0 {
		j.Stall = stallLimit
	}
	how, err := flavorOf(j.Install)
	if err != nil {
		return nil, fmt.Errorf("copy the data of %s: %w", j.Donor, err)
	}
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	f := &fetch{Joiner: j, cancel: cancel}
	in, err := dbserver.PrepareIncoming(j.Config)
	if err != nil {
		return nil, fmt.Errorf("copy the data of %s: %w", j.Donor, err)
	}
	position, err := f.run(ctx, how, in)
	if err != nil {
		// What was cancelled with a cause says less than the cause.
		if cause := context.Cause(ctx); cause != nil && !errors.Is(err, cause) {
			err = fmt.Errorf("%w (%w)", cause, err)
		}
		return nil, errors.Join(fmt.Errorf("copy the data of %s at %s: %w", j.Donor, j.Address, err), dbserver.DropIncoming(j.Config))
	}
	return &Copy{Position: position, Bytes: f.progress.Bytes, Took: time.Since(began), config: j.Config}, nil
}

// Swap puts the copy in the place of the server's own data, which is removed. No
// server may run on that.
func (c *Copy) Swap() error { return dbserver.ReplaceData(c.config) }

// Discard removes the copy.
func (c *Copy) Discard() error { return dbserver.DropIncoming(c.config) }

// fetch is one attempt of a Joiner.
type fetch struct {
	Joiner
	cancel    context.CancelCauseFunc
	transport *http.Transport

	answer *http.Response
	body   *counted // of the answer

	mu       sync.Mutex
	progress Progress
	told     time.Time
}

func (f *fetch) run(ctx context.Context, how flavor, in dbserver.Config) (_ string, err error) {
	f.phase(Asking)
	config, err := f.Files.PeerTLS(func(name string) error {
		if name != f.Donor {
			return fmt.Errorf("there is the node %s", name)
		}
		return nil
	})
	if err != nil {
		return "", err
	}
	f.transport = &http.Transport{
		DisableKeepAlives: true, MaxResponseHeaderBytes: maxHeader, DisableCompression: true,
		ReadBufferSize:  maxTrailer, // trailers must fit
		DialContext:     (&net.Dialer{Timeout: connectLimit}).DialContext,
		TLSClientConfig: config, TLSHandshakeTimeout: connectLimit, ResponseHeaderTimeout: connectLimit,
	}
	defer f.transport.CloseIdleConnections()
	if err := f.ask(ctx); err != nil {
		return "", err
	}
	defer func() { _ = f.answer.Body.Close() }() // it was read to its end, or is given up
	stalled := fmt.Errorf("nothing came in for %v", f.Stall)
	alarm := time.AfterFunc(f.Stall, func() { f.cancel(stalled) })
	defer alarm.Stop()
	f.body = &counted{from: f.answer.Body, stall: f.Stall, alarm: alarm}
	if err := f.room(in); err != nil {
		return "", err
	}
	return how.take(ctx, f, in)
}

func (f *fetch) ask(ctx context.Context) (err error) {
	f.answer, err = f.request(ctx, http.MethodGet, dataPath, http.Header{
		flavorHeader: {f.Install.Flavor.String()}, versionHeader: {f.Install.Version},
	})
	if err != nil {
		return err
	}
	if f.answer.StatusCode != http.StatusOK {
		return refusal(f.answer)
	}
	if f.progress.Total, err = strconv.ParseInt(f.answer.Header.Get(sizeHeader), 10, 64); err != nil {
		return errors.Join(fmt.Errorf("the donor does not say how much there is: %w", err), f.answer.Body.Close())
	}
	return nil
}

// room says when there is not enough of it.
func (f *fetch) room(in dbserver.Config) error {
	var fs unix.Statfs_t
	if err := unix.Statfs(in.DataDir(), &fs); err != nil {
		return fmt.Errorf("look for room in %s: %w", in.DataDir(), err)
	}
	if free := int64(fs.Bavail) * fs.Bsize; free < f.progress.Total {
		return fmt.Errorf("there are %d MiB free in %s; the donor's data has %d MiB, and the old data stays until the copy is whole",
			free>>20, in.DataDir(), f.progress.Total>>20)
	}
	return nil
}

// whole says, once the body has been read to its end, why it is not all.
func (f *fetch) whole() error {
	// What the program left unread: nothing, if all is well.
	if n, err := io.Copy(io.Discard, f.body); err != nil || n != 0 {
		return errors.Join(fmt.Errorf("%d bytes came after the end of the data", n), err)
	}
	return f.verdict()
}

// verdict is the donor's, at the body's end, on whether that was all.
func (f *fetch) verdict() error {
	if reason := f.answer.Trailer.Get(faultTrailer); reason != "" {
		return faultOf(reason)
	}
	sent, err := strconv.ParseInt(f.answer.Trailer.Get(bytesTrailer), 10, 64)
	if err != nil || sent != f.body.read {
		return fmt.Errorf("the donor's answer ended after %d bytes without its word that it is whole", f.body.read)
	}
	return nil
}

func (f *fetch) phase(p Phase) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.progress.Phase = p
	f.tell(time.Now())
}

// count counts bytes of data. It may be called by several goroutines.
func (f *fetch) count(n int) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.progress.Bytes += int64(n)
	if now := time.Now(); now.Sub(f.told) >= tellEvery {
		f.tell(now)
	}
}

func (f *fetch) tell(now time.Time) {
	f.told = now
	if f.Tell != nil {
		f.Tell(f.progress)
	}
}
