package e2e

import (
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
			j := journey{t: t, site: startSite(t, f, name, host), farm: f}
			j.run()
			checkSpread(t, f, name)
		})
	}
	f.WaitCaughtUp(t)
	f.CheckNoOwnEvents(t)
}

// TestWordPressStaleAcrossPagesIsCountedOnly uses a site while the replicas are
// 2 s late. Each page is a connection of its own and what one has written is
// not promised to the next one yet: what is missing is counted and reported,
// and must be there when the replicas have caught up. What is promised now does
// fail the test: no page fails, and what is read on the connection that wrote
// (the editor's answers) is fresh.
func TestWordPressStaleAcrossPagesIsCountedOnly(t *testing.T) {
	f := farmtest.Start(t, farmtest.Options{Replicas: 2, ExtraArgs: statistics})
	p := drivertest.StartProxy(t, f, "")
	site := startSite(t, f, "wp_late", p.TCP)
	f.SetDelay(t, 2*time.Second)
	var stale []string
	j := journey{t: t, site: site, farm: f, stale: &stale}
	j.run()
	checkSpread(t, f, "wp_late")
	f.WaitCaughtUp(t)
	f.CheckNoOwnEvents(t)
	t.Logf("%d pages did not show yet what a page before had written:", len(stale))
	for _, s := range stale {
		t.Log("  ", s)
	}
}

// checkSpread holds the servers' own counts of an account's statements against
// what a split should do with them.
func checkSpread(t *testing.T, f *farmtest.Farm, user string) {
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
		if reads[1+i] == 0 {
			t.Errorf("%s served no read", f.Replica(i).Name())
		}
	}
	if writes[0] == 0 {
		t.Error("the primary had no statement that writes: the counters are not what they seem")
	}
	if onReplicas <= reads[0] {
		t.Errorf("the replicas served %d reads, the primary %d", onReplicas, reads[0])
	}
}
