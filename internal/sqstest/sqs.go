// Package sqstest is a stand-in for SQS in tests: its JSON protocol for the calls that we make,
// with every request and every answer checked against the model that AWS has published.
// Throttling, refusals, lost answers and late counts can be scripted.
package sqstest

import (
	"bytes"
	"cmp"
	"context"
	"crypto/md5"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/http/httptest"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"
)

// The credentials that an SQS takes.
const (
	AccessKey = "AKIDFARMHANDTEST"
	SecretKey = "not-a-secret"
	Region    = "eu-test-1"
)

// SetCredentials has AWS's SDK find the credentials in this process's environment, and
// nothing else.
func SetCredentials(t *testing.T) {
	for _, v := range Environment() {
		name, value, _ := strings.Cut(v, "=")
		t.Setenv(name, value)
	}
}

// Environment is what a program finds the credentials in.
func Environment() []string {
	return []string{
		"AWS_ACCESS_KEY_ID=" + AccessKey, "AWS_SECRET_ACCESS_KEY=" + SecretKey, "AWS_REGION=" + Region,
		"AWS_EC2_METADATA_DISABLED=true", "AWS_CONFIG_FILE=/nonexistent", "AWS_SHARED_CREDENTIALS_FILE=/nonexistent",
	}
}

// Fault is what happens to a call.
type Fault int

// The faults.
const (
	Throttled Fault = iota + 1 // refused, nothing is done
	LostReply                  // done, but its answer never arrives
	Broken                     // a server's error, nothing is done
	Denied                     // the credentials are not good for it
	Twice                      // ReceiveMessage: the message is left there for another, too
)

// SQS is Amazon's queue service with queues of a test's. Its methods may be called
// from any goroutine.
type SQS struct {
	t      testing.TB
	model  *jsonModel
	server *httptest.Server

	mu     sync.Mutex
	offset time.Duration
	queues map[string]*testQueue
	faults map[string][]Fault // by operation
	calls  map[string]int
	serial int
	wake   chan struct{} // closed and made anew when something can have become visible
}

type testQueue struct {
	QueueOptions
	name     string
	messages []*testMessage
	once     map[string]onceSent // by deduplication id
	receipts map[string]*testMessage
	counted  []countedAt
	dead     []*testMessage // that were received too often
}

// QueueOptions are a queue's.
type QueueOptions struct {
	Hold     time.Duration // visibility time-out; 0 is 30 s
	CountLag time.Duration // how old the counts are that it tells
	MaxTimes int           // it drops a message that was received so often, as with a dead-letter queue; 0 never
}

type onceSent struct {
	at         time.Time
	id, serial string
}

type countedAt struct {
	at              time.Time
	visible, flying int
}

type testMessage struct {
	id, body, group, serial string
	attributes              map[string]any
	sent, hidden            time.Time // hidden: until then
	times                   int
	receipt                 string // the newest
	gone                    bool
	deliveries              []Delivery
}

// Delivery is one receipt of a message.
type Delivery struct {
	At    time.Time // when it was received
	Until time.Time // until when its receiver holds it, or held it
	Done  bool      // it was deleted by this receipt
}

// History is what became of a message.
type History struct {
	ID, Body   string
	Attributes map[string]string
	Deliveries []Delivery
	Deleted    bool
	Dead       bool // it was received too often
}

// NewSQS serves until the test has ended.
func NewSQS(t testing.TB) *SQS {
	t.Helper()
	model, err := loadJSONModel("sqs", "2012-11-05")
	if err != nil {
		t.Fatal(err)
	}
	s := &SQS{t: t, model: model, queues: map[string]*testQueue{}, faults: map[string][]Fault{}, calls: map[string]int{}, wake: make(chan struct{})}
	s.server = httptest.NewServer(http.HandlerFunc(s.serve))
	t.Cleanup(func() {
		s.server.CloseClientConnections()
		s.server.Close()
	})
	return s
}

