// Package awstest is a stand-in for AWS in tests: for the calls that we make it speaks
// the services' wire protocols, and every request and every answer is checked against
// the models that AWS has published (api-2.json, in the module github.com/aws/aws-sdk-go).
//
// What AWS does wrong can be scripted: throttling, refusals, answers that are lost after
// the effect, and what was done being shown late. It refuses what is not signed. It has
// no opinion on what a request means for the farm; a request that the model has not
// fails the test.
package awstest

import (
	"encoding/xml"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"regexp"
	"strings"
	"sync"
	"testing"
)

// Fields are a request's or an answer's members, by the model's names: string, int, bool,
// []any and map[string]any.
type Fields = map[string]any

// Refusal is an error of AWS's.
type Refusal struct {
	Status  int
	Code    string
	Message string
}

func (r *Refusal) Error() string { return r.Code + ": " + r.Message }

// refuse is a refusal of a request itself.
func refuse(code, format string, args ...any) error {
	return &Refusal{Status: http.StatusBadRequest, Code: code, Message: fmt.Sprintf(format, args...)}
}

// Faults of a call.
var (
	// Throttled: too much was asked for.
	Throttled = &Fault{refusal: &Refusal{http.StatusServiceUnavailable, "RequestLimitExceeded", "Request limit exceeded."}}
	// NoCapacity: AWS has no such instance there.
	NoCapacity = &Fault{refusal: &Refusal{http.StatusInternalServerError, "InsufficientInstanceCapacity", "There is no Spot or on-demand capacity."}}
	// Lost: it is done, and the connection is cut before the answer.
	Lost = &Fault{lost: true}
	// Fine: nothing is wrong.
	Fine = &Fault{}
)

// Fault is what is wrong with one call.
type Fault struct {
	refusal *Refusal
	lost    bool
}

// Refused is a call that is refused.
func Refused(status int, code string) *Fault {
	return &Fault{refusal: &Refusal{status, code, "scripted"}}
}

// Server is the stand-in. Its methods may be called from any goroutine.
type Server struct {
	URL string

	t      testing.TB
	http   *httptest.Server
	models map[string]*model // by the name in a signature

	mu     sync.Mutex
	script map[string][]*Fault
	calls  map[string]int
	last   map[string]Fields
	lag    int // how many lists do not show what was made
	state
}

// services are those that there are.
var services = map[string]struct {
	directory, version string
	operations         map[string]operation
}{
	"ec2":                  {"ec2", "2016-11-15", ec2Operations},
	"elasticloadbalancing": {"elasticloadbalancingv2", "2015-12-01", elbOperations},
}

// operation does what a request asks for; the server is locked.
type operation func(s *Server, in Fields) (Fields, error)

// Setenv has the SDK find credentials that the stand-in takes, and none of the machine's.
// It is for a TestMain.
func Setenv() error {
	var errs []error
	for key, value := range map[string]string{
		"AWS_ACCESS_KEY_ID": "AKIDEXAMPLE", "AWS_SECRET_ACCESS_KEY": "secret-of-a-test", "AWS_SESSION_TOKEN": "", "AWS_PROFILE": "",
		"AWS_EC2_METADATA_DISABLED": "true", "AWS_CONFIG_FILE": "/dev/null", "AWS_SHARED_CREDENTIALS_FILE": "/dev/null",
	} {
		errs = append(errs, os.Setenv(key, value))
	}
	return errors.Join(errs...)
}

// New starts a stand-in that ends with the test.
func New(t testing.TB) *Server {
	t.Helper()
	s := &Server{
		t: t, models: map[string]*model{}, script: map[string][]*Fault{}, calls: map[string]int{}, last: map[string]Fields{},
		state: newState(),
	}
	for name, service := range services {
		m, err := load(service.directory, service.version)
		if err != nil {
			t.Fatal(err)
		}
		s.models[name] = m
	}
	s.http = httptest.NewServer(s)
	s.URL = s.http.URL
	t.Cleanup(s.http.Close)
	return s
}

// Script says what is wrong with the next calls of an operation, one after the other.
func (s *Server) Script(operation string, faults ...*Fault) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.script[operation] = append(s.script[operation], faults...)
}

