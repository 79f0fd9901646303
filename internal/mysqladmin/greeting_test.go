package mysqladmin

import (
	"encoding/hex"
	"errors"
	"strings"
	"testing"

	"github.com/go-mysql-org/go-mysql/mysql"

	"farmhand/internal/farm"
)

// Greetings of real servers, and refusals.
var (
	greetMariaDB = fromHex("0a352e352e352d31302e31312e31392d4d6172696144422d302b646562313275312d6c6f670006000000624f4549236c7a3f00" +
		"fef72d0200ff81150000000000001d0000006b7e5a24436554542a6f757b006d7973716c5f6e61746976655f70617373776f726400")
	greetMySQL = fromHex("0a392e372e342d32000a0000003c1a691d6e6d021b00" +
		"ffffff0200ffdf150000000000000000000009683e1b66352f2a6a660a0e0063616368696e675f736861325f70617373776f726400")
	refusal = append([]byte{0xff, 0x10, 0x04}, "#08004Too many connections"...)
)

func fromHex(s string) []byte {
	b, err := hex.DecodeString(s)
	if err != nil {
		panic(err)
	}
	return b
}

func TestGreetingsOfOldAndOddServers(t *testing.T) {
	for _, c := range []struct {
		greeting Greeting
		flavor   farm.Flavor
		number   int
	}{
		{Greeting{Version: "10.11.19-MariaDB-0+deb12u1-log"}, farm.MariaDB, 101119},
		{Greeting{Version: "11.4.3-MariaDB"}, farm.MariaDB, 110403},
		{Greeting{Version: "8.0.30", Capabilities: 0xf7fe}, farm.MariaDB, 80030}, // version=… in its configuration
		{Greeting{Version: "9.7.0", Capabilities: 0xffff}, farm.MySQL, 90700},
		{Greeting{Version: "8.0.36-28", Capabilities: 0xffff}, farm.MySQL, 80036},
		{Greeting{Version: "unknown", Capabilities: 0xffff}, farm.MySQL, 0},
		{Greeting{Version: "8.x.1", Capabilities: 0xffff}, farm.MySQL, 0},
		{Greeting{}, farm.UnknownFlavor, 0},
	} {
		if f, n := c.greeting.Flavor(), c.greeting.VersionNumber(); f != c.flavor || n != c.number {
			t.Errorf("%+v is %v %d, want %v %d", c.greeting, f, n, c.flavor, c.number)
		}
	}
}

func TestGreeting(t *testing.T) {
	g, err := parseGreeting(greetMariaDB)
	want := Greeting{
		Version: "10.11.19-MariaDB-0+deb12u1-log", Capabilities: 0x0000001d_81fff7fe, Collation: 0x2d, AuthPlugin: "mysql_native_password",
	}
	if err != nil || g != want || g.Flavor() != farm.MariaDB {
		t.Errorf("MariaDB: %+v, %v; want %+v", g, err, want)
	}
	g, err = parseGreeting(greetMySQL)
	want = Greeting{Version: "9.7.4-2", Capabilities: 0xdfffffff, Collation: 255, AuthPlugin: "caching_sha2_password"}
	if err != nil || g != want || g.Flavor() != farm.MySQL {
		t.Errorf("MySQL: %+v, %v; want %+v", g, err, want)
	}
	_, err = parseGreeting(refusal)
	var e *mysql.MyError
	if !errors.As(err, &e) || e.Code != 1040 || e.State != "08004" || e.Message != "Too many connections" {
		t.Errorf("refusal: %v", err)
	}
	if _, err := parseGreeting([]byte("HTTP/1.1 400 Bad Request")); !errors.Is(err, errGreeting) || !strings.Contains(err.Error(), "not a MySQL server") {
		t.Errorf("another protocol: %v", err)
	}
	for n := range greetMySQL {
		g, err := parseGreeting(greetMySQL[:n])
		// Only the plugin's name may lack its end.
		if err == nil && !strings.HasPrefix("caching_sha2_password", g.AuthPlugin) {
			t.Errorf("cut to %d bytes: %+v", n, g)
		}
	}
}

func FuzzGreeting(f *testing.F) {
	f.Add(greetMariaDB)
	f.Add(greetMySQL)
	f.Add(refusal)
	f.Add([]byte{0xff, 1, 2, '#'})
	f.Fuzz(func(t *testing.T, p []byte) {
		g, err := parseGreeting(p)
		if err != nil && g != (Greeting{}) {
			t.Fatalf("%+v with %v", g, err)
		}
		_, _ = g.Flavor(), g.VersionNumber()
	})
}