// Queue makes a queue and returns its address.
func (s *SQS) Queue(name string, o QueueOptions) string {
	s.mu.Lock()
	defer s.mu.Unlock()
	o.Hold = cmp.Or(o.Hold, 30*time.Second)
	s.queues[name] = &testQueue{QueueOptions: o, name: name, once: map[string]onceSent{}, receipts: map[string]*testMessage{}}
	return s.server.URL + "/123456789012/" + name
}

// Fail has the next calls of an operation suffer the faults, one each.
func (s *SQS) Fail(operation string, faults ...Fault) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.faults[operation] = append(s.faults[operation], faults...)
}

// Calls is how often an operation was called.
func (s *SQS) Calls(operation string) int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.calls[operation]
}

// Advance moves the service's clock.
func (s *SQS) Advance(d time.Duration) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.offset += d
	s.changed()
}

// Put puts messages into a queue, as a sender would.
func (s *SQS) Put(queue string, bodies ...string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	q := s.queues[queue]
	for _, body := range bodies {
		s.add(q, body, "", nil)
	}
	s.note(q)
	s.changed()
}

// Histories are what became of all messages of a queue, in the order of their coming.
func (s *SQS) Histories(queue string) (list []History) {
	s.mu.Lock()
	defer s.mu.Unlock()
	q := s.queues[queue]
	for _, m := range q.messages {
		attributes := map[string]string{}
		for name, value := range m.attributes {
			attributes[name] = text(value.(map[string]any), "StringValue")
		}
		list = append(list, History{ID: m.id, Body: m.body, Attributes: attributes, Deliveries: slices.Clone(m.deliveries), Deleted: m.gone, Dead: slices.Contains(q.dead, m)})
	}
	return list
}

// Left is how many messages are not deleted, nor dead.
func (s *SQS) Left(queue string) int {
	s.mu.Lock()
	defer s.mu.Unlock()
	c := s.count(s.queues[queue])
	return c.visible + c.flying
}

func (s *SQS) now() time.Time { return time.Now().Add(s.offset) }

// changed wakes those that wait for a message; mu is held.
func (s *SQS) changed() {
	close(s.wake)
	s.wake = make(chan struct{})
}

func (s *SQS) id(kind string) string {
	s.serial++
	return fmt.Sprintf("%s-%06d", kind, s.serial)
}

func (s *SQS) add(q *testQueue, body, group string, attributes map[string]any) *testMessage {
	m := &testMessage{id: s.id("message"), body: body, group: group, attributes: attributes, sent: s.now()}
	m.serial = fmt.Sprintf("%020d", s.serial)
	q.messages = append(q.messages, m)
	return m
}

func (q *testQueue) fifo() bool { return strings.HasSuffix(q.name, ".fifo") }

// alive reports whether a message is neither deleted nor dead.
func (q *testQueue) alive(m *testMessage) bool { return !m.gone && !slices.Contains(q.dead, m) }

func (s *SQS) count(q *testQueue) countedAt {
	c := countedAt{at: s.now()}
	for _, m := range q.messages {
		switch {
		case !q.alive(m):
		case m.hidden.After(c.at):
			c.flying++
		default:
			c.visible++
		}
	}
	return c
}

// note keeps the counts as they are now, for those who are told old ones.
func (s *SQS) note(q *testQueue) { q.counted = append(q.counted, s.count(q)) }

// apiError is an answer that is a refusal.
type apiError struct {
	status     int
	code, text string
}

func (e *apiError) Error() string { return e.code + ": " + e.text }

func refuse(code, format string, args ...any) error {
	return &apiError{http.StatusBadRequest, code, fmt.Sprintf(format, args...)}
}

var authorization = regexp.MustCompile(`^AWS4-HMAC-SHA256 Credential=` + AccessKey + `/\d{8}/` + Region + `/sqs/aws4_request, SignedHeaders=[a-z0-9;-]+, Signature=[0-9a-f]{64}$`)

