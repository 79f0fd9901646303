package architecture

import (
	"encoding/json"
	"errors"
	"io"
	"os/exec"
	"slices"
	"strings"
	"testing"
)

const module = "farmhand/"

// rule says what packages must not depend on, tests aside.
type rule struct {
	why      string
	packages []string // without the module's name; a trailing /... takes in what is below
	// except are packages of those above that may.
	except []string
	// direct: only what the packages' own files import counts.
	direct bool
	// forbidden reports whether a dependency breaks the rule.
	forbidden func(p *listed) bool
}

var rules = []rule{
	{
		why: "the vocabulary, the wire and the classifier need the standard library only",
		packages: []string{
			"internal/farm", "internal/gtid", "proxy/internal/classify", "proxy/internal/wire",
		},
		forbidden: outside,
	},
	{
		why:       "the relay knows packets only",
		packages:  []string{"proxy/internal/relay"},
		forbidden: outside,
	},
	{
		why:       "the classifier decides; it does no I/O",
		packages:  []string{"proxy/internal/classify"},
		forbidden: is("os", "net", "log", "log/slog", "time"),
	},
	{
		why: "the packet path is our own: no package on it uses another implementation of the protocol",
		packages: []string{
			"proxy/internal/wire", "proxy/internal/frontend", "proxy/internal/session", "proxy/internal/classify",
			"proxy/internal/route", "proxy/internal/backend", "proxy/internal/relay", "proxy/internal/compress",
		},
		direct:    true,
		forbidden: below("github.com/go-mysql-org/go-mysql", "github.com/go-sql-driver/mysql", "github.com/pingcap"),
	},
	{
		why: "nor does one that needs no monitor reach it through another",
		packages: []string{
			"proxy/internal/wire", "proxy/internal/classify", "proxy/internal/backend", "proxy/internal/relay", "proxy/internal/compress",
		},
		forbidden: below("github.com/go-mysql-org/go-mysql", "github.com/go-sql-driver/mysql", "github.com/pingcap"),
	},
	{
		why:       "a server and a replica of someone else's are for tests",
		packages:  []string{"proxy/...", "scaler/..."},
		forbidden: below("github.com/go-mysql-org/go-mysql/server", "github.com/go-mysql-org/go-mysql/replication", "github.com/go-mysql-org/go-mysql/canal"),
	},
	{
		why:       "nor has a sidecar them, but for the archive, which reads a binlog as a replica does",
		packages:  []string{"sidecar/..."},
		except:    []string{"sidecar/internal/archive"},
		direct:    true,
		forbidden: below("github.com/go-mysql-org/go-mysql/server", "github.com/go-mysql-org/go-mysql/replication", "github.com/go-mysql-org/go-mysql/canal"),
	},
	{
		why:       "TiDB's parser is the oracle of tests; no program carries it",
		packages:  []string{"proxy/...", "sidecar/...", "scaler/..."},
		forbidden: is("github.com/pingcap/tidb/pkg/parser", "github.com/pingcap/tidb/pkg/parser/ast", "github.com/pingcap/tidb/pkg/parser/test_driver"),
	},
	{
		why:      "what decides how many servers there are has no network, program, logger or chance, and no library",
		packages: []string{"scaler/internal/decide"},
		forbidden: func(p *listed) bool {
			return outside(p) || below("net", "log", "os/exec", "os/signal", "database/sql", "math/rand", "crypto")(p)
		},
	},
	{
		why:       "nor files, nor does what decides who leads, or about backups; fmt alone may bring os",
		packages:  []string{"scaler/internal/decide", "scaler/internal/roles", "scaler/internal/steer", "scaler/internal/safekeep", "scaler/internal/schedule", "scaler/internal/cron", "scaler/internal/rollout", "internal/cluster"},
		direct:    true,
		forbidden: below("os", "io", "path/filepath", "syscall", "embed", "net", "log", "math/rand", "go.uber.org"),
	},
	{
		why:       "the farm file's schema is tried out in tests; no program judges by it",
		packages:  []string{"proxy/...", "sidecar/...", "scaler/..."},
		forbidden: below("github.com/santhosh-tekuri/jsonschema"),
	},
	{
		why:       "the proxy needs no registry: it runs on its topology file",
		packages:  []string{"proxy/..."},
		forbidden: below("go.etcd.io", "google.golang.org/grpc"),
	},
	{
		why:       "only the registry talks to etcd",
		packages:  []string{"internal/...", "sidecar/...", "scaler/..."},
		except:    []string{"internal/registry", "internal/etcdserver"},
		direct:    true,
		forbidden: below("go.etcd.io", "google.golang.org/grpc"),
	},
	{
		why:       "only the object store talks to S3",
		packages:  []string{"internal/...", "sidecar/...", "scaler/...", "proxy/..."},
		except:    []string{"internal/objects"},
		direct:    true,
		forbidden: below("github.com/aws/aws-sdk-go-v2/service/s3", "github.com/aws/aws-sdk-go-v2/feature/s3"),
	},
	{
		why:       "only the queue talks to SQS",
		packages:  []string{"internal/...", "sidecar/...", "scaler/...", "proxy/..."},
		except:    []string{"internal/queue"},
		direct:    true,
		forbidden: below("github.com/aws/aws-sdk-go-v2/service/sqs"),
	},
	{
		why:       "the stand-ins for AWS's services, and its service models, are for tests",
		packages:  []string{"proxy/...", "sidecar/...", "scaler/..."},
		forbidden: below("farmhand/internal/awstest", "farmhand/internal/sqstest", "github.com/aws/aws-sdk-go"),
	},
	{
		why:       "only one package asks EC2 without the SDK's client",
		packages:  []string{"internal/...", "sidecar/...", "scaler/...", "proxy/..."},
		except:    []string{"internal/ec2"},
		direct:    true,
		forbidden: below("github.com/aws/aws-sdk-go-v2/aws/signer"),
	},
	{
		why:      "only the provider of AWS changes anything there",
		packages: []string{"internal/...", "sidecar/...", "scaler/...", "proxy/..."},
		except:   []string{"scaler/internal/provider/aws"},
		direct:   true,
		forbidden: below(
			"github.com/aws/aws-sdk-go-v2/service/ec2", "github.com/aws/aws-sdk-go-v2/service/elasticloadbalancingv2",
		),
	},
	{
		why:       "the SDK's client of EC2 is too large for a sidecar, and for what need not know of AWS",
		packages:  []string{"sidecar/...", "proxy/...", "internal/...", "scaler/internal/daemon", "scaler/internal/localfarm", "scaler/internal/provider"},
		forbidden: below("github.com/aws/aws-sdk-go-v2/service/ec2"),
	},
	{
		why:       "AWS's service models, which an older SDK has, are for tests",
		packages:  []string{"proxy/...", "sidecar/...", "scaler/..."},
		forbidden: below("github.com/aws/aws-sdk-go"),
	},
	{
		why:       "only the form of backups knows how they are encrypted",
		packages:  []string{"internal/...", "sidecar/...", "scaler/..."},
		except:    []string{"internal/backup"},
		direct:    true,
		forbidden: below("filippo.io/age"),
	},
	{
		why:       "the proxy stores nothing",
		packages:  []string{"proxy/..."},
		forbidden: below("github.com/aws"),
	},
	{
		why:       "the registry's package is a client",
		packages:  []string{"internal/registry", "sidecar/..."},
		forbidden: below("go.etcd.io/etcd/server"),
	},
}

