// Command testsummary reads the output of "go test -json" and prints what a
// person wants to know of it: each package's outcome as it comes, the output of
// what failed, every skip with its reason, what took longest, and at the end one line of counts:
// "N passed, N failed, N skipped". It ends with status 1 if anything failed or
// nothing was tested.
package main

import (
	"fmt"
	"os"
)

func main() {
	ok, err := summarise(os.Stdin, os.Stdout)
	if err != nil {
		fmt.Fprintln(os.Stderr, "testsummary:", err)
		os.Exit(1)
	}
	if !ok {
		os.Exit(1)
	}
}
