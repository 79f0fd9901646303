package farmtest

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
)

// Build puts programs of the project ("proxy", "sidecar", "scaler") into a directory. They are
// built from the source as it is, or copied from where scripts/test has built them just before,
// the directory FARMHAND_PROGRAMS.
func Build(dir string, programs ...string) error {
	// Another process writes them: one that is still open for writing in a child that this
	// process is just starting could not be run.
	command, from, args := "go", "farmhand", []string{"build", "-o", dir + "/"}
	if built := os.Getenv("FARMHAND_PROGRAMS"); built != "" {
		command, from, args = "cp", built, []string{"--target-directory", dir}
		if err := os.MkdirAll(dir, 0o755); err != nil {
			return fmt.Errorf("place for the programs: %w", err)
		}
	}
	for _, program := range programs {
		args = append(args, filepath.Join(from, program))
	}
	if out, err := exec.Command(command, args...).CombinedOutput(); err != nil {
		return fmt.Errorf("the programs %v: %w\n%s", programs, err, out)
	}
	return nil
}
