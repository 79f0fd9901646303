package e2e

import (
	"bufio"
	"net"
	"net/http"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"farmhand/internal/child"
	"farmhand/internal/drivertest"
	"farmhand/internal/farmtest"
	"farmhand/internal/wordpress"
)

// TestDemo runs "make demo-wordpress" on a farm that runs already: twice,
// because the second run finds the first one's posts.
func TestDemo(t *testing.T) {
	f := farmtest.Start(t, farmtest.Options{Replicas: 1})
	p := drivertest.StartProxy(t, f, "")
	dir := farmtest.ShortDir(t)
	program := filepath.Join(dir, "demo")
	if out, err := exec.Command("go", "build", "-o", program, "farmhand/demo").CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	listen := farmtest.FreePort(t).String()
	for _, greeting := range []string{"WordPress is installed and ready: ", "WordPress is ready, as an earlier run left it: "} {
		cmd := exec.Command(program, "-listen", listen, "-database", p.TCP, "-dir", filepath.Join(dir, "site"))
		var problems strings.Builder
		cmd.Stderr = &problems
		out, err := cmd.StdoutPipe()
		if err != nil {
			t.Fatal(err)
		}
		demo, err := child.Start(cmd, syscall.SIGTERM)
		if err != nil {
			t.Fatal(err)
		}
		greeted := make(chan bool, 1)
		go func() {
			lines := bufio.NewScanner(out)
			for lines.Scan() {
				if strings.HasPrefix(lines.Text(), greeting) {
					greeted <- true
				}
			}
			greeted <- false
		}()
		select {
		case ok := <-greeted:
			if !ok {
				<-demo.Done()
				if strings.Contains(problems.String(), wordpress.ErrMissing.Error()) {
					t.Skip(problems.String())
				}
				t.Fatalf("the demo ended without %q: %v: %s", greeting, demo.Ended(), problems.String())
			}
		case <-time.After(3 * time.Minute):
			t.Fatal("the demo does not get ready")
		}
		f.WaitCaughtUp(t)
		client := http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
		response, err := client.Get("http://" + listen + "/")
		if err != nil {
			t.Fatal(err)
		}
		if err := response.Body.Close(); err != nil {
			t.Error(err)
		}
		if response.StatusCode != http.StatusOK {
			t.Errorf("the front page: %s", response.Status)
		}
		demo.Signal(syscall.SIGINT)
		select {
		case <-demo.Done():
			if err := demo.Err(); err != nil {
				t.Errorf("stopped by Ctrl-C: %v: %s", err, problems.String())
			}
		case <-time.After(time.Minute):
			t.Fatal("Ctrl-C does not stop the demo")
		}
		l, err := net.Listen("tcp", listen)
		if err != nil {
			t.Fatalf("the site's address is still taken: %v", err)
		}
		if err := l.Close(); err != nil {
			t.Error(err)
		}
	}
	f.CheckNoOwnEvents(t)
}
