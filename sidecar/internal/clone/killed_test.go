package clone_test

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"go.uber.org/zap"

	"farmhand/internal/dbserver"
	"farmhand/internal/farm"
	"farmhand/internal/farmtest"
	"farmhand/internal/pki"
	"farmhand/sidecar/internal/clone"
)

// other makes the test binary the process of a donor or of a joiner, as described
// in the variable.
const other = "FARMHAND_TEST_OTHER"

// part is what the other process is to do: to take data, if Address is not empty,
// or to give it.
type part struct {
	Flavor  farm.Flavor
	Config  dbserver.Config
	Files   pki.Files
	Rate    int64
	Donor   string
	Address string
}

func playPart(text string) error {
	var p part
	if err := json.Unmarshal([]byte(text), &p); err != nil {
		return err
	}
	ctx := context.Background()
	inst, err := dbserver.Find(ctx, p.Flavor, farmtest.MySQLRoot())
	if err != nil {
		return err
	}
	if p.Address != "" {
		_, err := clone.Fetch(ctx, clone.Joiner{
			Install: inst, Config: p.Config, Files: p.Files, Donor: p.Donor, Address: p.Address,
			Tell: func(p clone.Progress) { fmt.Println(p.Phase, p.Bytes) },
		})
		return err
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	fmt.Println("listens", l.Addr())
	return clone.Serve(ctx, l, clone.Donor{
		Install: inst, Config: p.Config, Files: p.Files, Rate: p.Rate, Log: zap.NewNop(),
		Allow: func(context.Context, string) error { return nil },
	})
}

// play starts the other process. The function that it returns reads what it says
// until that is accepted.
func play(t *testing.T, p part) (process *os.Process, until func(accept func(word, rest string) bool)) {
	t.Helper()
	text, err := json.Marshal(p)
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), other+"="+string(text))
	cmd.Stderr = os.Stderr
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = cmd.Process.Kill() // may have been killed
		_ = cmd.Wait()
	})
	lines := bufio.NewScanner(out)
	return cmd.Process, func(accept func(word, rest string) bool) {
		for lines.Scan() {
			if word, rest, _ := strings.Cut(lines.Text(), " "); accept(word, rest) {
				return
			}
		}
		t.Fatalf("the other process ended: %v", lines.Err())
	}
}

func TestAJoinerThatIsKilledLosesNothing(t *testing.T) {
	eachFlavor(t, func(t *testing.T, w *world) {
		d, b := w.pair(t, func(d *clone.Donor) { d.Rate = slow })
		process, until := play(t, part{Flavor: w.inst.Flavor, Config: b.config, Files: b.files, Donor: d.name, Address: d.address})
		until(func(word, rest string) bool {
			n, err := strconv.Atoi(rest)
			return word == "copying" && err == nil && n > 2<<20
		})
		if err := process.Kill(); err != nil {
			t.Fatal(err)
		}
		incoming := filepath.Join(b.config.Dir, "incoming")
		farmtest.Eventually(t, "what it had started has ended", func() error {
			for pid, argv := range processes(t) {
				if strings.Contains(strings.Join(argv, " "), incoming) {
					return fmt.Errorf("pid %d: %v", pid, argv)
				}
			}
			return nil
		})
		if _, err := os.Stat(incoming); err != nil {
			t.Errorf("nothing was left, so that nothing is shown here: %v", err)
		}
		if g := <-d.given; g.Err == nil {
			t.Errorf("the donor believes that it gave everything: %+v", g)
		}
		b.untouched(t, d)
	})
}

func TestADonorThatIsKilledIsGivenUp(t *testing.T) {
	eachFlavor(t, func(t *testing.T, w *world) {
		d, b := w.pair(t, nil)
		process, until := play(t, part{Flavor: w.inst.Flavor, Config: d.config, Files: d.files, Rate: slow})
		j := b.joiner(d)
		until(func(word, rest string) bool {
			j.Address = rest
			return word == "listens"
		})
		at(&j, 2<<20, func() {
			if err := process.Kill(); err != nil {
				t.Error(err)
			}
		})
		if _, err := clone.Fetch(t.Context(), j); err == nil {
			t.Fatal("the copy was whole")
		}
		b.clean(t)
		b.untouched(t, d)
	})
}
