package oracle

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"farmhand/proxy/internal/classify"
)

// plain is what applications find on a server that nobody changed.
var plain = []classify.Mode{{}, {MariaDB: true}}

var unescape = strings.NewReplacer(`\\`, `\`, `\n`, "\n", `\t`, "\t", `\r`, "\r")

// readCorpus returns the statements of a file of testdata/sql.
func readCorpus(t *testing.T, path string) []string {
	t.Helper()
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	var texts []string
	for line := range strings.Lines(string(data)) {
		line = strings.TrimSuffix(line, "\n")
		if line != "" && !strings.HasPrefix(line, "#") {
			texts = append(texts, unescape.Replace(line))
		}
	}
	return texts
}

// corpora returns the files of testdata/sql.
func corpora(t *testing.T) []string {
	t.Helper()
	files, err := filepath.Glob("../../../../testdata/sql/*.txt")
	if err != nil || len(files) == 0 {
		t.Fatalf("no corpus: %v", err)
	}
	return files
}

// TestApplications holds the classifier to the oracle on what applications
// send. Hardly a read of theirs may go to the primary for nothing.
func TestApplications(t *testing.T) {
	for _, file := range corpora(t) {
		name := strings.TrimSuffix(filepath.Base(file), ".txt")
		t.Run(name, func(t *testing.T) {
			c := newComparison(t, name, plain...)
			for _, text := range readCorpus(t, file) {
				c.add(text)
			}
			share := c.report()
			if c.reads == 0 || c.objects == 0 {
				t.Errorf("%d reads and %d other statements: not what an application sends", c.reads, c.objects)
			}
			if share > 0.05 {
				t.Errorf("%.1f %% of the reads go to the primary needlessly", 100*share)
			}
		})
	}
}
