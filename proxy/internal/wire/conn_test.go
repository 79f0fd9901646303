package wire

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"net"
	"runtime"
	"testing"
	"testing/iotest"

	"pgregory.net/rapid"
)

// packets is a payload as packets from 0.
func packets(payload []byte) []byte {
	b, _ := AppendPackets(nil, payload, 0)
	return b
}

// readers are ways in which a network may give its bytes.
var readers = map[string]func(io.Reader) io.Reader{
	"whole":      func(r io.Reader) io.Reader { return r },
	"half":       iotest.HalfReader,
	"with end":   iotest.DataErrReader,
	"one by one": iotest.OneByteReader,
}

func TestPayloadSizes(t *testing.T) {
	const limit = 3*MaxPayload + 100
	for _, size := range []int{
		0, 1, smallBuffer - HeaderSize - 1, smallBuffer - HeaderSize, smallBuffer - HeaderSize + 1, smallBuffer,
		largeBuffer - HeaderSize - 1, largeBuffer - HeaderSize, largeBuffer - HeaderSize + 1, largeBuffer, 1 << 20,
		MaxPayload - 1, MaxPayload, MaxPayload + 1, 2*MaxPayload - 1, 2 * MaxPayload, 2*MaxPayload + 1, 3 * MaxPayload,
	} {
		payload := bytes.Repeat([]byte{0xfe}, size)
		stream := append(packets(payload), packets([]byte("next"))...)
		if want := size + HeaderSize*(size/MaxPayload+1) + 8; len(stream) != want {
			t.Fatalf("size %d is %d bytes of packets, not %d", size, len(stream), want)
		}
		for name, reader := range readers {
			if name == "one by one" && size > 1<<20 {
				continue
			}
			c := NewConn(bytesConn{r: reader(bytes.NewReader(stream))})
			got, err := c.ReadPayload(limit)
			if err != nil || !bytes.Equal(got, payload) {
				t.Fatalf("size %d, %s: %d bytes, %v", size, name, len(got), err)
			}
			if want := uint8(size/MaxPayload + 1); c.Seq != want {
				t.Errorf("size %d, %s: the next number is %d, not %d", size, name, c.Seq, want)
			}
			if got, err = c.ReadPayload(limit); err != nil || string(got) != "next" || c.Seq != 1 {
				t.Errorf("size %d, %s: then %.10q, %v", size, name, got, err)
			}
			if _, err = c.ReadPayload(limit); !errors.Is(err, io.EOF) {
				t.Errorf("size %d, %s: in the end %v", size, name, err)
			}
		}
	}
}

func TestSequenceNumbers(t *testing.T) {
	var stream []byte
	seq := uint8(250)
	for range 20 { // over the end
		stream, seq = AppendPackets(stream, []byte("x"), seq)
	}
	c := NewConn(bytesConn{r: bytes.NewReader(stream)})
	for i := range 20 {
		if _, err := c.ReadPayload(10); err != nil || c.Seq != uint8(251+i) {
			t.Errorf("packet %d: the next number is %d, %v", i, c.Seq, err)
		}
	}
	for _, seq := range []uint8{0, 7, 255} { // the second packet's number wraps too
		stream, next := AppendPackets(nil, make([]byte, MaxPayload+1), seq)
		if next != seq+2 {
			t.Errorf("two packets from %d lead to %d", seq, next)
		}
		c := NewConn(bytesConn{r: bytes.NewReader(stream)})
		if p, err := c.ReadPayload(1 << 25); err != nil || len(p) != MaxPayload+1 || c.Seq != seq+2 {
			t.Errorf("from %d: %d bytes, next %d, %v", seq, len(p), c.Seq, err)
		}
		stream[HeaderSize+MaxPayload+3]++
		c = NewConn(bytesConn{r: bytes.NewReader(stream)})
		if _, err := c.ReadPayload(1 << 25); !errors.Is(err, ErrSequence) {
			t.Errorf("a packet out of order: %v", err)
		}
	}
}

