package daemon

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"time"

	"farmhand/internal/farmtest"
	"farmhand/internal/registry"
)

const appFile = `
name: shop
roles:
  db: {kind: mysql, storage: {keep: false}}
  # ours
  app:
    kind: base
    count: 2
    parameters: {drain_limit: 1s}
policies: {failover: {quiet: 0}}
`

// begin asks for a rebundle and returns its operation once it is as wanted.
func (f *farmOf) begin(args map[string]string, what string) string {
	f.t.Helper()
	var id string
	f.with(func(client *registry.Client) error {
		o, err := client.Ask(f.t.Context(), registry.Operation{Kind: OpRebundle, Args: args, By: "test"})
		id = o.ID
		return err
	})
	f.until(id, what)
	return id
}

// until returns an operation once one of its steps has a text.
func (f *farmOf) until(id, text string) (o registry.Operation) {
	f.t.Helper()
	farmtest.Eventually(f.t, "operation "+id+" says: "+text, func() error {
		f.with(func(client *registry.Client) (err error) {
			o, err = client.Operation(f.t.Context(), id)
			return err
		})
		for _, step := range o.Steps {
			if strings.Contains(step.Text, text) {
				return nil
			}
		}
		return fmt.Errorf("%+v", o)
	})
	return o
}

// running are the images of app's instances, as their provider has them.
func (f *farmOf) running() (list []string) {
	all, err := f.nodes.List(f.t.Context())
	must(f.t, err)
	for _, i := range all {
		if i.RoleName == "app" {
			list = append(list, i.Name+" "+i.Configuration["image"])
		}
	}
	return list
}

// ended returns an operation when it has ended.
func (f *farmOf) ended(id string) (o registry.Operation) {
	f.t.Helper()
	f.with(func(client *registry.Client) error {
		ctx, cancel := context.WithTimeoutCause(f.t.Context(), time.Minute, fmt.Errorf("operation %s has not ended", id))
		defer cancel()
		var last registry.Operation
		var err error
		if o, err = client.FollowOperation(ctx, id, func(o registry.Operation) error { last = o; return nil }, nil); err != nil {
			return fmt.Errorf("%w: %+v", err, last)
		}
		return nil
	})
	return o
}

func (f *farmOf) appliedImage() (image, text string) {
	f.t.Helper()
	f.with(func(client *registry.Client) error {
		file, _, err := Applied(f.t.Context(), client)
		if err != nil {
			return err
		}
		now, err := file.Farm()
		if err == nil {
			image, text = now.Roles["app"].Image, file.Text
		}
		return err
	})
	return image, text
}

func upWith(n int) func(*View) bool {
	return func(v *View) bool {
		ready := 0
		for _, one := range v.Nodes {
			if one.RoleName == "app" && one.Size == "ready" {
				ready++
			}
		}
		return serving(3)(v) && ready == n
	}
}

// TestAnImageIsGivenToARole by one leader and the next, and by nobody who is told to stop.
func TestAnImageIsGivenToARole(t *testing.T) {
	farmtest.Long(t)
	f := newFarmOf(t, 3, appFile)
	v := f.await("that the farm has come up", upWith(2))
	for _, args := range []map[string]string{{"instance": "db1"}, {"instance": "app9"}, {"instance": "app1", "batch": "0"}, {"instance": "app1", "as": "No Name"}} {
		if o := f.ask(OpRebundle, args); o.State != registry.OperationFailed || o.Error == "" {
			t.Errorf("%v: %+v", args, o)
		}
	}
	if len(f.running()) != 2 {
		t.Errorf("there are %v", f.running())
	}
	if made, err := f.nodes.Images(t.Context()); err != nil || len(made) != 0 {
		t.Errorf("images %v, %v", made, err)
	}

	// The scaler that has begun it is gone in the middle.
	id := f.begin(map[string]string{"instance": "app1"}, "app1 to leave")
	if o := f.ask(OpRebundle, map[string]string{"instance": "app2"}); o.State != registry.OperationFailed || !strings.Contains(o.Error, "operation "+id) {
		t.Errorf("two at a time: %+v", o)
	}
	first := v.Leader
	if first == "c" { // whom with asks
		f.dirs = f.dirs[:2]
	}
	must(t, f.stops[first[0]-'a']())
	o := f.ended(id)
	if o.State != registry.OperationDone {
		t.Fatalf("rebundle: %+v", o)
	}
	image, text := f.appliedImage()
	if !strings.HasPrefix(image, "app-2") || text != strings.Replace(appFile, "    kind: base", "    image: "+image+"\n    kind: base", 1) {
		t.Errorf("the farm file is\n%s", text)
	}
	f.await("that another leads, and both are replaced", func(v *View) bool { return v.Leader != first && upWith(2)(v) })
	if got := strings.Join(f.running(), ", "); got != "app3 "+image+", app4 "+image {
		t.Errorf("there are %s", got)
	}
	f.journaled("the image of app1 is that of its role")

	// One at a time; somebody stops it after the first.
	id = f.begin(map[string]string{"instance": "app3", "as": "other"}, "app3 to leave")
	f.until(id, "app4 to leave") // the first has been replaced
	if o := f.ask(OpAbort, map[string]string{"id": id}); o.State != registry.OperationDone {
		t.Errorf("abort: %+v", o)
	}
	o = f.ended(id)
	if o.State != registry.OperationFailed || !strings.Contains(o.Error, "stopped by test: the farm file says other-2") || !strings.Contains(o.Error, image+": app4") {
		t.Errorf("what was stopped: %+v", o)
	}
	if o := f.ask(OpAbort, map[string]string{"id": id}); o.State != registry.OperationFailed {
		t.Errorf("stopped twice: %+v", o)
	}
}

// TestAnImageThatIsNoGoodIsTakenBack: all is as it was.
func TestAnImageThatIsNoGoodIsTakenBack(t *testing.T) {
	f := newFarmOf(t, 1, appFile)
	f.await("that the farm has come up", upWith(2))
	if o := f.ask(OpPause, nil); o.State != registry.OperationDone {
		t.Errorf("pause: %+v", o)
	}
	f.nodes.sicken("app-")
	id := f.begin(map[string]string{"instance": "app2", "within": "2s"}, "the farm is paused: by test")
	if got := strings.Join(f.running(), ", "); got != "app1 host, app2 host" {
		t.Errorf("while the farm is paused: %s", got)
	}
	if o := f.ask(OpResume, nil); o.State != registry.OperationDone {
		t.Errorf("resume: %+v", o)
	}
	o := f.ended(id)
	if o.State != registry.OperationFailed || !strings.Contains(o.Error, "app3 is ") || !strings.Contains(o.Error, "every instance of app runs host again") {
		t.Errorf("rebundle: %+v", o)
	}
	if image, _ := f.appliedImage(); image != "host" {
		t.Errorf("the farm file says %s", image)
	}
	f.await("that both are well", upWith(2))
	if got := strings.Join(f.running(), ", "); got != "app2 host, app4 host" {
		t.Errorf("there are %s", got)
	}
	f.journaled("the image of app2 has not become that of its role")
	if time.Since(o.Asked) < 2*time.Second {
		t.Error("it was given no time")
	}
}
