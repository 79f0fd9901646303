package compress

import (
	"bytes"
	"errors"
	"io"
	"math/rand/v2"
	"net"
	"os"
	"runtime"
	"testing"
	"time"

	"go.uber.org/goleak"
	"pgregory.net/rapid"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// tape is the far end of a connection: what it wrote, to be read once.
type tape struct {
	net.Conn // nil: nothing but Read and Write is called
	bytes.Buffer
	chunk int // at most so many bytes a read; 0 means all
}

func (t *tape) Read(p []byte) (int, error) {
	if t.chunk > 0 && len(p) > t.chunk {
		p = p[:t.chunk]
	}
	return t.Buffer.Read(p)
}

func (t *tape) Write(p []byte) (int, error) { return t.Buffer.Write(p) }

func mustNew(t testing.TB, conn net.Conn, algorithm Algorithm, level int) *Conn {
	t.Helper()
	c, err := New(conn, algorithm, level)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// Whatever is written in whatever pieces is read, whatever the sizes of the
// reads, and the frame numbers agree at both ends.
func TestRoundTripAtAnyChunking(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		algorithm := rapid.SampledFrom([]Algorithm{Zlib, Zstd}).Draw(t, "algorithm")
		level := rapid.SampledFrom([]int{0, 1, 9}).Draw(t, "level")
		wire := &tape{chunk: rapid.SampledFrom([]int{0, 1, 7, 1000}).Draw(t, "wire chunk")}
		writer, err := New(wire, algorithm, level)
		if err != nil {
			t.Fatal(err)
		}
		random := rand.New(rand.NewPCG(rapid.Uint64().Draw(t, "seed"), 0))
		var sent []byte
		for range rapid.IntRange(1, 4).Draw(t, "writes") {
			size := rapid.SampledFrom([]int{1, 4, 49, 50, 51, 4096, maxPlain - 1, maxPlain, maxPlain + 1, 300_000}).Draw(t, "size")
			p := bytes.Repeat([]byte("farmhand "), size/9+1)[:size]
			if rapid.Bool().Draw(t, "incompressible") {
				for i := range p {
					p[i] = byte(random.Uint32())
				}
			}
			n, err := writer.Write(p)
			if n != len(p) || err != nil {
				t.Fatalf("Write = %d, %v; want %d", n, err, len(p))
			}
			sent = append(sent, p...)
		}
		reader, err := New(wire, algorithm, 0)
		if err != nil {
			t.Fatal(err)
		}
		got, p := make([]byte, 0, len(sent)), make([]byte, 100_000)
		for {
			n, err := reader.Read(p[:1+random.IntN(len(p))])
			got = append(got, p[:n]...)
			if err == io.EOF {
				break
			}
			if err != nil {
				t.Fatalf("Read: %v after %d of %d bytes", err, len(got), len(sent))
			}
		}
		if !bytes.Equal(got, sent) {
			t.Fatalf("read %d bytes that differ from the %d written", len(got), len(sent))
		}
		if r, w := byte(reader.sequence.Load()), byte(writer.sequence.Load()); r != w {
			t.Fatalf("next frame: reader %d, writer %d", r, w)
		}
	})
}

func TestFrames(t *testing.T) {
	repeated := bytes.Repeat([]byte{'a'}, 1000)
	noise := make([]byte, 1000)
	random := rand.New(rand.NewPCG(1, 2))
	for i := range noise {
		noise[i] = byte(random.Uint32())
	}
	tests := []struct {
		name       string
		payload    []byte
		compressed bool
	}{
		{"shorter than MySQL compresses", repeated[:49], false},
		{"incompressible", noise, false},
		{"compressible", repeated, true},
	}
	for _, algorithm := range []Algorithm{Zlib, Zstd} {
		for _, test := range tests {
			t.Run(algorithm.String()+"/"+test.name, func(t *testing.T) {
				wire := &tape{}
				c := mustNew(t, wire, algorithm, 0)
				c.sequence.Store(255)
				if _, err := c.Write(test.payload); err != nil {
					t.Fatal(err)
				}
				frame := wire.Bytes()
				if got, want := uint24(frame), len(frame)-headerSize; got != want {
					t.Errorf("declared length %d, payload of %d", got, want)
				}
				if frame[3] != 255 || byte(c.sequence.Load()) != 0 {
					t.Errorf("sequence %d then %d, want 255 then 0", frame[3], byte(c.sequence.Load()))
				}
				want := 0
				if test.compressed {
					want = len(test.payload)
				}
				if got := uint24(frame[4:]); got != want {
					t.Errorf("declared plain length %d, want %d", got, want)
				}
				if !test.compressed && !bytes.Equal(frame[headerSize:], test.payload) {
					t.Error("the payload of an uncompressed frame differs")
				}
			})
		}
	}
}

