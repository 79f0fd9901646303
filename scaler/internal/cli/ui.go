package cli

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	farmregistry "farmhand/internal/registry"
	"farmhand/internal/service"
	"farmhand/scaler/internal/daemon"
	"farmhand/scaler/internal/page"
	"farmhand/scaler/internal/simulate"
)

func ui() *cobra.Command {
	c := &cobra.Command{
		Use:   "ui",
		Short: "show the farm in a browser, live",
		Long: `Serve a page that shows the farm live: servers by role with their state and load,
who follows whom and how far behind, plots of the last quarter of an hour, what
happened and was decided and why, operations, backups, instance-hours. It shows what
scaler status, doctor, why and events show, and changes nothing.

The page is for this machine only. The address that is printed has a token; who has
that sees the farm. From another machine, through SSH:

  ssh -L 8090:127.0.0.1:8090 CONTROL-NODE scaler ui --control DIR --listen 127.0.0.1:8090`,
		Args: cobra.NoArgs,
	}
	w := farmFlags(c)
	listen := c.Flags().String("listen", "127.0.0.1:0", "the loopback address and port; port 0 is any free one")
	price := c.Flags().StringToString("price", nil, "price of an instance for an hour: ROLE=NUMBER (repeatable)")
	c.RunE = func(c *cobra.Command, _ []string) error {
		prices, err := pricesOf(*price)
		if err != nil {
			return err
		}
		log, _, err := service.NewLogger(c.ErrOrStderr(), service.LogConfig{Level: "warn", Format: "console"}, service.NewRegistry(service.ReadBuild("scaler")))
		if err != nil {
			return err
		}
		return w.with(func(client *farmregistry.Client) error {
			return untilSignal(c.Context(), func(ctx context.Context) error {
				p, err := page.New(ctx, *listen, pageSource(client, w, prices), log)
				if err != nil {
					return err
				}
				if _, err := fmt.Fprintf(c.OutOrStdout(), "the farm's page, until Ctrl-C; who has this address sees the farm:\n  %s\n", p.URL()); err != nil {
					return err
				}
				return p.Run(ctx)
			})
		})
	}
	return c
}

// pricesOf reads the flag as scaler simulate does.
func pricesOf(flag map[string]string) (map[string]float64, error) {
	a := simulate.Assumptions{Roles: map[string]simulate.Assumption{}}
	if err := assume(&a, nil, flag); err != nil {
		return nil, err
	}
	prices := map[string]float64{}
	for role, r := range a.Roles {
		if !(r.Price >= 0 && r.Price <= simulate.MaxPrice) {
			return nil, fmt.Errorf("--price %s=%g is out of bounds; expected 0 to %g", role, r.Price, float64(simulate.MaxPrice))
		}
		prices[role] = r.Price
	}
	return prices, nil
}

// pageSource is what the page shows: what the commands that look show.
func pageSource(client *farmregistry.Client, w where, prices map[string]float64) page.Source {
	return page.Source{
		Farm: func(ctx context.Context, tell func(page.Farm, error) error) error {
			return followFarm(ctx, client, w, prices, tell)
		},
		Journal: client.FollowEntries,
		Reports: client.WatchReports,
	}
}

// How often the farm is looked at anew: at a change of what the leader shows, and
// without one, for operations, the journal's decisions and the age of it all.
const (
	lookAtLeast = 2 * time.Second
	lookAtMost  = 500 * time.Millisecond
	countEvery  = time.Minute // the whole journal is read
)

