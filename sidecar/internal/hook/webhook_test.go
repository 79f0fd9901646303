package hook

import (
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"farmhand/internal/farm"
)

func TestWebhook(t *testing.T) {
	w := newWorld(t)
	answers := make(chan int, 10)
	got := make(chan farm.Event, 10)
	server := httptest.NewServer(http.HandlerFunc(func(out http.ResponseWriter, in *http.Request) {
		body, err := io.ReadAll(in.Body)
		if err != nil {
			t.Error(err)
		}
		if want := Signature("key of it", in.Header.Get("X-Farmhand-Timestamp"), body); in.Header.Get("X-Farmhand-Signature") != want {
			t.Errorf("signature %q, want %q", in.Header.Get("X-Farmhand-Signature"), want)
		}
		var e farm.Event
		if err := json.Unmarshal(body, &e); err != nil {
			t.Error(err)
		}
		if in.Method != http.MethodPost || in.Header.Get("X-Farmhand-Event") != string(e.Kind) || in.Header.Get("X-Farmhand-Event-Id") != e.ID {
			t.Errorf("%s with %v for %+v", in.Method, in.Header, e)
		}
		got <- e
		answer := <-answers
		if answer == http.StatusFound {
			out.Header().Set("Location", "http://127.0.0.1:1/")
		}
		out.WriteHeader(answer)
	}))
	defer server.Close()
	secret := filepath.Join(w.dir, "secret")
	must(t, os.WriteFile(secret, []byte("key of it\n"), 0o600))
	w.options.Webhook.URL, w.options.Webhook.SecretFile = server.URL, secret
	w.start(t)
	for _, test := range []struct {
		answers []int
		result  string
		detail  string
	}{
		{[]int{204}, "ok", ""},
		{[]int{500, 429, 200}, "ok", ""},
		{[]int{500, 503, 502}, "failed", "attempt 3 of 3: it answers 502"},
		{[]int{403}, "failed", "attempt 1 of 3: it answers 403"}, // asking again would not help
		{[]int{302}, "failed", "it answers 302"},                 // it is not followed
	} {
		for _, a := range test.answers {
			answers <- a
		}
		e := w.put(t, w.event(farm.NewPrimary, "db1"))
		hooks, whole := w.await(t, e)
		if len(hooks) != 1 || hooks[0].Hook != "webhook" || hooks[0].Result != test.result || !strings.Contains(hooks[0].Detail, test.detail) || whole.Result != Delivered {
			t.Errorf("%v: %+v, %+v", test.answers, hooks, whole)
		}
		for range test.answers {
			if told := <-got; told.ID != e.ID || told.Host != e.Host {
				t.Errorf("told of %+v", told)
			}
		}
	}
}

func TestWebhookThatHangs(t *testing.T) {
	w := newWorld(t)
	release := make(chan struct{})
	server := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { <-release }))
	defer server.Close()
	defer close(release)
	w.options.Webhook.URL, w.options.Webhook.Limit, w.options.Webhook.Attempts = server.URL+"/services/unguessable", 20*time.Millisecond, 2
	w.start(t)
	hooks, whole := w.await(t, w.put(t, w.event(farm.NewPrimary, "db1")))
	if len(hooks) != 1 || hooks[0].Result != "failed" || !strings.Contains(hooks[0].Detail, "deadline") || whole.Failed != 1 {
		t.Errorf("journaled: %+v, %+v", hooks, whole)
	}
	if strings.Contains(read(t, journalPath(w.state)), "unguessable") {
		t.Error("the journal tells the URL, which is a secret with some services")
	}
}
