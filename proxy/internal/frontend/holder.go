package frontend

import (
	"bufio"
	"encoding/hex"
	"fmt"
	"net"
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

// tcpHolder names the process that listens on a TCP address, as far as /proc
// shows it to us; empty if it does not.
func tcpHolder(address string) string {
	_, service, err := net.SplitHostPort(address)
	if err != nil {
		return ""
	}
	port, err := net.LookupPort("tcp", service)
	if err != nil {
		return ""
	}
	for _, table := range []string{"/proc/net/tcp", "/proc/net/tcp6"} {
		if inode := listeningInode(table, port); inode != "" {
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

// listeningInode finds the inode of a socket that listens on a port in one of
// the kernel's tables (proc_net_tcp(5)); empty if there is none.
func listeningInode(table string, port int) string {
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
		_, local, _ := strings.Cut(fields[1], ":")
		b, err := hex.DecodeString(local)
		if err == nil && len(b) == 2 && int(b[0])<<8|int(b[1]) == port {
			return fields[9]
		}
	}
	return ""
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