func TestLimits(t *testing.T) {
	for _, x := range []struct {
		size, limit int
		ok          bool
	}{
		{0, 0, true},
		{1, 0, false},
		{10, 10, true},
		{11, 10, false},
		{70000, 70000, true},
		{70001, 70000, false},
		{MaxPayload, MaxPayload, true},
		{MaxPayload, MaxPayload - 1, false},
		{MaxPayload + 1, MaxPayload + 1, true},
		{MaxPayload + 1, MaxPayload, false},
		{2 * MaxPayload, 2*MaxPayload - 1, false},
	} {
		c := NewConn(bytesConn{r: bytes.NewReader(packets(make([]byte, x.size)))})
		p, err := c.ReadPayload(x.limit)
		if x.ok && (err != nil || len(p) != x.size) || !x.ok && !errors.Is(err, ErrTooLarge) {
			t.Errorf("%d bytes, limit %d: %d bytes, %v", x.size, x.limit, len(p), err)
		}
	}
}

// TestDeclaredSizesCostNothing: memory goes by what is sent, not by what a
// header announces.
func TestDeclaredSizesCostNothing(t *testing.T) {
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	const conns = 100
	for range conns {
		c := NewConn(bytesConn{r: bytes.NewReader([]byte("\xff\xff\xff\x00only this"))})
		if _, err := c.ReadPayload(1 << 30); !errors.Is(err, io.ErrUnexpectedEOF) {
			t.Fatal(err)
		}
	}
	runtime.ReadMemStats(&after)
	if each := (after.TotalAlloc - before.TotalAlloc) / conns; each > 2*smallBuffer {
		t.Errorf("%d bytes were allocated for each", each)
	}
}

func TestTruncatedInput(t *testing.T) {
	whole := packets(bytes.Repeat([]byte{'x'}, 100))
	for n := range whole {
		c := NewConn(bytesConn{r: bytes.NewReader(whole[:n])})
		want := io.ErrUnexpectedEOF
		if n == 0 {
			want = io.EOF
		}
		if _, err := c.ReadPayload(1000); !errors.Is(err, want) {
			t.Errorf("after %d bytes the error is %v", n, err)
		}
	}
	broken := errors.New("broken")
	c := NewConn(bytesConn{r: io.MultiReader(bytes.NewReader(whole[:50]), iotest.ErrReader(broken))})
	if _, err := c.ReadPayload(1000); !errors.Is(err, broken) {
		t.Errorf("the error is %v", err)
	}
	// The second half of a payload is missing.
	long := packets(make([]byte, MaxPayload+5))
	for _, n := range []int{HeaderSize + MaxPayload, HeaderSize + MaxPayload + 2, len(long) - 1} {
		c := NewConn(bytesConn{r: bytes.NewReader(long[:n])})
		if _, err := c.ReadPayload(1 << 25); !errors.Is(err, io.ErrUnexpectedEOF) {
			t.Errorf("after %d bytes the error is %v", n, err)
		}
	}
}

// silent is a reader that returns neither bytes nor an error.
type silent struct{}

func (silent) Read([]byte) (int, error) { return 0, nil }

func TestReaderWithoutProgress(t *testing.T) {
	c := NewConn(bytesConn{r: silent{}})
	if _, err := c.ReadPayload(10); !errors.Is(err, io.ErrNoProgress) {
		t.Errorf("the error is %v", err)
	}
}

