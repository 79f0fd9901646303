package share

import (
	"fmt"
	"strings"
	"time"
)

// remote is what the client asks the brick for.
const remote = "files"

// Volfiles are written in lines of words, without quotes; so what is put into them must be one.
func word(what, text string) error {
	if text == "" || strings.ContainsFunc(text, func(r rune) bool { return r <= ' ' || r == '#' || r == '"' || r == '\\' || r == 0x7f }) {
		return fmt.Errorf("%s %q has a space, or another character in it that GlusterFS would take for its own", what, text)
	}
	return nil
}

// Brick is a directory that is given to others.
type Brick struct {
	// Directory is on a file system that can keep extended attributes trusted.*; in it is
	// also what GlusterFS itself keeps, .glusterfs.
	Directory string
	// Socket is where the gate reaches the brick.
	Socket string
}

// inForeground has a program of GlusterFS's run by a volfile, and say on standard error what is wrong.
func inForeground(volfile string) []string {
	return []string{"--no-daemon", "--volfile=" + volfile, "--log-file=/dev/stderr", "--log-level=WARNING"}
}

// Arguments are those of glusterfsd that runs by the volfile in a file.
func (b Brick) Arguments(volfile string) []string { return inForeground(volfile) }

// Volfile is what glusterfsd runs by.
func (b Brick) Volfile() (string, error) {
	if err := word("the directory", b.Directory); err != nil {
		return "", err
	}
	if err := word("the socket", b.Socket); err != nil {
		return "", err
	}
	return fmt.Sprintf(`# Written by the sidecar: what is changed here does not stay.
volume disk
  type storage/posix
  option directory %s
  option health-check-interval 10
  option health-check-timeout 20
end-volume

volume locks
  type features/locks
  subvolumes disk
end-volume

volume %s
  type performance/io-threads
  option thread-count 16
  subvolumes locks
end-volume

volume server
  type protocol/server
  option transport-type socket
  option transport.address-family unix
  option transport.socket.listen-path %s
  option auth.addr.%[2]s.allow *
  subvolumes %[2]s
end-volume
`, b.Directory, remote, b.Socket), nil
}

// Client is a directory that another node gives.
type Client struct {
	// Socket is where the door is.
	Socket string
	// Wait is how long what asks for a file waits while nobody gives the directory, before it
	// is told that there is no connection; whole seconds.
	Wait time.Duration
}

// pingLimit is how long a brick may say nothing, to a client that waits for it, before
// the connection is given up.
const pingLimit = 10 * time.Second

// Arguments are those of glusterfs that runs by the volfile in a file, and mounts at path. What is shared gives
// nobody rights on the node.
func (c Client) Arguments(volfile, path string) []string {
	return append(inForeground(volfile), "--process-name", "fuse", "--fuse-mountopts=nosuid,nodev", path)
}

// Volfile is what the client, glusterfs, runs by. features/quiesce is what has callers wait: without it each
// gets ENOTCONN at once while there is no connection. What can be asked twice it asks again,
// when there is one, if the connection broke before the answer.
func (c Client) Volfile() (string, error) {
	if err := word("the socket", c.Socket); err != nil {
		return "", err
	}
	return fmt.Sprintf(`# Written by the sidecar: what is changed here does not stay.
volume brick
  type protocol/client
  option transport-type socket
  option transport.address-family unix
  option transport.socket.connect-path %s
  option remote-host localhost
  option remote-subvolume %s
  option ping-timeout %d
  option send-gids on
end-volume

volume %[2]s
  type features/quiesce
  option timeout %[4]d
  subvolumes brick
end-volume
`, c.Socket, remote, int(pingLimit/time.Second), int(c.Wait/time.Second)), nil
}
