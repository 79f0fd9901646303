package relay

import (
	"io"
	"net"
	"os"
	"syscall"
	"testing"

	"farmhand/proxy/internal/rawio"
	"farmhand/proxy/internal/wire"
)

// responses are what the benchmarks relay: rows × bytes.
var responses = []struct {
	name       string
	rows, size int
}{
	{"point", 1, 100},
	{"1000 rows", 1000, 100},
	{"1 MB row", 1, 1 << 20},
}

// relaying returns what relays the response over and over, without a socket.
func relaying(tb testing.TB, server *source) func() {
	begin, times := server.begin, server.times
	from, to := wire.NewConn(server), wire.NewConn(&sink{})
	var tr wire.Tracker
	return func() {
		server.begin, server.times, server.at = begin, times, 0
		tr.Begin(wire.ComQuery, wire.ClientDeprecateEOF)
		if _, err := Response(from, to, &tr, forwarding{}); err != nil {
			tb.Fatal(err)
		}
	}
}

// TestNoAllocation: a response costs no allocation, whatever the number and the
// size of its packets, once the connections have their buffers.
func TestNoAllocation(t *testing.T) {
	for _, r := range responses {
		relayOnce := relaying(t, rows(r.size, r.rows, 1))
		relayOnce()
		if n := testing.AllocsPerRun(100, relayOnce); n > 0 {
			t.Errorf("%s: %v allocations", r.name, n)
		}
	}
}

// BenchmarkResponse relays a whole response from memory to memory.
func BenchmarkResponse(b *testing.B) {
	for _, r := range responses {
		b.Run(r.name, func(b *testing.B) {
			server := rows(r.size, r.rows, 1)
			b.ReportAllocs()
			b.SetBytes(server.total())
			relayOnce := relaying(b, server)
			for b.Loop() {
				relayOnce()
			}
		})
	}
}

// BenchmarkSocketResponse relays from one socket to another, as the proxy does;
// the two far ends are in this process too.
func BenchmarkSocketResponse(b *testing.B) {
	for _, r := range responses {
		b.Run(r.name, func(b *testing.B) {
			script := rows(r.size, r.rows, 1)
			response := append(append(append([]byte(nil), script.begin...), script.piece...), script.end...)
			server, near := socketPair(b)
			client, far := socketPair(b)
			from, to := wire.NewConn(rawio.Wrap(near)), wire.NewConn(rawio.Wrap(client))
			asked, done := make(chan struct{}), make(chan struct{})
			go func() {
				defer close(done)
				for range asked {
					if _, err := server.Write(response); err != nil {
						b.Error(err)
						return
					}
				}
			}()
			got := make(chan error, 1)
			go func() {
				in := make([]byte, len(response))
				for {
					_, err := io.ReadFull(far, in)
					if got <- err; err != nil {
						return
					}
				}
			}()
			var tr wire.Tracker
			b.ReportAllocs()
			b.SetBytes(int64(len(response)))
			for b.Loop() {
				asked <- struct{}{}
				tr.Begin(wire.ComQuery, wire.ClientDeprecateEOF)
				if _, err := Response(from, to, &tr, forwarding{}); err != nil {
					b.Fatal(err)
				}
				if err := <-got; err != nil {
					b.Fatal(err)
				}
			}
			close(asked)
			<-done
			if err := to.Close(); err != nil {
				b.Fatal(err)
			}
			if err := <-got; err == nil {
				b.Error("the client got more than the response")
			}
		})
	}
}

// socketPair returns the two ends of a pair of unix sockets.
func socketPair(b *testing.B) (x, y net.Conn) {
	b.Helper()
	fds, err := syscall.Socketpair(syscall.AF_UNIX, syscall.SOCK_STREAM|syscall.SOCK_CLOEXEC, 0)
	if err != nil {
		b.Fatal(err)
	}
	var ends [2]net.Conn
	for i, fd := range fds {
		f := os.NewFile(uintptr(fd), "socketpair")
		if ends[i], err = net.FileConn(f); err != nil {
			b.Fatal(err)
		}
		if err := f.Close(); err != nil {
			b.Fatal(err)
		}
		b.Cleanup(func() { _ = ends[i].Close() })
	}
	return ends[0], ends[1]
}