// One counter serves both directions and begins anew with each command.
func TestSequenceIsSharedAndResetPerCommand(t *testing.T) {
	toServer, toClient := &tape{}, &tape{}
	client := mustNew(t, &duplex{read: toClient, write: toServer}, Zlib, 0)
	server := mustNew(t, &duplex{read: toServer, write: toClient}, Zlib, 0)
	for command := range 3 {
		client.ResetSequence()
		server.ResetSequence()
		for range 2 { // two request frames, three reply frames
			pass(t, client, server, "question")
		}
		for i := range 3 {
			if got := byte(server.sequence.Load()); got != byte(2+i) {
				t.Fatalf("command %d: reply frame %d is number %d", command, i, got)
			}
			pass(t, server, client, "answer")
		}
	}
	// A client that does not begin anew is refused, at once and for good.
	server.ResetSequence()
	if _, err := client.Write([]byte("late")); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		if _, err := server.Read(make([]byte, 9)); !errors.Is(err, ErrProtocol) {
			t.Fatalf("frame out of order: %v", err)
		}
	}
}

type duplex struct {
	net.Conn
	read, write *tape
}

func (d *duplex) Read(p []byte) (int, error)  { return d.read.Read(p) }
func (d *duplex) Write(p []byte) (int, error) { return d.write.Write(p) }

func pass(t *testing.T, from, to *Conn, text string) {
	t.Helper()
	if _, err := io.WriteString(from, text); err != nil {
		t.Fatal(err)
	}
	got := make([]byte, len(text))
	if _, err := io.ReadFull(to, got); err != nil || string(got) != text {
		t.Fatalf("got %q, %v; want %q", got, err, text)
	}
}

// frame makes one frame by hand.
func frame(sequence byte, plain int, payload []byte) []byte {
	b := make([]byte, headerSize, headerSize+len(payload))
	putUint24(b, len(payload))
	b[3] = sequence
	putUint24(b[4:], plain)
	return append(b, payload...)
}

