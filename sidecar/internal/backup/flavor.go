package backup

import (
	"context"
	"fmt"
	"io"

	"farmhand/internal/dbserver"
	"farmhand/internal/farm"
	"farmhand/internal/mariabackup"
	"farmhand/internal/mysqlbackup"
)

// flavor is how one make of server gives its data.
type flavor interface {
	// ready says what is missing on this machine.
	ready(inst dbserver.Install, logical bool) error
	// files gives the server's files, and statements what makes all that applications have
	// in it.
	files(ctx context.Context, f *Full, to *passing) (given, error)
	statements(ctx context.Context, f *Full, to *passing) (given, error)
	// clear removes what a process has left that was killed while it took a backup.
	clear(ctx context.Context, c dbserver.Config) error
}

// given says what a server has given.
type given struct {
	position     string // up to which it holds transactions
	state        string // who wrote those, of MariaDB
	tool, stream string // for the manifest
}

var flavors = map[farm.Flavor]flavor{
	farm.MariaDB: mariaDB{},
	farm.MySQL:   mySQL{},
}

func flavorOf(f *Full) (flavor, error) {
	how, ok := flavors[f.Install.Flavor]
	if !ok {
		return nil, fmt.Errorf("no way is known to back up a %v server as a whole", f.Install.Flavor)
	}
	return how, how.ready(f.Install, f.Logical)
}

// Clear removes what is left beside a server's data of a backup that was taken by a process
// which was killed. No backup of that server may be under way.
func Clear(ctx context.Context, inst dbserver.Install, c dbserver.Config) error {
	how, ok := flavors[inst.Flavor]
	if !ok {
		return nil
	}
	return how.clear(ctx, c)
}

// mariaDB gives what mariadb-backup and mariadb-dump write.
type mariaDB struct{}

func (mariaDB) ready(_ dbserver.Install, logical bool) error {
	if logical {
		return mariabackup.DumpReady()
	}
	return mariabackup.Ready()
}

func (mariaDB) files(ctx context.Context, f *Full, to *passing) (given, error) {
	return withState(ctx, f, given{tool: mariabackup.Tool, stream: "mbstream"}, func() (string, error) {
		finder := new(mariabackup.PositionFinder)
		if err := mariabackup.Stream(ctx, f.Config, "backup", both{finder, to}); err != nil {
			return "", err
		}
		return finder.Position()
	})
}

func (mariaDB) statements(ctx context.Context, f *Full, to *passing) (given, error) {
	return withState(ctx, f, given{tool: mariabackup.DumpTool, stream: "sql"}, func() (string, error) {
		return mariabackup.Dump(ctx, f.Config, to)
	})
}

// clear has nothing to do: nothing is on the disk.
func (mariaDB) clear(context.Context, dbserver.Config) error { return nil }

// withState completes what is known of what give gives.
func withState(ctx context.Context, f *Full, g given, give func() (position string, err error)) (given, error) {
	admin, err := f.Config.Admin()
	if err != nil {
		return g, err
	}
	before, err := mariabackup.Streams(ctx, admin)
	if err != nil {
		return g, err
	}
	if g.position, err = give(); err != nil {
		return g, err
	}
	after, err := mariabackup.Streams(ctx, admin)
	if err != nil {
		return g, err
	}
	g.state, err = mariabackup.StateAt(g.position, before, after)
	return g, err
}

// both is what a stream is looked through by on its way.
type both struct{ finder, to io.Writer }

func (b both) Write(p []byte) (int, error) {
	if _, err := b.finder.Write(p); err != nil {
		return 0, err
	}
	return b.to.Write(p)
}

// mySQL gives what the clone plugin and mysqldump make.
type mySQL struct{}

func (mySQL) ready(inst dbserver.Install, logical bool) error {
	if logical {
		return mysqlbackup.DumpReady(inst)
	}
	return nil // the server says whether it has the plugin
}

func (mySQL) files(ctx context.Context, f *Full, to *passing) (given, error) {
	position, err := mysqlbackup.Stream(ctx, f.Install, f.Config, to.copying, to)
	return given{position: position, tool: mysqlbackup.Tool, stream: "tar"}, err
}

func (mySQL) statements(ctx context.Context, f *Full, to *passing) (given, error) {
	position, err := mysqlbackup.Dump(ctx, f.Install, f.Config, to)
	return given{position: position, tool: mysqlbackup.DumpTool, stream: "sql"}, err
}

func (mySQL) clear(ctx context.Context, c dbserver.Config) error { return mysqlbackup.Clear(ctx, c) }