func (s *SQS) serve(w http.ResponseWriter, r *http.Request) {
	target, ok := strings.CutPrefix(r.Header.Get("X-Amz-Target"), s.model.Metadata.TargetPrefix+".")
	operation, known := s.model.Operations[target]
	if r.Method != http.MethodPost || !ok || !known || r.Header.Get("Content-Type") != "application/x-amz-json-"+s.model.Metadata.JSONVersion {
		s.t.Errorf("SQS was asked %s %s %q", r.Method, r.URL, r.Header)
		http.Error(w, "what is this?", http.StatusBadRequest)
		return
	}
	body, err := io.ReadAll(io.LimitReader(r.Body, 2<<20))
	if err != nil {
		return // the caller is gone
	}
	var in any
	if err := json.Unmarshal(body, &in); err != nil {
		s.t.Errorf("%s: %v", target, err)
	}
	for _, wrong := range s.model.wrong(operation.Input.Shape, target, in) {
		s.t.Errorf("a request does not fit AWS's model: %s", wrong)
	}
	fault := s.fault(target)
	var out map[string]any
	switch {
	case fault == Denied, !authorization.MatchString(r.Header.Get("Authorization")):
		err = &apiError{http.StatusForbidden, "InvalidSecurity", "the credentials are not good for that"}
	case fault == Throttled:
		err = refuse("RequestThrottled", "slow down")
	case fault == Broken:
		err = &apiError{http.StatusInternalServerError, "InternalFailure", "try again"}
	default:
		out, err = s.do(r.Context(), target, in.(map[string]any), fault)
	}
	if fault == LostReply {
		if conn, _, err := http.NewResponseController(w).Hijack(); err == nil {
			_ = conn.Close()
		}
		return
	}
	s.answer(w, target, out, err)
}

func (s *SQS) fault(operation string) Fault {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.calls[operation]++
	list := s.faults[operation]
	if len(list) == 0 {
		return 0
	}
	s.faults[operation] = list[1:]
	return list[0]
}

func (s *SQS) answer(w http.ResponseWriter, target string, out map[string]any, err error) {
	operation := s.model.Operations[target]
	status := http.StatusOK
	if refusal, ok := err.(*apiError); ok {
		status = refusal.status
		out = map[string]any{"__type": "com.amazonaws.sqs#" + refusal.code, "message": refusal.text}
		listed := slices.ContainsFunc(operation.Errors, func(e shapeRef) bool { return e.Shape == refusal.code })
		// These two are of every service, and in no model.
		if !listed && refusal.code != "InternalFailure" && refusal.code != "InvalidParameterValue" {
			s.t.Errorf("%s has no error %s in AWS's model", target, refusal.code)
		}
	} else if out == nil {
		out = map[string]any{}
	}
	data, failed := json.Marshal(out)
	if failed != nil {
		s.t.Error(failed)
	}
	if err == nil && operation.Output.Shape != "" {
		var decoded any
		_ = json.Unmarshal(data, &decoded) // of what was just encoded
		for _, wrong := range s.model.wrong(operation.Output.Shape, target, decoded) {
			s.t.Errorf("an answer does not fit AWS's model: %s", wrong)
		}
	}
	w.Header().Set("Content-Type", "application/x-amz-json-"+s.model.Metadata.JSONVersion)
	w.WriteHeader(status)
	_, _ = io.Copy(w, bytes.NewReader(data)) // who is gone is gone
}

// do carries out a request, which fits the model.
func (s *SQS) do(ctx context.Context, operation string, in map[string]any, fault Fault) (map[string]any, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	address, _ := in["QueueUrl"].(string)
	q := s.queues[address[strings.LastIndex(address, "/")+1:]]
	if q == nil || !strings.HasPrefix(address, s.server.URL+"/123456789012/") {
		return nil, refuse("QueueDoesNotExist", "there is no %s", address)
	}
	defer s.note(q)
	switch operation {
	case "SendMessage":
		return s.send(q, in)
	case "ReceiveMessage":
		return s.receive(ctx, q, in, fault)
	case "DeleteMessage":
		return nil, s.remove(q, in)
	case "ChangeMessageVisibility":
		return nil, s.change(q, in)
	case "GetQueueAttributes":
		return s.attributes(q, in)
	}
	s.t.Errorf("SQS is asked for %s, which this stand-in does not have", operation)
	return nil, refuse("UnsupportedOperation", "%s", operation)
}

