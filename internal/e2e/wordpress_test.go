package e2e

import (
	"path/filepath"
	"strconv"
	"testing"
	"time"

	"farmhand/internal/drivertest"
	"farmhand/internal/farmtest"
)

// statistics make the servers count statements by user.
var statistics = []string{"--userstat=1"}

// TestWordPress uses a site by TCP and by socket: every page shows what was
// done before it, all writes happen on the primary, and most reads on replicas.
func TestWordPress(t *testing.T) {
	f := farmtest.Start(t, farmtest.Options{Replicas: 2, ExtraArgs: statistics})
	p := drivertest.StartProxy(t, f, "")
	for name, host := range map[string]string{"wp_tcp": p.TCP, "wp_socket": "localhost:" + p.Socket} {
		t.Run(name, func(t *testing.T) {
			j := journey{t: t, site: startSite(t, f, name, host)}
			j.run()
			checkSpread(t, f, name, true)
		})
	}
	f.WaitCaughtUp(t)
	f.CheckNoOwnEvents(t)
}

// TestWordPressIsFreshThoughReplicasAreLate uses a site while every replica is
// 5 s late: no page lacks what one before it has written.
func TestWordPressIsFreshThoughReplicasAreLate(t *testing.T) {
	f := farmtest.Start(t, farmtest.Options{Replicas: 2, ExtraArgs: statistics})
	p := drivertest.StartProxy(t, f, "")
	site := startSite(t, f, "wp_late", p.TCP)
	f.SetDelay(t, 5*time.Second)
	j := journey{t: t, site: site}
	j.run()
	checkSpread(t, f, "wp_late", false)
	f.WaitCaughtUp(t)
	f.CheckNoOwnEvents(t)
}

// TestPostOnOneNodeReadOnAnother has PHP write through one web node's proxy and
// read through another's, in a new connection each time, while every replica is
// 5 s late.
func TestPostOnOneNodeReadOnAnother(t *testing.T) {
	needPHP(t)
	f := farmtest.Start(t, farmtest.Options{Replicas: 2})
	f.Primary().Exec(t, "CREATE TABLE app.post (id INT PRIMARY KEY AUTO_INCREMENT, body VARCHAR(100))")
	f.WaitCaughtUp(t) // a table that is not there is asked of the primary
	const fresh = "posts 200, stale 0\n"
	post := func(settings string) string {
		one, other := drivertest.StartProxy(t, f, settings), drivertest.StartProxy(t, f, settings)
		f.SetDelay(t, 5*time.Second)
		defer f.SetDelay(t, 0)
		return runPHP(t, filepath.Join(scripts, "nodes.php"), []string{"DB_NODES=" + one.TCP + " " + other.TCP}, "")
	}
	if out := post(""); out != fresh {
		t.Errorf("the script says %q, want %q", out, fresh)
	}
	f.Primary().Exec(t, "TRUNCATE app.post")
	f.WaitCaughtUp(t)
	if out := post("reads: {consistency: session}"); out == fresh {
		t.Error("at the level session no page is stale either: this test sees nothing")
	}
}

// checkSpread holds the servers' own counts of an account's statements against
// what a split should do with them: no write on a replica and, where they keep
// up, most reads.
func checkSpread(t *testing.T, f *farmtest.Farm, user string, keepUp bool) {
	t.Helper()
	reads, writes := make([]int, len(f.Servers())), make([]int, len(f.Servers()))
	for i, s := range f.Servers() {
		for _, row := range s.Query(t, "SELECT SELECT_COMMANDS, UPDATE_COMMANDS FROM information_schema.USER_STATISTICS WHERE USER='"+user+"'") {
			for column, into := range map[string]*int{"SELECT_COMMANDS": &reads[i], "UPDATE_COMMANDS": &writes[i]} {
				n, err := strconv.Atoi(row.String(column))
				if err != nil {
					t.Fatal(err)
				}
				*into += n
			}
		}
	}
	t.Logf("statements of %s by server, the primary first: reads %v, writes %v", user, reads, writes)
	onReplicas := 0
	for i := range f.Replicas() {
		onReplicas += reads[1+i]
		if writes[1+i] != 0 {
			t.Errorf("%s had %d statements that write", f.Replica(i).Name(), writes[1+i])
		}
		if keepUp && reads[1+i] == 0 {
			t.Errorf("%s served no read", f.Replica(i).Name())
		}
	}
	if writes[0] == 0 {
		t.Error("the primary had no statement that writes: the counters are not what they seem")
	}
	if keepUp && onReplicas <= reads[0] {
		t.Errorf("the replicas served %d reads, the primary %d", onReplicas, reads[0])
	}
}