// outside is everything that is neither the standard library's nor ours.
func outside(p *listed) bool { return !p.Standard && !strings.HasPrefix(p.ImportPath, module) }

func is(paths ...string) func(*listed) bool {
	return func(p *listed) bool { return slices.Contains(paths, p.ImportPath) }
}

func below(roots ...string) func(*listed) bool {
	return func(p *listed) bool {
		return slices.ContainsFunc(roots, func(root string) bool {
			return p.ImportPath == root || strings.HasPrefix(p.ImportPath, root+"/")
		})
	}
}

// listed is what go list says of a package.
type listed struct {
	ImportPath    string
	Standard      bool
	Imports, Deps []string
}

// list returns every package of the module and all that they depend on.
func list(t *testing.T) map[string]*listed {
	t.Helper()
	cmd := exec.Command("go", "list", "-deps", "-json=ImportPath,Standard,Imports,Deps", "./...")
	cmd.Dir = "../.."
	var complaints strings.Builder
	cmd.Stderr = &complaints
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("go list: %v\n%s", err, complaints.String())
	}
	packages := map[string]*listed{}
	for d := json.NewDecoder(strings.NewReader(string(out))); ; {
		p := new(listed)
		if err := d.Decode(p); errors.Is(err, io.EOF) {
			break
		} else if err != nil {
			t.Fatal(err)
		}
		packages[p.ImportPath] = p
	}
	return packages
}

// TestDependencies: no package depends on what a rule forbids it.
func TestDependencies(t *testing.T) {
	packages := list(t)
	for _, r := range rules {
		for _, name := range r.packages {
			matched := 0
			for path, p := range packages {
				if !matches(name, path) {
					continue
				}
				matched++
				if slices.ContainsFunc(r.except, func(name string) bool { return matches(name, path) }) {
					continue
				}
				for _, broken := range violations(packages, p, r) {
					t.Errorf("%s depends on %s: %s", path, broken, r.why)
				}
			}
			if matched == 0 {
				t.Errorf("there is no package %s, which a rule names (%s)", name, r.why)
			}
		}
	}
}

// violations are the dependencies of p that r forbids.
func violations(packages map[string]*listed, p *listed, r rule) []string {
	paths := p.Deps
	if r.direct {
		paths = p.Imports
	}
	var broken []string
	for _, path := range paths {
		if d := packages[path]; d != nil && r.forbidden(d) {
			broken = append(broken, path)
		}
	}
	return broken
}

// matches reports whether path is the package that a rule names.
func matches(name, path string) bool {
	if root, tree := strings.CutSuffix(name, "/..."); tree {
		return path == module+root || strings.HasPrefix(path, module+root+"/")
	}
	return path == module+name
}

// TestRulesSee: each kind of rule finds a dependency that is there.
func TestRulesSee(t *testing.T) {
	packages := list(t)
	for _, c := range []struct {
		path string
		rule rule
	}{
		{"farmhand/internal/mysqladmin", rule{forbidden: outside}},
		{"farmhand/internal/mysqladmin", rule{forbidden: below("github.com/go-mysql-org/go-mysql"), direct: true}},
		{"farmhand/proxy/internal/monitor", rule{forbidden: below("github.com/go-mysql-org/go-mysql")}},
		{"farmhand/proxy", rule{forbidden: is("net")}},
		{"farmhand/internal/registry", rule{forbidden: below("go.etcd.io"), direct: true}},
		{"farmhand/internal/objects", rule{forbidden: below("github.com/aws/aws-sdk-go-v2/service/s3"), direct: true}},
		{"farmhand/scaler", rule{forbidden: below("go.etcd.io/etcd/server")}},
	} {
		p := packages[c.path]
		if p == nil {
			t.Fatalf("there is no package %s", c.path)
		}
		if len(violations(packages, p, c.rule)) == 0 {
			t.Errorf("%s: nothing found", c.path)
		}
	}
}
