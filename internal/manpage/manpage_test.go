package manpage

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/spf13/cobra"
)

func TestPages(t *testing.T) {
	root := &cobra.Command{Use: "tool", Short: "does things", Long: ".hidden? 'no'\nA back\\slash and --a-flag.\n'quoted'"}
	sub := &cobra.Command{Use: "go DIR", Short: "goes", Example: "  tool go /tmp", Run: func(*cobra.Command, []string) {}}
	sub.Flags().IntP("times", "n", 3, "how `OFTEN`")
	root.AddCommand(sub, &cobra.Command{Use: "secret", Hidden: true, Run: func(*cobra.Command, []string) {}}, Command(root, "farm-tool"))
	dir := t.TempDir()
	root.SetArgs([]string{"man", dir})
	if err := root.Execute(); err != nil {
		t.Fatal(err)
	}
	files, err := filepath.Glob(dir + "/*")
	if err != nil || len(files) != 2 {
		t.Fatal(files, err)
	}
	for file, wants := range map[string][]string{
		"farm-tool.1":    {".SH NAME\nfarm\\-tool \\- does things", "\n\\&.hidden? 'no'\nA back\\eslash and \\-\\-a\\-flag.\n\\&'quoted'\n", ".TP\n\\fBgo\\fR\ngoes", "\\fBfarm\\-tool\\-go\\fR(1)"},
		"farm-tool-go.1": {"\\fBfarm\\-tool go\\fR DIR", ".TP\n\\fB\\-n, \\-\\-times\\fR OFTEN\nhow OFTEN\n(default 3)", "  tool go /tmp", "\\fBfarm\\-tool\\fR(1)"},
	} {
		text, err := os.ReadFile(filepath.Join(dir, file))
		if err != nil {
			t.Fatal(err)
		}
		for _, want := range wants {
			if !strings.Contains(string(text), want) {
				t.Errorf("%s lacks %q:\n%s", file, want, text)
			}
		}
	}
}
