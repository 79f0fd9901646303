package drivertest

import (
	"bytes"
	"encoding/json"
	"io"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"farmhand/internal/dbserver"
	"farmhand/internal/farm"
	"farmhand/internal/farmtest"
)

// driver is the account of the suite, which owns its schema and no more.
var driver = dbserver.Account{User: "gotest", Password: "secret"}

// explained are the tests of the suite that may end in another way through the
// proxy than directly, and why. docs/COMPATIBILITY.md has the same list.
var explained = map[string]string{
	"TestConnectionAttributes":         attributes,
	"TestConnectionAttributes/default": attributes,
}

// tlsReason is why TestTLS/… fail where the server has no TLS: directly they do
// not run.
const tlsReason = "they look at the server's own Ssl_cipher; the client's TLS ends at the proxy"

func reason(name, output string) string {
	if strings.HasPrefix(name, "TestTLS/") && strings.Contains(output, "no Cipher") {
		return tlsReason
	}
	return explained[name]
}

// better are the tests that may fail directly and pass through the proxy, with
// all their subtests: they meet limits of a server that the proxy does not run
// into (max_connections, TLS, an error packet that comes while it is written to).
var better = []string{"TestConcurrent", "TestIssue1567", "TestLongData"}

func mayBeBetter(name string) bool {
	test, _, _ := strings.Cut(name, "/")
	return slices.Contains(better, test)
}

const attributes = "a server connection serves many clients, so it carries the proxy's attributes"

// TestGoSQLDriver runs the own test suite of github.com/go-sql-driver/mysql
// against the primary and through the proxy: every test must end in the same
// way.
func TestGoSQLDriver(t *testing.T) {
	farmtest.Long(t)
	suite := copySuite(t)
	for _, flavor := range []farm.Flavor{farm.MariaDB, farm.MySQL} {
		t.Run(flavor.String(), func(t *testing.T) {
			// The suite writes on one connection and reads on another.
			f := farmtest.Start(t, farmtest.Options{Flavor: flavor, Replicas: 1})
			f.Primary().Exec(t,
				"CREATE SCHEMA gotest",
				"CREATE USER '"+driver.User+"'@'%' IDENTIFIED BY '"+driver.Password+"'",
				"GRANT ALL ON gotest.* TO '"+driver.User+"'@'%'")
			// Hundreds of clients at once keep a small machine busy for longer than a
			// server should take to answer.
			p := StartProxy(t, f, "pool: {connect_timeout: 30s}\nhealth: {timeout: 10s}")
			want := runSuite(t, suite, "tcp", f.Primary().Addr())
			if counts := count(want); counts["pass"] < 50 || counts["fail"] > counts["pass"]/10 {
				t.Fatalf("the suite does not work directly: %v", counts)
			}
			networks := map[string]string{"tcp": p.TCP}
			if flavor == farm.MariaDB {
				networks["unix"] = p.Socket
			}
			for network, address := range networks {
				got := runSuite(t, suite, network, address)
				t.Logf("%s: direct %v, through the proxy %v", network, count(want), count(got))
				for _, name := range slices.Sorted(maps.Keys(got)) {
					// Tests that need TLS, for instance, which the proxy has.
					if want[name] == nil && got[name].result == "fail" && reason(name, got[name].output.String()) == "" {
						t.Errorf("%s over %s fails, and runs through the proxy only:\n%s", name, network, got[name].output.String())
					}
				}
				for _, name := range slices.Sorted(maps.Keys(want)) {
					if got[name] == nil {
						t.Errorf("%s over %s did not run through the proxy", name, network)
						continue
					}
					if got[name].result == want[name].result {
						continue
					}
					if want[name].result == "fail" && got[name].result == "pass" && mayBeBetter(name) {
						t.Logf("%s over %s passes through the proxy only; directly:\n%s", name, network, want[name].output.String())
						continue
					}
					if why := reason(name, got[name].output.String()); why != "" {
						t.Logf("%s over %s: %s directly, %q through the proxy: %s", name, network, want[name].result, got[name].result, why)
						continue
					}
					t.Errorf("%s over %s: %s directly, %q through the proxy\n%s", name, network, want[name].result, got[name].result, got[name].output.String())
				}
			}
		})
	}
}

// copySuite copies the driver's module, which the cache keeps read-only.
func copySuite(t *testing.T) string {
	t.Helper()
	out, err := exec.Command("go", "list", "-m", "-f", "{{.Dir}}", "github.com/go-sql-driver/mysql").Output()
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	if err := os.CopyFS(dir, os.DirFS(strings.TrimSpace(string(out)))); err != nil {
		t.Fatal(err)
	}
	err = filepath.WalkDir(dir, func(path string, _ os.DirEntry, err error) error {
		if err != nil {
			return err
		}
		return os.Chmod(path, 0o755)
	})
	if err != nil {
		t.Fatal(err)
	}
	program := filepath.Join(dir, "suite")
	build := exec.Command("go", "test", "-c", "-o", program, ".")
	build.Dir = dir
	build.Env = append(os.Environ(), "GOFLAGS=-mod=mod", "GOPROXY=off", "GOWORK=off")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("building the suite: %v\n%s", err, out)
	}
	return program
}

// ending is how one test of the suite ended.
type ending struct {
	result string // pass, fail or skip
	output bytes.Buffer
}

// runSuite runs every test of the suite against a server.
func runSuite(t *testing.T, program, network, address string) map[string]*ending {
	t.Helper()
	// TestConnectorReturnsTimeout dials an address outside this machine.
	suite := exec.CommandContext(t.Context(), "go", "tool", "test2json", "-t", program,
		"-test.v=test2json", "-test.count=1", "-test.timeout=4m", "-test.skip=^TestConnectorReturnsTimeout$")
	suite.Dir = filepath.Dir(program)
	suite.Env = append(os.Environ(), "GOFLAGS=-mod=mod", "GOPROXY=off", "GOWORK=off",
		"MYSQL_TEST_USER="+driver.User, "MYSQL_TEST_PASS="+driver.Password,
		"MYSQL_TEST_PROT="+network, "MYSQL_TEST_ADDR="+address,
		"MYSQL_TEST_DBNAME=gotest", "MYSQL_TEST_CONCURRENT=1")
	// Its status only repeats that some test failed.
	out, err := suite.Output()
	tests := make(map[string]*ending)
	events := json.NewDecoder(bytes.NewReader(out))
	for {
		var event struct{ Action, Test, Output string }
		if decodeErr := events.Decode(&event); decodeErr == io.EOF {
			break
		} else if decodeErr != nil {
			t.Fatalf("reading the suite's report: %v (%v)", decodeErr, err)
		}
		if event.Test == "" {
			continue
		}
		if tests[event.Test] == nil {
			tests[event.Test] = &ending{}
		}
		switch event.Action {
		case "pass", "fail", "skip":
			tests[event.Test].result = event.Action
		case "output":
			tests[event.Test].output.WriteString(event.Output)
		}
	}
	if len(tests) == 0 {
		t.Fatalf("the suite did not run: %v", err)
	}
	return tests
}

// count is how many tests ended in each way.
func count(tests map[string]*ending) map[string]int {
	counts := make(map[string]int)
	for _, e := range tests {
		counts[e.result]++
	}
	return counts
}
