package membership

import (
	"context"
	"crypto/rand"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"
	"time"

	"golang.org/x/net/dns/dnsmessage"

	"farmhand/internal/filewatch"
)

// resolver asks name servers for SRV records. The standard library's own keeps
// the time to live to itself.
type resolver struct {
	servers []string // host:port, asked in turn
	limit   time.Duration
}

// record is one SRV record (RFC 2782).
type record struct {
	target string // lower case, without the closing dot
	port   uint16
	weight uint16
}

// answer is what a name server knows of a name.
type answer struct {
	records []record
	ttl     time.Duration // the shortest of the records'
}

const (
	// udpSize is what fits into one packet everywhere (DNS flag day 2020); what
	// does not is asked for again over TCP.
	udpSize = 1232
	// maxRecords bounds an answer.
	maxRecords = 2000
)

// serversOf returns the name servers of a resolv.conf (resolv.conf(5)).
func serversOf(path string) ([]string, error) {
	data, err := filewatch.Read(path, 64<<10)
	if err != nil {
		return nil, fmt.Errorf("name servers: %w", err)
	}
	var servers []string
	for line := range strings.Lines(string(data)) {
		words := strings.Fields(line)
		if len(words) >= 2 && words[0] == "nameserver" && len(servers) < 3 { // MAXNS
			servers = append(servers, net.JoinHostPort(words[1], "53"))
		}
	}
	if len(servers) == 0 {
		return nil, fmt.Errorf("name servers: there is none in %s", path)
	}
	return servers, nil
}

// lookup asks for the SRV records of name. An error says what each server
// answered. No records is an error too, unless the name says by the target "."
// that there is decidedly no service: unknown is not none.
func (r resolver) lookup(ctx context.Context, name string) (answer, error) {
	var errs []error
	for _, server := range r.servers {
		a, err := r.ask(ctx, server, name)
		if err == nil {
			return a, nil
		}
		errs = append(errs, fmt.Errorf("%s of %s: %w", name, server, plain(err)))
		if ctx.Err() != nil {
			break
		}
	}
	return answer{}, errors.Join(errs...)
}

// plain returns a network error without our own port, which is another one each
// time: one trouble is to read as one.
func plain(err error) error {
	var op *net.OpError
	if errors.As(err, &op) {
		return fmt.Errorf("%s: %w", op.Op, op.Err)
	}
	return err
}

func (r resolver) ask(ctx context.Context, server, name string) (answer, error) {
	ctx, cancel := context.WithTimeout(ctx, r.limit)
	defer cancel()
	owner, err := dnsmessage.NewName(strings.TrimSuffix(name, ".") + ".")
	if err != nil {
		return answer{}, err
	}
	question := dnsmessage.Question{Name: owner, Type: dnsmessage.TypeSRV, Class: dnsmessage.ClassINET}
	for _, network := range []string{"udp", "tcp"} {
		a, truncated, err := exchange(ctx, network, server, question)
		if err != nil || !truncated {
			return a, err
		}
	}
	return answer{}, errors.New("the answer is cut short even over TCP")
}

// exchange asks one question and returns its answer.
func exchange(ctx context.Context, network, server string, question dnsmessage.Question) (a answer, truncated bool, err error) {
	var random [2]byte
	_, _ = rand.Read(random[:]) // it never fails
	id := binary.BigEndian.Uint16(random[:])
	query, err := ask(id, question)
	if err != nil {
		return answer{}, false, err
	}
	var dialer net.Dialer
	conn, err := dialer.DialContext(ctx, network, server)
	if err != nil {
		return answer{}, false, err
	}
	defer func() { err = errors.Join(err, conn.Close()) }()
	deadline, _ := ctx.Deadline()
	if err := conn.SetDeadline(deadline); err != nil {
		return answer{}, false, err
	}
	// Whoever waits for the program to stop does not wait for the limit.
	stop := context.AfterFunc(ctx, func() { _ = conn.SetDeadline(time.Unix(1, 0)) }) // one that is closed needs none
	defer stop()
	if network == "tcp" {
		reply, err := overTCP(conn, query)
		if err != nil {
			return answer{}, false, err
		}
		return parseAnswer(reply, id, question)
	}
	if _, err := conn.Write(query); err != nil {
		return answer{}, false, err
	}
	buffer := make([]byte, udpSize)
	for {
		n, err := conn.Read(buffer)
		if err != nil {
			return answer{}, false, err
		}
		// Anybody can send a packet that is no answer to this question.
		a, truncated, err := parseAnswer(buffer[:n], id, question)
		if !errors.Is(err, errOther) {
			return a, truncated, err
		}
	}
}

