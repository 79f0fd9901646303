package farm_test

import (
	"strings"
	"testing"

	"farmhand/internal/farm"
)

func TestCanonicalAddress(t *testing.T) {
	for address, want := range map[string]string{
		"127.0.10.1:3306":            "127.0.10.1:3306",
		"127.0.10.1:03306":           "127.0.10.1:3306",
		"DB1.Example.org:3306":       "db1.example.org:3306",
		"db1.example.org.:3306":      "db1.example.org:3306",
		"db_1:65535":                 "db_1:65535",
		"[::1]:1":                    "[::1]:1",
		"[0:0:0:0:0:0:0:1]:1":        "[::1]:1",
		"[::ffff:10.0.0.1]:3306":     "10.0.0.1:3306",
		"/run/mysqld/mysqld.sock":    "/run/mysqld/mysqld.sock",
		"/run//mysqld/./mysqld.sock": "/run/mysqld/mysqld.sock",
	} {
		got, err := farm.CanonicalAddress(address)
		if err != nil || got != want {
			t.Errorf("CanonicalAddress(%q) = %q, %v; want %q", address, got, err, want)
		}
		if again, err := farm.CanonicalAddress(got); err != nil || again != got {
			t.Errorf("CanonicalAddress(%q) = %q, %v; the canonical address must stay as it is", got, again, err)
		}
	}
}

func TestCheckAddressRefuses(t *testing.T) {
	for address, problem := range map[string]string{
		"":                                "expected host:port",
		"db1":                             "expected host:port",
		"mysqld.sock":                     "expected host:port",
		"./mysqld.sock:1":                 "neither a host name nor an IP address",
		"::1:3306":                        "expected host:port",
		":3306":                           "the host is missing",
		"db1:":                            "expected a number from 1 to 65535",
		"db1:0":                           "expected a number from 1 to 65535",
		"db1:65536":                       "expected a number from 1 to 65535",
		"db1:-1":                          "expected a number from 1 to 65535",
		"db1:+1":                          "expected a number from 1 to 65535",
		"db1:mysql":                       "expected a number from 1 to 65535",
		"0.0.0.0:3306":                    "no address that a server can be reached at",
		"[::]:3306":                       "no address that a server can be reached at",
		"224.0.0.1:3306":                  "no address that a server can be reached at",
		"10.0.0:3306":                     "not an IPv4 address",
		"10.0.0.256:3306":                 "not an IPv4 address",
		"db 1:3306":                       "neither a host name nor an IP address",
		"-db1:3306":                       "neither a host name nor an IP address",
		"db..1:3306":                      "neither a host name nor an IP address",
		strings.Repeat("a", 64) + ":1":    "neither a host name nor an IP address",
		strings.Repeat("a.", 130) + "a:1": "longer than 253",
		"/run/mysqld/":                    "names a directory",
		"/run/\x00":                       "NUL",
		"/" + strings.Repeat("s", 107):    "at most 107",
	} {
		err := farm.CheckAddress(address)
		if err == nil || !strings.Contains(err.Error(), problem) {
			t.Errorf("CheckAddress(%q) = %v; want an error with %q", address, err, problem)
		}
	}
}

func TestCheckName(t *testing.T) {
	for _, name := range []string{"a", "main", "db-1.zone_a", strings.Repeat("n", 64)} {
		if err := farm.CheckName(name); err != nil {
			t.Errorf("CheckName(%q) = %v", name, err)
		}
	}
	for _, name := range []string{"", "a b", "a/b", "dé", "a\n", strings.Repeat("n", 65)} {
		if err := farm.CheckName(name); err == nil {
			t.Errorf("CheckName(%q) accepted it", name)
		}
	}
}
