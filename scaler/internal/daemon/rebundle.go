package daemon

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"go.uber.org/zap"

	"farmhand/internal/farm"
	"farmhand/internal/registry"
	"farmhand/scaler/internal/decide"
	"farmhand/scaler/internal/farmfile"
	"farmhand/scaler/internal/provider"
)

// What a rebundle goes by if it is not told.
const (
	DefaultBatch  = 1
	DefaultWithin = 10 * time.Minute
)

// rebundlePhase is how far a rebundle is.
type rebundlePhase string

const (
	imageMade     rebundlePhase = "make"  // the image is made
	imageRolled   rebundlePhase = "roll"  // it is the role's, whose instances are replaced
	imageBack     rebundlePhase = "back"  // the one before is the role's again, and what was replaced is replaced again
	rebundleEnded rebundlePhase = "ended" // Answer is what came of it
)

// rebundle is an image that is made of an instance and given to all of its role: what
// the next leader goes on with.
type rebundle struct {
	Operation string        `json:"operation"`
	Instance  string        `json:"instance"`
	Role      string        `json:"role"`
	Phase     rebundlePhase `json:"phase"`
	// Name is the image's, Image what the farm file calls it once it is made, and Was the
	// role's image before.
	Name  string `json:"name"`
	Image string `json:"image,omitempty"`
	Was   string `json:"was"`
	// Batch is how many are replaced at a time, Within how long the new ones may take to
	// be well.
	Batch  int           `json:"batch"`
	Within time.Duration `json:"within"`
	// Applied says that the farm file of this phase was gone by.
	Applied bool `json:"applied,omitempty"`
	// Unwell is since when not all new instances are well; zero while they are.
	Unwell time.Time `json:"unwell,omitzero"`
	// Why is what it goes back for, Aborted who has it stop.
	Why     string `json:"why,omitempty"`
	Aborted string `json:"aborted,omitempty"`
	// Done and Text are what came of it.
	Done bool   `json:"done,omitempty"`
	Text string `json:"text,omitempty"`
}

// image is the one that the role's instances are to have in the phase, and from the
// one that the farm file has before.
func (r *rebundle) image() (image, from string) {
	if r.Phase == imageBack {
		return r.Was, r.Image
	}
	return r.Image, r.Was
}

// rebundle is asked by a person: an image is made of an instance, and others that are
// launched from it take the place of the role's instances. If they do not become well, all
// is as it was before.
func (l *leader) rebundle(m *moment, o registry.Operation, _ bool) answer {
	r := l.memory.Rebundle
	if r == nil || r.Operation != o.ID {
		begun, a := l.beginRebundle(m, o)
		if begun == nil {
			return a
		}
		r = begun
		l.memory.Rebundle = r
	}
	if r.Aborted != "" && r.Phase != rebundleEnded {
		return l.endRebundle(m, r, false, fmt.Sprintf("stopped by %s: %s", r.Aborted, l.whoRunsWhat(r)))
	}
	switch r.Phase {
	case imageMade:
		return l.makeImage(m, r)
	case imageRolled, imageBack:
		if a, applied := l.giveImage(m, r); !applied {
			return a
		}
		if r.Phase == imageRolled {
			return l.roll(m, r, o)
		}
		return l.rollBack(m, r, o)
	default:
		return answer{done: r.Done, refused: !r.Done, text: r.Text}
	}
}

// batches reads how many servers an operation is to change at a time, and how long they
// may take to be well; what it does not say stays.
func batches(o registry.Operation, batch *int, within *time.Duration) error {
	var err error
	if text := o.Args["batch"]; text != "" {
		*batch, err = strconv.Atoi(text)
	}
	if text := o.Args["within"]; text != "" && err == nil {
		*within, err = time.ParseDuration(text)
	}
	if err == nil && (*batch < 1 || *within <= 0) {
		err = fmt.Errorf("%d at a time and %v for them to be well are not possible", *batch, *within)
	}
	return err
}

// beginRebundle returns what is asked for; nil, and why, if it cannot be or has to wait.
func (l *leader) beginRebundle(m *moment, o registry.Operation) (*rebundle, answer) {
	if other := l.memory.Rebundle; other != nil && other.Phase != rebundleEnded {
		return nil, refused("an image of %s is made and given to %s already (operation %s)", other.Instance, other.Role, other.Operation)
	}
	i, there := l.instance(o.Args["instance"])
	r := &rebundle{Operation: o.ID, Instance: i.Name, Role: i.RoleName, Phase: imageMade, Batch: DefaultBatch, Within: DefaultWithin}
	err := batches(o, &r.Batch, &r.Within)
	if err == nil && there {
		r.Name, err = provider.ImageName(cmp.Or(o.Args["as"], r.Role), o.Asked)
	}
	role, known := l.farm.Roles[r.Role]
	switch {
	case err != nil:
		return nil, refused("%v", err)
	case l.images == nil:
		return nil, refused("the provider %s makes no images", l.farm.Provider.Kind)
	case !there:
		return nil, refused("there is no instance %q; there are %s", o.Args["instance"], l.instanceNames())
	case !known:
		return nil, refused("the farm file has no role %s any more", r.Role)
	case role.Kind == farmfile.MySQLKind:
		return nil, refused("%s is a database server: what it has is data, which no image gets; scaler backup keeps that, and scaler apply --restart replaces servers", i.Name)
	case i.State != provider.Running:
		return nil, refused("%s is %s; an image is made of an instance that runs", i.Name, i.State)
	}
	r.Was = role.Image
	if why := l.unfit(r.Role); why != "" {
		return nil, waits("%s", why)
	}
	return r, answer{}
}

