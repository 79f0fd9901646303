package role

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"farmhand/internal/atomicfile"
	"farmhand/internal/child"
	"farmhand/sidecar/internal/config"
	"farmhand/sidecar/internal/render"
	"farmhand/sidecar/internal/share"
)

// mountWait is how long what asks for a file waits unless told otherwise.
const mountWait = time.Minute

// mount has one more directory of another role's node mounted: by a client of GlusterFS, and
// a door that leads it to whoever has the directory. Both are kept until all other programs
// of the node, users, have ended.
func (n *node) mount(c config.Config, m config.Mount, users []*program) error {
	if c.Farm.Directory == "" {
		return errors.New("a storage is mounted by a node of a farm only (farm.directory): its certificate says who it is")
	}
	client, err := find(cmp.Or(m.Program, "glusterfs"))
	if err != nil {
		return err
	}
	self, err := os.Executable()
	if err != nil {
		return fmt.Errorf("where this program is: %w", err)
	}
	file := func(kind string) string { return filepath.Join(c.State, "storage-"+m.Storage+"."+kind) }
	if err := checkSocket(file("sock")); err != nil {
		return err
	}
	of := share.Client{Socket: file("sock"), Wait: cmp.Or(time.Duration(m.Wait), mountWait)}
	text, err := of.Volfile()
	if err != nil {
		return err
	}
	doorName, clientName := m.Programs()
	record := func(name string) string { return filepath.Join(c.State, "program-"+name+".json") }
	place := share.Place{Path: m.Path}
	mounted := &program{
		name: clientName, args: append([]string{client}, of.Arguments(file("vol"), m.Path)...),
		stopSignal: syscall.SIGTERM, endStatus: int(syscall.SIGTERM), stopAfter: 10 * time.Second, record: record(clientName), until: users, after: place.Clear,
		// Tried before the door is there, it tries again 3 s later only.
		uses: file("sock"),
		prepare: func() error {
			if err := place.Prepare(); err != nil {
				return err
			}
			return atomicfile.Write(file("vol"), []byte(text), 0o600, nil)
		},
	}
	door := &program{
		name: doorName, args: []string{self, "share", "door", "--directory", c.Farm.Directory, "--socket", file("sock"), "--holders", file("holders"), "--led", file("led")},
		stopSignal: syscall.SIGTERM, stopAfter: 5 * time.Second, record: record(doorName), until: []*program{mounted},
	}
	n.add(door)
	n.add(mounted)
	n.templates = append(n.templates, render.Template{
		Source: "the nodes of " + m.Storage, Text: fmt.Sprintf(share.HoldersTemplate, m.Storage), Destination: file("holders"), Mode: 0o600, Limit: 10 * time.Second,
	})
	mend := &mender{
		mount: m, wait: of.Wait, led: file("led"), look: &looker{args: []string{self, "share", "look", m.Path}}, door: door, client: mounted,
		host: eventHost(c), tell: n.tools.Event, log: n.tools.Log,
	}
	n.check(&check{interval: 2 * time.Second, limit: lookLimit, failures: 3, successes: 1, try: mend.try})
	return nil
}

// lookLimit is how long a storage may take to answer.
const lookLimit = 5 * time.Second

// looker looks at what may hang, by a process of its own that is not waited for then. There is
// one at a time, however long it takes.
type looker struct {
	args  []string
	under *look // what has not ended yet; nil if all have
}

// look is one process.
type look struct {
	*child.Child
	began time.Time
	said  *bounded
	late  bool // it took too long
}

// try looks, or goes on waiting for the look that has not ended. One that gets its answer too late is an error too.
func (l *looker) try(ctx context.Context) error {
	what := strings.Join(l.args[1:], " ")
	if l.under == nil {
		cmd := exec.Command(l.args[0], l.args[1:]...)
		said := &bounded{}
		cmd.Stderr = said
		c, err := child.Start(cmd, syscall.SIGKILL)
		if err != nil {
			return err
		}
		l.under = &look{Child: c, began: time.Now(), said: said}
	}
	select {
	case <-l.under.Done():
	case <-ctx.Done():
		l.under.late = true
		return fmt.Errorf("%s: no answer for %v", what, time.Since(l.under.began).Round(time.Second))
	}
	one := l.under
	l.under = nil
	if err := one.Err(); err != nil {
		return fmt.Errorf("%s (%w)", cmp.Or(one.said.String(), what), err)
	}
	if one.late {
		return fmt.Errorf("%s: an answer within %v only", what, time.Since(one.began).Round(time.Second))
	}
	return nil
}

// bounded is the beginning of what a process says.
type bounded struct{ text []byte }

// maxSaid is how much of it is kept, in bytes.
const maxSaid = 512

func (b *bounded) Write(p []byte) (int, error) {
	b.text = append(b.text, p[:min(len(p), maxSaid-len(b.text))]...)
	return len(p), nil
}

func (b *bounded) String() string { return strings.TrimSpace(string(b.text)) }
