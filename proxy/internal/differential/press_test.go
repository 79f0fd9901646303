package differential

import (
	"math/rand/v2"
	"sync"
	"testing"
	"time"

	"farmhand/proxy/internal/wire"
)

// connections is the limit of each server's connections (pool.max_per_server):
// as many as the sessions may need at once, and one more, which presses.
const connections = workers*clients + 1

// common are the capabilities that many sessions have, so that their server
// connections suit each other.
const common = wire.ClientDeprecateEOF | wire.ClientMultiStatements | wire.ClientNoSchema

// press starts clients of the proxy that need more server connections than there
// are left, until the test ends: what sessions lend between their commands is
// taken from them all the time.
func press(t *testing.T, proxy string) {
	t.Helper()
	const many, pause = 4, 3 * time.Millisecond
	done := make(chan struct{})
	var group sync.WaitGroup
	for n := range many {
		group.Go(func() {
			r := rand.New(rand.NewPCG(uint64(n), 5))
			c := client{address: proxy}
			defer c.close()
			tick := time.NewTicker(pause)
			defer tick.Stop()
			for i := 0; ; i++ {
				select {
				case <-done:
					return
				case <-tick.C:
				}
				s := step{do: query, text: pick(r, []string{
					"SELECT 1 FROM forbidden.t RIGHT JOIN (SELECT 1) x ON 1", "DO 1", "BEGIN", "COMMIT", "SET NAMES latin1", "SET @mine = 1, SESSION sql_mode = ''",
					"SELECT 1", "INSERT INTO press.t () VALUES ()", "SELECT nosuch",
				})}
				if c.conn == nil || i%20 == 0 {
					s = step{do: connect, login: login{other: r.IntN(2) == 0, collation: 45, caps: common}}
				}
				var answer response
				// What it is answered is of no interest: it may be refused as well.
				c.start(&s, &answer)
				c.finish(&s, &answer)
			}
		})
	}
	t.Cleanup(func() {
		close(done)
		group.Wait()
	})
}
