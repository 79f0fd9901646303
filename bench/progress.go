package main

import (
	"fmt"
	"io"
	"time"
)

// progress says what is being done and how long it will take.
type progress struct {
	to          io.Writer
	began       time.Time
	steps, done int
}

// step begins the next step, which text names.
func (p *progress) step(format string, args ...any) {
	left := "?"
	if p.done > 0 {
		each := time.Since(p.began) / time.Duration(p.done)
		left = (each * time.Duration(max(0, p.steps-p.done))).Round(time.Second).String()
	}
	// A reader that went away does not end the run.
	_, _ = fmt.Fprintf(p.to, "[%3d/%d, %s left] %s\n", p.done+1, p.steps, left, fmt.Sprintf(format, args...))
	p.done++
}
