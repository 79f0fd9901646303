package steer

import (
	"fmt"
	"slices"
	"strings"

	"farmhand/internal/cluster"
)

// restoredID is the server_id of the one that a new cluster begins with on a backup of
// another: clusters give theirs from 1 on, and a transaction is named by who wrote it.
const restoredID = 1 << 20

// moment is what a restore is to.
func moment(r *cluster.Restore) string {
	if r.To == "" {
		return "the newest that is stored"
	}
	return r.To
}

// restore has the cluster's data made of a backup: one server makes it and leads, the
// others copy that one. The epoch rises, and nobody takes writes meanwhile. Whatever
// fails before the new data is whole leaves the old.
func (s *state) restore() {
	want := s.Request.Restore
	if s.Assignment.Restored == want.ID {
		s.restored(want)
		return
	}
	if s.Assignment.Phase != cluster.Steady {
		s.step.Answer.Text = "waits for the end of the change of primary"
		s.goOn()
		return
	}
	old, led := s.Assignment.Leader()
	chosen, err := s.restorer(old)
	if err != nil {
		s.step.Answer = Answer{Refused: true, Text: err.Error()}
		s.goOn()
		return
	}
	r := *want
	r.Led = led && chosen.Name == old.Name
	a := s.next("a person has the cluster restored to %s: %s makes the data of a backup, and nobody takes writes until then", moment(want), chosen.Name)
	a.Epoch++
	a.Primary, a.Target, a.Base, a.SemiSync, a.Durable, a.Restored, a.NotRestored = "", "", "", false, false, want.ID, ""
	a.RestoredAt = s.now.UTC()
	s.phase(a, cluster.Promoting)
	for i := range a.Servers {
		server := &a.Servers[i]
		switch {
		case server.Name == chosen.Name:
			// Of another id: what it writes from now on has numbers that were given before.
			*server = cluster.Server{Name: server.Name, Address: server.Address, ID: a.NextID, Task: cluster.Lead, Restore: &r}
			a.NextID++
		case server.Task == cluster.Retire:
		default:
			*server = cluster.Server{
				Name: server.Name, Address: server.Address, ID: server.ID, Task: cluster.Clone, Source: chosen.Name, CloneAt: s.cloneAt(chosen.Name),
			}
		}
	}
	s.step.Answer = Answer{Text: a.Why}
}

// goOn has the step made that there would be without the request.
func (s *state) goOn() {
	answer, request := s.step.Answer, s.Request
	v := s.View
	v.Request = nil
	s.step = Next(v, s.p, s.now)
	s.step.Answer, s.Request = answer, request
}

// restorer is the server whose data is made of a backup: the one that leads, which has
// the data that may be wanted back, or where that is lost another one. One that led
// must not go on without knowing of it.
func (s *state) restorer(old cluster.Server) (cluster.Server, error) {
	if s.fresh(old.Name) != nil && s.Servers[old.Name].Leave == Stay {
		return old, nil
	}
	if old.Name != "" && s.Servers[old.Name].Member {
		return old, fmt.Errorf("%s leads, and is not heard of (%s): wait until it is, or until it is known to have stopped", old.Name, s.condition(old.Name))
	}
	for _, server := range s.Assignment.Servers {
		if server.Task != cluster.Retire && s.fresh(server.Name) != nil && s.Servers[server.Name].Leave == Stay {
			return server, nil
		}
	}
	return old, fmt.Errorf("no server is heard of")
}

// restored says how a restore stands that was begun.
func (s *state) restored(want *cluster.Restore) {
	leader, _ := s.Assignment.Leader()
	was := s.Assignment
	s.goOn()
	switch r := s.fresh(leader.Name); {
	case was.NotRestored != "":
		s.step.Answer = Answer{Refused: true, Text: "the cluster has the data that it had: " + was.NotRestored}
	case was.Phase == cluster.Steady && was.Primary == leader.Name:
		s.step.Answer = Answer{Done: true, Text: fmt.Sprintf("%s leads with the data of %s, at %s; the others copy it", leader.Name, moment(want), was.Base)}
		if r != nil && r.Aside != "" {
			s.step.Answer.Text += "; what it had before is kept in " + r.Aside + " until scaler restore confirm"
		}
	case r != nil && r.RestoreError != "":
		s.step.Answer = Answer{Text: r.RestoreError}
	case r != nil && r.Detail != "":
		s.step.Answer = Answer{Text: leader.Name + " " + r.Detail}
	default:
		s.step.Answer = Answer{Text: "waits for " + leader.Name + ": " + s.condition(leader.Name)}
	}
}

// restoring goes on with a restore that the leader has not done; false once it has.
func (s *state) restoring(leader cluster.Server) bool {
	r := s.fresh(leader.Name)
	if r != nil && r.Restored == leader.Restore.ID {
		return false
	}
	if r == nil || r.RestoreError == "" || r.Serial < s.Assignment.Serial {
		s.because("%s has its data made of a backup of %s: %s", leader.Name, leader.Restore.Cluster, s.condition(leader.Name))
		return true
	}
	if !leader.Restore.Led {
		s.because("%s cannot have its data made of a backup of %s: %s", leader.Name, leader.Restore.Cluster, r.RestoreError)
		return true
	}
	a := s.next("the restore is given up, and %s leads again with the data that it had: %s", leader.Name, r.RestoreError)
	a.Epoch++
	a.NotRestored = r.RestoreError
	s.phase(a, cluster.Promoting)
	for i := range a.Servers {
		switch server := &a.Servers[i]; {
		case server.Name == leader.Name:
			server.Restore = nil
		case server.Task == cluster.Clone:
			// Its data is what it was; if that does not lead to the primary's, it is copied.
			server.Task, server.CloneAt = cluster.Follow, ""
		}
	}
	return true
}

