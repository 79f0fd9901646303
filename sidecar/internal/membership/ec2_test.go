package membership

import (
	"context"
	"encoding/xml"
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"farmhand/internal/farmtest"
)

// ec2Server is a stand-in for EC2 that speaks its query protocol for one call
// (docs.aws.amazon.com/AWSEC2/latest/APIReference/API_DescribeInstances.html).
type ec2Server struct {
	*httptest.Server
	t *testing.T

	mu        sync.Mutex
	instances []ec2Instance
	throttled int // answers that are refused from now on
	asked     int
	wait      chan struct{} // an answer waits until it is closed; nil for none
}

type ec2Instance struct{ id, role, state, address string }

func newEC2Server(t *testing.T) *ec2Server {
	s := &ec2Server{t: t}
	s.Server = httptest.NewServer(s)
	t.Cleanup(s.Close)
	for key, value := range map[string]string{
		"AWS_ACCESS_KEY_ID": "AKIDTEST", "AWS_SECRET_ACCESS_KEY": "not-a-secret", "AWS_EC2_METADATA_DISABLED": "true",
		"AWS_CONFIG_FILE": "/dev/null", "AWS_SHARED_CREDENTIALS_FILE": "/dev/null", "AWS_REGION": "", "AWS_SESSION_TOKEN": "", "AWS_PROFILE": "",
	} {
		t.Setenv(key, value)
	}
	return s
}

func (s *ec2Server) has(instances ...ec2Instance) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.instances = instances
}

// codes are those of the states.
var codes = map[string]int{"pending": 0, "running": 16, "shutting-down": 32, "terminated": 48, "stopping": 64, "stopped": 80}

const perPage = 2 // for tests; EC2 has no more than MaxResults

func (s *ec2Server) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.wait != nil {
		wait := s.wait
		s.mu.Unlock()
		select {
		case <-wait:
		case <-r.Context().Done():
		}
		s.mu.Lock()
	}
	s.asked++
	if err := r.ParseForm(); err != nil {
		s.t.Error(err)
	}
	w.Header().Set("Content-Type", "text/xml;charset=UTF-8")
	if s.throttled > 0 {
		s.throttled--
		w.WriteHeader(http.StatusServiceUnavailable)
		_, _ = fmt.Fprint(w, `<?xml version="1.0" encoding="UTF-8"?><Response><Errors><Error><Code>RequestLimitExceeded</Code><Message>Request limit exceeded.</Message></Error></Errors><RequestID>r-1</RequestID></Response>`)
		return
	}
	want := url.Values{
		"Action": {"DescribeInstances"}, "Version": {"2016-11-15"}, "MaxResults": {"1000"},
		"Filter.1.Name": {"tag-key"}, "Filter.1.Value.1": {"role"}, "Filter.2.Name": {"tag:farm"}, "Filter.2.Value.1": {"shop & co"},
	}
	token := r.PostForm.Get("NextToken")
	r.PostForm.Del("NextToken")
	if r.Method != http.MethodPost || r.PostForm.Encode() != want.Encode() {
		s.t.Errorf("%s %s, want %s", r.Method, r.PostForm.Encode(), want.Encode())
	}
	if auth := r.Header.Get("Authorization"); !strings.HasPrefix(auth, "AWS4-HMAC-SHA256 Credential=AKIDTEST/") || !strings.Contains(auth, "/eu-test-1/ec2/aws4_request") {
		s.t.Errorf("signed by %q", auth)
	}
	from := 0
	if token != "" {
		from, _ = strconv.Atoi(strings.TrimPrefix(token, "page "))
	}
	to := min(from+perPage, len(s.instances))
	type tag struct {
		Key   string `xml:"key"`
		Value string `xml:"value"`
	}
	type instance struct {
		ID      string `xml:"instanceId"`
		Code    int    `xml:"instanceState>code"`
		State   string `xml:"instanceState>name"`
		Address string `xml:"privateIpAddress,omitempty"`
		Tags    []tag  `xml:"tagSet>item"`
	}
	type reservation struct {
		ID        string     `xml:"reservationId"`
		Instances []instance `xml:"instancesSet>item"`
	}
	answer := struct {
		XMLName      xml.Name      `xml:"http://ec2.amazonaws.com/doc/2016-11-15/ DescribeInstancesResponse"`
		RequestID    string        `xml:"requestId"`
		Reservations []reservation `xml:"reservationSet>item"`
		NextToken    string        `xml:"nextToken,omitempty"`
	}{RequestID: "r-2"}
	for _, i := range s.instances[from:to] {
		tags := []tag{{"farm", "shop & co"}, {"Name", "<" + i.id + ">"}}
		if i.role != "" {
			tags = append(tags, tag{"role", i.role})
		}
		answer.Reservations = append(answer.Reservations, reservation{"r" + i.id, []instance{{i.id, codes[i.state], i.state, i.address, tags}}})
	}
	if to < len(s.instances) {
		answer.NextToken = fmt.Sprintf("page %d", to)
	}
	if err := xml.NewEncoder(w).Encode(answer); err != nil {
		s.t.Error(err)
	}
}