// Lag has what is made from now on be shown only after so many looks at it.
func (s *Server) Lag(looks int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.lag = looks
}

// Calls is how often an operation was called, with and without success.
func (s *Server) Calls(operation string) int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.calls[operation]
}

// Last is what an operation was called with last.
func (s *Server) Last(operation string) Fields {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.last[operation]
}

var signature = regexp.MustCompile(`^AWS4-HMAC-SHA256 Credential=AKIDEXAMPLE/[0-9]{8}/([a-z0-9-]+)/([a-z0-9]+)/aws4_request, SignedHeaders=[a-z0-9;-]*host[a-z0-9;-]*, Signature=[0-9a-f]{64}$`)

const maxRequest = 1 << 20

// ServeHTTP answers a call.
func (s *Server) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	signed := signature.FindStringSubmatch(r.Header.Get("Authorization"))
	if signed == nil || r.Header.Get("X-Amz-Date") == "" {
		s.fail(w, nil, &Refusal{http.StatusUnauthorized, "AuthFailure", "the request is not signed"})
		return
	}
	m, service := s.models[signed[2]], services[signed[2]]
	body, err := io.ReadAll(io.LimitReader(r.Body, maxRequest))
	if err != nil || m == nil {
		s.t.Errorf("a request to %q: %v", signed[2], err)
		s.fail(w, m, &Refusal{http.StatusBadRequest, "InvalidAction", "no such service"})
		return
	}
	form, err := url.ParseQuery(string(body))
	action := form.Get("Action")
	if err == nil && form.Get("Version") != m.Metadata.APIVersion {
		err = fmt.Errorf("the version is %q", form.Get("Version"))
	}
	var in Fields
	if err == nil {
		in, err = m.request(action, form)
	}
	do := service.operations[action]
	if err == nil && do == nil {
		err = errors.New("the stand-in has no such call")
	}
	if err != nil {
		s.t.Errorf("%s is not as the model has it: %v", action, err)
		s.fail(w, m, &Refusal{http.StatusBadRequest, "InvalidParameter", err.Error()})
		return
	}
	text, fault, err := s.call(m, action, in, do)
	switch {
	case fault.lost:
		panic(http.ErrAbortHandler)
	case err != nil:
		s.fail(w, m, err)
	default:
		w.Header().Set("Content-Type", "text/xml;charset=UTF-8")
		_, _ = io.WriteString(w, text) // who asked may have gone
	}
}

func (s *Server) call(m *model, action string, in Fields, do operation) (string, *Fault, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.calls[action]++
	s.last[action] = in
	fault := Fine
	if list := s.script[action]; len(list) > 0 {
		fault, s.script[action] = list[0], list[1:]
	}
	if fault.refusal != nil {
		return "", fault, fault.refusal
	}
	out, err := do(s, in)
	if err != nil {
		return "", fault, err
	}
	text, err := m.reply(action, out)
	if err != nil {
		s.t.Errorf("the stand-in's answer to %s is not as the model has it: %v", action, err)
	}
	return text, fault, err
}

// fail refuses in the form of the service; m is nil if there is no such service.
func (s *Server) fail(w http.ResponseWriter, m *model, err error) {
	refusal := &Refusal{http.StatusInternalServerError, "InternalError", err.Error()}
	errors.As(err, &refusal)
	var code, message strings.Builder
	escape(&code, refusal.Code)
	escape(&message, refusal.Message)
	w.Header().Set("Content-Type", "text/xml;charset=UTF-8")
	w.WriteHeader(refusal.Status)
	text := "<?xml version=\"1.0\"?><Response><Errors><Error><Code>%s</Code><Message>%s</Message></Error></Errors><RequestID>1</RequestID></Response>"
	if m != nil && m.Metadata.Protocol == "query" {
		text = "<?xml version=\"1.0\"?><ErrorResponse><Error><Type>Sender</Type><Code>%s</Code><Message>%s</Message></Error><RequestId>1</RequestId></ErrorResponse>"
	}
	_, _ = fmt.Fprintf(w, text, &code, &message) // who asked may have gone
}

func escape(text *strings.Builder, value string) {
	if err := xml.EscapeText(text, []byte(value)); err != nil {
		panic(err) // a strings.Builder takes everything
	}
}
