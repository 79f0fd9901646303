package mysqld

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"go.uber.org/zap"

	"farmhand/internal/cluster"
	"farmhand/internal/dbserver"
	"farmhand/internal/registry"
)

// findServer takes up what an earlier run left: a running server is adopted.
func (a *Agent) findServer() error {
	initialised, err := dbserver.Initialised(a.o.Server.Dir)
	if err != nil {
		return err
	}
	a.change(func(p *picture) { p.empty = !initialised })
	if err := a.findAside(); err != nil {
		return err
	}
	a.history.recall(a.memory.kept())
	if !initialised {
		return nil
	}
	c := a.o.Server
	c.ServerID = max(1, a.memory.kept().ID) // says nothing about a running one
	server, found, err := dbserver.Adopt(a.o.Install, c)
	if err != nil {
		return err
	}
	switch found {
	case dbserver.Alive:
		a.o.Log.Info("server adopted", zap.Int("pid", server.PID()))
		a.hasServer(server)
		if a.memory.kept().IntactPID == server.PID() {
			a.history.setIntact(true)
		}
		a.change(func(p *picture) {
			if p.order.task() == cluster.Lead {
				p.lead, a.endLead = context.WithCancel(p.life) // it did when it was last heard of
			}
		})
		life := a.look().life
		a.watches.Go(func() { a.resize(life, server) })
	case dbserver.Dead:
		a.change(func(p *picture) { p.process = cluster.Crashed })
	case dbserver.Nothing:
	}
	return nil
}

// Bounds of setting a variable of a server that was adopted.
const (
	resizeLimit = time.Minute // to take pages out of use may have to wait for who uses them
	resizeAgain = 5 * time.Second
)

// resize gives a server that was adopted the buffer pool of the configuration, which
// may be another one than it was started with. The variable is dynamic in both flavors; of
// the same size nothing comes.
func (a *Agent) resize(life context.Context, server *dbserver.Server) {
	if a.o.Server.BufferPool == 0 {
		return // the default, which does not change
	}
	for {
		ctx, cancel := context.WithTimeout(life, resizeLimit)
		err := server.Exec(ctx, "SET GLOBAL innodb_buffer_pool_size = "+strconv.FormatInt(a.o.Server.BufferPool, 10))
		cancel()
		if err == nil || life.Err() != nil {
			return
		}
		a.o.Log.Warn("the server has not taken the configuration's buffer pool; tried again", zap.Error(err), zap.Duration("after", resizeAgain))
		select {
		case <-time.After(resizeAgain):
		case <-life.Done():
			return
		}
	}
}

// hasServer makes a running server the picture's, until its process ends.
func (a *Agent) hasServer(server *dbserver.Server) {
	life, end := context.WithCancel(context.Background())
	a.history.setIntact(false)
	a.change(func(p *picture) {
		p.process, p.server, p.life, p.asked, p.carried, p.deposed, p.detail = cluster.Running, server, life, false, nil, false, ""
		p.unstarted, p.broken = 0, ""
	})
	a.watches.Go(func() {
		<-server.Done()
		end()
		a.change(func(p *picture) {
			p.server, p.carried, p.lead, p.process = nil, nil, nil, cluster.Absent
			if !p.asked {
				p.process, p.detail = cluster.Crashed, fmt.Sprintf("the server's process %d has ended", server.PID())
			}
		})
		if !a.look().asked {
			a.o.Log.Error("the server's process has ended unasked", zap.Int("pid", server.PID()), zap.NamedError("how", server.Err()))
		}
		server.Release()
	})
}

// makeData makes an empty server's data. Servers made alike can follow each other
// from their first transaction on.
func (a *Agent) makeData(ctx context.Context, o *order) error {
	a.o.Log.Info("initialise data directory", zap.String("directory", a.o.Server.Dir), zap.String("version", a.o.Install.Version))
	a.change(func(p *picture) { p.process, p.detail = cluster.Copying, "an empty server is made" })
	statements := slices.Concat(
		dbserver.ReplicationAccount(a.o.Install.Flavor, a.Replication()),
		dbserver.MonitorAccount(a.o.Install.Flavor, a.Monitor()),
	)
	if o.part.Task == cluster.Lead {
		// It is told to itself before there is anything to lead.
		if err := a.memory.keep(func(k *kept) { k.Fresh = true }); err != nil {
			return err
		}
	}
	c := a.o.Server
	c.ServerID = o.part.ID
	err := dbserver.Initialise(ctx, a.o.Install, c, statements...)
	a.change(func(p *picture) { p.process, p.empty, p.detail = cluster.Absent, err != nil, "" })
	return err
}

