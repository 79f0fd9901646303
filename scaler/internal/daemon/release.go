package daemon

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"go.uber.org/zap"

	"farmhand/internal/cluster"
	"farmhand/internal/objects"
	"farmhand/internal/registry"
	"farmhand/scaler/internal/rollout"
	"farmhand/scaler/internal/terminal"
)

// roleReleases are the versions of a role's code, as one leader leaves them to the next.
type roleReleases struct {
	// Current is the version in force, Before those that were, the newest last.
	Current string   `json:"current,omitempty"`
	Before  []string `json:"before,omitempty"`
	// Versions are those that can be had, the newest first.
	Versions []cluster.Release `json:"versions,omitempty"`
	// New is the version that came with the roll-out; empty if it was there before.
	New string `json:"new,omitempty"`
	// Rollout is the one that goes on, or the last; nil if there never was one.
	Rollout *rollout.Plan `json:"rollout,omitempty"`
}

// told is what nodes are told of it.
func (r *roleReleases) told() *cluster.RoleReleases {
	t := &cluster.RoleReleases{Current: r.Current, Versions: r.Versions}
	if p := r.Rollout; p != nil {
		t.Attempt, t.Back = p.Operation, p.Phase == rollout.Back
		if p.Phase != rollout.Ended && len(p.Given) > 0 {
			t.Nodes = map[string]string{}
			for _, name := range p.Given {
				t.Nodes[name] = p.To
			}
		}
	}
	return t
}

// release is asked by a person: a role's servers get a version of its code, some at a time, and all go back if one
// of them does not answer well with it.
func (l *leader) release(m *moment, o registry.Operation, _ bool) answer {
	role := o.Args["role"]
	r := l.memory.Releases[role]
	if r == nil || r.Rollout == nil || r.Rollout.Operation != o.ID {
		begun, a := l.beginRelease(o, r)
		if begun == nil {
			return a
		}
		r = begun
		l.memory.Releases[role] = r
		l.sayRelease(role, fmt.Sprintf("release %s of %s is rolled out, as asked by %s", r.Rollout.To, role, o.By), o.ID)
	}
	if len(l.servers[role]) == 0 && r.Rollout.Phase != rollout.Ended {
		return waits("%s", l.unsettled(role)) // this leader has just begun
	}
	held := ""
	if l.memory.Paused != "" {
		held = "the farm is paused: " + l.memory.Paused
	}
	was := r.Rollout.Phase
	next, text := r.Rollout.Next(l.releaseServers(m, role), held, m.now)
	r.Rollout = &next
	if next.Phase != was {
		l.sayRelease(role, fmt.Sprintf("release %s of %s: %s", next.To, role, cmp.Or(next.Text, text)), o.ID)
		if next.Phase == rollout.Ended {
			l.endRelease(role, r)
		}
	}
	if next.Phase == rollout.Ended {
		return answer{done: next.Done, refused: !next.Done, text: next.Text}
	}
	return waits("%s", text)
}

// beginRelease returns the role's releases with the roll-out that is asked for; nil, and why, if it cannot be.
func (l *leader) beginRelease(o registry.Operation, was *roleReleases) (*roleReleases, answer) {
	role := o.Args["role"]
	if err := l.checkRole(role); err != nil {
		return nil, refused("%v", err)
	}
	web := l.farm.Roles[role].Parameters.Web
	if web == nil || web.Release.Store == "" {
		return nil, refused("role %s has no releases: roles.%s.parameters.release.store in the farm file says where they are kept", role, role)
	}
	r := roleReleases{}
	if was != nil {
		r = *was
	}
	if p := r.Rollout; p != nil && p.Phase != rollout.Ended {
		return nil, refused("%s is rolled out to %s already (operation %s)", p.To, role, p.Operation)
	}
	plan := rollout.Plan{Operation: o.ID, Phase: rollout.Going, Batch: DefaultBatch, Within: DefaultReleaseWithin, From: r.Current}
	if err := batches(o, &plan.Batch, &plan.Within); err != nil {
		return nil, refused("%v", err)
	}
	r.New = ""
	switch version := o.Args["version"]; {
	case o.Args["object"] != "":
		one, err := releaseOf(o)
		if err != nil {
			return nil, refused("%v", err)
		}
		if !has(r.Versions, version) {
			r.New = version
		}
		if r.Versions, err = withRelease(r.Versions, one); err != nil {
			return nil, refused("%v", err)
		}
		plan.To = version
	case o.Args["rollback"] != "":
		before := slices.DeleteFunc(slices.Clone(r.Before), func(v string) bool { return !has(r.Versions, v) || v == r.Current })
		if len(before) == 0 {
			return nil, refused("no version of %s that was in force before %s is kept", role, cmp.Or(r.Current, "any"))
		}
		plan.To = before[len(before)-1]
	case !has(r.Versions, version):
		return nil, refused("there is no version %q of %s; there are %s", version, role, versionNames(r.Versions))
	default:
		plan.To = version
	}
	r.Rollout = &plan
	return &r, answer{}
}