// confirm lets servers remove what they had before the last restore.
func (s *state) confirm() {
	s.goOn()
	switch id := s.Assignment.Restored; {
	case id == "" || id == s.Assignment.Confirmed:
		s.step.Answer = Answer{Done: true, Text: "nothing is kept from before a restore"}
	case s.Assignment.Phase != cluster.Steady:
		s.step.Answer = Answer{Refused: true, Text: "the cluster has no primary now, and what there was before the restore may be needed"}
	default:
		s.next("a person has confirmed restore %s: what servers had before it is removed", id).Confirmed = id
		s.step.Answer = Answer{Done: true, Text: "confirmed: what servers had before restore " + id + " is removed"}
	}
}

// unrestored is why a server cannot get its data from a backup.
func (s *state) unrestored(server cluster.Server) string {
	r := s.fresh(server.Name)
	if r == nil || r.Serial < s.Assignment.Serial {
		return ""
	}
	if c := r.Replication; c != nil && r.Process == cluster.Running && c.Receiver == "No" && c.ReceiverError != "" {
		return "the primary does not have what comes after it: " + c.ReceiverError
	}
	return r.RestoreError
}

// had is where a server's data came from.
func had(server cluster.Server) string {
	if server.Restore != nil {
		return "a backup"
	}
	return server.Source
}

// origin is where a server's data can come from.
type origin struct {
	text string
	give func(*cluster.Server)
}

// What copies bring in a second where none has been measured, in bytes: of data, and of
// what is stored, which is compressed, and replayed.
const (
	guessedCopy   = 100 << 20
	guessedStored = 20 << 20
)

// origin finds the faster way to the data: of a server, or of a backup, if that can be
// had. One that copies a backup takes nothing from the servers.
func (s *state) origin(leader, server cluster.Server) (origin, error) {
	source, err := s.donor(leader, server.Name)
	live := origin{"the data of " + source, func(o *cluster.Server) {
		o.Task, o.Source, o.CloneAt, o.Restore = cluster.Clone, source, s.cloneAt(source), nil
	}}
	stored := s.stored(server)
	switch {
	case stored == nil:
		return live, err
	case err != nil:
		return s.fromStore(leader, stored, err.Error()), nil
	}
	copied, measured := s.speed(false, guessedCopy)
	restored, also := s.speed(true, guessedStored)
	byCopy, byStore := seconds(stored.Data, copied), seconds(stored.Bytes, restored)
	how := "is guessed to take"
	if measured && also {
		how = "by what was measured takes"
	}
	why := fmt.Sprintf("that %s %d s, and a backup %d s", how, byCopy, byStore)
	if byStore < byCopy {
		return s.fromStore(leader, stored, fmt.Sprintf("to copy %s %s %d s, and this %d s", source, how, byCopy, byStore)), nil
	}
	live.text += " (" + why + ")"
	return live, nil
}

// stored is the backup that a server may get its data from; nil if that has failed.
func (s *state) stored(server cluster.Server) *Stored {
	if s.Stored == nil || server.Restore != nil && s.unrestored(server) != "" {
		return nil
	}
	return s.Stored
}

func (s *state) fromStore(leader cluster.Server, stored *Stored, why string) origin {
	r := stored.Restore
	r.ID = fmt.Sprintf("copy-%d", s.Assignment.Serial+1)
	return origin{"a backup (" + why + ")", func(o *cluster.Server) {
		o.Task, o.Source, o.CloneAt, o.Restore = cluster.Clone, leader.Name, "", &r
	}}
}

// speed is what copies of a kind have brought in a second, the median of what servers
// remember, or a guess.
func (s *state) speed(stored bool, guess int64) (bytes int64, measured bool) {
	var all []int64
	for _, seen := range s.Servers {
		if r := seen.Report; r != nil && r.Copied != nil && r.Copied.Stored == stored && r.Copied.Took > 0 && r.Copied.Bytes > 0 {
			all = append(all, max(1, int64(float64(r.Copied.Bytes)/r.Copied.Took.Seconds())))
		}
	}
	if len(all) == 0 {
		return guess, false
	}
	slices.Sort(all)
	return all[len(all)/2], true
}

func seconds(bytes, rate int64) int64 { return (bytes + rate - 1) / rate }

// keptAside tells what is kept from before a restore.
func (s *state) keptAside() {
	if s.Assignment.Restored == s.Assignment.Confirmed {
		return
	}
	var where []string
	for name, seen := range s.Servers {
		if seen.Report != nil && seen.Report.Aside != "" {
			where = append(where, name+" ("+seen.Report.Aside+")")
		}
	}
	slices.Sort(where)
	if len(where) > 0 {
		s.because("the data from before restore %s is kept on %s until scaler restore confirm", s.Assignment.Restored, strings.Join(where, ", "))
	}
}
