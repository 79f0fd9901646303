package cli

import (
	"strings"
	"testing"

	"farmhand/scaler/internal/daemon"
	"farmhand/scaler/internal/provider"
)

func TestTargetsAreShown(t *testing.T) {
	var text strings.Builder
	row := func(columns ...string) { text.WriteString(strings.Join(columns, "|") + "\n") }
	targetRows(map[string]daemon.RoleView{"db": {}}, row)
	if text.Len() > 0 {
		t.Errorf("a farm without any shows %q", &text)
	}
	v := daemon.View{Roles: map[string]daemon.RoleView{
		"api": {Unbalanced: "targets of api: AccessDenied\nand more"},
		"web": {Targets: []provider.Target{
			{Instance: "web1", Group: "shop", State: "healthy", Well: true},
			{Instance: "web2", Group: "shop", State: "unhealthy", Why: "Target.ResponseCodeMismatch: [503]\x1b[2J"},
			{Instance: "web3", Group: "shop", State: "initial", Starting: true},
			{Instance: "web4", Group: "shop", State: "draining", Draining: true},
		}},
	}}
	targetRows(v.Roles, row)
	const want = `
TARGET GROUP|SERVER|STATE|
?|api|?|targets of api: AccessDenied
shop|web1|healthy|
shop|web2|unhealthy|Target.ResponseCodeMismatch: [503]\x1b[2J
shop|web3|initial|
shop|web4|draining|
`
	if text.String() != want {
		t.Errorf("%s", &text)
	}
	var wrong []string
	for _, f := range servers(&v) {
		if f.wrong != "" {
			wrong = append(wrong, f.what)
		}
	}
	if got := strings.Join(wrong, ", "); got != "the target groups of api, web2 in target group shop" && got != "web2 in target group shop, the target groups of api" {
		t.Errorf("doctor says WRONG of %s", got)
	}
}