// DefaultReleaseWithin is how long the servers of a batch may take to be well with a release, if it is not told.
const DefaultReleaseWithin = 5 * time.Minute

// ReleaseArgs are the arguments of an operation that rolls out a new version.
func ReleaseArgs(role string, r cluster.Release) map[string]string {
	return map[string]string{
		"role": role, "version": r.Version, "object": r.Object, "sha256": r.SHA256, "size": strconv.FormatInt(r.Size, 10),
		"files": strconv.Itoa(r.Files), "bytes": strconv.FormatInt(r.Bytes, 10),
	}
}

// releaseOf reads the new version of an operation.
func releaseOf(o registry.Operation) (cluster.Release, error) {
	r := cluster.Release{Version: o.Args["version"], Object: o.Args["object"], SHA256: o.Args["sha256"], Made: o.Asked.UTC(), By: o.By}
	var sizeErr, filesErr, bytesErr error
	r.Size, sizeErr = strconv.ParseInt(o.Args["size"], 10, 64)
	r.Files, filesErr = strconv.Atoi(o.Args["files"])
	r.Bytes, bytesErr = strconv.ParseInt(cmp.Or(o.Args["bytes"], "0"), 10, 64)
	if err := errors.Join(sizeErr, filesErr, bytesErr); err != nil {
		return r, err
	}
	return r, r.Check()
}

// withRelease adds a version. The same code by the same name is the same version.
func withRelease(versions []cluster.Release, one cluster.Release) ([]cluster.Release, error) {
	for _, v := range versions {
		if v.Version == one.Version && v.SHA256 != one.SHA256 {
			return nil, fmt.Errorf("there is a version %s already, of %s, and its code is other code; give this one another name", v.Version, v.Made.Local().Format(time.DateTime))
		}
		if v.Version == one.Version {
			return versions, nil
		}
	}
	return append([]cluster.Release{one}, versions...), nil
}

func has(versions []cluster.Release, name string) bool {
	return slices.ContainsFunc(versions, func(v cluster.Release) bool { return v.Version == name })
}

func versionNames(versions []cluster.Release) string {
	var names []string
	for _, v := range versions {
		names = append(names, v.Version)
	}
	return cmp.Or(strings.Join(names, ", "), "none")
}

// releaseServers are a role's servers as a roll-out sees them.
func (l *leader) releaseServers(m *moment, role string) []rollout.Server {
	var list []rollout.Server
	for _, s := range l.servers[role] {
		one := rollout.Server{Name: s.Name, State: s.State}
		if known, _, ok := l.known(s.Name); ok && known.Leaving != nil && !known.Leaving.Stays {
			one.Leaving = true
		}
		if node, ok := m.nodes[s.Name]; ok && node.age(m.now) < releaseHeard && node.report.Release != nil {
			said := *node.report.Release
			for _, text := range []*string{&said.Version, &said.Doing, &said.Refused, &said.Why} {
				*text = terminal.Plain(*text) // it becomes a reason that people read
			}
			one.Release = &said
		}
		list = append(list, one)
	}
	return list
}

// releaseHeard is for how long a node's report says how it is: it comes each second.
const releaseHeard = 5 * time.Second