func text(in map[string]any, name string) string { value, _ := in[name].(string); return value }

func (s *SQS) send(q *testQueue, in map[string]any) (map[string]any, error) {
	body, group, once := text(in, "MessageBody"), text(in, "MessageGroupId"), text(in, "MessageDeduplicationId")
	attributes, _ := in["MessageAttributes"].(map[string]any)
	switch {
	case body == "" || len(body) > 256<<10:
		return nil, refuse("InvalidMessageContents", "%d bytes", len(body))
	case q.fifo() && (group == "" || once == "" || len(group) > 128 || len(once) > 128):
		return nil, refuse("InvalidParameterValue", "a FIFO queue needs a group and a deduplication id, of at most 128 characters")
	case !q.fifo() && once != "":
		return nil, refuse("InvalidParameterValue", "a standard queue has no deduplication ids")
	}
	out := map[string]any{"MD5OfMessageBody": sum(body)}
	if len(attributes) > 0 {
		out["MD5OfMessageAttributes"] = attributeSum(attributes)
	}
	if before, ok := q.once[once]; ok && once != "" && s.now().Sub(before.at) < 5*time.Minute {
		out["MessageId"], out["SequenceNumber"] = before.id, before.serial
		return out, nil
	}
	m := s.add(q, body, group, attributes)
	out["MessageId"] = m.id
	if q.fifo() {
		q.once[once] = onceSent{s.now(), m.id, m.serial}
		out["SequenceNumber"] = m.serial
	}
	s.changed()
	return out, nil
}

func (s *SQS) receive(ctx context.Context, q *testQueue, in map[string]any, fault Fault) (map[string]any, error) {
	number := func(name string, usual float64) time.Duration {
		if value, ok := in[name].(float64); ok {
			usual = value
		}
		return time.Duration(usual * float64(time.Second))
	}
	end := s.now().Add(number("WaitTimeSeconds", 0))
	for {
		if m := s.next(q); m != nil {
			return map[string]any{"Messages": []any{s.deliver(q, m, number("VisibilityTimeout", q.Hold.Seconds()), in, fault)}}, nil
		}
		wait := end.Sub(s.now())
		if wait <= 0 || ctx.Err() != nil {
			return nil, nil
		}
		for _, m := range q.messages {
			if q.alive(m) {
				wait = min(wait, max(m.hidden.Sub(s.now()), time.Millisecond))
			}
		}
		wake := s.wake
		s.mu.Unlock()
		select {
		case <-wake:
		case <-time.After(wait):
		case <-ctx.Done():
		}
		s.mu.Lock()
	}
}

// next is the message that a receiver gets now; nil if there is none.
func (s *SQS) next(q *testQueue) *testMessage {
	now, held := s.now(), map[string]bool{}
	for _, m := range q.messages {
		if !q.alive(m) || held[m.group] {
			continue
		}
		if m.hidden.After(now) {
			held[m.group] = q.fifo() // of a group one at a time
			continue
		}
		if q.MaxTimes > 0 && m.times >= q.MaxTimes {
			q.dead = append(q.dead, m)
			continue
		}
		return m
	}
	return nil
}

func (s *SQS) deliver(q *testQueue, m *testMessage, hold time.Duration, in map[string]any, fault Fault) map[string]any {
	now := s.now()
	m.times++
	m.receipt = s.id("receipt")
	q.receipts[m.receipt] = m
	m.hidden = now.Add(hold)
	m.deliveries = append(m.deliveries, Delivery{At: now, Until: m.hidden})
	if fault == Twice {
		m.hidden = now
	}
	out := map[string]any{"MessageId": m.id, "ReceiptHandle": m.receipt, "Body": m.body, "MD5OfBody": sum(m.body)}
	told := map[string]any{
		"SentTimestamp": strconv.FormatInt(m.sent.UnixMilli(), 10), "ApproximateReceiveCount": strconv.Itoa(m.times),
	}
	if q.fifo() {
		told["MessageGroupId"] = m.group
	}
	asked, _ := in["MessageSystemAttributeNames"].([]any)
	maps.DeleteFunc(told, func(name string, _ any) bool {
		return !slices.Contains(asked, any(name)) && !slices.Contains(asked, any("All"))
	})
	if len(told) > 0 {
		out["Attributes"] = told
	}
	if len(m.attributes) > 0 && in["MessageAttributeNames"] != nil {
		out["MessageAttributes"], out["MD5OfMessageAttributes"] = m.attributes, attributeSum(m.attributes)
	}
	return out
}

