// Package manpage writes a program's manual pages from what its commands say of
// themselves, one page a command, so that there is no second text to keep true.
package manpage

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
)

// Command is a command that writes the pages of root's commands; it is hidden, for
// who makes packages. The program is called name in them.
func Command(root *cobra.Command, name string) *cobra.Command {
	return &cobra.Command{
		Use: "man DIRECTORY", Short: "write the manual pages", Hidden: true, Args: cobra.ExactArgs(1),
		RunE: func(_ *cobra.Command, args []string) error { return write(args[0], root, name) },
	}
}

// write writes the page of a command and of all below it.
func write(dir string, c *cobra.Command, name string) error {
	if c.Hidden || c.Name() == "help" || c.Name() == "completion" {
		return nil
	}
	path := filepath.Join(dir, strings.ReplaceAll(name, " ", "-")+".1")
	if err := os.WriteFile(path, []byte(page(c, name)), 0o644); err != nil {
		return fmt.Errorf("write a manual page: %w", err)
	}
	for _, sub := range c.Commands() {
		if err := write(dir, sub, name+" "+sub.Name()); err != nil {
			return err
		}
	}
	return nil
}

// page is a page in roff's man macros: see man-pages(7).
func page(c *cobra.Command, name string) string {
	var s strings.Builder
	add := func(format string, values ...any) { fmt.Fprintf(&s, format+"\n", values...) }
	title := strings.ReplaceAll(name, " ", "-")
	add(`.TH "%s" "1" "" "Farmhand" "Farmhand"`, escape(strings.ToUpper(title)))
	add(".SH NAME\n%s \\- %s", escape(title), escape(c.Short))
	_, arguments, _ := strings.Cut(c.UseLine(), c.CommandPath())
	add(".SH SYNOPSIS\n\\fB%s\\fR%s", escape(name), escape(arguments))
	long := c.Long
	if long == "" {
		long = c.Short + "."
	}
	add(".SH DESCRIPTION\n.nf\n%s\n.fi", escape(long))
	if c.Example != "" {
		add(".SH EXAMPLES\n.nf\n%s\n.fi", escape(c.Example))
	}
	section := ".SH OPTIONS"
	c.InitDefaultHelpFlag()
	c.NonInheritedFlags().VisitAll(func(f *pflag.Flag) {
		if f.Hidden {
			return
		}
		if section != "" {
			add("%s", section)
			section = ""
		}
		kind, usage := pflag.UnquoteUsage(f)
		text := "--" + f.Name
		if f.Shorthand != "" {
			text = "-" + f.Shorthand + ", " + text
		}
		add(".TP\n\\fB%s\\fR %s\n%s", escape(text), escape(kind), escape(usage))
		if f.DefValue != "" && f.DefValue != "false" && f.DefValue != "[]" && f.DefValue != "0" {
			add("(default %s)", escape(f.DefValue))
		}
	})
	var also []string
	if c.HasParent() {
		parent := name[:strings.LastIndex(name, " ")]
		also = append(also, fmt.Sprintf("\\fB%s\\fR(1)", escape(strings.ReplaceAll(parent, " ", "-"))))
	}
	section = ".SH COMMANDS"
	for _, sub := range c.Commands() {
		if sub.Hidden || sub.Name() == "help" || sub.Name() == "completion" {
			continue
		}
		if section != "" {
			add("%s", section)
			section = ""
		}
		add(".TP\n\\fB%s\\fR\n%s", escape(sub.Name()), escape(sub.Short))
		also = append(also, fmt.Sprintf("\\fB%s\\fR(1)", escape(title+"-"+sub.Name())))
	}
	if len(also) > 0 {
		add(".SH SEE ALSO\n%s", strings.Join(also, ",\n"))
	}
	return s.String()
}

// escape keeps text from being roff's requests: a backslash, a hyphen that is to be
// copied, and a line that begins like a request.
func escape(text string) string {
	text = strings.NewReplacer(`\`, `\e`, "-", `\-`).Replace(text)
	lines := strings.Split(text, "\n")
	for i, line := range lines {
		if strings.HasPrefix(line, ".") || strings.HasPrefix(line, "'") {
			lines[i] = `\&` + line
		}
	}
	return strings.Join(lines, "\n")
}
