package objects_test

import (
	"strings"
	"testing"

	"farmhand/internal/objects"
)

func TestStoresAsPeopleWriteThem(t *testing.T) {
	for text, want := range map[string]objects.Config{
		"/var/backups/":      {Directory: "/var/backups"},
		"dir:/var/backups":   {Directory: "/var/backups"},
		"s3://shop-backups":  {Bucket: "shop-backups"},
		"s3://shop/farm/one": {Bucket: "shop", Prefix: "farm/one"},
		"s3://shop/?endpoint=http://127.0.0.1:7070/&region=us-east-1": {Bucket: "shop", Endpoint: "http://127.0.0.1:7070", Region: "us-east-1"},
	} {
		if got, err := objects.ParseURL(text); err != nil || got != want {
			t.Errorf("%s is %+v, %v", text, got, err)
		}
	}
	for text, why := range map[string]string{
		"":                              "kind",
		"backups":                       "kind",
		"dir:backups":                   "absolute",
		"/":                             "root",
		"https://example.org/x":         "kind",
		"s3://key:secret@shop/x":        "credentials",
		"s3:///x":                       "bucket",
		"s3://shop/../x":                "prefix",
		"s3://shop?secret=x":            "not known",
		"s3://shop?region=a&region=b":   "twice",
		"s3://shop?endpoint=ftp://x":    "endpoint",
		"s3://shop?endpoint=http://x/y": "endpoint",
		"s3://shop#x":                   "fragment",
	} {
		_, err := objects.ParseURL(text)
		if err == nil || !strings.Contains(err.Error(), why) {
			t.Errorf("%q: %v; want something about %q", text, err, why)
		} else if strings.Contains(err.Error(), "secret@") {
			t.Errorf("it tells a secret: %v", err)
		}
	}
}
