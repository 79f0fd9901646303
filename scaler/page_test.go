package main

import (
	"bufio"
	"context"
	"encoding/json"
	"net/http"
	"net/http/cookiejar"
	"net/url"
	"os"
	"strings"
	"testing"
	"time"
)

// page looks at the farm through scaler ui, which must say what status does.
func (l *local) page(t *testing.T, s status) {
	t.Helper()
	cmd := scaler("ui", "--local", l.dir)
	cmd.Stderr = os.Stderr
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := cmd.Process.Signal(os.Interrupt); err != nil {
			t.Error(err)
		}
		if err := cmd.Wait(); err != nil {
			t.Errorf("scaler ui ended with %v", err)
		}
	}()
	address := ""
	for scan := bufio.NewScanner(out); address == "" && scan.Scan(); {
		if text := strings.TrimSpace(scan.Text()); strings.HasPrefix(text, "http://") {
			address = text
		}
	}
	at, err := url.Parse(address)
	if err != nil || address == "" {
		t.Fatalf("scaler ui said no address: %v", err)
	}
	jar, err := cookiejar.New(nil)
	if err != nil {
		t.Fatal(err)
	}
	transport := &http.Transport{}
	defer transport.CloseIdleConnections()
	ctx, cancel := context.WithTimeout(t.Context(), limit)
	defer cancel()
	client := &http.Client{Jar: jar, Transport: transport}
	get := func(address string) *http.Response {
		t.Helper()
		r, err := http.NewRequestWithContext(ctx, http.MethodGet, address, nil)
		if err != nil {
			t.Fatal(err)
		}
		response, err := client.Do(r)
		if err != nil {
			t.Fatal(err)
		}
		if response.StatusCode != http.StatusOK {
			t.Fatalf("%s: %s", address, response.Status)
		}
		return response
	}
	_ = get(address).Body.Close() // for its cookie
	live := get("http://" + at.Host + "/live")
	defer func() { _ = live.Body.Close() }() // it goes on until then
	var seen struct {
		Lost string
		Farm struct {
			status
			Commits string
			Rows    []struct{ Name, Part, State, PID string }
			Cost    struct{ Roles []struct{ Hours float64 } }
		}
	}
	reports := false
	for scan := scanner(live); !reports || seen.Farm.Commits == ""; {
		if !scan.Scan() {
			t.Fatalf("the page says nothing more: %v", scan.Err())
		}
		data, is := strings.CutPrefix(scan.Text(), "data: ")
		switch {
		case !is:
		case strings.Contains(data, `"lines":`):
			var load struct {
				Lines map[string]map[string][]*float64
			}
			if err := json.Unmarshal([]byte(data), &load); err != nil {
				t.Fatal(err)
			}
			lines := load.Lines
			reports = lines["queries"]["db1"] != nil && lines["lag"]["db2"] != nil && lines["queue"]["web1"] != nil
		case strings.HasPrefix(data, "{"):
			if err := json.Unmarshal([]byte(data), &seen); err != nil || seen.Lost != "" {
				t.Fatalf("%v, %s", err, seen.Lost)
			}
		}
	}
	f := seen.Farm
	if f.Leads != s.Leads || len(f.Nodes) != len(s.Nodes) || len(f.Rows) != len(s.Nodes) || !strings.Contains(f.Commits, "primary db1") {
		t.Errorf("the page says %+v", f)
	}
	for _, row := range f.Rows {
		if want := map[string]string{"db1": "primary", "web1": "web"}[row.Name]; want != "" && row.Part != want || row.State == "?" || row.PID == "?" {
			t.Errorf("%+v", row)
		}
	}
	for _, r := range f.Cost.Roles {
		if r.Hours <= 0 || r.Hours > time.Hour.Hours() {
			t.Errorf("instance-hours: %+v", f.Cost)
		}
	}
}

func scanner(r *http.Response) *bufio.Scanner {
	scan := bufio.NewScanner(r.Body)
	scan.Buffer(nil, 16<<20)
	return scan
}
