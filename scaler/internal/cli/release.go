package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/spf13/cobra"

	"farmhand/internal/cluster"
	"farmhand/internal/objects"
	farmregistry "farmhand/internal/registry"
	code "farmhand/internal/release"
	"farmhand/scaler/internal/daemon"
)

// releasing is what a release command was told.
type releasing struct {
	asking
	version, to *string
	rollback    *bool
	batch       *int
	within      *time.Duration
	asJSON      *bool
}

func release() *cobra.Command {
	c := &cobra.Command{
		Use: "release ROLE [DIRECTORY|ARCHIVE]", Short: "roll out a version of a site's code, go back to one before, or show them",
		Long: `Pack a directory, or a tar archive (plain, gzip or zstd), as a version of the code of
a role's site, put it into the store of the farm file (release.store), and have the
role's servers use it: some at a time. Each server asks the new version for a page
before visitors get it, and again after that; if one server refuses it, or is not well
with it in time, all go back. A server that comes meanwhile, or later, has the version
in force before it gets visitors.

--rollback goes back to the version that was in force before, --to to any that is kept.
Without a directory and without these the versions are shown, and who has which. scaler
pause holds a roll-out up, scaler cancel takes it back. docs/ROLES.md says more.`,
		Args: cobra.RangeArgs(1, 2),
	}
	r := releasing{
		asking: askFlags(c, false), version: c.Flags().String("version", "", "the version's name (default: the time)"),
		to: c.Flags().String("to", "", "a version that is there already"), rollback: c.Flags().Bool("rollback", false, "the version that was in force before"),
		batch: c.Flags().Int("batch", daemon.DefaultBatch, "how many servers get it at a time"), within: c.Flags().Duration("within", daemon.DefaultReleaseWithin, "how long they may take to be well with it"),
		asJSON: c.Flags().Bool("json", false, "without a directory: print JSON for programs"),
	}
	c.MarkFlagsMutuallyExclusive("to", "rollback", "version")
	c.RunE = func(c *cobra.Command, args []string) error {
		if *r.batch < 1 || *r.within <= 0 {
			return fmt.Errorf("--batch %d --within %v: both have to be more than nothing", *r.batch, *r.within)
		}
		role := args[0]
		asked := map[string]string{"role": role, "version": *r.to, "rollback": strconv.FormatBool(*r.rollback)}
		switch {
		case len(args) == 2 && (*r.to != "" || *r.rollback):
			return errors.New("a directory is rolled out as a new version: --to and --rollback are for those that are there already")
		case len(args) == 2:
			return r.roll(c, role, args[1])
		case *r.rollback:
			return r.ask(c, asked, role+" goes back to the release before")
		case *r.to != "":
			return r.ask(c, asked, fmt.Sprintf("roll out release %s of %s", *r.to, role))
		}
		return r.list(c, role)
	}
	return c
}

func (r releasing) ask(c *cobra.Command, args map[string]string, what string) error {
	args["batch"], args["within"] = strconv.Itoa(*r.batch), r.within.String()
	return r.do(c, daemon.OpRelease, args, fmt.Sprintf("%s, %s at a time", what, countOf(*r.batch, "server")))
}

func countOf(n int, what string) string {
	if n == 1 {
		return "1 " + what
	}
	return fmt.Sprintf("%d %ss", n, what)
}

// versionTime is a version's name by default.
const versionTime = "20060102-150405"

// roll packs the code, puts it into the store and asks for its roll-out.
func (r releasing) roll(c *cobra.Command, role, source string) error {
	one := cluster.Release{Version: or(*r.version, time.Now().UTC().Format(versionTime))}
	if err := cluster.CheckVersion(one.Version); err != nil {
		return fmt.Errorf("--version: %w", err)
	}
	what := fmt.Sprintf("roll out release %s of %s", one.Version, role)
	if *r.dryRun {
		return r.ask(c, nil, what)
	}
	if err := r.with(func(client *farmregistry.Client) error {
		address, err := releaseStore(c.Context(), client, role)
		if err != nil {
			return err
		}
		return r.put(c, address, role, source, &one)
	}); err != nil {
		return err
	}
	return r.ask(c, daemon.ReleaseArgs(role, one), what)
}