func encode(t testing.TB, algorithm Algorithm, plain []byte) []byte {
	t.Helper()
	level, err := algorithm.level(0)
	if err != nil {
		t.Fatal(err)
	}
	e, err := algorithm.getEncoder(level)
	if err != nil {
		t.Fatal(err)
	}
	defer algorithm.putEncoder(e)
	b, err := e.appendEncoded(nil, plain)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func TestBrokenFrames(t *testing.T) {
	plain := bytes.Repeat([]byte("0123456789"), 100)
	for _, algorithm := range []Algorithm{Zlib, Zstd} {
		good := encode(t, algorithm, plain)
		flipped := bytes.Clone(good)
		flipped[0] ^= 0x40
		tests := []struct {
			name string
			wire []byte
			want error
		}{
			{"declares less than it holds", frame(0, len(plain)-1, good), ErrProtocol},
			{"declares more than it holds", frame(0, len(plain)+1, good), ErrProtocol},
			{"bytes after the data", frame(0, len(plain), append(bytes.Clone(good), 0, 0)), ErrProtocol},
			{"data cut within the frame", frame(0, len(plain), good[:len(good)-3]), ErrProtocol},
			{"magic flipped", frame(0, len(plain), flipped), ErrProtocol},
			{"not compressed at all", frame(0, len(plain), plain), ErrProtocol},
			{"empty but declared", frame(0, 5, nil), ErrProtocol},
			{"wrong number", frame(1, len(plain), good), ErrProtocol},
			{"cut in the header", frame(0, len(plain), good)[:5], io.ErrUnexpectedEOF},
			{"cut in the payload", frame(0, len(plain), good)[:headerSize+len(good)-1], io.ErrUnexpectedEOF},
			{"cut in a plain payload", frame(0, 0, plain)[:100], io.ErrUnexpectedEOF},
		}
		for _, test := range tests {
			t.Run(algorithm.String()+"/"+test.name, func(t *testing.T) {
				c := mustNew(t, &tape{Buffer: *bytes.NewBuffer(test.wire)}, algorithm, 0)
				got, err := io.ReadAll(c)
				if !errors.Is(err, test.want) {
					t.Fatalf("%v, want %v", err, test.want)
				}
				if !bytes.HasPrefix(plain, got) {
					t.Fatalf("gave %d wrong bytes before the error", len(got))
				}
			})
		}
		t.Run(algorithm.String()+"/empty frames are nothing", func(t *testing.T) {
			wire := append(frame(0, 0, nil), frame(1, len(plain), good)...)
			c := mustNew(t, &tape{Buffer: *bytes.NewBuffer(wire)}, algorithm, 0)
			got, err := io.ReadAll(c)
			if err != nil || !bytes.Equal(got, plain) {
				t.Fatalf("%d bytes, %v", len(got), err)
			}
		})
	}
}

// The largest frame there is can be read, and a bomb that declares it costs a
// zlib connection only its window.
func TestLargestFrame(t *testing.T) {
	plain := make([]byte, 1<<24-1)
	for _, algorithm := range []Algorithm{Zlib, Zstd} {
		t.Run(algorithm.String(), func(t *testing.T) {
			wire := frame(0, len(plain), encode(t, algorithm, plain))
			c := mustNew(t, &tape{Buffer: *bytes.NewBuffer(wire)}, algorithm, 0)
			var before, after runtime.MemStats
			runtime.ReadMemStats(&before)
			n, err := io.CopyBuffer(io.Discard, struct{ io.Reader }{c}, make([]byte, 32<<10))
			runtime.ReadMemStats(&after)
			if err != nil || n != int64(len(plain)) {
				t.Fatalf("%d bytes, %v", n, err)
			}
			if got := after.TotalAlloc - before.TotalAlloc; algorithm == Zlib && got > 1<<20 {
				t.Errorf("reading allocated %d bytes", got)
			}
		})
	}
}

// A deadline that passes while a frame is awaited, even with half its header
// there, does not harm the connection; one that passes within a frame does.
func TestDeadlines(t *testing.T) {
	near, far := net.Pipe()
	defer near.Close()
	defer far.Close()
	c := mustNew(t, near, Zlib, 0)
	send := func(p []byte) {
		t.Helper()
		done := make(chan error, 1)
		go func() { _, err := far.Write(p); done <- err }()
		t.Cleanup(func() {
			if err := <-done; err != nil && !errors.Is(err, io.ErrClosedPipe) {
				t.Error(err)
			}
		})
	}
	plain := bytes.Repeat([]byte("x"), 100)
	whole := frame(0, 100, encode(t, Zlib, plain))
	expired := func() {
		t.Helper()
		if err := c.SetReadDeadline(time.Now().Add(20 * time.Millisecond)); err != nil {
			t.Fatal(err)
		}
		if _, err := c.Read(make([]byte, 200)); !errors.Is(err, os.ErrDeadlineExceeded) {
			t.Fatalf("%v, want a deadline", err)
		}
	}
	expired()
	send(whole[:4])
	expired()
	if err := c.SetReadDeadline(time.Time{}); err != nil {
		t.Fatal(err)
	}
	send(whole[4:])
	got := make([]byte, 100)
	if _, err := io.ReadFull(c, got); err != nil || !bytes.Equal(got, plain) {
		t.Fatalf("%q, %v", got, err)
	}
	c.ResetSequence()
	send(whole[:20])
	expired()
	expired()
}

func TestLevels(t *testing.T) {
	tests := []struct {
		algorithm Algorithm
		level     int
		want      error
	}{
		{Zlib, 0, nil},
		{Zlib, 9, nil},
		{Zlib, 10, ErrLevel},
		{Zlib, -1, ErrLevel},
		{Zstd, 22, nil},
		{Zstd, 23, ErrLevel},
	}
	for _, test := range tests {
		if _, err := New(&tape{}, test.algorithm, test.level); !errors.Is(err, test.want) {
			t.Errorf("New(%s, %d): %v, want %v", test.algorithm, test.level, err, test.want)
		}
	}
	if _, err := New(&tape{}, 0, 0); err == nil {
		t.Error("an unknown algorithm was taken")
	}
}

func TestSteadyStateDoesNotAllocate(t *testing.T) {
	plain := bytes.Repeat([]byte("row of a result "), 1000)
	wire := &tape{}
	for _, algorithm := range []Algorithm{Zlib, Zstd} {
		c := mustNew(t, wire, algorithm, 1)
		got := make([]byte, len(plain))
		if allocs := testing.AllocsPerRun(50, func() {
			c.ResetSequence()
			if _, err := c.Write(plain); err != nil {
				t.Fatal(err)
			}
			c.ResetSequence()
			if _, err := io.ReadFull(c, got); err != nil {
				t.Fatal(err)
			}
		}); allocs > 3+raceAllocs { // the pools may be emptied by a collection meanwhile
			t.Errorf("%s: %v allocations a round trip", algorithm, allocs)
		}
	}
}

// Whatever a peer sends is an error or bytes, never a panic, and never more
// bytes than the headers declare.
func FuzzRead(f *testing.F) {
	plain := bytes.Repeat([]byte("select 1 "), 20)
	for _, algorithm := range []Algorithm{Zlib, Zstd} {
		f.Add(uint8(algorithm), frame(0, len(plain), encode(f, algorithm, plain)))
		f.Add(uint8(algorithm), append(frame(0, 0, plain), frame(1, len(plain), encode(f, algorithm, plain))...))
		f.Add(uint8(algorithm), frame(0, 1<<24-1, encode(f, algorithm, plain)))
	}
	f.Fuzz(func(t *testing.T, algorithm uint8, wire []byte) {
		c, err := New(&tape{Buffer: *bytes.NewBuffer(wire)}, Zlib+Algorithm(algorithm%2), 0)
		if err != nil {
			t.Fatal(err)
		}
		n, err := io.Copy(io.Discard, struct{ io.Reader }{c})
		declared := int64(0)
		for rest := wire; len(rest) >= headerSize; {
			length := uint24(rest)
			if plain := uint24(rest[4:]); plain > 0 {
				declared += int64(plain)
			} else {
				declared += int64(length)
			}
			rest = rest[min(len(rest), headerSize+length):]
		}
		if n > declared {
			t.Fatalf("%d bytes from frames that declare %d", n, declared)
		}
		if err == nil && n != declared {
			t.Fatalf("%d bytes without an error from frames that declare %d", n, declared)
		}
	})
}

func BenchmarkRoundTrip(b *testing.B) {
	plain := bytes.Repeat([]byte("a row of some result, with a number: 12345678; "), 1400)
	for _, algorithm := range []Algorithm{Zlib, Zstd} {
		b.Run(algorithm.String(), func(b *testing.B) {
			c := mustNew(b, &tape{}, algorithm, 0)
			got := make([]byte, len(plain))
			b.SetBytes(int64(len(plain)))
			b.ReportAllocs()
			for b.Loop() {
				c.ResetSequence()
				if _, err := c.Write(plain); err != nil {
					b.Fatal(err)
				}
				c.ResetSequence()
				if _, err := io.ReadFull(c, got); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