// makeImage makes the image, beside the loop.
func (l *leader) makeImage(m *moment, r *rebundle) answer {
	if made := l.made.Load(); made != nil && made.Name == r.Name {
		r.Image, r.Phase = made.ID, imageRolled
		text := fmt.Sprintf("image %s of %s is made", made.Name, r.Instance)
		if made.Files > 0 {
			text += fmt.Sprintf(": %d files of %d bytes, and %d that are left out", made.Files, made.Bytes, len(made.LeftOut))
		}
		l.sayRebundle(r, text)
		return waits("%s", text)
	}
	topic := "image " + r.Name
	if why := l.errands.failure(topic); why != "" {
		return l.endRebundle(m, r, false, "no image was made, and nothing has changed: "+why)
	}
	images, instance, name, operation := l.images, r.Instance, r.Name, r.Operation
	l.errands.do(topic, topic, "making an image of "+instance, func(ctx context.Context) error {
		if err := l.fence(ctx, registry.Entry{
			Kind: registry.Decision, Text: fmt.Sprintf("image %s is made of %s", name, instance), Fields: map[string]string{"instance": instance, "operation": operation},
		}); err != nil {
			return err
		}
		image, err := images.MakeImage(ctx, instance, name)
		if err == nil {
			l.made.Store(&image)
		}
		return err
	})
	return waits("image %s is made of %s", r.Name, r.Instance)
}

// giveImage has the farm file say the phase's image, and reports whether this leader
// goes by that.
func (l *leader) giveImage(m *moment, r *rebundle) (answer, bool) {
	image, from := r.image()
	now := l.farm.Roles[r.Role].Image
	switch {
	case now == image:
		r.Applied = true
		return answer{}, true
	case r.Applied:
		return l.endRebundle(m, r, false, fmt.Sprintf("somebody has applied a farm file by which the image of %s is %s; %s", r.Role, now, l.whoRunsWhat(r))), false
	}
	topic := fmt.Sprintf("farm file of operation %s, %s", r.Operation, r.Phase)
	if why := l.errands.failure(topic); why != "" {
		return l.endRebundle(m, r, false, fmt.Sprintf("the farm file could not be given the image %s: %s; %s", image, why, l.whoRunsWhat(r))), false
	}
	role, operation := r.Role, r.Operation
	l.errands.do(topic, topic, "writing the farm file", func(ctx context.Context) error {
		return l.applyImage(ctx, role, from, image, operation)
	})
	return waits("the farm file gets the image %s for %s", image, r.Role), false
}

// applyImage applies the farm file with another image of a role, as a person would. A term
// that is over changes nothing: what it has read is not what is there any more.
func (l *leader) applyImage(ctx context.Context, role, from, image, operation string) error {
	for {
		file, raw, err := Applied(ctx, l.client)
		if err != nil {
			return err
		}
		if file == nil {
			return errors.New("there is none any more")
		}
		now, err := file.Farm()
		if err != nil {
			return err
		}
		switch now.Roles[role].Image {
		case image:
			return nil // a moment, and it is gone by
		case from:
		default:
			return fmt.Errorf("by now it says the image %s", now.Roles[role].Image)
		}
		if file.Text, err = farmfile.WithImage(file.Path, file.Text, role, image); err != nil {
			return err
		}
		if err := l.fence(ctx, registry.Entry{
			Kind: "farm-file", Text: fmt.Sprintf("image of %s: %s -> %s", role, from, image), Fields: map[string]string{"role": role, "operation": operation},
		}); err != nil {
			return err
		}
		file.By, file.At = l.journal.who, time.Now().UTC()
		if err = Apply(ctx, l.client, *file, raw); !errors.Is(err, registry.ErrChanged) {
			return err
		}
	}
}

// roll replaces the next of the role's instances, and looks after those that have come.
func (l *leader) roll(m *moment, r *rebundle, o registry.Operation) answer {
	if len(l.servers[r.Role]) == 0 {
		return waits("%s", l.unsettled(r.Role)) // this leader has just begun
	}
	if why := l.newcomers(r); why == "" || l.memory.Paused != "" {
		r.Unwell = time.Time{}
	} else if r.Unwell.IsZero() {
		r.Unwell = m.now
	} else if m.now.Sub(r.Unwell) > r.Within {
		r.Why, r.Phase, r.Applied, r.Unwell = fmt.Sprintf("%s, %v after they should have begun to", why, r.Within), imageBack, false, time.Time{}
		l.sayRebundle(r, fmt.Sprintf("image %s is taken back: %s", r.Name, r.Why))
		return waits("it goes back: %s", r.Why)
	}
	left, waiting := l.replaceBatch(m, r, o)
	if left == 0 && waiting == "" {
		return l.endRebundle(m, r, true, fmt.Sprintf("every instance of %s runs %s, as the farm file says now; write image: %[2]s into your copy, or the next scaler apply takes it back", r.Role, r.Image))
	}
	return waits("%s left to be replaced; %s", instances(left), waiting)
}

