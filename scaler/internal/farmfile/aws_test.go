package farmfile

import (
	"os"
	"regexp"
	"strings"
	"testing"
)

const awsFarm = `name: shop
provider:
  kind: aws
  parameters:
    region: eu-central-1
    subnets: [subnet-0123456789abcdef0, subnet-0123456789abcdef1]
    security_groups: [sg-0123456789abcdef0]
    roles:
      web: {market: spot}
roles:
  db: {kind: mysql, image: ami-0123456789abcdef0, size: "r7g.large, r6g.large", storage: {kind: volume}}
  web: {kind: web, image: "resolve:ssm:/farm/web", size: c7g.large}
`

func TestAFarmOnAWS(t *testing.T) {
	f, err := Parse("/farm.yaml", []byte(awsFarm))
	must(t, err)
	a := f.Provider.Parameters.AWS
	if a == nil || f.Provider.Parameters.Local != nil || a.Directory != "/opt/farmhand" || a.Role("web").Market != Spot || a.Role("web").Port != 0 || a.Role("db").Market != OnDemand || a.Role("web").LaunchTemplate.Version != "$Default" {
		t.Errorf("the provider is %+v", a)
	}
	if types := InstanceTypes(f.Roles["db"].Size); len(types) != 2 || types[1] != "r6g.large" {
		t.Errorf("the instance types are %q", types)
	}
	if text, err := f.MarshalJSON(); err != nil || !strings.Contains(string(text), `"subnet-0123456789abcdef1"`) {
		t.Errorf("written: %s, %v", text, err)
	}
}

func TestWhatIsWrongWithAFarmOnAWS(t *testing.T) {
	for _, c := range []struct{ was, now, says string }{
		{"eu-central-1", "", "provider.parameters.region"},
		{"subnet-0123456789abcdef1", "subnet-0123456789abcdef0", "is there twice"},
		{"sg-0123456789abcdef0", "default", "expected sg-"},
		{"ami-0123456789abcdef0", "host", "is no image of AWS"},
		{"kind: volume", "kind: directory", "is gone with the instance"},
		{"c7g.large", "host", "is no instance type"},
		{"web: {market: spot}", "db: {market: spot}", "needs on-demand"},
		{"web: {market: spot}", "wob: {market: spot}", "the farm has no role wob"},
		{"web: {market: spot}", "web: {marked: spot}", "unknown key"},
		{"web: {market: spot}", "web: {elastic_ips: [eipalloc-1]}", "expected eipalloc-"},
		{"market: spot}", "launch_template: {name: \"my template\"}}", "a launch template's name"},
		{"market: spot}", "launch_template: {name: lt-0123456789abcdef0, version: newest}}", "expected a number, $Default or $Latest"},
		{"market: spot}", groupOnly + "}", "nothing at a port of its own"},
		{"    roles:", "    programs: https://x.example/f.tgz\n    roles:", "64 hexadecimal digits"},
		{"    roles:", "    programs: \"https://x.example/$(id)\"\n    roles:", "a shell could take"},
		{"    roles:", "    first_address: 127.0.0.1\n    roles:", "unknown key"},
	} {
		if !strings.Contains(awsFarm, c.was) {
			t.Fatalf("there is no %q", c.was)
		}
		_, err := Parse("/farm.yaml", []byte(strings.Replace(awsFarm, c.was, c.now, 1)))
		if err == nil || !strings.Contains(err.Error(), c.says) {
			t.Errorf("with %q: %v, want %q", c.now, err, c.says)
		}
	}
}

const groupOnly = `market: spot, target_groups: ["arn:aws:elasticloadbalancing:eu-central-1:123456789012:targetgroup/shop/1"]`

// TestThePortOfATargetGroup is the role's own unless it has none.
func TestThePortOfATargetGroup(t *testing.T) {
	with := func(port, parameters string) string {
		text := strings.Replace(awsFarm, "market: spot}", groupOnly+port+"}", 1)
		return strings.Replace(text, "size: c7g.large}", "size: c7g.large"+parameters+"}", 1)
	}
	const site = ", parameters: {http: {port: 8081, document_root: /srv/shop, balancer_networks: [10.0.4.0/24]}}"
	for _, c := range []struct {
		port, parameters string
		want             int
		says             string
	}{
		{"", site, 8081, ""},
		{", port: 80", "", 80, ""},
		{", port: 8081", site, 8081, ""},
		{", port: 80", site, 0, "80 is not the role's own port, 8081"},
		{"", strings.Replace(site, "10.0.4.0/24", "10.0.4.1/24", 1), 0, "is no network"},
		{"", strings.Replace(site, "10.0.4.0/24", "0.0.0.0/0", 1), 0, "is everybody"},
	} {
		f, err := Parse("/farm.yaml", []byte(with(c.port, c.parameters)))
		if c.says != "" {
			if err == nil || !strings.Contains(err.Error(), c.says) {
				t.Errorf("%s %s: %v, want %q", c.port, c.parameters, err, c.says)
			}
			continue
		}
		must(t, err)
		if a, ok := f.OnAWS(); !ok || a.Role("web").Port != c.want || a.Role("web").Market != Spot {
			t.Errorf("%s %s: %+v", c.port, c.parameters, a)
		}
	}
}

func TestTheDocumentedFarmOnAWS(t *testing.T) {
	text, err := os.ReadFile("../../../docs/AWS.md")
	must(t, err)
	block := regexp.MustCompile("(?s)```yaml\n(.*?)```").FindSubmatch(text)
	if block == nil {
		t.Fatal("there is none")
	}
	if _, err := Parse("/farm.yaml", block[1]); err != nil {
		t.Error(err)
	}
}