// TestBuffers: a connection takes the large buffer when it has use for it, and
// Idle gives it back, but never what is not read or not sent.
func TestBuffers(t *testing.T) {
	stream := append(packets([]byte("small")), packets(make([]byte, 50000))...)
	stream = append(stream, packets(make([]byte, 1<<20))...)
	for _, before := range []int{0, 4, 50000} {
		if before > 0 {
			stream = append(stream, packets(make([]byte, before))...)
		}
		stream = append(stream, packets(make([]byte, WideBuffer))...)
	}
	stream = append(stream, packets([]byte("last"))...)
	c := NewConn(bytesConn{r: iotest.OneByteReader(bytes.NewReader(stream))})
	read := func(size int) {
		t.Helper()
		if p, err := c.ReadPayload(1 << 21); err != nil || len(p) != size {
			t.Fatalf("%d bytes, %v", len(p), err)
		}
	}
	read(5)
	if c.large != nil || len(c.buf) != smallBuffer {
		t.Errorf("a small packet takes a buffer of %d", len(c.buf))
	}
	read(50000)
	if c.large == nil {
		t.Error("a large packet is read into a small buffer")
	}
	if err := c.Need(1); err != nil {
		t.Fatal(err)
	}
	c.Idle()
	if c.large == nil || len(c.Buffered()) != 1 {
		t.Errorf("Idle took a buffer with %d bytes in it", len(c.Buffered()))
	}
	read(1 << 20)
	c.Idle()
	if c.large != nil || c.buf != nil || c.whole != nil {
		t.Error("Idle left the large buffers")
	}
	for _, what := range []string{"nothing", "a small buffer", "a large one"} {
		switch what {
		case "a small buffer":
			read(4)
		case "a large one":
			read(50000)
		}
		if what != "nothing" { // the first byte of what comes next stays
			if err := c.Need(1); err != nil {
				t.Fatal(err)
			}
		}
		had := string(c.Buffered())
		c.Widen()
		c.Widen()
		if len(c.buf) != WideBuffer || c.small != nil || c.large != nil || string(c.Buffered()) != had {
			t.Errorf("with %s, Widen has made %d bytes, of %q %q", what, len(c.buf), had, c.Buffered())
		}
		read(WideBuffer)
		if len(c.buf) != WideBuffer {
			t.Errorf("it has %d bytes after a packet", len(c.buf))
		}
		c.Idle()
		if c.wide != nil || c.buf != nil {
			t.Error("Idle left the wide buffer")
		}
	}
	read(4)
	if c.large != nil {
		t.Error("a small packet takes the large buffer")
	}

	out := &keep{}
	c = NewConn(out)
	c.Write(make([]byte, 100000))
	if err := c.Flush(); err != nil {
		t.Fatal(err)
	}
	c.WriteCommand([]byte("waits"))
	c.Idle()
	out.Reset()
	if err := c.Flush(); err != nil || !bytes.Equal(out.Bytes(), packets([]byte("waits"))) {
		t.Errorf("after Idle %q was sent, %v", out.Bytes(), err)
	}
	c.Idle()
	if c.out != nil {
		t.Errorf("Idle left a buffer of %d for what is sent", cap(c.out))
	}
}

// keep is a connection that keeps what is written.
type keep struct {
	net.Conn
	bytes.Buffer
	calls int
}

func (k *keep) Write(b []byte) (int, error) { k.calls++; return k.Buffer.Write(b) }
func (k *keep) Read(b []byte) (int, error)  { return k.Buffer.Read(b) }

func TestWrites(t *testing.T) {
	k := &keep{}
	c := NewConn(k)
	if err := c.Flush(); err != nil || k.calls != 0 {
		t.Errorf("nothing was sent in %d pieces, %v", k.calls, err)
	}
	c.WriteCommand([]byte("one"))
	c.Write([]byte("two"))
	c.Write(nil)
	c.WriteRaw([]byte("raw"))
	want := []byte("\x03\x00\x00\x00one\x03\x00\x00\x01two\x00\x00\x00\x02raw")
	if err := c.Forward([]byte("short")); err != nil || k.calls != 1 || !bytes.Equal(k.Bytes(), append(want, "short"...)) {
		t.Errorf("%q was sent in %d pieces, %v", k.Bytes(), k.calls, err)
	}
	if c.Seq != 3 {
		t.Errorf("the next number is %d", c.Seq)
	}
	k.Reset()
	k.calls = 0
	long := bytes.Repeat([]byte{'x'}, largeBuffer)
	c.Write([]byte("head"))
	if err := c.Forward(long); err != nil || k.calls != 2 || k.Len() != 8+len(long) {
		t.Errorf("%d bytes were sent in %d pieces, %v", k.Len(), k.calls, err)
	}
}

