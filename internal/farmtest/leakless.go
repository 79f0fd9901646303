package farmtest

import (
	"fmt"
	"os"
	"testing"
	"time"

	"go.uber.org/goleak"
)

// Leakless runs a package's tests, for its TestMain, and fails them if they leave
// goroutines behind.
type Leakless struct {
	M *testing.M
	// End is called after the tests; nil if there is nothing to end.
	End func() error
	// Patience is how long a goroutine may take to end. 0 is what goleak itself
	// waits, half a second.
	Patience time.Duration
}

// Run returns the exit code.
func (l Leakless) Run() int {
	code := l.M.Run()
	if l.End != nil {
		if err := l.End(); err != nil {
			fmt.Fprintln(os.Stderr, err)
			code = 1
		}
	}
	if err := l.leaks(); err != nil && code == 0 {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	return code
}

func (l Leakless) leaks() error {
	for end := time.Now().Add(l.Patience); ; {
		if err := goleak.Find(); err == nil || time.Now().After(end) {
			return err
		}
	}
}

// EtcdPatience is what etcd needs: its servers read from each other with a limit
// of 5 s (rafthttp.ConnReadTimeout), which a read may see to its end after the
// servers have stopped.
const EtcdPatience = 15 * time.Second
