package role

import (
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"sync"
	"time"

	"go.uber.org/zap"

	"farmhand/internal/farm"
	"farmhand/internal/topology"
	"farmhand/sidecar/internal/membership"
)

// clusterOf returns the database servers of a membership as the proxy is to see
// them.
func clusterOf(s membership.Snapshot) farm.Cluster {
	if s.Cluster != nil {
		return *s.Cluster
	}
	c := farm.Cluster{Epoch: s.Epoch, Replicas: []farm.Server{}}
	for _, h := range s.Hosts {
		server := farm.Server{Name: h.Name, Address: h.Address, Weight: h.Weight, Attributes: h.Attributes}
		switch {
		case !h.Database():
		case h.Role == string(farm.Primary):
			c.Primary = &server
		case h.State == membership.Down:
		default:
			server.State = map[membership.State]farm.State{
				membership.Joining: farm.Warming, membership.Up: farm.Serving, membership.Leaving: farm.Draining,
			}[h.State]
			c.Replicas = append(c.Replicas, server)
		}
	}
	return c
}

// written returns the term of the cluster in the topology file at path; none if
// there is no such file or nothing good in it.
func written(path, name string) membership.Term {
	t, err := topology.Read(path)
	if err != nil {
		return membership.Term{} // publish says what is wrong with it
	}
	return termOf(t.Clusters[name])
}

func termOf(c farm.Cluster) membership.Term {
	term := membership.Term{Epoch: c.Epoch}
	if c.Primary != nil {
		term.Primary = c.Primary.Name
	}
	return term
}

// publisher keeps the proxy's topology file.
type publisher struct {
	path    string // empty for no such file
	cluster string
	farm    *nodeFarm // is told what was written
	log     *zap.Logger

	mu sync.Mutex // is held while the file is written
	// term and serial are of the newest that atOnce took.
	term   membership.Term
	serial uint64
}

// atOnce writes what the source says that the proxies are to know, before anything
// else is done with it: a template's command may take seconds. What is wrong with
// it, or cannot be written, comes up again when the rest is done.
func (p *publisher) atOnce(s membership.Snapshot) {
	if s.Cluster == nil {
		return
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	_, term, err := membership.Admit(p.term, s)
	if err == nil && p.write(s) == nil {
		p.term, p.serial = term, s.Serial
	}
}

// put writes the file if it says something else. It is not put back to what it was
// before what came meanwhile.
func (p *publisher) put(s membership.Snapshot) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if s.Cluster != nil && (s.Epoch < p.term.Epoch || s.Epoch == p.term.Epoch && s.Serial < p.serial) {
		return nil
	}
	return p.write(s)
}

func (p *publisher) write(s membership.Snapshot) error {
	// Without any primary ever there is nothing that the proxy could be told.
	if p.path == "" || s.Epoch == 0 {
		return nil
	}
	changed, err := publish(p.path, p.cluster, clusterOf(s), time.Now())
	if err != nil {
		return err
	}
	if changed != "" {
		p.log.Info("topology file written", zap.String("file", p.path), zap.String("change", changed))
	}
	p.farm.wrote(s)
	return nil
}

// publish writes the cluster into the topology file at path if the file says
// something else. It returns what changed, in words; empty if nothing did.
//
// Whoever else writes the file is respected: one with a newer epoch, or another
// primary in the same, stays as it is, and other clusters stay in it.
func publish(path, name string, c farm.Cluster, now time.Time) (changed string, err error) {
	t, err := topology.Read(path)
	var bad topology.Problems
	switch {
	case errors.Is(err, fs.ErrNotExist):
		changed = "written for the first time"
	case errors.As(err, &bad):
		// It is of no use to any reader.
		changed = fmt.Sprintf("it was bad and is replaced (%v)", bad)
	case err != nil:
		return "", err
	}
	there, is := termOf(t.Clusters[name]), termOf(c)
	switch {
	case there.Epoch > is.Epoch:
		return "", fmt.Errorf("topology file %s: it has epoch %d, the membership only %d, which is older; it stays as it is", path, there.Epoch, is.Epoch)
	case there.Epoch == is.Epoch && there.Primary != "" && is.Primary != "" && there.Primary != is.Primary:
		return "", fmt.Errorf("topology file %s: in epoch %d it has %s for its primary, the membership %s; it stays as it is", path, is.Epoch, there.Primary, is.Primary)
	}
	next := farm.Topology{Version: topology.Version, Written: now.UTC().Truncate(time.Second), Clusters: map[string]farm.Cluster{}}
	maps.Copy(next.Clusters, t.Clusters)
	next.Clusters[name] = c
	// As it would be read: with defaults.
	data, err := topology.Encode(next)
	if err != nil {
		return "", fmt.Errorf("topology file %s: %w", path, err)
	}
	read, err := topology.Parse(data)
	if err != nil {
		return "", fmt.Errorf("topology file %s: %w", path, err)
	}
	if changed == "" {
		old, known := t.Clusters[name]
		if changed = topology.Diff(old, read.Clusters[name]); known && changed == "" {
			return "", nil
		}
	}
	if err := topology.Write(path, next); err != nil {
		return "", fmt.Errorf("topology file %s: %w", path, err)
	}
	return changed, nil
}
