// Package listener says which process of this machine listens on a TCP port
// or unix socket, so that "address already in use" can name its cause.
//
// It reads /proc and changes nothing. What it may not see (processes of other
// accounts) it says to be unknown.
package listener

import (
	"bufio"
	"bytes"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
)

// Process is who listens. A PID of 0 means that it belongs to another account
// and cannot be told.
type Process struct {
	PID     int
	Command string // the command line, arguments joined by spaces
}

func (p Process) String() string {
	if p.PID == 0 {
		return "a process of another account (look with: sudo ss -ltnxp)"
	}
	return fmt.Sprintf("process %d (%s)", p.PID, p.Command)
}

// TCP returns who listens on an address, or on its port at every address; ok
// is false when nobody does.
func TCP(address netip.AddrPort) (p Process, ok bool, err error) {
	inodes := map[string]bool{}
	for _, table := range []string{"/proc/net/tcp", "/proc/net/tcp6"} {
		text, err := os.ReadFile(table)
		if errors.Is(err, fs.ErrNotExist) {
			continue // no IPv6
		}
		if err != nil {
			return p, false, fmt.Errorf("read who listens: %w", err)
		}
		for _, l := range parseTCP(text) {
			if l.address.Port() == address.Port() && (l.address.Addr().IsUnspecified() || l.address.Addr() == address.Addr()) {
				inodes[l.inode] = true
			}
		}
	}
	return owner(inodes)
}

// Unix returns who listens on the socket at path; ok is false when nobody does.
func Unix(path string) (p Process, ok bool, err error) {
	text, err := os.ReadFile("/proc/net/unix")
	if err != nil {
		return p, false, fmt.Errorf("read who listens: %w", err)
	}
	// The kernel has the path that was bound; /var/run may be /run.
	paths := []string{path}
	if real, err := filepath.EvalSymlinks(filepath.Dir(path)); err == nil {
		paths = append(paths, filepath.Join(real, filepath.Base(path)))
	}
	inodes := map[string]bool{}
	lines := bufio.NewScanner(bytes.NewReader(text))
	for lines.Scan() {
		// Num RefCount Protocol Flags Type St Inode Path (proc_net(5)); the flag
		// is the kernel's __SO_ACCEPTCON.
		f := strings.Fields(lines.Text())
		if len(f) == 8 && f[3] == "00010000" && slices.Contains(paths, f[7]) {
			inodes[f[6]] = true
		}
	}
	return owner(inodes)
}

type listening struct {
	address netip.AddrPort
	inode   string
}

// parseTCP reads the listening sockets of a /proc/net/tcp or tcp6 table.
func parseTCP(text []byte) []listening {
	const listen = "0A" // TCP_LISTEN
	var list []listening
	lines := bufio.NewScanner(bytes.NewReader(text))
	for lines.Scan() {
		// sl local_address rem_address st … inode is the tenth (proc_net(5)).
		f := strings.Fields(lines.Text())
		if len(f) < 10 || f[3] != listen {
			continue
		}
		if address, ok := parseAddress(f[1]); ok {
			list = append(list, listening{address, f[9]})
		}
	}
	return list
}

// parseAddress reads "0100007F:0CEA": the address in 32-bit words of the
// machine's (little-endian) byte order, the port in hexadecimal.
func parseAddress(text string) (netip.AddrPort, bool) {
	host, port, ok := strings.Cut(text, ":")
	raw, err := hex.DecodeString(host)
	number, perr := strconv.ParseUint(port, 16, 16)
	if !ok || err != nil || perr != nil || len(raw)%4 != 0 {
		return netip.AddrPort{}, false
	}
	for word := range slices.Chunk(raw, 4) {
		slices.Reverse(word)
	}
	address, ok := netip.AddrFromSlice(raw)
	return netip.AddrPortFrom(address.Unmap(), uint16(number)), ok
}

// owner finds a process that has one of the sockets open.
func owner(inodes map[string]bool) (Process, bool, error) {
	if len(inodes) == 0 {
		return Process{}, false, nil
	}
	links, err := filepath.Glob("/proc/[0-9]*/fd/*")
	if err != nil {
		return Process{}, true, fmt.Errorf("look for who listens: %w", err)
	}
	for _, link := range links {
		target, err := os.Readlink(link)
		if err != nil {
			continue // gone meanwhile, or of another account
		}
		inode, ok := strings.CutPrefix(target, "socket:[")
		if !ok || !inodes[strings.TrimSuffix(inode, "]")] {
			continue
		}
		pid, err := strconv.Atoi(strings.Split(link, "/")[2])
		if err != nil {
			continue
		}
		line, err := os.ReadFile(fmt.Sprintf("/proc/%d/cmdline", pid))
		if err != nil {
			continue
		}
		return Process{PID: pid, Command: strings.TrimSpace(strings.ReplaceAll(string(line), "\x00", " "))}, true, nil
	}
	return Process{}, true, nil
}
