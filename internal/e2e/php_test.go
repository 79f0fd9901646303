package e2e

import (
	"bytes"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"farmhand/internal/drivertest"
	"farmhand/internal/farmtest"
)

// scripts is where the PHP scripts are.
const scripts = "../../testdata/php"

// TestPHP runs every script of testdata/php directly on the primary and through
// the proxy, by TCP and by socket, with replicas that follow at once and with
// replicas that are 2 s late: the transcripts must be the same.
func TestPHP(t *testing.T) {
	needPHP(t)
	paths, err := filepath.Glob(filepath.Join(scripts, "*-*.php"))
	if err != nil || len(paths) == 0 {
		t.Fatalf("no scripts in %s: %v", scripts, err)
	}
	rules := readRules(t, filepath.Join(scripts, "differences.txt"))
	certificates := makeCertificates(t)
	f := farmtest.Start(t, farmtest.Options{Replicas: 2, ExtraArgs: []string{
		"--max-allowed-packet=64M", "--log-bin-trust-function-creators=1", "--local-infile=1",
		"--ssl-ca=" + certificates.ca, "--ssl-cert=" + certificates.certificate, "--ssl-key=" + certificates.key,
	}})
	p := drivertest.StartProxy(t, f, "")
	direct := map[string][]string{
		"tcp":    byTCP(t, f.Primary().Addr()),
		"socket": bySocket(f.Primary().Socket()),
	}
	proxied := map[string][]string{"tcp": byTCP(t, p.TCP), "socket": bySocket(p.Socket)}
	want := make(map[string]string) // by script and way
	delays := []time.Duration{2 * time.Second}
	if !testing.Short() {
		delays = append([]time.Duration{0}, delays...)
	}
	for _, delay := range delays {
		if delay > 0 {
			f.SetDelay(t, delay)
		}
		for _, path := range paths {
			name := filepath.Base(path)
			for way, place := range proxied {
				t.Run(fmt.Sprintf("%s/%s/late by %v", strings.TrimSuffix(name, ".php"), way, delay), func(t *testing.T) {
					key := name + way
					if _, known := want[key]; !known {
						want[key] = runPHP(t, path, direct[way], certificates.other)
					}
					got := runPHP(t, path, place, certificates.other)
					if diff := compare(rules.apply(name, want[key]), rules.apply(name, got)); diff != "" {
						t.Errorf("directly (-) and through the proxy (+):\n%s", diff)
					}
				})
			}
		}
	}
	rules.checkUsed(t)
	f.WaitCaughtUp(t)
	f.CheckNoOwnEvents(t)
}

// needPHP skips the test without PHP and its drivers.
func needPHP(t *testing.T) {
	t.Helper()
	if out, err := exec.Command("php", "-m").Output(); err != nil || !strings.Contains(string(out), "mysqli") || !strings.Contains(string(out), "pdo_mysql") {
		t.Skipf("needs Debian's packages php-cli and php-mysql (%v)", err)
	}
}

func byTCP(t *testing.T, address string) []string {
	t.Helper()
	host, port, err := net.SplitHostPort(address)
	if err != nil {
		t.Fatal(err)
	}
	return []string{"DB_HOST=" + host, "DB_PORT=" + port}
}

func bySocket(path string) []string { return []string{"DB_SOCKET=" + path} }

// runPHP returns a script's transcript.
func runPHP(t *testing.T, path string, place []string, otherCA string) string {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), "php", "-d", "display_errors=1", "-d", "error_reporting=-1", "-d", "date.timezone=UTC", path)
	cmd.Env = append(append(os.Environ(), place...),
		"DB_USER="+farmtest.App.User, "DB_PASSWORD="+farmtest.App.Password, "DB_SCHEMA="+farmtest.Schema, "DB_OTHER_CA="+otherCA)
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &out
	if err := cmd.Run(); err != nil {
		t.Errorf("%s with %v: %v\n%s", path, place, err, tail(out.String()))
	}
	for _, bad := range []string{"SCENE FAILED", "UNCAUGHT"} {
		if strings.Contains(out.String(), bad) {
			t.Errorf("%s with %v: %s\n%s", path, place, bad, tail(out.String()))
		}
	}
	return out.String()
}

func tail(text string) string {
	lines := strings.Split(strings.TrimSpace(text), "\n")
	return strings.Join(lines[max(0, len(lines)-15):], "\n")
}