// releaseStore is where a role's releases are kept.
func releaseStore(ctx context.Context, client *farmregistry.Client, role string) (string, error) {
	farm, err := appliedFarm(ctx, client)
	if err != nil {
		return "", err
	}
	var web []string
	for name, r := range farm.Roles {
		if r.Parameters.Web != nil && r.Parameters.Web.Release.Store != "" {
			web = append(web, name)
		}
	}
	slices.Sort(web)
	if !slices.Contains(web, role) {
		return "", fmt.Errorf("role %s has no releases; those with release.store in the farm file are: %s", role, or(strings.Join(web, ", "), "none"))
	}
	return farm.Roles[role].Parameters.Web.Release.Store, nil
}

// put packs the code and stores it. The file is beside the keys of the control node: nobody else reads it.
func (r releasing) put(c *cobra.Command, address, role, source string, one *cluster.Release) (err error) {
	store, err := openStore(c.Context(), address)
	if err != nil {
		return err
	}
	dir, err := r.dir()
	if err != nil {
		return err
	}
	file, err := os.CreateTemp(dir.Path, ".release-*")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, file.Close(), os.Remove(file.Name())) }()
	ctx, stop := signal.NotifyContext(c.Context(), syscall.SIGINT, syscall.SIGTERM)
	defer stop()
	packed, err := code.Pack(ctx, source, file)
	if err != nil {
		return err
	}
	one.SHA256, one.Size, one.Files, one.Bytes = packed.SHA256, packed.Size, packed.Files, packed.Bytes
	one.Object = cluster.ReleaseObject(role, one.Version, one.SHA256)
	if _, err := file.Seek(0, io.SeekStart); err != nil {
		return err
	}
	_, err = store.Put(ctx, one.Object, file, objects.PutOptions{IfAbsent: true, SHA256: one.SHA256})
	if err != nil && !errors.Is(err, objects.ErrExists) { // then it is the same: its name says so
		return err
	}
	_, err = fmt.Fprintf(c.OutOrStdout(), "packed %s: %d files of %s, %s in %v\n", one.Version, one.Files, size(one.Bytes), size(one.Size), store)
	return err
}

// releaseList is what is shown of a role's releases.
type releaseList struct {
	Role string `json:"role"`
	*cluster.RoleReleases
	// Servers are the versions that the role's servers have; empty for none.
	Servers map[string]string `json:"servers"`
}

func (r releasing) list(c *cobra.Command, role string) error {
	return r.with(func(client *farmregistry.Client) error {
		if _, err := releaseStore(c.Context(), client, role); err != nil {
			return err
		}
		v, err := daemon.Viewed(c.Context(), client)
		if err != nil {
			return err
		}
		if v == nil {
			return errors.New("no scaler has ever led this farm")
		}
		record, err := farmregistry.ClusterRecord(v.Cluster, cluster.ReleasesRecord)
		if err != nil {
			return err
		}
		data, err := client.Read(c.Context(), record)
		if err != nil {
			return err
		}
		all, err := cluster.DecodeReleases(data)
		if err != nil {
			return err
		}
		l := releaseList{Role: role, RoleReleases: all.Roles[role], Servers: map[string]string{}}
		if l.RoleReleases == nil {
			l.RoleReleases = &cluster.RoleReleases{}
		}
		for _, n := range v.Nodes {
			if n.RoleName == role && n.Report != nil && n.Report.Release != nil {
				l.Servers[n.Name] = n.Report.Release.Version
			}
		}
		if *r.asJSON {
			return indented(c.OutOrStdout(), l)
		}
		return listing(c.OutOrStdout(), "VERSION\tMADE\tBY\tFILES\tSIZE\tSERVERS\t", len(l.Versions), func(i int) string { return l.row(l.Versions[i]) })
	})
}

func (l releaseList) row(v cluster.Release) string {
	var servers []string
	for name, version := range l.Servers {
		if version == v.Version {
			servers = append(servers, name)
		}
	}
	slices.Sort(servers)
	state := ""
	if v.Version == l.Current {
		state = "in force"
	}
	return fmt.Sprintf("%s\t%s\t%s\t%d\t%s\t%s\t%s", v.Version, v.Made.Local().Format(time.DateTime), v.By, v.Files, size(v.Size), or(strings.Join(servers, ", "), "-"), state)
}
