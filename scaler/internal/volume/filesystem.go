package volume

import (
	"fmt"
	"os"
	"os/exec"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// fileSystem is how one is made, checked and grown. What it gives are command lines.
type fileSystem struct {
	name string
	// least is the smallest disk that it can be made on, in bytes.
	least int64
	// arrays: it can lie over several disks.
	arrays bool
	tools  []string
	make   func(devices []string, l Layout) []string
	// replay is whether its journal is written back by a mount, before it is checked.
	replay bool
	check  func(device string) []string
	// fine are the exit statuses of check that say that all is well now.
	fine []int
	// growMounted grows it to the size of its disks.
	growMounted func(devices []string, path string) [][]string
	// growAtRest does so while it is not mounted; nil if it cannot.
	growAtRest func(device string) [][]string
	// growRight is the capability that growMounted needs beyond that for mounts; -1 for
	// none.
	growRight int
}

// fileSystems are those that there are, the preferred one first.
var fileSystems = []fileSystem{
	{
		name: "xfs", least: 300 << 20, tools: []string{"mkfs.xfs", "xfs_repair", "xfs_growfs"},
		make:   func(d []string, _ Layout) []string { return []string{"mkfs.xfs", "-q", "-f", "-K", d[0]} },
		replay: true,
		check:  func(d string) []string { return []string{"xfs_repair", "-n", d} }, fine: []int{0},
		growMounted: func(_ []string, path string) [][]string { return [][]string{{"xfs_growfs", path}} },
		growRight:   -1,
	},
	{
		name: "ext4", least: 16 << 20, tools: []string{"mkfs.ext4", "e2fsck", "resize2fs"},
		make:  func(d []string, _ Layout) []string { return []string{"mkfs.ext4", "-q", "-F", "-E", "nodiscard", d[0]} },
		check: func(d string) []string { return []string{"e2fsck", "-p", d} }, fine: []int{0, 1},
		growMounted: func(d []string, _ string) [][]string { return [][]string{{"resize2fs", d[0]}} },
		growAtRest:  func(d string) [][]string { return [][]string{{"e2fsck", "-f", "-p", d}, {"resize2fs", d}} },
		growRight:   unix.CAP_SYS_RESOURCE,
	},
	{
		name: "btrfs", least: 256 << 20, // the least that the kernel grows
		arrays: true, tools: []string{"mkfs.btrfs", "btrfs"},
		make: func(d []string, l Layout) []string {
			args := []string{"mkfs.btrfs", "-q", "-f", "-K"}
			switch {
			case len(d) == 1:
			case l == Striped: // what is lost with one disk needs no stripes to be read
				args = append(args, "-d", "raid0", "-m", "raid1")
			default:
				args = append(args, "-d", string(l), "-m", string(l))
			}
			return append(args, d...)
		},
		replay: true,
		check:  func(d string) []string { return []string{"btrfs", "check", "--readonly", d} }, fine: []int{0},
		growMounted: func(d []string, path string) [][]string {
			var all [][]string
			for i := range d {
				all = append(all, []string{"btrfs", "filesystem", "resize", strconv.Itoa(i+1) + ":max", path})
			}
			return all
		},
		growRight: -1,
	},
}

func fileSystemOf(name string) (fileSystem, error) {
	var names []string
	for _, f := range fileSystems {
		if f.name == name {
			return f, nil
		}
		names = append(names, f.name)
	}
	return fileSystem{}, fmt.Errorf("there is no file system %q; expected %s", name, strings.Join(names, ", "))
}

// choose settles the file system of a spec, and says what this machine lacks for it.
func (m machine) choose(s Spec) (Spec, fileSystem, error) {
	if err := m.able(); err != nil {
		return s, fileSystem{}, fmt.Errorf("volume %s: %w", s.Name, err)
	}
	var lacks []string
	for _, f := range fileSystems {
		if s.FileSystem != "" && s.FileSystem != f.name || s.FileSystem == "" && s.Kind == Array != f.arrays {
			continue
		}
		_, size := s.PerDisk()
		switch lack := m.lacks(f); {
		case s.Kind == Array && !f.arrays:
			return s, f, fmt.Errorf("volume %s: %s lies on one disk; arrays have btrfs", s.Name, f.name)
		case lack != "":
			lacks = append(lacks, lack)
		case size < f.least:
			lacks = append(lacks, fmt.Sprintf("%s needs disks of %d MiB and these have %d", f.name, f.least>>20, size>>20))
		default:
			s.FileSystem = f.name
			return s, f, nil
		}
	}
	if len(lacks) == 0 {
		_, err := fileSystemOf(s.FileSystem)
		return s, fileSystem{}, fmt.Errorf("volume %s: %w", s.Name, err)
	}
	return s, fileSystem{}, fmt.Errorf("volume %s: %w make its file system: %s; install what is missing, name another file_system, or use storage of kind directory", s.Name, ErrUnable, strings.Join(lacks, "; "))
}

// machine is what the local provider asks of the machine; tests have others.
type machine struct {
	// root is that of /proc and /dev; empty for the machine's own.
	root string
	// look finds a program.
	look func(string) (string, error)
	// right reports whether this process has a capability.
	right func(int) bool
}

func thisMachine() machine { return machine{look: exec.LookPath, right: hasRight} }

// able says why there can be no volume but a directory.
func (m machine) able() error {
	if !m.right(unix.CAP_SYS_ADMIN) {
		return fmt.Errorf("%w mount file systems for this process, which has not the right to (CAP_SYS_ADMIN; root has it); use storage of kind directory", ErrUnable)
	}
	if _, err := os.Stat(m.root + "/dev/loop-control"); err != nil {
		return fmt.Errorf("%w make disks of files: its kernel has no loop devices (%w); use storage of kind directory", ErrUnable, err)
	}
	for _, tool := range []string{"losetup", "mount", "umount"} {
		if _, err := m.look(tool); err != nil {
			return fmt.Errorf("%w make disks of files: %w; install util-linux and mount", ErrUnable, err)
		}
	}
	return nil
}

// lacks says what is missing for a file system; empty if nothing is.
func (m machine) lacks(f fileSystem) string {
	for _, tool := range f.tools {
		if _, err := m.look(tool); err != nil {
			return f.name + " needs the program " + tool + ", which is not installed"
		}
	}
	known, err := os.ReadFile(m.root + "/proc/filesystems")
	if err != nil {
		return err.Error()
	}
	for line := range strings.Lines(string(known)) {
		if strings.TrimSpace(line) == f.name {
			return ""
		}
	}
	// A kernel without modules has no such file.
	if text, err := os.ReadFile(m.root + "/proc/sys/kernel/modprobe"); err == nil {
		if program := strings.TrimSpace(string(text)); program != "" && exec.Command(program, "-q", f.name).Run() == nil {
			return ""
		}
	}
	return "the kernel has no file system " + f.name
}

// hasRight reports whether this process has an effective capability.
func hasRight(capability int) bool {
	header := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
	var data [2]unix.CapUserData
	if err := unix.Capget(&header, &data[0]); err != nil {
		return false
	}
	return data[capability/32].Effective&(1<<(capability%32)) != 0
}
