package membership

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"

	"go.uber.org/zap"

	"farmhand/internal/filewatch"
	"farmhand/internal/service"
)

// maxFile is the largest membership file that is read, in bytes.
const maxFile = 1 << 20

// File is a membership that somebody writes into a file, in YAML or JSON:
// {epoch: 7, hosts: [{name: db1, role: primary, address: "10.0.0.1:3306"}, …]}.
// It is followed as the topology file is.
type File struct {
	path   string
	log    *zap.Logger
	timing filewatch.Timing
}

// NewFile returns the source that is the file at path.
func NewFile(path string, log *zap.Logger) *File { return &File{path, log, filewatch.Usual} }

// Run implements [Source].
func (f *File) Run(ctx context.Context, observer Observer) error {
	w, err := filewatch.New(f.path, maxFile, f.timing, fileJudge{f, observer})
	if err != nil {
		return fmt.Errorf("membership file: %w", err)
	}
	if err := w.Run(ctx); err != nil {
		return fmt.Errorf("membership file: %w", err)
	}
	return nil
}

// fileJudge tells an observer of the file.
type fileJudge struct {
	file     *File
	observer Observer
}

// Good implements [filewatch.Judge].
func (j fileJudge) Good(r filewatch.Reading) bool {
	_, err := j.file.parse(r)
	return err == nil
}

// Take implements [filewatch.Judge].
func (j fileJudge) Take(r filewatch.Reading) {
	s, err := j.file.parse(r)
	if err != nil {
		j.observer.Trouble(fmt.Errorf("membership file: %w", err))
		return
	}
	j.observer.Changed(s)
}

// Blind implements [filewatch.Judge].
func (j fileJudge) Blind(err error) {
	j.file.log.Warn("the system tells of no changes of the membership file; looked for every second", zap.Error(err))
}

func (f *File) parse(r filewatch.Reading) (Snapshot, error) {
	if r.Err != nil {
		return Snapshot{}, r.Err
	}
	return parseFile(f.path, r.Data)
}

// parseFile reads the whole of a membership and checks it. An error names all
// that is wrong.
func parseFile(path string, data []byte) (Snapshot, error) {
	if len(data) > maxFile {
		return Snapshot{}, fmt.Errorf("%s is larger than %d bytes", path, maxFile)
	}
	var d document
	if trimmed := bytes.TrimSpace(data); len(trimmed) > 0 && trimmed[0] == '{' && json.Valid(data) {
		// The YAML library does not take every JSON.
		decoder := json.NewDecoder(bytes.NewReader(data))
		decoder.DisallowUnknownFields()
		if err := decoder.Decode(&d); err != nil {
			return Snapshot{}, fmt.Errorf("%s: %w", path, err)
		}
		if _, err := decoder.Token(); !errors.Is(err, io.EOF) {
			return Snapshot{}, fmt.Errorf("%s: more than one JSON value", path)
		}
		if problems := d.Validate(); len(problems) > 0 {
			errs := make([]error, len(problems))
			for i, p := range problems {
				errs[i] = fmt.Errorf("%s: %s: %s", path, p.Path, p.Message)
			}
			return Snapshot{}, errors.Join(errs...)
		}
	} else if err := service.Decode(path, data, &d); err != nil {
		return Snapshot{}, err
	}
	return canonical(Snapshot(d)), nil
}
