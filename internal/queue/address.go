package queue

import (
	"errors"
	"fmt"
	"net/url"
	"regexp"
	"strings"

	"farmhand/internal/farm"
)

// Address is where a queue is.
type Address struct {
	URL      string // of the queue, as SQS names it
	Endpoint string // the scheme, host and port of it
	Region   string // that requests are signed for; empty for the one that AWS's tools are set to
}

// FIFO reports whether the queue keeps an order and drops messages that it has had
// already: SQS wants such a queue's name to say so.
func (a Address) FIFO() bool { return strings.HasSuffix(a.URL, ".fifo") }

func (a Address) String() string { return a.URL }

var (
	// regionPattern is AWS's own hosts: sqs.REGION.amazonaws.com and those of its other
	// partitions and kinds.
	regionPattern = regexp.MustCompile(`^sqs(?:-fips)?\.([a-z0-9-]+)\.(?:amazonaws\.com(?:\.cn)?|api\.aws)$`)
	namePattern   = regexp.MustCompile(`^(/[A-Za-z0-9_-]{1,80})*/[A-Za-z0-9_-]{1,80}(\.fifo)?$`)
)

// ParseAddress reads a queue's address: its URL, such as
// https://sqs.eu-central-1.amazonaws.com/123456789012/jobs. Of another server than
// AWS's, ?region=NAME says for which region requests are signed.
func ParseAddress(text string) (Address, error) {
	wrong := func(why string) (Address, error) {
		return Address{}, fmt.Errorf("this is not a queue's address: %s; expected a URL such as https://sqs.eu-central-1.amazonaws.com/123456789012/jobs", why)
	}
	u, err := url.Parse(text)
	switch {
	case err != nil:
		return wrong("it is no URL") // which is not shown: there may be a password in it
	case u.User != nil:
		return wrong("there is a user or a password in it, and credentials never stand there")
	case u.Scheme != "https" && u.Scheme != "http" || u.Host == "":
		return wrong("it does not begin with https:// and a host")
	case u.Scheme == "http" && !farm.IsLoopback(u.Hostname()):
		return wrong(fmt.Sprintf("without TLS only a loopback address is spoken to, and %s is none", u.Hostname()))
	case u.Fragment != "" || !namePattern.MatchString(u.Path):
		return wrong(fmt.Sprintf("%q is no queue's path", u.Path))
	}
	options, err := url.ParseQuery(u.RawQuery)
	if err != nil {
		return wrong("its options cannot be read")
	}
	a := Address{URL: u.Scheme + "://" + u.Host + u.Path, Endpoint: u.Scheme + "://" + u.Host}
	if found := regionPattern.FindStringSubmatch(u.Hostname()); found != nil {
		a.Region = found[1]
	}
	for name, values := range options {
		if name != "region" || len(values) != 1 || values[0] == "" {
			return wrong(fmt.Sprintf("the option %q is not known, or stands there twice", name))
		}
		a.Region = values[0]
	}
	return a, nil
}

// What can be wrong, for callers to tell apart.
var (
	// ErrUnsent: the message is not in the queue, and will not be by this try.
	ErrUnsent = errors.New("nothing was sent")
	// ErrUnsure: the message may be in the queue, or not.
	ErrUnsure = errors.New("it is not known whether it was sent")
	// ErrLost: the message is not this receiver's any more. Its time was over, and
	// somebody else may have it, or it is deleted.
	ErrLost = errors.New("the message is not held any more")
	// ErrNotFound: there is no such queue.
	ErrNotFound = errors.New("there is no such queue")
	// ErrDenied: the credentials do not allow it, or there are none.
	ErrDenied = errors.New("not allowed")
)