// holder is the message of a receipt, if that is the newest one of it.
func (s *SQS) holder(q *testQueue, in map[string]any) (*testMessage, error) {
	receipt := text(in, "ReceiptHandle")
	m := q.receipts[receipt]
	if m == nil {
		return nil, refuse("ReceiptHandleIsInvalid", "%s", receipt)
	}
	return m, nil
}

func (s *SQS) remove(q *testQueue, in map[string]any) error {
	m, err := s.holder(q, in)
	switch {
	case err != nil:
		return err
	case m.gone:
		return nil
	case q.fifo() && !m.hidden.After(s.now()):
		return refuse("InvalidParameterValue", "the receipt handle has expired")
	case m.receipt != text(in, "ReceiptHandle"):
		return nil // as the real one: no error, and the message may stay
	}
	m.gone = true
	m.deliveries[len(m.deliveries)-1].Done = true
	s.changed()
	return nil
}

func (s *SQS) change(q *testQueue, in map[string]any) error {
	m, err := s.holder(q, in)
	if err != nil {
		return err
	}
	seconds, _ := in["VisibilityTimeout"].(float64)
	now, last := s.now(), &m.deliveries[len(m.deliveries)-1]
	switch {
	case seconds < 0 || seconds > 43200:
		return refuse("InvalidParameterValue", "%v seconds", seconds)
	case m.gone, !m.hidden.After(now), m.receipt != text(in, "ReceiptHandle"):
		return refuse("MessageNotInflight", "%s is not in flight", m.id)
	case now.Add(time.Duration(seconds)*time.Second).Sub(last.At) > 12*time.Hour:
		return refuse("InvalidParameterValue", "beyond 12 hours from the receipt")
	}
	m.hidden = now.Add(time.Duration(seconds) * time.Second)
	last.Until = m.hidden
	s.changed()
	return nil
}

func (s *SQS) attributes(q *testQueue, in map[string]any) (map[string]any, error) {
	c, old := s.count(q), s.now().Add(-q.CountLag)
	if q.CountLag > 0 {
		c = countedAt{}
		for _, before := range q.counted {
			if !before.at.After(old) {
				c = before
			}
		}
	}
	values := map[string]any{
		"ApproximateNumberOfMessages": strconv.Itoa(c.visible), "ApproximateNumberOfMessagesNotVisible": strconv.Itoa(c.flying),
		"ApproximateNumberOfMessagesDelayed": "0", "VisibilityTimeout": strconv.Itoa(int(q.Hold / time.Second)),
	}
	asked, _ := in["AttributeNames"].([]any)
	out := map[string]any{}
	for _, name := range asked {
		value, ok := values[name.(string)]
		if !ok {
			return nil, refuse("InvalidAttributeName", "%v", name)
		}
		out[name.(string)] = value
	}
	return map[string]any{"Attributes": out}, nil
}

func sum(text string) string {
	s := md5.Sum([]byte(text))
	return hex.EncodeToString(s[:])
}

// attributeSum is the sum that SQS makes of a message's attributes, all of them text.
func attributeSum(attributes map[string]any) string {
	var all []byte
	add := func(text string) {
		all = binary.BigEndian.AppendUint32(all, uint32(len(text)))
		all = append(all, text...)
	}
	for _, name := range slices.Sorted(maps.Keys(attributes)) {
		value := attributes[name].(map[string]any)
		add(name)
		add(text(value, "DataType"))
		all = append(all, 1) // a string
		add(text(value, "StringValue"))
	}
	return sum(string(all))
}