// endRelease has what came of a roll-out be in force, and what is not kept go.
func (l *leader) endRelease(role string, r *roleReleases) {
	p := r.Rollout
	if p.Done && p.To != r.Current {
		// A version that one goes back to is not one to go back to from there.
		r.Before = slices.DeleteFunc(slices.Clone(r.Before), func(v string) bool { return v == p.To })
		if r.Current != "" && !slices.Contains(r.Before, r.Current) && !l.isRollback(r) {
			r.Before = append(r.Before, r.Current)
		}
		r.Current = p.To
	}
	if !p.Done && p.To == r.New {
		r.Versions = slices.DeleteFunc(slices.Clone(r.Versions), func(v cluster.Release) bool { return v.Version == p.To })
	}
	web := l.farm.Roles[role].Parameters.Web
	if web == nil || web.Release.Store == "" {
		return
	}
	named := []string{r.Current}
	if n := len(r.Before); n > 0 {
		named = append(named, r.Before[n-1])
	}
	r.Versions, _ = cluster.Kept(r.Versions, web.Release.Keep, named...)
	r.Before = slices.DeleteFunc(slices.Clone(r.Before), func(v string) bool { return !has(r.Versions, v) })
	l.tidyReleases(role, web.Release.Store, slices.Clone(r.Versions))
}

// isRollback reports whether the roll-out goes to a version that is older than the one in force.
func (l *leader) isRollback(r *roleReleases) bool {
	at := func(name string) int {
		return slices.IndexFunc(r.Versions, func(v cluster.Release) bool { return v.Version == name })
	}
	return at(r.Rollout.To) > at(r.Current)
}

// strayAfter is how old an object is before it counts as left behind: one that is new may be asked for yet.
const strayAfter = time.Hour

// tidyReleases removes what is in the store of a role's releases and is none that is kept.
func (l *leader) tidyReleases(role, address string, kept []cluster.Release) {
	topic := "releases of " + role
	l.errands.do(topic, topic, "removing old releases of "+role, func(ctx context.Context) error {
		err := tidyStore(ctx, role, address, kept, func(keys []string) error {
			return l.fence(ctx, registry.Entry{
				Kind: registry.Decision, Text: fmt.Sprintf("releases of %s that are not kept any more are removed: %s", role, strings.Join(keys, ", ")),
				Fields: map[string]string{"role": role, registry.Minor: "true"},
			})
		})
		if err != nil && ctx.Err() == nil {
			l.log.Warn("old releases are not removed", zap.String("role", role), zap.Error(err))
		}
		return err
	})
}

func tidyStore(ctx context.Context, role, address string, kept []cluster.Release, fence func(keys []string) error) error {
	store, err := openStore(ctx, address)
	if err != nil {
		return err
	}
	var stray []string
	if err := store.List(ctx, cluster.ReleasePrefix(role), func(o objects.Object) error {
		if time.Since(o.Modified) > strayAfter && !slices.ContainsFunc(kept, func(r cluster.Release) bool { return r.Object == o.Key }) {
			stray = append(stray, o.Key)
		}
		return nil
	}); err != nil || len(stray) == 0 {
		return err
	}
	if err := fence(stray); err != nil {
		return err
	}
	for _, key := range stray {
		if err := store.Delete(ctx, key, ""); err != nil {
			return err
		}
	}
	return nil
}

// tellReleases tells the nodes which release they are to have, once that is kept.
func (l *leader) tellReleases(ctx context.Context) error {
	if l.database == "" || len(l.memory.Releases) == 0 {
		return nil
	}
	all := &cluster.Releases{Term: l.term.Number, Roles: map[string]*cluster.RoleReleases{}}
	for role, r := range l.memory.Releases {
		all.Roles[role] = r.told()
	}
	data, err := all.Encode()
	if err != nil || bytes.Equal(data, l.releasesTold) {
		return err
	}
	if err := l.client.Write(ctx, l.term, l.releasing, data); err != nil {
		return err
	}
	l.releasesTold = data
	return nil
}

func (l *leader) sayRelease(role, text, operation string) {
	l.log.Info("release", zap.String("role", role), zap.String("what", text))
	l.journal.put(registry.Entry{Kind: registry.Decision, Text: text, Fields: map[string]string{"role": role, "operation": operation}})
}

// stopRelease has a roll-out go back; false if it is none that goes on.
func (l *leader) stopRelease(operation, by string) bool {
	for role, r := range l.memory.Releases {
		if p := r.Rollout; p != nil && p.Operation == operation && p.Phase != rollout.Ended {
			next := p.Stop("cancelled by " + by)
			r.Rollout = &next
			l.sayRelease(role, fmt.Sprintf("release %s of %s: cancelled by %s", p.To, role, by), operation)
			return true
		}
	}
	return false
}
