package clone

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"sync"
)

// tunnel passes every connection that is made to l on to the donor's database
// server, until l is closed or ctx ends.
func (f *fetch) tunnel(ctx context.Context, l net.Listener) {
	var open sync.WaitGroup
	defer open.Wait()
	for {
		near, err := l.Accept()
		if err != nil {
			return // closed: by its owner
		}
		open.Go(func() {
			far, err := f.connect(ctx)
			if err != nil {
				// The server that connected only learns that the connection ended.
				f.cancel(err)
				_ = near.Close()
				return
			}
			splice(ctx, near, far, struct {
				io.Reader
				io.Writer
			}{&passing{far, f.count}, far})
		})
	}
}

// passing counts what is read.
type passing struct {
	from io.Reader
	tell func(int)
}

func (p *passing) Read(b []byte) (int, error) {
	n, err := p.from.Read(b)
	p.tell(n)
	return n, err
}

// connect returns a connection to the donor's database server.
func (f *fetch) connect(ctx context.Context) (io.ReadWriteCloser, error) {
	answer, err := f.request(ctx, http.MethodPost, connectPath, http.Header{"Connection": {"Upgrade"}, "Upgrade": {upgrade}})
	if err != nil {
		return nil, err
	}
	if answer.StatusCode != http.StatusSwitchingProtocols {
		return nil, refusal(answer)
	}
	// http.Response.Body says so of such an answer.
	conn, ok := answer.Body.(io.ReadWriteCloser)
	if !ok {
		return nil, errors.Join(errors.New("the connection to the donor cannot be written to"), answer.Body.Close())
	}
	return conn, nil
}

// post asks for something that has no answer.
func (f *fetch) post(ctx context.Context, path string) error {
	answer, err := f.request(ctx, http.MethodPost, path, nil)
	if err != nil {
		return err
	}
	if answer.StatusCode != http.StatusOK {
		return refusal(answer)
	}
	return answer.Body.Close()
}

func (f *fetch) request(ctx context.Context, method, path string, header http.Header) (*http.Response, error) {
	request, err := http.NewRequestWithContext(ctx, method, "https://"+f.Address+path, nil)
	if err != nil {
		return nil, err
	}
	if header != nil {
		request.Header = header
	}
	answer, err := f.transport.RoundTrip(request)
	if err != nil {
		return nil, fmt.Errorf("ask for %s: %w", path, err)
	}
	return answer, nil
}

// refusal is an answer that is none, whose body it closes.
func refusal(answer *http.Response) error {
	text, err := io.ReadAll(io.LimitReader(answer.Body, maxReason))
	return errors.Join(&RefusedError{Status: answer.StatusCode, Reason: strings.TrimSpace(string(text))}, err, answer.Body.Close())
}
