package membership

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/net/dns/dnsmessage"
)

// zone is a name server on loopback.
type zone struct {
	address string
	mu      sync.Mutex
	records map[string]reply
	asked   int
}

// reply is what it answers for a name.
type reply struct {
	services []string // target:port:weight
	alias    string   // the records' owner, if it is another name
	ttl      uint32
	code     dnsmessage.RCode
	// spoofed is sent before the answer, and silent is instead of one.
	spoofed, silent bool
	raw             []byte // instead of an answer
}

func newZone(t *testing.T) *zone {
	t.Helper()
	udp, tcp := listenBoth(t)
	z := &zone{address: udp.LocalAddr().String(), records: map[string]reply{}}
	var serving sync.WaitGroup
	serving.Go(func() { z.serveUDP(t, udp) })
	serving.Go(func() { z.serveTCP(t, tcp) })
	t.Cleanup(func() {
		if err := errors.Join(udp.Close(), tcp.Close()); err != nil {
			t.Error(err)
		}
		serving.Wait()
	})
	return z
}

// listenBoth finds a port that is free for both.
func listenBoth(t *testing.T) (net.PacketConn, net.Listener) {
	t.Helper()
	for range 50 {
		udp, err := net.ListenPacket("udp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		tcp, err := net.Listen("tcp", udp.LocalAddr().String())
		if err == nil {
			return udp, tcp
		}
		if err := udp.Close(); err != nil {
			t.Fatal(err)
		}
	}
	t.Fatal("there is no port that is free for UDP and TCP")
	return nil, nil
}

func (z *zone) set(name string, r reply) {
	z.mu.Lock()
	defer z.mu.Unlock()
	z.records[name+"."] = r
}

func (z *zone) serveUDP(t *testing.T, conn net.PacketConn) {
	buffer := make([]byte, 1500)
	for {
		n, from, err := conn.ReadFrom(buffer)
		if err != nil {
			return // closed
		}
		for _, message := range z.answer(t, buffer[:n], udpSize) {
			if _, err := conn.WriteTo(message, from); err != nil {
				t.Error(err)
			}
		}
	}
}

func (z *zone) serveTCP(t *testing.T, l net.Listener) {
	for {
		conn, err := l.Accept()
		if err != nil {
			return // closed
		}
		var size [2]byte
		if _, err := io.ReadFull(conn, size[:]); err != nil {
			t.Error(err)
		}
		query := make([]byte, binary.BigEndian.Uint16(size[:]))
		if _, err := io.ReadFull(conn, query); err != nil {
			t.Error(err)
		}
		for _, message := range z.answer(t, query, 65535) {
			if _, err := conn.Write(append(binary.BigEndian.AppendUint16(nil, uint16(len(message))), message...)); err != nil {
				t.Error(err)
			}
		}
		if err := conn.Close(); err != nil {
			t.Error(err)
		}
	}
}

func (z *zone) answer(t *testing.T, query []byte, most int) [][]byte {
	var p dnsmessage.Parser
	header, err := p.Start(query)
	if err != nil {
		t.Error(err)
		return nil
	}
	question, err := p.Question()
	if err != nil {
		t.Error(err)
		return nil
	}
	z.mu.Lock()
	z.asked++
	r, known := z.records[question.Name.String()]
	z.mu.Unlock()
	if !known {
		r.code = dnsmessage.RCodeNameError
	}
	switch {
	case r.silent:
		return nil
	case r.raw != nil:
		return [][]byte{append(slices.Clone(query[:2]), r.raw...)}
	}
	good := build(t, header.ID, question, r)
	if len(good) > most {
		b := dnsmessage.NewBuilder(nil, dnsmessage.Header{ID: header.ID, Response: true, Truncated: true})
		short, err := finish(&b, errors.Join(b.StartQuestions(), b.Question(question)))
		if err != nil {
			t.Error(err)
		}
		return [][]byte{short}
	}
	if !r.spoofed {
		return [][]byte{good}
	}
	evil := reply{services: []string{"evil:1:1"}}
	other := question
	other.Name = dnsmessage.MustNewName("other.example.")
	return [][]byte{build(t, header.ID+1, question, evil), build(t, header.ID, other, evil), []byte("junk"), query, good}
}

func build(t *testing.T, id uint16, question dnsmessage.Question, r reply) []byte {
	b := dnsmessage.NewBuilder(nil, dnsmessage.Header{ID: id, Response: true, RCode: r.code})
	b.EnableCompression()
	errs := []error{b.StartQuestions(), b.Question(question), b.StartAnswers()}
	owner := dnsmessage.ResourceHeader{Name: question.Name, Class: dnsmessage.ClassINET, TTL: r.ttl}
	if r.alias != "" {
		alias := dnsmessage.MustNewName(r.alias)
		errs = append(errs, b.CNAMEResource(owner, dnsmessage.CNAMEResource{CNAME: alias}))
		owner.Name = alias
	}
	for _, s := range r.services {
		var target string
		var port, weight uint16
		if _, err := fmt.Sscanf(strings.ReplaceAll(s, ":", " "), "%s %d %d", &target, &port, &weight); err != nil {
			t.Error(err)
		}
		errs = append(errs, b.SRVResource(owner, dnsmessage.SRVResource{Target: dnsmessage.MustNewName(strings.TrimSuffix(target, ".") + "."), Port: port, Weight: weight}))
	}
	// What nobody asked for.
	stray := dnsmessage.ResourceHeader{Name: dnsmessage.MustNewName("stray.example."), Class: dnsmessage.ClassINET}
	errs = append(errs, b.SRVResource(stray, dnsmessage.SRVResource{Target: dnsmessage.MustNewName("stray."), Port: 1}))
	message, err := finish(&b, errors.Join(errs...))
	if err != nil {
		t.Error(err)
	}
	return message
}

func finish(b *dnsmessage.Builder, err error) ([]byte, error) {
	if err != nil {
		return nil, err
	}
	return b.Finish()
}

func (z *zone) source(records map[string]string) *DNS {
	return NewDNS(DNSOptions{Records: records, Server: z.address, Limit: time.Second, AtLeast: 5 * time.Millisecond, AtMost: time.Minute})
}

var dnsRecords = map[string]string{"primary": "primary.farm.example", "replica": "replicas.farm.example.", "memcached": "caches.farm.example"}

func TestDNS(t *testing.T) {
	z := newZone(t)
	z.set("primary.farm.example", reply{services: []string{"DB1.farm.example:3306:0"}})
	z.set("replicas.farm.example", reply{services: []string{"db2.farm.example:3306:50", "db3.farm.example:3306:60000"}, alias: "elsewhere.example.", spoofed: true})
	z.set("caches.farm.example", reply{services: []string{".:0:0"}})
	o := run(t, z.source(dnsRecords))
	want := Snapshot{Hosts: []Host{
		{Name: "db1.farm.example", Role: "primary", Address: "db1.farm.example:3306", State: Up},
		{Name: "db2.farm.example", Role: "replica", Address: "db2.farm.example:3306", State: Up, Weight: 50},
		{Name: "db3.farm.example", Role: "replica", Address: "db3.farm.example:3306", State: Up, Weight: 1000},
	}}
	if s := next(t, o.changed); !Same(s, want) {
		t.Errorf("got %+v", s)
	}

	// More than fits into a packet.
	var caches []string
	for i := range 100 {
		caches = append(caches, fmt.Sprintf("cache%d.a-rather-long-name-for-a-zone.farm.example:11211:0", i))
	}
	z.set("caches.farm.example", reply{services: caches})
	awaitChange(t, o, func(s Snapshot) bool { return len(s.Hosts) == 103 })

	// What goes wrong is said, once, and the end of it too.
	for what, bad := range map[string]reply{
		"ServerFailure":          {code: dnsmessage.RCodeServerFailure},
		"NameError":              {code: dnsmessage.RCodeNameError},
		"there is no SRV record": {},
		"timeout":                {silent: true},
		"another host is called": {services: []string{"db1.farm.example:11211:0"}},
		`" is not a name`:        {services: []string{strings.Repeat("x", 60) + ".farm.example:1:0"}},
	} {
		z.set("caches.farm.example", bad)
		if err := next(t, o.trouble); !strings.Contains(err.Error(), what) {
			t.Errorf("got %v; want %s", err, what)
		}
		// Polled on, but silent.
		z.set("caches.farm.example", reply{services: []string{"cache1.example:11211:0"}})
		awaitChange(t, o, func(s Snapshot) bool { return len(s.Hosts) == 4 })
		if len(o.trouble) > 0 {
			t.Errorf("%s: said again: %v", what, <-o.trouble)
		}
	}
}

func awaitChange(t *testing.T, o told, wanted func(Snapshot) bool) {
	t.Helper()
	for !wanted(next(t, o.changed)) {
	}
}

func TestTimeToLive(t *testing.T) {
	z := newZone(t)
	z.set("primary.farm.example", reply{services: []string{"db1.example:3306:0"}, ttl: 50})
	z.set("replicas.farm.example", reply{services: []string{"db2.example:3306:0"}, ttl: 30})
	z.set("caches.farm.example", reply{services: []string{".:0:0"}, ttl: 40})
	d := z.source(dnsRecords)
	if _, ttl, err := d.look(t.Context()); err != nil || ttl != 30*time.Second {
		t.Errorf("ttl %v, %v", ttl, err)
	}
	for ttl, want := range map[time.Duration]time.Duration{
		0: 5 * time.Millisecond, 30 * time.Second: 30 * time.Second, time.Hour: time.Minute,
	} {
		if got := d.pause(ttl); got != want {
			t.Errorf("pause after %v: %v, want %v", ttl, got, want)
		}
	}
}

func TestServersOf(t *testing.T) {
	path := filepath.Join(t.TempDir(), "resolv.conf")
	if err := os.WriteFile(path, []byte("# nameserver 9.9.9.9\nsearch x\nnameserver 127.0.0.53\nnameserver ::1\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	if got, err := serversOf(path); err != nil || !slices.Equal(got, []string{"127.0.0.53:53", "[::1]:53"}) {
		t.Errorf("%v, %v", got, err)
	}
	if _, err := serversOf(os.DevNull); err == nil {
		t.Error("a device was taken for a resolv.conf")
	}
}

// TestSecondServerIsAsked when the first does not know.
func TestSecondServerIsAsked(t *testing.T) {
	bad, good := newZone(t), newZone(t)
	good.set("x.example", reply{services: []string{"h.example:1:0"}})
	r := resolver{servers: []string{bad.address, good.address}, limit: 10 * time.Second}
	if a, err := r.lookup(t.Context(), "x.example"); err != nil || len(a.records) != 1 {
		t.Errorf("%+v, %v", a, err)
	}
	if _, err := r.lookup(t.Context(), "y.example"); err == nil || strings.Count(err.Error(), "NameError") != 2 {
		t.Errorf("got %v", err)
	}
}

// TestSameTroubleReadsTheSame, so that it is said once.
func TestSameTroubleReadsTheSame(t *testing.T) {
	silent := newZone(t)
	silent.set("x.example", reply{silent: true})
	udp, tcp := listenBoth(t)
	if err := errors.Join(udp.Close(), tcp.Close()); err != nil {
		t.Fatal(err)
	}
	r := resolver{servers: []string{silent.address, udp.LocalAddr().String()}, limit: 20 * time.Millisecond}
	_, first := r.lookup(t.Context(), "x.example")
	_, second := r.lookup(t.Context(), "x.example")
	if first == nil || second == nil || first.Error() != second.Error() || !strings.Contains(first.Error(), "timeout") || !strings.Contains(first.Error(), "refused") {
		t.Errorf("first %v\nthen %v", first, second)
	}
}

func FuzzParseAnswer(f *testing.F) {
	question := dnsmessage.Question{Name: dnsmessage.MustNewName("x.example."), Type: dnsmessage.TypeSRV, Class: dnsmessage.ClassINET}
	b := dnsmessage.NewBuilder(nil, dnsmessage.Header{ID: 7, Response: true})
	good, err := finish(&b, errors.Join(b.StartQuestions(), b.Question(question), b.StartAnswers(),
		b.SRVResource(dnsmessage.ResourceHeader{Name: question.Name, Class: dnsmessage.ClassINET, TTL: 3}, dnsmessage.SRVResource{Target: question.Name, Port: 1})))
	if err != nil {
		f.Fatal(err)
	}
	f.Add(good)
	f.Add(good[:len(good)-3])
	f.Fuzz(func(t *testing.T, message []byte) {
		a, truncated, err := parseAnswer(message, 7, question)
		if err == nil && !truncated && (len(a.records) > maxRecords || a.ttl < 0) {
			t.Errorf("%+v", a)
		}
	})
}
