package auth

import (
	"bytes"
	"encoding/hex"
	"strings"
	"testing"
)

// The stored strings were made by MySQL 9.7's CREATE USER … IDENTIFIED BY.
var madeByMySQL = []struct {
	plugin, stored, password string
}{
	{
		cachingName,
		"24412430304324731028697D6C496B5C4465222359135858780C6B464A3676343072596F674F377936675467466362564C477A526B7A4250775375797345597A3869775A6732",
		"secret",
	},
	{
		cachingName,
		"2441243030432442536551556365105F2C41357175385C32606B016F552E42397A634739474D776E6D363873346D62376C674232572F6B4C6F5A755346624C633666564C6239",
		"a rather long password of more than 32 bytes, öäü",
	},
	{
		sha256Name,
		"2435246F120B2F232504173D355A1D79471C106A717C7524592F2F6D644A7175707236794C5559786741416F6F69377A347653535569376E57387370534655544E4C43",
		"secret",
	},
}

func TestPasswordsMatchWhatMySQLStored(t *testing.T) {
	for _, made := range madeByMySQL {
		stored, err := hex.DecodeString(made.stored)
		if err != nil {
			t.Fatal(err)
		}
		before := bytes.Clone(stored)
		k, ok := schemes[made.plugin].parse(stored)
		if !ok {
			t.Fatalf("%s: %q is not read", made.plugin, stored)
		}
		if !bytes.Equal(before, stored) {
			t.Fatalf("%s: reading changed the stored string", made.plugin)
		}
		if !k.matches([]byte(made.password)) {
			t.Errorf("%s: %q does not match its password", made.plugin, stored)
		}
		for _, other := range []string{"", "Secret", made.password + " ", made.password[1:]} {
			if k.matches([]byte(other)) {
				t.Errorf("%s: %q matches %q", made.plugin, stored, other)
			}
		}
	}
}

// The digests were made by the crypt of glibc.
func TestSHA256CryptAgreesWithGlibc(t *testing.T) {
	for _, v := range []struct {
		rounds                 int
		salt, password, digest string
	}{
		{5000, "saltstring", "Hello world!", "5B8vYYiY.CVt1RlTTf8KbXBH3hsxY/GNooZaBBGWEc5"},
		{10000, "saltstringsaltst", "Hello world!", "3xv.VbSHBb41AL9AvLeujZkZRBAwqFMz2.opqey6IcA"},
		{5000, "toolongsaltstrin", "This is just a test", "Un/5jzAHMgOGZ5.mWJpuVolil07guHPvOW8mGRcvxa5"},
		{1400, "anotherlongsalts", strings.Repeat("x", 100), "u1CElcvxfRe/hGJVreAFSBT1biWzGYAyGObdCI4Fg0D"},
	} {
		if got := sha256Crypt([]byte(v.password), []byte(v.salt), v.rounds); string(got[:]) != v.digest {
			t.Errorf("rounds %d salt %q: %s, want %s", v.rounds, v.salt, got, v.digest)
		}
	}
}