// watch asks the stand-in until the test's end.
func (s *ec2Server) watch(change func(*EC2Options)) *noted {
	o := EC2Options{
		Region: "eu-test-1", Endpoint: s.URL, Tags: map[string]string{"farm": "shop & co"}, RoleTag: "role", Ports: map[string]int{"primary": 3306, "replica": 3307},
		Every: 10 * time.Millisecond, AtMost: 50 * time.Millisecond, Limit: time.Minute, Misses: 2,
	}
	if change != nil {
		change(&o)
	}
	told := &noted{}
	ctx, stop := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- NewEC2(o).Run(ctx, told) }()
	s.t.Cleanup(func() {
		stop()
		if err := <-done; err != nil {
			s.t.Error(err)
		}
	})
	return told
}

func (o *noted) await(t *testing.T, hosts, trouble string) {
	t.Helper()
	farmtest.Eventually(t, "the hosts are "+hosts+", the trouble "+trouble, func() error {
		o.mu.Lock()
		defer o.mu.Unlock()
		if got := o.hosts(); got != hosts || (trouble == "") != (o.trouble == "") || !strings.Contains(o.trouble, trouble) {
			return fmt.Errorf("%s; %s", got, o.trouble)
		}
		return nil
	})
}

var (
	ec2Primary = ec2Instance{"i-1", "primary", "running", "10.0.0.1"}
	ec2Replica = ec2Instance{"i-2", "replica", "running", "10.0.0.2"}
	ec2Web     = ec2Instance{"i-3", "web", "running", "10.0.1.1"}
)

const (
	ec2Two   = "i-1=primary/up@10.0.0.1:3306 i-2=replica/up@10.0.0.2:3307"
	ec2Three = ec2Two + " i-3=web/up@10.0.1.1"
)

func TestEC2InstancesThatRunAreHosts(t *testing.T) {
	s := newEC2Server(t)
	s.has(ec2Web, ec2Primary, ec2Instance{"i-4", "web", "pending", "10.0.1.2"}, ec2Instance{"i-5", "web", "terminated", ""}, ec2Replica, ec2Instance{"i-6", "", "running", "10.0.1.3"})
	told := s.watch(nil)
	told.await(t, ec2Three, "")
	// What says that it ends is gone at once.
	stopped := ec2Web
	stopped.state = "shutting-down"
	s.has(ec2Primary, ec2Replica, stopped)
	told.await(t, ec2Two, "")
}

func TestEC2ErrorsChangeNothing(t *testing.T) {
	s := newEC2Server(t)
	s.has(ec2Primary, ec2Replica)
	told := s.watch(nil)
	told.await(t, ec2Two, "")
	s.mu.Lock()
	s.throttled = 1 << 30
	s.mu.Unlock()
	told.await(t, ec2Two, "RequestLimitExceeded: Request limit exceeded.")
	s.mu.Lock()
	s.throttled = 0
	s.mu.Unlock()
	told.await(t, ec2Two, "")
	// Two primaries, and then none at all.
	second := ec2Replica
	second.role = "primary"
	s.has(ec2Primary, second)
	told.await(t, ec2Two, "i-1 is the primary already")
	s.has(ec2Primary, ec2Replica)
	told.await(t, ec2Two, "")
	s.has()
	told.await(t, ec2Two, "there are none")
}

// TestEC2OneMissIsNoEnd counts answers: an instance that some lack is there, until too
// many do.
func TestEC2OneMissIsNoEnd(t *testing.T) {
	e := NewEC2(EC2Options{Misses: 2})
	host := func(id, role string) Host { return Host{Name: id, Role: role, Address: "10.0.0.1:" + id[2:]} }
	answer := func(want string, hosts ...Host) {
		t.Helper()
		running := map[string]Host{}
		for _, h := range hosts {
			running[h.Name] = h
		}
		s, err := e.settle(running, map[string]bool{})
		var names []string
		for _, h := range s.Hosts {
			names = append(names, h.Name)
		}
		if err != nil {
			names = []string{err.Error()}
		}
		if got := strings.Join(names, " "); got != want {
			t.Errorf("%s, want %s", got, want)
		}
	}
	one, two := host("i-1", "primary"), host("i-2", "replica")
	answer("i-1 i-2", one, two)
	answer("i-1 i-2", one)
	answer("i-1 i-2", one)
	answer("i-1 i-2", one, two)
	answer("i-1 i-2", one)
	answer("i-1 i-2", one)
	answer("i-1", one)
	answer("i-1 i-2", one, two)
	// The primary is gone, and another has its tag: that is known when it is surely gone.
	other := host("i-3", "primary")
	const twice = "hosts[2].role: i-1 is the primary already; there cannot be two"
	answer(twice, other, two)
	answer(twice, other, two)
	answer("i-2 i-3", other, two)
	// All are missing: for a while they are there, and then it is no membership.
	answer("i-2 i-3")
	answer("i-2 i-3")
	answer("hosts: there are none; a farm without a host is more likely a mistake")
}

// TestEC2AnswersAreBounded, and who stops does not wait for one.
func TestEC2AnswersAreBounded(t *testing.T) {
	s := newEC2Server(t)
	s.wait = make(chan struct{})
	told := s.watch(func(o *EC2Options) { o.Limit = 200 * time.Millisecond })
	told.await(t, "", "no whole answer within 200ms")
	other := newEC2Server(t)
	other.wait = make(chan struct{})
	other.watch(nil) // whose cleanup does not wait
	close(s.wait)
}

func TestEC2WithoutARegionSaysSo(t *testing.T) {
	s := newEC2Server(t)
	told := s.watch(func(o *EC2Options) { o.Region, o.Endpoint = "", "" })
	told.await(t, "", "egion")
}
