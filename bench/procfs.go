package main

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io/fs"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// usage is what some processes have used so far.
type usage struct {
	cpu      time.Duration
	switches int64 // of context, voluntary or not, of the threads that live
}

func (u usage) since(before usage) usage {
	return usage{u.cpu - before.cpu, u.switches - before.switches}
}

func usageOf(pids []int) (usage, error) {
	var sum usage
	for _, pid := range pids {
		cpu, err := cpuTime(pid)
		if err != nil {
			return sum, err
		}
		switches, err := contextSwitches(pid)
		if err != nil {
			return sum, err
		}
		sum.cpu += cpu
		sum.switches += switches
	}
	return sum, nil
}

// cpuTime is the user and system time of all threads of a process, those that
// have ended too: what /proc/PID/stat gives in units of 10 ms, to the
// nanosecond. clock_getcpuclockid(3) makes the number of the clock so.
func cpuTime(pid int) (time.Duration, error) {
	var t unix.Timespec
	if err := unix.ClockGettime(int32(^pid<<3|2), &t); err != nil {
		return 0, fmt.Errorf("CPU time of process %d: %w", pid, err)
	}
	return time.Duration(t.Nano()), nil
}

func contextSwitches(pid int) (int64, error) {
	paths, err := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/status", pid))
	if err != nil {
		return 0, err
	}
	if len(paths) == 0 {
		return 0, fmt.Errorf("there is no process %d", pid)
	}
	var sum int64
	for _, path := range paths {
		text, err := os.ReadFile(path)
		if errors.Is(err, fs.ErrNotExist) || errors.Is(err, unix.ESRCH) {
			continue // the thread has ended
		}
		if err != nil {
			return 0, err
		}
		for _, name := range []string{"voluntary_ctxt_switches", "nonvoluntary_ctxt_switches"} {
			n, err := statusField(string(text), name)
			if err != nil {
				return 0, fmt.Errorf("%s: %w", path, err)
			}
			sum += n
		}
	}
	return sum, nil
}

// statusField is a number of a /proc/PID/status; sizes are in KiB.
func statusField(text, name string) (int64, error) {
	for line := range strings.Lines(text) {
		if key, value, ok := strings.Cut(line, ":"); ok && key == name {
			return strconv.ParseInt(strings.TrimSuffix(strings.TrimSpace(value), " kB"), 10, 64)
		}
	}
	return 0, fmt.Errorf("no field %s", name)
}

// memory is a field of a process's status that is a size, in bytes.
func memory(pid int, field string) (int64, error) {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		return 0, err
	}
	n, err := statusField(string(text), field)
	return n << 10, err
}

// peak is the most memory that the processes had resident since forgetPeak.
func peak(pids []int) (sum int64, err error) {
	for _, pid := range pids {
		n, err := memory(pid, "VmHWM")
		if err != nil {
			return 0, err
		}
		sum += n
	}
	return sum, nil
}

// forgetPeak makes the peak begin at what is resident now (proc(5), clear_refs).
func forgetPeak(pids []int) error {
	for _, pid := range pids {
		if err := os.WriteFile(fmt.Sprintf("/proc/%d/clear_refs", pid), []byte("5"), 0); err != nil {
			return err
		}
	}
	return nil
}

// connectionsTo is the number of established TCP connections of a process to
// any of some addresses.
func connectionsTo(pid int, addresses []string) (int, error) {
	links, err := filepath.Glob(fmt.Sprintf("/proc/%d/fd/*", pid))
	if err != nil {
		return 0, err
	}
	own := map[string]bool{}
	for _, link := range links {
		target, err := os.Readlink(link)
		if err != nil {
			continue // it has been closed
		}
		if inode, ok := strings.CutPrefix(target, "socket:["); ok {
			own[strings.TrimSuffix(inode, "]")] = true
		}
	}
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/net/tcp", pid))
	if err != nil {
		return 0, err
	}
	n := 0
	for line := range strings.Lines(string(text)) {
		if remote, inode := establishedTo(line); own[inode] && slices.Contains(addresses, remote) {
			n++
			delete(own, inode) // the list can have a connection twice when it changes meanwhile
		}
	}
	return n, nil
}

// establishedTo reads a line of /proc/net/tcp; "" for other than an established
// connection.
func establishedTo(line string) (remote, inode string) {
	// sl local remote state queues timer retransmits uid timeout inode
	fields := strings.Fields(line)
	if len(fields) < 10 || fields[3] != "01" {
		return "", ""
	}
	host, port, ok := strings.Cut(fields[2], ":")
	address, err := strconv.ParseUint(host, 16, 32)
	number, err2 := strconv.ParseUint(port, 16, 16)
	if !ok || err != nil || err2 != nil {
		return "", ""
	}
	var b [4]byte
	binary.NativeEndian.PutUint32(b[:], uint32(address)) // the kernel prints the bytes as a number of its own
	return netip.AddrPortFrom(netip.AddrFrom4(b), uint16(number)).String(), fields[9]
}