// overTCP exchanges messages with their length in front (RFC 1035, 4.2.2).
func overTCP(conn net.Conn, query []byte) ([]byte, error) {
	if _, err := conn.Write(append(binary.BigEndian.AppendUint16(nil, uint16(len(query))), query...)); err != nil {
		return nil, err
	}
	var size [2]byte
	if _, err := io.ReadFull(conn, size[:]); err != nil {
		return nil, err
	}
	reply := make([]byte, binary.BigEndian.Uint16(size[:]))
	_, err := io.ReadFull(conn, reply)
	return reply, err
}

// ask returns the message that asks the question.
func ask(id uint16, question dnsmessage.Question) ([]byte, error) {
	b := dnsmessage.NewBuilder(nil, dnsmessage.Header{ID: id, RecursionDesired: true})
	var edns dnsmessage.ResourceHeader
	err := edns.SetEDNS0(udpSize, dnsmessage.RCodeSuccess, false)
	err = errors.Join(err, b.StartQuestions(), b.Question(question), b.StartAdditionals(), b.OPTResource(edns, dnsmessage.OPTResource{}))
	if err != nil {
		return nil, err
	}
	return b.Finish()
}

// errOther is that a message is no answer to the question that was asked.
var errOther = errors.New("it is no answer to the question")

// parseAnswer reads a message that should answer the question.
func parseAnswer(message []byte, id uint16, question dnsmessage.Question) (a answer, truncated bool, err error) {
	var p dnsmessage.Parser
	header, err := p.Start(message)
	if err != nil || header.ID != id || !header.Response {
		return answer{}, false, errOther
	}
	asked, err := p.AllQuestions()
	if err != nil || len(asked) != 1 || asked[0].Type != question.Type || asked[0].Class != question.Class ||
		!strings.EqualFold(asked[0].Name.String(), question.Name.String()) {
		return answer{}, false, errOther
	}
	if header.Truncated {
		return answer{}, true, nil
	}
	if header.RCode != dnsmessage.RCodeSuccess {
		return answer{}, false, fmt.Errorf("it answers %s", strings.TrimPrefix(header.RCode.String(), "RCode"))
	}
	a, err = readRecords(&p, question.Name.String())
	return a, false, err
}

// readRecords reads the answer section: the records of name, or of the name that it
// is another one for.
func readRecords(p *dnsmessage.Parser, name string) (answer, error) {
	a := answer{ttl: -1}
	none := false
	for count := 0; ; count++ {
		header, err := p.AnswerHeader()
		if errors.Is(err, dnsmessage.ErrSectionDone) {
			break
		}
		if err != nil {
			return answer{}, fmt.Errorf("its answer cannot be read: %w", err)
		}
		if count == maxRecords {
			return answer{}, fmt.Errorf("it answers with more than %d records", maxRecords)
		}
		ours := header.Class == dnsmessage.ClassINET && strings.EqualFold(header.Name.String(), name)
		switch {
		case ours && header.Type == dnsmessage.TypeCNAME:
			alias, err := p.CNAMEResource()
			if err != nil {
				return answer{}, fmt.Errorf("its answer cannot be read: %w", err)
			}
			name = alias.CNAME.String()
		case ours && header.Type == dnsmessage.TypeSRV:
			srv, err := p.SRVResource()
			if err != nil {
				return answer{}, fmt.Errorf("its answer cannot be read: %w", err)
			}
			target := strings.ToLower(strings.TrimSuffix(srv.Target.String(), "."))
			if none = none || target == ""; target != "" {
				a.records = append(a.records, record{target, srv.Port, srv.Weight})
			}
		default:
			if err := p.SkipAnswer(); err != nil {
				return answer{}, fmt.Errorf("its answer cannot be read: %w", err)
			}
			continue
		}
		if ttl := time.Duration(header.TTL) * time.Second; a.ttl < 0 || ttl < a.ttl {
			a.ttl = ttl
		}
	}
	if len(a.records) == 0 && !none {
		return answer{}, errors.New(`there is no SRV record; that there is decidedly no host is said by one with the target "."`)
	}
	return a, nil
}
