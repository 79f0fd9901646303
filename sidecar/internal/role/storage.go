package role

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/user"
	"path/filepath"
	"strconv"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"farmhand/internal/atomicfile"
	"farmhand/internal/mounts"
	"farmhand/internal/volumemark"
	"farmhand/sidecar/internal/config"
	"farmhand/sidecar/internal/render"
	"farmhand/sidecar/internal/share"
)

// newStorage is a node whose directory others mount: GlusterFS's brick, and the gate
// by which the farm's nodes reach it.
func newStorage(c config.Config, tools Tools) (Role, error) {
	s := c.Storage
	if c.Farm.Directory == "" {
		return nil, errors.New("a storage node needs a farm (farm.directory): by the certificates of that its clients are known")
	}
	path, err := find(s.Program)
	if err != nil {
		return nil, fmt.Errorf("storage.program: %w", err)
	}
	self, err := os.Executable()
	if err != nil {
		return nil, fmt.Errorf("where this program is: %w", err)
	}
	directory := filepath.Join(s.Data, sharedDirectory)
	brick := share.Brick{Directory: directory, Socket: filepath.Join(c.State, "brick.sock")}
	if err := checkSocket(brick.Socket); err != nil {
		return nil, err
	}
	text, err := brick.Volfile()
	if err != nil {
		return nil, fmt.Errorf("storage: %w", err)
	}
	volfile := filepath.Join(c.State, "brick.vol")
	disk := sharedDisk{Storage: s, volume: c.Volume, node: c.Name, path: directory}
	if disk.uid, disk.gid, err = owner(s.Owner); err != nil {
		return nil, fmt.Errorf("storage.owner: %w", err)
	}
	members := filepath.Join(c.State, "members")
	gate := &program{
		name: config.GateProgram, args: []string{self, "share", "gate", "--directory", c.Farm.Directory, "--listen", s.Listen, "--socket", brick.Socket, "--members", members},
		stopSignal: syscall.SIGTERM, stopAfter: 5 * time.Second, record: filepath.Join(c.State, "program-"+config.GateProgram+".json"),
	}
	n, err := newNode(c, tools, &program{
		name: config.BrickProgram, args: append([]string{path}, brick.Arguments(volfile)...),
		stopSignal: syscall.SIGTERM, endStatus: int(syscall.SIGTERM), stopAfter: 10 * time.Second, until: []*program{gate}, record: filepath.Join(c.State, "program-"+config.BrickProgram+".json"),
		prepare: func() error {
			if err := disk.ready(); err != nil {
				return err
			}
			return atomicfile.Write(volfile, []byte(text), 0o600, nil)
		},
	}, gate)
	if err != nil {
		return nil, err
	}
	n.templates = append(n.templates, render.Template{Source: "the farm's members", Text: share.MembersTemplate, Destination: members, Mode: 0o600, Limit: 10 * time.Second})
	n.check(&check{
		interval: 2 * time.Second, limit: time.Second, failures: 3, successes: 1,
		try: func(ctx context.Context) error { return share.Ask(ctx, brick.Socket) },
	})
	return n, nil
}

// sharedDirectory is the name of the shared directory in that of the data, at the top of which
// the volume's own mark is.
const sharedDirectory = "files"

// sharedDisk is what the shared directory is on.
type sharedDisk struct {
	config.Storage
	volume   config.Volume
	node     string
	path     string // of the shared directory
	uid, gid int    // -1: whoever we are
}

// ready makes the shared directory ready to be given to others, if it is on the volume that it
// is to be on.
func (d sharedDisk) ready() error {
	if d.volume.Name != "" {
		if _, err := volumemark.Read(d.volume.Directory, d.volume.Name, d.node); err != nil {
			return fmt.Errorf("%w; nothing is given to others without it", err)
		}
		if d.Durable {
			if err := writeThrough(d.volume.Directory); err != nil {
				return err
			}
		}
	}
	if _, err := os.Stat(d.path); !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	// It is there as a whole or not at all.
	unfinished := d.path + ".new"
	if err := errors.Join(os.RemoveAll(unfinished), os.MkdirAll(unfinished, 0o755)); err != nil {
		return fmt.Errorf("make the shared directory: %w", err)
	}
	if d.uid >= 0 {
		if err := os.Chown(unfinished, d.uid, d.gid); err != nil {
			return fmt.Errorf("make the shared directory: %w", err)
		}
	}
	if err := os.Rename(unfinished, d.path); err != nil {
		return fmt.Errorf("make the shared directory: %w", err)
	}
	return atomicfile.SyncDir(d.Data)
}

// writeThrough has the file system at path acknowledge a write only when it is on the disk, with the file's own name,
// as if each file had been opened with O_SYNC. What only changes names need not be: xfs takes that (wsync) when
// it is mounted for the first time only.
func writeThrough(path string) error {
	path, err := filepath.EvalSymlinks(path)
	if err != nil {
		return err
	}
	at, err := mounts.At(path)
	if err != nil {
		return err
	}
	if at == nil {
		return fmt.Errorf("%s is no file system of its own, and cannot be told to acknowledge only what is on the disk: have a volume, or say durable: false", path)
	}
	if err := unix.Mount("", path, "", unix.MS_REMOUNT|unix.MS_NOATIME|unix.MS_SYNCHRONOUS, ""); err != nil {
		return fmt.Errorf("have the file system at %s acknowledge a write only when it is on the disk: %w", path, err)
	}
	return nil
}

// owner is the account that a new shared directory belongs to; -1 where it is ours in any
// case.
func owner(name string) (uid, gid int, err error) {
	if os.Geteuid() != 0 {
		return -1, -1, nil
	}
	if name == "" {
		if name, err = firstAccount(webAccounts...); err != nil {
			return 0, 0, err
		}
	}
	u, err := user.Lookup(name)
	if err != nil {
		return 0, 0, err
	}
	uid, err = strconv.Atoi(u.Uid)
	if err == nil {
		gid, err = strconv.Atoi(u.Gid)
	}
	return uid, gid, err
}

// checkSocket says what is wrong with the path of a unix socket.
func checkSocket(path string) error {
	if len(path) > maxSocketPath {
		return fmt.Errorf("the path of a socket, %s, is longer than %d bytes: give the sidecar a state directory with a shorter one", path, maxSocketPath)
	}
	return nil
}
