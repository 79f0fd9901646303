package cli

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"

	"github.com/spf13/cobra"

	"farmhand/internal/service"
	"farmhand/scaler/internal/farmfile"
)

// defaultFile is the farm file that is meant when none is named.
const defaultFile = "farm.yaml"

func fileOf(args []string) string {
	if len(args) > 0 {
		return args[0]
	}
	return defaultFile
}

func initialise() *cobra.Command {
	return &cobra.Command{
		Use:   "init [FILE]",
		Short: "write a farm file to begin with; never over one that is there",
		Long: `Write a farm file with every key, its default and a comment. FILE is farm.yaml
if it is not given. A file that is there already is left as it is.`,
		Args: cobra.MaximumNArgs(1),
		RunE: func(c *cobra.Command, args []string) error {
			file := fileOf(args)
			err := farmfile.Init(file)
			if errors.Is(err, farmfile.ErrExists) {
				return fmt.Errorf("%w (scaler check %s says what is in it)", err, file)
			}
			if err != nil {
				return err
			}
			_, err = fmt.Fprintf(c.OutOrStdout(), `%[1]s written: a database of three servers and a web node on this machine

  change it      its comments say what each key means
  check it       scaler check %[1]s
  your editor    scaler schema >farm.schema.json, and in %[1]s the line
                 # yaml-language-server: $schema=farm.schema.json
`, file)
			return err
		},
	}
}

// verdict is what check says to programs.
type verdict struct {
	Valid    bool           `json:"valid"`
	Problems []problem      `json:"problems,omitempty"`
	Farm     *farmfile.Farm `json:"farm,omitempty"` // with every default
}

type problem struct {
	Line    int    `json:"line"` // from 1; 0 if the whole file is meant
	Column  int    `json:"column"`
	Path    string `json:"path,omitempty"` // such as roles.db.count
	Message string `json:"message"`
}

func check() *cobra.Command {
	c := &cobra.Command{
		Use:   "check [FILE]",
		Short: "say what is wrong with a farm file, or what the farm is to be",
		Long: `Read a farm file (farm.yaml if FILE is not given) and say the line and the column
of what is wrong with it, or else show what the farm is to be. Nothing is
started or changed. With --json, a program gets the problems, or the whole farm
with every default in place; the exit status is the same.`,
		Args: cobra.MaximumNArgs(1),
	}
	asJSON := c.Flags().Bool("json", false, "print JSON for programs")
	c.RunE = func(c *cobra.Command, args []string) error {
		file := fileOf(args)
		f, err := farmfile.Load(file)
		var errs service.ConfigErrors
		switch {
		case errors.Is(err, fs.ErrNotExist):
			return fmt.Errorf("there is no %s (scaler init %[1]s writes one)", file)
		case *asJSON && errors.As(err, &errs):
			v := verdict{}
			for _, e := range errs {
				v.Problems = append(v.Problems, problem{e.Line, e.Column, e.Path, e.Message})
			}
			if err := printJSON(c, v); err != nil {
				return err
			}
			return fmt.Errorf("%s: %d of its values cannot be", file, len(errs))
		case errors.As(err, &errs):
			return fmt.Errorf("%s is not good:\n%w", file, err)
		case err != nil:
			return err
		case *asJSON:
			return printJSON(c, verdict{Valid: true, Farm: f})
		}
		return describe(c.OutOrStdout(), f)
	}
	return c
}

func printJSON(c *cobra.Command, v any) error {
	encoder := json.NewEncoder(c.OutOrStdout())
	encoder.SetEscapeHTML(false)
	encoder.SetIndent("", "  ")
	return encoder.Encode(v)
}

func schema() *cobra.Command {
	return &cobra.Command{
		Use:   "schema",
		Short: "print the JSON schema of the farm file, for editors",
		Args:  cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			_, err := c.OutOrStdout().Write(farmfile.Schema())
			return err
		},
	}
}