// followFarm tells how the farm is.
func followFarm(ctx context.Context, client *farmregistry.Client, w where, prices map[string]float64, tell func(page.Farm, error) error) error {
	type seen struct {
		view *daemon.View
		lost error
	}
	views := make(chan seen, 1)
	group := service.NewGroup(ctx)
	group.Go("view", func(ctx context.Context) error {
		return daemon.WatchView(ctx, client, func(v *daemon.View, lost error) error {
			select { // the newest is all that counts
			case <-views:
			default:
			}
			views <- seen{v, lost}
			return nil
		})
	})
	group.Go("look", func(ctx context.Context) error {
		var last seen
		var journal []farmregistry.Entry // for the instance-hours; the page has its own
		var read time.Time
		known := false
		for {
			select {
			case s := <-views:
				if s.lost != nil {
					s.view = last.view
				}
				last, known = s, true
			case <-time.After(lookAtLeast):
			case <-ctx.Done():
				return context.Cause(ctx)
			}
			if !known {
				continue
			}
			var err error
			if now := time.Now(); now.Sub(read) > countEvery {
				if journal, err = client.Entries(ctx, 0); err == nil {
					read = now
				}
			}
			farm := page.Farm{}
			if err == nil {
				farm, err = pageFarm(ctx, client, w, last.view, journal, prices)
			}
			if ctx.Err() != nil {
				return context.Cause(ctx)
			}
			if err := tell(farm, errors.Join(last.lost, err)); err != nil {
				return err
			}
			select {
			case <-time.After(lookAtMost):
			case <-ctx.Done():
				return context.Cause(ctx)
			}
		}
	})
	return group.Wait()
}

// shownFarm is what the page is sent: what status prints as JSON, and what status and
// doctor make of it for people.
type shownFarm struct {
	*state
	// Commits is what becomes of a commit, BackupLines what status says of backups.
	Commits     string       `json:"commits,omitempty"`
	BackupLines []string     `json:"backup_lines"`
	Rows        []shownRow   `json:"rows"`
	Problems    []shownWrong `json:"problems"`
	Cost        page.Cost    `json:"cost"`
	// Flags name the farm in commands that a person can copy.
	Flags string `json:"flags"`
}

// shownRow is a row of status, with what doctor says of its server.
type shownRow struct {
	Name    string `json:"name"`
	Part    string `json:"part"` // primary, replica, or the role's kind
	Role    string `json:"role"`
	Address string `json:"address"`
	Task    string `json:"task"`
	State   string `json:"state"`
	Behind  string `json:"behind"`
	Epoch   string `json:"epoch"`
	PID     string `json:"pid"`
	Detail  string `json:"detail,omitempty"`
	Wrong   string `json:"wrong,omitempty"`
}

// shownWrong is what doctor finds to be wrong.
type shownWrong struct {
	What  string `json:"what"`
	Wrong string `json:"wrong"`
	Cure  string `json:"cure,omitempty"`
}

func pageFarm(ctx context.Context, client *farmregistry.Client, w where, v *daemon.View, journal []farmregistry.Entry, prices map[string]float64) (page.Farm, error) {
	s, err := gather(ctx, client, v)
	if err != nil {
		return page.Farm{}, err
	}
	live := map[string]int{}
	for name, r := range v.Roles {
		live[name] = r.Live
	}
	return page.Farm{Shown: shown(s, journal, w.args(), prices, time.Now()), Live: live}, nil
}

func shown(s *state, journal []farmregistry.Entry, flags string, prices map[string]float64, now time.Time) shownFarm {
	f := shownFarm{state: s, Flags: flags, BackupLines: []string{}, Rows: []shownRow{}, Problems: []shownWrong{}, Cost: page.Count(journal, s.View, prices, now)}
	if s.Cluster != "" {
		f.Commits = durability(s)
	}
	backupRows(s.View, now, func(columns ...string) { f.BackupLines = append(f.BackupLines, strings.Join(columns, " ")) })
	wrong := map[string]string{}
	for _, found := range servers(s.View) {
		if found.wrong != "" {
			f.Problems = append(f.Problems, shownWrong{found.what, found.wrong, found.cure})
			wrong[found.what] = found.wrong
		}
	}
	for _, n := range s.Nodes {
		c := nodeRow(s, n)
		f.Rows = append(f.Rows, shownRow{
			Name: c[0], Part: c[1], Role: n.RoleName, Address: c[2], Task: c[3], State: c[4], Behind: c[5], Epoch: c[6], PID: c[7], Detail: c[8],
			Wrong: wrong["server "+n.Name],
		})
	}
	slices.SortFunc(f.Problems, func(a, b shownWrong) int { return strings.Compare(a.What, b.What) })
	return f
}
