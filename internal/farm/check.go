package farm

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"path"
	"regexp"
	"strconv"
	"strings"
)

// Bounds of what a topology may say.
const (
	// NamePattern is what the name of a cluster or a server looks like: safe in
	// file names, metric labels, SQL comments and URLs alike.
	NamePattern = `^[A-Za-z0-9._-]{1,64}$`

	DefaultWeight = 100
	MaxWeight     = 1000

	// MaxEpoch is the largest whole number that every JSON tool keeps exactly
	// (2^53-1); an epoch that came back one lower would be refused as old.
	MaxEpoch Epoch = 1<<53 - 1

	// maxSocketPath is what fits into sun_path beside its closing NUL (unix(7)).
	maxSocketPath = 107
)

var namePattern = regexp.MustCompile(NamePattern)

// States lists the states of a replica.
func States() []State { return []State{Serving, Warming, Draining} }

// CheckName says what is wrong with the name of a cluster or a server.
func CheckName(name string) error {
	if !namePattern.MatchString(name) {
		return fmt.Errorf("%q is not a name; expected 1 to 64 of the characters A-Z a-z 0-9 . _ -", name)
	}
	return nil
}

// IsLoopback reports whether a host, a name or an address, is this machine by what it is
// called: no name is resolved.
func IsLoopback(host string) bool {
	ip, err := netip.ParseAddr(host)
	return host == "localhost" || err == nil && ip.Unmap().IsLoopback()
}

// CheckAddress says what is wrong with the address of a server, which is
// host:port or the absolute path of a unix socket.
func CheckAddress(address string) error {
	_, err := CanonicalAddress(address)
	return err
}

// CanonicalAddress returns the one spelling of a server's address by which two
// addresses can be compared. It resolves no names: localhost and 127.0.0.1 stay
// two addresses.
func CanonicalAddress(address string) (string, error) {
	if strings.HasPrefix(address, "/") {
		return canonicalSocket(address)
	}
	host, port, err := net.SplitHostPort(address)
	if err != nil {
		return "", fmt.Errorf("%q is not an address; expected host:port, [IPv6]:port or the absolute path of a unix socket", address)
	}
	number, err := strconv.ParseUint(port, 10, 16)
	if err != nil || number == 0 || port[0] == '+' {
		return "", fmt.Errorf("%q is not a port in the address %q; expected a number from 1 to 65535", port, address)
	}
	host, err = canonicalHost(host)
	if err != nil {
		return "", fmt.Errorf("address %q: %w", address, err)
	}
	return net.JoinHostPort(host, strconv.FormatUint(number, 10)), nil
}

func canonicalSocket(address string) (string, error) {
	switch {
	case strings.ContainsRune(address, 0):
		return "", fmt.Errorf("the socket path %q contains a NUL byte", address)
	case len(address) > maxSocketPath:
		return "", fmt.Errorf("the socket path %q is %d bytes long; a unix socket's path has at most %d", address, len(address), maxSocketPath)
	case strings.HasSuffix(address, "/"):
		return "", fmt.Errorf("the socket path %q names a directory", address)
	}
	return path.Clean(address), nil
}

func canonicalHost(host string) (string, error) {
	if host == "" {
		return "", errors.New("the host is missing; expected host:port")
	}
	if ip, err := netip.ParseAddr(host); err == nil {
		if ip.IsUnspecified() || ip.IsMulticast() {
			return "", fmt.Errorf("%s is no address that a server can be reached at", host)
		}
		return ip.Unmap().String(), nil
	}
	name := strings.TrimSuffix(strings.ToLower(host), ".")
	if len(name) > 253 {
		return "", errors.New("the host name is longer than 253 characters")
	}
	for label := range strings.SplitSeq(name, ".") {
		if !validLabel(label) {
			return "", fmt.Errorf("%q is neither a host name nor an IP address", host)
		}
	}
	// What ends in a number can only have been meant as an IPv4 address.
	if last := name[strings.LastIndexByte(name, '.')+1:]; strings.Trim(last, "0123456789") == "" {
		return "", fmt.Errorf("%q is not an IPv4 address", host)
	}
	return name, nil
}

// validLabel reports whether label is a part of a host name (RFC 1123, and the
// underscore that container networks use).
func validLabel(label string) bool {
	if label == "" || len(label) > 63 || label[0] == '-' || label[len(label)-1] == '-' {
		return false
	}
	for _, c := range []byte(label) {
		if (c < 'a' || c > 'z') && (c < '0' || c > '9') && c != '-' && c != '_' {
			return false
		}
	}
	return true
}
