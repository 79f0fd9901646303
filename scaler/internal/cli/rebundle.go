package cli

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"go.uber.org/zap"

	farmregistry "farmhand/internal/registry"
	"farmhand/scaler/internal/daemon"
	"farmhand/scaler/internal/farmfile"
	"farmhand/scaler/internal/localfarm"
	"farmhand/scaler/internal/provider"
)

func rebundle() *cobra.Command {
	c := &cobra.Command{
		Use: "rebundle INSTANCE", Short: "make an image of an instance, and have its role run that",
		Long: `Make an image of an instance that was changed, without keys, passwords, histories,
logs and what else is its own; make that the role's image in the farm file that is applied;
and replace the role's instances by others that are launched from it: some at a time, and
only while all of the role are well. If the new ones are not well in time, the image before
is the role's again, and what was replaced is replaced once more. scaler pause holds it up,
scaler cancel stops it where it is. docs/IMAGES.md says what is in an image.`,
		Args: cobra.ExactArgs(1),
	}
	a := askFlags(c, true)
	as := c.Flags().String("as", "", "the name of the image, to which its time is added (default: the role's)")
	batch := c.Flags().Int("batch", daemon.DefaultBatch, "how many are replaced at a time")
	within := c.Flags().Duration("within", daemon.DefaultWithin, "how long new ones may take to be well")
	c.RunE = func(c *cobra.Command, args []string) error {
		if *batch < 1 || *within <= 0 {
			return fmt.Errorf("--batch %d --within %v: both have to be more than nothing", *batch, *within)
		}
		what := fmt.Sprintf("make an image of %s and replace all of its role, %d at a time", args[0], *batch)
		return a.do(c, daemon.OpRebundle, map[string]string{"instance": args[0], "as": *as, "batch": strconv.Itoa(*batch), "within": within.String()}, what)
	}
	return c
}

func images() *cobra.Command {
	c := &cobra.Command{
		Use: "image", Short: "show and delete the images that were made of the farm's servers",
		Long: `Show and delete the images that scaler rebundle has made. These commands ask the
provider themselves. docs/IMAGES.md says what is in one.`,
	}
	c.AddCommand(imageList(), imageShow(), imageDelete())
	return c
}

// album is a farm's images, and who uses them.
type album struct {
	provider.Imager
	images []provider.Image
	users  map[string][]string // by what the farm file calls the image
}

// image is the one of a name.
func (a *album) image(name string) (provider.Image, error) {
	var names []string
	for _, i := range a.images {
		if i.Name == name {
			return i, nil
		}
		names = append(names, i.Name)
	}
	return provider.Image{}, fmt.Errorf("there is no image %s; there are %s", name, or(strings.Join(names, ", "), "none"))
}

// onImages makes a command that does something with the farm's images.
func onImages(c *cobra.Command, do func(c *cobra.Command, a *album, args []string) error) *cobra.Command {
	w := farmFlags(c)
	c.RunE = func(c *cobra.Command, args []string) error {
		return w.with(func(client *farmregistry.Client) error {
			a, err := w.album(c.Context(), client)
			if err != nil {
				return err
			}
			return do(c, a, args)
		})
	}
	return c
}

func (w where) album(ctx context.Context, client *farmregistry.Client) (*album, error) {
	farm, err := appliedFarm(ctx, client)
	if err != nil {
		return nil, err
	}
	provided, err := w.provided(farm)
	if err != nil {
		return nil, err
	}
	if provided.Images == nil {
		return nil, fmt.Errorf("the provider %s makes no images", farm.Provider.Kind)
	}
	a := &album{Imager: provided.Images, users: map[string][]string{}}
	if a.images, err = a.Images(ctx); err != nil {
		return nil, err
	}
	instances, err := provided.List(ctx)
	if err != nil {
		return nil, err
	}
	for name, role := range farm.Roles {
		a.users[role.Image] = append(a.users[role.Image], "role "+name)
	}
	for _, i := range instances {
		image := i.Configuration["image"]
		a.users[image] = append(a.users[image], i.Name)
	}
	operations, err := client.Operations(ctx)
	if err != nil {
		return nil, err
	}
	for _, o := range operations {
		if o.Kind == daemon.OpRebundle && !o.HasEnded() {
			for _, i := range a.images { // it may have to go back to any
				a.users[i.ID] = append(a.users[i.ID], "operation "+o.ID)
			}
		}
	}
	for _, users := range a.users {
		slices.Sort(users)
	}
	return a, nil
}

// provided is the provider of the farm that is meant.
func (w where) provided(farm *farmfile.Farm) (daemon.Provided, error) {
	d, err := w.dir()
	if err != nil {
		return daemon.Provided{}, err
	}
	if *w.local == "" {
		return provide(farm, d, "", zap.NewNop())
	}
	local, err := instancesIn(localfarm.Dir{Path: filepath.Dir(d.Path)})
	if err != nil || local == nil {
		return daemon.Provided{}, errors.Join(fmt.Errorf("%s: there has never been a farm", *w.local), err)
	}
	return daemon.Provided{Provider: local, Images: local, Volumes: local.Volumes()}, nil
}

func imageList() *cobra.Command {
	var asJSON *bool
	c := onImages(&cobra.Command{Use: "list", Short: "show the images, and who uses them", Args: cobra.NoArgs},
		func(c *cobra.Command, a *album, _ []string) error {
			if *asJSON {
				return indented(c.OutOrStdout(), append([]provider.Image{}, a.images...))
			}
			return listing(c.OutOrStdout(), "IMAGE\tIN THE FARM FILE\tMADE\tOF\tFILES\tSIZE\tUSED BY\t", len(a.images), func(n int) string {
				i := a.images[n]
				files, bytes, state := "-", "-", ""
				if i.Sum != "" {
					files, bytes = strconv.Itoa(i.Files), size(i.Bytes)
				}
				if !i.Ready {
					state = "not ready"
				}
				return fmt.Sprintf("%s\t%s\t%s\t%s\t%s\t%s\t%s\t%s", i.Name, i.ID, i.Made.Local().Format(time.DateTime), or(i.From, "-"), files, bytes, or(strings.Join(a.users[i.ID], ", "), "-"), state)
			})
		})
	asJSON = c.Flags().Bool("json", false, "print JSON for programs")
	return c
}

func imageShow() *cobra.Command {
	return onImages(&cobra.Command{Use: "show IMAGE", Short: "show all that is known of an image, and what was left out of it", Args: cobra.ExactArgs(1)},
		func(c *cobra.Command, a *album, args []string) error {
			i, err := a.image(args[0])
			if err != nil {
				return err
			}
			return indented(c.OutOrStdout(), i)
		})
}

func imageDelete() *cobra.Command {
	var yes *bool
	c := onImages(&cobra.Command{Use: "delete IMAGE", Short: "delete an image that nobody uses", Args: cobra.ExactArgs(1)},
		func(c *cobra.Command, a *album, args []string) error {
			i, err := a.image(args[0])
			if err != nil {
				return err
			}
			if users := a.users[i.ID]; len(users) > 0 {
				return fmt.Errorf("image %s is used by %s", i.Name, strings.Join(users, ", "))
			}
			if !*yes {
				if err := confirm(c, "image "+i.Name+" is deleted"); err != nil {
					return err
				}
			}
			if err := a.RemoveImage(c.Context(), i.Name); err != nil {
				return err
			}
			_, err = fmt.Fprintf(c.OutOrStdout(), "deleted %s\n", i.Name)
			return err
		})
	yes = c.Flags().BoolP("yes", "y", false, "do not ask first")
	return c
}
