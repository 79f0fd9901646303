package farmchaos

import (
	"flag"
	"os"
	"testing"
)

// all has every scenario run, and the times hold that are promised on a machine with
// nothing else to do: make chaos-farm. Without it a few are run, for what must hold on any.
var all = flag.Bool("farm.all", false, "run every scenario, and hold the gaps against their limits")

// out is where the logs of farms whose test failed are kept.
var out = flag.String("farm.out", "", "a directory for the logs of farms whose test failed")

func TestMain(m *testing.M) {
	flag.Parse()
	if code, done := enter(); done {
		os.Exit(code)
	}
	os.Exit(m.Run())
}
