package objects

import (
	"errors"
	"fmt"
	"net/url"
	"path/filepath"
	"regexp"
	"strings"
)

// bucketPattern is what S3 allows as a bucket's name.
var bucketPattern = regexp.MustCompile(`^[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]$`)

// ParseURL reads a store's name as people write it: /path or dir:/path for a
// directory, s3://BUCKET/PREFIX?endpoint=URL&region=REGION for a bucket; all but the
// bucket may be left out. There are no credentials in it: an S3 client finds them
// as AWS's tools do.
func ParseURL(text string) (Config, error) {
	wrong := func(format string, args ...any) (Config, error) {
		return Config{}, fmt.Errorf("%q is not a store: %w; expected /path, or s3://bucket/prefix?endpoint=https://host&region=name", hidden(text), fmt.Errorf(format, args...))
	}
	if path, ok := strings.CutPrefix(text, "dir:"); ok || strings.HasPrefix(text, "/") {
		if !filepath.IsAbs(path) || strings.ContainsFunc(path, func(r rune) bool { return r < ' ' || r == 0x7f }) {
			return wrong("the path is not an absolute one")
		}
		if filepath.Clean(path) == "/" {
			return wrong("it is the root directory")
		}
		return Config{Directory: filepath.Clean(path)}, nil
	}
	u, err := url.Parse(text)
	switch {
	case err != nil:
		return wrong("it is no URL")
	case u.Scheme != "s3":
		return wrong("stores of the kind %q are not known", u.Scheme)
	case u.User != nil:
		return wrong("there is a user or a password in it, and credentials never stand there")
	case !bucketPattern.MatchString(u.Host):
		return wrong("a bucket cannot be called %q", u.Host)
	case u.Fragment != "":
		return wrong("it has a fragment")
	}
	c := Config{Bucket: u.Host, Prefix: strings.Trim(u.Path, "/")}
	if c.Prefix != "" && checkKey(c.Prefix) != nil {
		return wrong("the prefix %q is not possible", c.Prefix)
	}
	options, err := url.ParseQuery(u.RawQuery)
	if err != nil {
		return wrong("its options cannot be read")
	}
	for name, values := range options {
		switch {
		case len(values) != 1:
			return wrong("%s stands there twice", name)
		case name == "endpoint":
			if err := checkEndpoint(values[0]); err != nil {
				return wrong("endpoint: %w", err)
			}
			c.Endpoint = strings.TrimSuffix(values[0], "/")
		case name == "region":
			c.Region = values[0]
		default:
			return wrong("the option %q is not known", name)
		}
	}
	return c, nil
}

func checkEndpoint(text string) error {
	u, err := url.Parse(text)
	switch {
	case err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Host == "":
		return errors.New("expected one such as https://s3.example.org")
	case u.User != nil || u.RawQuery != "" || u.Fragment != "" || strings.Trim(u.Path, "/") != "":
		return errors.New("expected no more than a scheme, a host and a port")
	}
	return nil
}

// hidden is a text that is no store, without what could be a password in it.
func hidden(text string) string {
	if before, after, found := strings.Cut(text, "@"); found {
		scheme, _, _ := strings.Cut(before, "://")
		return scheme + "://…@" + after
	}
	return text
}
