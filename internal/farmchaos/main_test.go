package farmchaos

import (
	"flag"
	"os"
	"testing"
)

// out is where the logs of farms whose test failed are kept.
var out = flag.String("farm.out", "", "a directory for the logs of farms whose test failed")

func TestMain(m *testing.M) {
	flag.Parse()
	if code, done := enter(); done {
		os.Exit(code)
	}
	os.Exit(m.Run())
}