// rollBack replaces those that have the image: at once the ones that are not well.
func (l *leader) rollBack(m *moment, r *rebundle, o registry.Operation) answer {
	names, _ := l.outdated(r.Role)
	for _, s := range l.servers[r.Role] {
		if s.State != decide.Ready && slices.Contains(names, s.Name) && l.memory.Paused == "" {
			l.replace(r.Role, s.Name, o.By, m.now)
		}
	}
	left, waiting := l.replaceBatch(m, r, o)
	if left == 0 && waiting == "" {
		return l.endRebundle(m, r, false, fmt.Sprintf("%s; every instance of %s runs %s again, as the farm file says", r.Why, r.Role, r.Was))
	}
	return waits("%s left to go back; %s; it goes back because %s", instances(left), waiting, r.Why)
}

// replaceBatch has the next instances leave that run an older configuration, if all is
// well. It returns how many there were, and what is waited for.
func (l *leader) replaceBatch(m *moment, r *rebundle, o registry.Operation) (left int, waiting string) {
	names, _ := l.outdated(r.Role)
	if why := l.unfit(r.Role); why != "" || len(names) == 0 {
		return len(names), why
	}
	batch := names[:min(r.Batch, len(names))]
	for _, name := range batch {
		l.replace(r.Role, name, o.By, m.now)
	}
	return len(names), strings.Join(batch, ", ") + " to leave"
}

// newcomers is what is wrong with the instances that are launched from the image; empty if
// nothing is.
func (l *leader) newcomers(r *rebundle) string {
	why := ""
	for _, s := range l.servers[r.Role] {
		i, there := l.instance(s.Name)
		if there && i.Configuration["image"] != r.Image || !there && s.State == decide.Lost {
			continue // an older one
		}
		switch s.State {
		case decide.Ready, decide.Draining:
		default:
			why = fmt.Sprintf("%s is %s", s.Name, s.State)
		}
	}
	if n, wanted := live(l.servers[r.Role]), l.roles[r.Role].Wanted; why == "" && n < wanted {
		why = fmt.Sprintf("%s has %d of %s", r.Role, n, servers(wanted))
	}
	if failure := l.errands.failure(r.Role); why != "" && failure != "" {
		why += "; the last launch failed: " + failure
	}
	return why
}

// whoRunsWhat says for people what the role's instances are launched from.
func (l *leader) whoRunsWhat(r *rebundle) string {
	by := map[string][]string{}
	for _, i := range l.instances {
		if i.RoleName == r.Role {
			image := cmp.Or(i.Configuration["image"], "nobody knows what")
			by[image] = append(by[image], i.Name)
		}
	}
	parts := []string{fmt.Sprintf("the farm file says %s", l.farm.Roles[r.Role].Image)}
	for image := range sortedKeys(by) {
		parts = append(parts, fmt.Sprintf("%s: %s", image, strings.Join(by[image], ", ")))
	}
	return strings.Join(parts, "; ") + "; scaler apply --restart has all be as the farm file says"
}

// maxReason is how many bytes of a reason an event has: the journal refuses a field that
// is too long.
const maxReason = 1000

// endRebundle ends it, and tells the farm.
func (l *leader) endRebundle(m *moment, r *rebundle, done bool, text string) answer {
	kind := farm.RebundleFailed
	if done {
		kind = farm.RebundleComplete
	}
	r.Phase, r.Done, r.Text = rebundleEnded, done, text
	reason := text
	if len(reason) > maxReason { // the operation has all of it
		reason = strings.ToValidUTF8(reason[:maxReason], "") + " …"
	}
	l.event(farm.Event{Kind: kind, Time: m.now, Host: l.eventHost(m, r.Role, r.Instance), Fields: map[string]string{"image": cmp.Or(r.Image, r.Name), "reason": reason}})
	return answer{done: done, refused: !done, text: text}
}

func (l *leader) sayRebundle(r *rebundle, text string) {
	l.log.Info("rebundle", zap.String("role", r.Role), zap.String("image", r.Name), zap.String("what", text))
	l.journal.put(registry.Entry{Kind: registry.Decision, Text: text, Fields: map[string]string{"role": r.Role, "operation": r.Operation}})
}

// abort is asked by a person: a rebundle that goes on stops where it is, a release goes back.
func (l *leader) abort(_ *moment, o registry.Operation, _ bool) answer {
	if l.stopRelease(o.Args["id"], o.By) {
		return finished("operation %s is taken back", o.Args["id"])
	}
	r := l.memory.Rebundle
	if r == nil || r.Operation != o.Args["id"] || r.Phase == rebundleEnded {
		return refused("operation %q is no rebundle and no release that goes on", o.Args["id"])
	}
	r.Aborted = o.By
	return finished("operation %s stops; what it says at its end is what runs what", r.Operation)
}
