package topology

import (
	"errors"
	"fmt"
	"strings"
)

// maxProblems bounds the complaints about one file: who sees twenty does not
// miss the twenty-first.
const maxProblems = 20

var errEmpty = errors.New("the file is empty; expected a topology")

// A Problem is one thing wrong with a topology file and its place.
type Problem struct {
	Line, Column int    // from 1; the column counts characters
	Path         string // such as clusters.main.replicas[0].weight; empty for the whole
	Err          error  // what is wrong and what was expected
}

func (p Problem) Error() string {
	if p.Path == "" {
		return fmt.Sprintf("line %d, column %d: %v", p.Line, p.Column, p.Err)
	}
	return fmt.Sprintf("line %d, column %d: %s: %v", p.Line, p.Column, p.Path, p.Err)
}

func (p Problem) Unwrap() error { return p.Err }

// Problems is everything wrong with a topology file in the order of the file,
// as far as it could be told; never empty where it is an error.
type Problems []Problem

// Error returns all problems in one line.
func (p Problems) Error() string {
	lines := make([]string, len(p))
	for i, problem := range p {
		lines[i] = problem.Error()
	}
	return strings.Join(lines, "; ")
}

// Unwrap returns the problems one by one.
func (p Problems) Unwrap() []error {
	errs := make([]error, len(p))
	for i, problem := range p {
		errs[i] = problem
	}
	return errs
}