// rule is an allowed difference.
type rule struct {
	scripts        []string
	match          *regexp.Regexp
	becomes        string
	found          bool
	reason, origin string
}

type rules []*rule

// readRules reads the list of allowed differences: blocks of "key: value".
func readRules(t *testing.T, path string) rules {
	t.Helper()
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	var all rules
	for block := range strings.SplitSeq(string(text), "\n\n") {
		if !strings.HasPrefix(block, "scripts:") {
			continue // the file's heading
		}
		r := &rule{origin: block}
		for line := range strings.Lines(block) {
			key, value, ok := strings.Cut(line, ":")
			value = strings.TrimSpace(value)
			switch {
			case ok && key == "scripts":
				r.scripts = strings.Fields(value)
			case ok && key == "match":
				r.match, err = regexp.Compile("(?m)" + value)
			case ok && key == "becomes":
				r.becomes = value
			case ok && key == "reason":
				r.reason = value
			default:
				err = fmt.Errorf("%q is no line of a rule", line)
			}
			if err != nil {
				t.Fatalf("%s: %v in\n%s", path, err, block)
			}
		}
		if r.scripts == nil || r.match == nil || r.reason == "" {
			t.Fatalf("%s: scripts, match or reason is missing in\n%s", path, block)
		}
		all = append(all, r)
	}
	return all
}

func (rs rules) apply(script, transcript string) string {
	for _, r := range rs {
		for _, pattern := range r.scripts {
			if ok, err := filepath.Match(pattern, script); err != nil || !ok {
				continue
			}
			if r.match.MatchString(transcript) {
				r.found = true
				transcript = r.match.ReplaceAllString(transcript, r.becomes)
			}
		}
	}
	return transcript
}

func (rs rules) checkUsed(t *testing.T) {
	t.Helper()
	for _, r := range rs {
		if !r.found {
			t.Errorf("no transcript has what this rule allows:\n%s", r.origin)
		}
	}
}

// compare returns where two transcripts part, with some of what comes before,
// or "" if they are the same.
func compare(want, got string) string {
	a, b := strings.Split(want, "\n"), strings.Split(got, "\n")
	var out strings.Builder
	const most = 12 // differences that are shown
	for shown, i, j := 0, 0, 0; i < len(a) || j < len(b); {
		if i < len(a) && j < len(b) && a[i] == b[j] {
			i, j = i+1, j+1
			continue
		}
		if shown++; shown > most {
			out.WriteString("…\n")
			break
		}
		for _, line := range a[max(0, i-3):min(i, len(a))] {
			fmt.Fprintf(&out, "  %s\n", clip(line))
		}
		nextA, nextB := meet(a[i:], b[j:])
		for ; nextA > 0; nextA-- {
			fmt.Fprintf(&out, "- %s\n", clip(a[i]))
			i++
		}
		for ; nextB > 0; nextB-- {
			fmt.Fprintf(&out, "+ %s\n", clip(b[j]))
			j++
		}
	}
	return out.String()
}

// meet says how many lines of each differ before they agree again.
func meet(a, b []string) (int, int) {
	const far = 60
	for sum := 1; sum < far; sum++ {
		for i := 0; i <= sum; i++ {
			j := sum - i
			if i < len(a) && j < len(b) && a[i] == b[j] && a[i] != "" {
				return i, j
			}
		}
	}
	return min(len(a), far), min(len(b), far)
}

func clip(line string) string { return fmt.Sprintf("%.300s", line) }

var errNoDifference = errors.New("no difference seen")

// TestCompareSees is the test of the test: what differs is found.
func TestCompareSees(t *testing.T) {
	same := "a\nb\nc\n"
	if diff := compare(same, same); diff != "" {
		t.Errorf("the same differs: %s", diff)
	}
	for _, other := range []string{"a\nb\n", "a\nb\nc\nd\n", "a\nx\nc\n", "b\nc\n", ""} {
		if compare(same, other) == "" || compare(other, same) == "" {
			t.Errorf("%q: %v", other, errNoDifference)
		}
	}
	r := rules{{scripts: []string{"x-*.php"}, match: regexp.MustCompile(`\d+`), becomes: "N"}}
	if got := r.apply("x-y.php", "id 5"); got != "id N" || !r[0].found {
		t.Errorf("the rule gives %q", got)
	}
	if got := r.apply("other.php", "id 5"); got != "id 5" {
		t.Errorf("another script's rule gives %q", got)
	}
}