// TestUpgrade: what was read ahead is the new layer's, and what waits is sent
// before.
func TestUpgrade(t *testing.T) {
	k := &keep{}
	c := NewConn(bytesConn{Conn: k, r: bytes.NewReader([]byte("\x02\x00\x00\x00hiahead and more"))})
	if p, err := c.ReadPayload(10); err != nil || string(p) != "hi" {
		t.Fatal(p, err)
	}
	c.Write([]byte("x"))
	var got []byte
	if err := c.Upgrade(func(under net.Conn) net.Conn {
		if k.Len() != 5 {
			t.Errorf("%d bytes were sent before", k.Len())
		}
		b, err := io.ReadAll(iotest.OneByteReader(under))
		if err != nil {
			t.Error(err)
		}
		got = b
		return under
	}); err != nil || string(got) != "ahead and more" || len(c.Buffered()) != 0 {
		t.Errorf("the layer read %q, %v", got, err)
	}
}

// TestReadingInAnyWay: payloads, and walking over the buffer, give the same
// bytes however these arrive.
func TestReadingInAnyWay(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		var stream []byte
		var payloads [][]byte
		for range rapid.IntRange(1, 6).Draw(t, "payloads") {
			size := rapid.SampledFrom([]int{0, 1, 3, 4000, 4091, 4092, 4093, 9000, 65531, 65532, 65533, 100000}).Draw(t, "size")
			p := bytes.Repeat([]byte{byte(len(payloads))}, size)
			payloads = append(payloads, p)
			stream = append(stream, packets(p)...)
		}
		c := NewConn(bytesConn{r: &pieces{t: t, b: stream}})
		for i, want := range payloads {
			if rapid.Bool().Draw(t, "idle") {
				c.Idle()
			}
			if CanHold(len(want)) && rapid.Bool().Draw(t, "walk") {
				if err := c.Need(HeaderSize + len(want)); err != nil {
					t.Fatal(err)
				}
				if got := c.Buffered()[:HeaderSize+len(want)]; !bytes.Equal(got, packets(want)) {
					t.Fatalf("payload %d is another", i)
				}
				c.Discard(HeaderSize + len(want))
				continue
			}
			got, err := c.ReadPayload(1 << 20)
			if err != nil || !bytes.Equal(got, want) {
				t.Fatalf("payload %d: %d bytes of %d, %v", i, len(got), len(want), err)
			}
		}
		if err := c.Need(1); !errors.Is(err, io.EOF) {
			t.Errorf("in the end %v", err)
		}
	})
}

// pieces gives its bytes in pieces of any size.
type pieces struct {
	t *rapid.T
	b []byte
}

func (p *pieces) Read(b []byte) (int, error) {
	if len(p.b) == 0 {
		return 0, io.EOF
	}
	most := min(len(p.b), len(b))
	n := most
	if len(p.b) < 20000 || rapid.Bool().Draw(p.t, "short") {
		n = rapid.IntRange(1, most).Draw(p.t, "piece")
	}
	copy(b, p.b[:n])
	p.b = p.b[n:]
	return n, nil
}

func ExampleCommand_String() {
	fmt.Println(ComQuery, Command(0x7f))
	// Output: COM_QUERY command 0x7f
}

// bytesConn is a connection that reads from r.
type bytesConn struct {
	net.Conn
	r io.Reader
}

func (c bytesConn) Read(b []byte) (int, error) { return c.r.Read(b) }
