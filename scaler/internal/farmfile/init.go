package farmfile

import (
	_ "embed"
	"errors"
	"fmt"
	"io/fs"
	"os"
)

// initial is the farm file that a person begins with.
//
//go:embed farm.init.yaml
var initial []byte

// ErrExists says that there is a file already.
var ErrExists = errors.New("it is there already and was left as it is")

// Init writes a farm file with comments to path. A file that is there already
// makes it fail with [ErrExists].
func Init(path string) (err error) {
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o644)
	if errors.Is(err, fs.ErrExist) {
		return fmt.Errorf("%s: %w", path, ErrExists)
	}
	if err != nil {
		return fmt.Errorf("write farm file: %w", err)
	}
	// Half of one would pass for a farm.
	defer func() {
		if err != nil {
			err = errors.Join(fmt.Errorf("write farm file: %w", err), os.Remove(path))
		}
	}()
	_, err = f.Write(initial)
	return errors.Join(err, f.Close())
}
