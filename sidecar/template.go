package main

import (
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"farmhand/sidecar/internal/role"
)

// templateCommand prints a template that is built in, so that a person can make another of it.
func templateCommand(out io.Writer) *cobra.Command {
	names := slices.Sorted(maps.Keys(role.Templates))
	return &cobra.Command{
		Use: "template " + strings.Join(names, "|"), Short: "print a web node's built-in template, to make another of it",
		Long: `Print the template that a web node makes the configuration of nginx or php-fpm from. A
file that is made of it takes its place: http.template and http.php.template in the
farm file, nginx_template and php_fpm_template in the sidecar's configuration. Look
at it again after an upgrade: what the built-in one gains, the file lacks.`,
		Args: cobra.MatchAll(cobra.ExactArgs(1), cobra.OnlyValidArgs), ValidArgs: names,
		RunE: func(_ *cobra.Command, args []string) error {
			_, err := fmt.Fprint(out, role.Templates[args[0]])
			return err
		},
	}
}
