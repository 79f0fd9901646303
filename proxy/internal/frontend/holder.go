package frontend

import (
	"bufio"
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"strconv"
	"strings"
)

// by words who holds an address, for an error: empty if that is not known.
func by(holder string) string {
	if holder == "" {
		return ""
	}
	return " by " + holder
}

// tcpHolder names the process that listens where a socket for a TCP address
// would, as far as /proc shows it to us; empty if it does not.
func tcpHolder(address string) string {
	wanted, err := net.ResolveTCPAddr("tcp", address)
	if err != nil {
		return ""
	}
	host, _ := netip.AddrFromSlice(wanted.IP) // invalid for an empty host: every address
	for _, table := range []string{"/proc/net/tcp", "/proc/net/tcp6"} {
		if inode := listeningInode(table, host.Unmap(), wanted.Port); inode != "" {
			return inodeHolder(inode)
		}
	}
	return ""
}

// unixHolder names the process that has the socket bound to a path open.
func unixHolder(path string) string {
	file, err := os.Open("/proc/net/unix")
	if err != nil {
		return ""
	}
	defer file.Close()
	for lines := bufio.NewScanner(file); lines.Scan(); {
		// Num RefCount Protocol Flags Type St Inode Path; bit 16 of Flags: listens.
		fields := strings.Fields(lines.Text())
		if len(fields) == 8 && fields[7] == path && fields[3] == "00010000" {
			return inodeHolder(fields[6])
		}
	}
	return ""
}

// listeningInode finds the inode of a socket that listens on a port, and on a
// host or on every address, in one of the kernel's tables (proc_net_tcp(5));
// empty if there is none. A host that is not valid or unspecified is any.
func listeningInode(table string, host netip.Addr, port int) string {
	file, err := os.Open(table)
	if err != nil {
		return ""
	}
	defer file.Close()
	for lines := bufio.NewScanner(file); lines.Scan(); {
		fields := strings.Fields(lines.Text())
		if len(fields) < 10 || fields[3] != "0A" { // TCP_LISTEN
			continue
		}
		local, ok := kernelAddress(fields[1])
		if !ok || int(local.Port()) != port {
			continue
		}
		if !host.IsValid() || host.IsUnspecified() || local.Addr().IsUnspecified() || local.Addr() == host {
			return fields[9]
		}
	}
	return ""
}

// kernelAddress reads an address as the kernel's tables have it: words of four
// bytes in the machine's order, a colon and the port, all in hexadecimal.
func kernelAddress(text string) (netip.AddrPort, bool) {
	words, portText, _ := strings.Cut(text, ":")
	b, err := hex.DecodeString(words)
	port, err2 := strconv.ParseUint(portText, 16, 16)
	if err != nil || err2 != nil || len(b)%4 != 0 {
		return netip.AddrPort{}, false
	}
	for i := 0; i < len(b); i += 4 {
		binary.NativeEndian.PutUint32(b[i:], binary.BigEndian.Uint32(b[i:]))
	}
	address, ok := netip.AddrFromSlice(b)
	return netip.AddrPortFrom(address.Unmap(), uint16(port)), ok
}

// inodeHolder names a process that has a socket open.
func inodeHolder(inode string) string {
	descriptors, err := filepath.Glob("/proc/[0-9]*/fd/*")
	if err != nil {
		return ""
	}
	for _, descriptor := range descriptors {
		// Other users' links cannot be read: not an error, only not known.
		if target, err := os.Readlink(descriptor); err != nil || target != "socket:["+inode+"]" {
			continue
		}
		process := filepath.Dir(filepath.Dir(descriptor))
		pid, err := strconv.Atoi(filepath.Base(process))
		if err != nil {
			continue
		}
		name, err := os.ReadFile(filepath.Join(process, "comm"))
		if err != nil {
			return fmt.Sprintf("process %d", pid)
		}
		return fmt.Sprintf("%s (process %d)", strings.TrimSpace(string(name)), pid)
	}
	return ""
}
