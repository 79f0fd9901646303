package main

import (
	"strings"
	"testing"
)

func TestSummary(t *testing.T) {
	cases := map[string]struct {
		events string
		ok     bool
		want   []string
	}{
		"slow ones": {
			events: `{"Action":"pass","Package":"p","Test":"A","Elapsed":21}
{"Action":"pass","Package":"p","Test":"B","Elapsed":30.4}
{"Action":"pass","Package":"p","Test":"B/part","Elapsed":25}
{"Action":"pass","Package":"p","Test":"C","Elapsed":19}`,
			ok:   true,
			want: []string{"the slowest:\n    30 s p.B\n    21 s p.A\n4 passed"},
		},
		"passes and skips": {
			events: `{"Action":"run","Package":"p","Test":"A"}
{"Action":"pass","Package":"p","Test":"A"}
{"Action":"output","Package":"p","Test":"B","Output":"=== RUN   B\n"}
{"Action":"output","Package":"p","Test":"B","Output":"    b_test.go:7: needs a MySQL server\n"}
{"Action":"output","Package":"p","Test":"B","Output":"--- SKIP: B (0.00s)\n"}
{"Action":"skip","Package":"p","Test":"B"}
{"Action":"pass","Package":"p","Elapsed":1.5}`,
			ok:   true,
			want: []string{"ok   p (1.5 s)\n", "skipped 1: needs a MySQL server\n    p.B\n", "1 passed, 0 failed, 1 skipped\n"},
		},
		"failure shows its output": {
			events: `{"Action":"output","Package":"p","Test":"A","Output":"    a_test.go:3: wrong\n"}
{"Action":"fail","Package":"p","Test":"A","Elapsed":0.1}
{"Action":"fail","Package":"p"}`,
			want: []string{"FAIL p A (0.1 s)\n        a_test.go:3: wrong\n", "what failed:\n    p.A\n        a_test.go:3: wrong\nfailed packages: p\n", "0 passed, 1 failed, 0 skipped\n"},
		},
		"failure is said again without the log": {
			events: `{"Action":"output","Package":"p","Test":"A","Output":"    a_test.go:3: first\n"}
{"Action":"output","Package":"p","Test":"A","Output":"    logger.go:146: INFO something\n"}
{"Action":"output","Package":"p","Test":"A","Output":"    a_test.go:9: ` + strings.Repeat("x", whyBytes) + `\n"}
{"Action":"output","Package":"p","Test":"A","Output":"--- FAIL: A (0.00s)\n"}
{"Action":"fail","Package":"p","Test":"A","Elapsed":0.1}
{"Action":"fail","Package":"p"}`,
			want: []string{"what failed:\n    p.A\n        a_test.go:3: first\n        a_test.go:9: xxx", "x…\nfailed packages: p\n"},
		},
		"package that does not build": {
			events: `{"ImportPath":"p [p.test]","Action":"build-output","Output":"p/a.go:1: undefined: x\n"}
{"Action":"fail","Package":"p","FailedBuild":"p [p.test]"}
{"Action":"pass","Package":"q","Test":"A"}`,
			want: []string{"    p/a.go:1: undefined: x\n", "failed packages: p\n", "1 passed, 0 failed, 0 skipped\n"},
		},
		"test that a crash cut off": {
			events: `{"Action":"output","Package":"p","Test":"A","Output":"panic: boom\n"}
{"Action":"fail","Package":"p"}`,
			want: []string{"unfinished: A\n", "panic: boom\n", "what failed:\n    p.A\n        panic: boom\n", "0 passed, 1 failed, 0 skipped\n"},
		},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			var out strings.Builder
			ok, err := summarise(strings.NewReader(c.events), &out)
			if err != nil {
				t.Fatal(err)
			}
			if ok != c.ok {
				t.Errorf("ok is %v, want %v", ok, c.ok)
			}
			for _, want := range c.want {
				if !strings.Contains(out.String(), want) {
					t.Errorf("no %q in\n%s", want, out.String())
				}
			}
		})
	}
}

func TestNothingTestedIsAnError(t *testing.T) {
	if _, err := summarise(strings.NewReader("flag provided but not defined: -x\n"), new(strings.Builder)); err == nil {
		t.Error("a run without tests passed")
	}
}