// start starts the server's process, refusing writes.
func (a *Agent) start(ctx context.Context, o *order) error {
	keeps := a.memory.kept()
	// A server that led and died has commits that nobody may have acknowledged, of
	// which no client has heard: as a follower it gives them up, and rejoins. If
	// commits did not wait for acknowledgements, clients have heard of them: they
	// stay, to be seen as errant.
	master := o.part.Task == cluster.Lead || keeps.LedAsync
	semiSync := o.part.Task == cluster.Lead && o.assignment.SemiSync
	if err := a.memory.keep(func(k *kept) { k.ID = o.part.ID }); err != nil {
		return err
	}
	c := a.o.Server
	c.ServerID = o.part.ID
	c.ExtraArgs = slices.Concat(a.dialect.arguments(master, semiSync), a.o.Server.ExtraArgs)
	before := a.look().process
	a.change(func(p *picture) { p.process, p.detail = cluster.Starting, "" })
	began := time.Now()
	server, err := dbserver.Start(ctx, a.o.Install, c)
	if err != nil {
		a.change(func(p *picture) { p.process = before })
		if errors.Is(err, dbserver.ErrEnded) {
			a.notStarted(ctx, c, err)
		}
		return err
	}
	a.o.Log.Info("server answers", zap.String("address", server.Addr()), zap.Int("pid", server.PID()), zap.Duration("after", time.Since(began)))
	a.hasServer(server)
	return nil
}

// When a server whose process ends as soon as it is started is tried on empty data: not
// before it could not be started so often, over such a time; and how often, where that
// shows that the data is not to blame.
const (
	brokenStarts = 5
	brokenAfter  = 10 * time.Second
	tryAgain     = time.Minute
)

// notStarted takes note of a process that has ended before it answered. Whether its data is why is
// tried: others can give it theirs then, which would be of no use if the program were
// missing or the disk full.
func (a *Agent) notStarted(ctx context.Context, c dbserver.Config, why error) {
	now := time.Now()
	a.change(func(p *picture) {
		if p.unstarted++; p.unstarted == 1 {
			p.unstartedSince = now
		}
	})
	p := a.look()
	if p.broken != "" || p.unstarted < brokenStarts || now.Sub(p.unstartedSince) < brokenAfter || now.Sub(p.tried) < tryAgain {
		return
	}
	a.say("the server cannot be started; one on empty data is tried")
	err := dbserver.Trial(ctx, a.o.Install, c)
	if ctx.Err() != nil {
		return
	}
	broken := ""
	if err != nil {
		a.o.Log.Error("the server cannot be started, and no other one: its data is not known to be broken", zap.Error(err))
	} else {
		broken, _, _ = strings.Cut(why.Error(), "\n")
		a.o.Log.Error("the server cannot be started, but one on empty data can: its data is broken", zap.Int("tries", p.unstarted), zap.Error(why))
	}
	a.change(func(p *picture) { p.tried, p.broken = time.Now(), broken })
}

// stop shuts the server down in order.
func (a *Agent) stop(ctx context.Context, p picture) error {
	a.say("the server is shut down")
	a.change(func(p *picture) { p.asked, p.carried = true, nil })
	err := a.quiesce(ctx, p)
	if err != nil {
		a.o.Log.Warn("the server is shut down with clients on it", zap.Error(err))
	}
	if err := p.server.Stop(ctx); err != nil {
		return err
	}
	a.watches.Wait()
	return nil
}

// quiesce sends the clients of a primary away before it is shut down: a shutdown
// would tell them that commits have succeeded which nobody has acknowledged.
func (a *Agent) quiesce(ctx context.Context, p picture) error {
	ctx, cancel := context.WithTimeout(ctx, 3*time.Second)
	defer cancel()
	f, err := a.facts(ctx, p)
	if err != nil || f.readOnly {
		return err
	}
	return a.refuseWrites(ctx, p)
}

// kill ends the process at once.
func (a *Agent) kill(p picture) {
	a.change(func(p *picture) { p.asked, p.carried = true, nil })
	p.server.Kill()
	a.watches.Wait()
	a.o.Log.Info("the server's process was killed", zap.Int("pid", p.server.PID()), zap.String("task", string(p.order.task())))
}

// shutDown ends what there is, cleanly; the end of now cuts it short. A node that
// was expelled may have been replaced, and kills its server.
func (a *Agent) shutDown(finish, now context.Context) error {
	p := a.look()
	switch {
	case p.server == nil:
		return nil
	case errors.Is(context.Cause(finish), registry.ErrDenied):
		a.kill(p)
		return nil
	}
	return a.stop(now, p)
}

// confirm reads the assignment again after a primary has crashed and nobody has
// taken its place in time.
func (a *Agent) confirm(ctx context.Context, o *order) error {
	if err := a.stillLeads(ctx, o); err != nil {
		return err
	}
	a.change(func(p *picture) { p.confirmed = o.assignment.Epoch })
	return nil
}

// errNotLeading: the assignment has something else in mind by now.
var errNotLeading = errors.New("the assignment no longer says that this server leads")

// stillLeads reads the assignment, from a majority of the registry: nil if the
// server is to lead in o's epoch.
func (a *Agent) stillLeads(ctx context.Context, o *order) error {
	ctx, cancel := context.WithTimeoutCause(ctx, 2*time.Second, errors.New("the registry did not answer within 2s"))
	defer cancel()
	data, err := a.o.Farm.Read(ctx, a.record)
	if err != nil {
		return fmt.Errorf("read the assignment again before it leads: %w", err)
	}
	if data == nil {
		return errNotLeading
	}
	now, err := cluster.Decode(data)
	if err != nil {
		return err
	}
	if leader, ok := now.Leader(); !ok || leader.Name != a.o.Name || now.Epoch != o.assignment.Epoch {
		return errNotLeading
	}
	return nil
}
