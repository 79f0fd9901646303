package exposure

import (
	"bufio"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"net/netip"
	"os"
	"path/filepath"
	"strconv"
	"strings"
)

// Socket is where a process listens.
type Socket struct {
	PID     int
	Program string
	Address netip.AddrPort
}

func (s Socket) String() string { return fmt.Sprintf("%s (%d) on %v", s.Program, s.PID, s.Address) }

// Local reports whether only this machine reaches it.
func (s Socket) Local() bool { return s.Address.Addr().Unmap().IsLoopback() }

// Listening returns the TCP sockets on which a process listens, as its own network
// namespace has them.
func Listening(pid int) ([]Socket, error) { return listening("/proc", pid) }

func listening(proc string, pid int) ([]Socket, error) {
	dir := filepath.Join(proc, strconv.Itoa(pid))
	name, err := os.ReadFile(filepath.Join(dir, "comm"))
	if err != nil {
		return nil, fmt.Errorf("look at process %d: %w", pid, err)
	}
	own, err := sockets(dir)
	if err != nil {
		return nil, fmt.Errorf("look at process %d: %w", pid, err)
	}
	var list []Socket
	for _, table := range []string{"tcp", "tcp6"} {
		path := filepath.Join(dir, "net", table)
		f, err := os.Open(path)
		if errors.Is(err, fs.ErrNotExist) && table == "tcp6" {
			continue // a kernel without it
		}
		if err != nil {
			return nil, fmt.Errorf("look at process %d: %w", pid, err)
		}
		found, err := listeners(bufio.NewScanner(f), own)
		if err = errors.Join(err, f.Close()); err != nil {
			return nil, fmt.Errorf("read %s: %w", path, err)
		}
		for _, at := range found {
			list = append(list, Socket{pid, strings.TrimSpace(string(name)), at})
		}
	}
	return list, nil
}

// sockets are the inodes of a process's.
func sockets(dir string) (map[string]bool, error) {
	entries, err := os.ReadDir(filepath.Join(dir, "fd"))
	if err != nil {
		return nil, err
	}
	own := map[string]bool{}
	for _, e := range entries {
		target, err := os.Readlink(filepath.Join(dir, "fd", e.Name()))
		if err != nil {
			continue // closed meanwhile
		}
		if inode, ok := strings.CutPrefix(target, "socket:["); ok {
			own[strings.TrimSuffix(inode, "]")] = true
		}
	}
	return own, nil
}

// listens is the state of a listening socket in the kernel's tables, of which proc(5)
// has the columns.
const listens = "0A"

func listeners(scan *bufio.Scanner, own map[string]bool) (list []netip.AddrPort, err error) {
	for scan.Scan() {
		columns := strings.Fields(scan.Text())
		if len(columns) < 10 || columns[3] != listens || !own[columns[9]] {
			continue
		}
		at, err := address(columns[1])
		if err != nil {
			return nil, err
		}
		list = append(list, at)
	}
	return list, scan.Err()
}

// address reads the kernel's form: words of four bytes, each in the machine's order.
func address(text string) (netip.AddrPort, error) {
	host, port, _ := strings.Cut(text, ":")
	number, err := strconv.ParseUint(port, 16, 16)
	if err != nil {
		return netip.AddrPort{}, fmt.Errorf("address %q: %w", text, err)
	}
	raw, err := hex.DecodeString(host)
	if err != nil || len(raw)%4 != 0 {
		return netip.AddrPort{}, fmt.Errorf("address %q is none", text)
	}
	for at := 0; at < len(raw); at += 4 {
		binary.NativeEndian.PutUint32(raw[at:], binary.BigEndian.Uint32(raw[at:]))
	}
	a, ok := netip.AddrFromSlice(raw)
	if !ok {
		return netip.AddrPort{}, fmt.Errorf("address %q is none", text)
	}
	return netip.AddrPortFrom(a.Unmap(), uint16(number)), nil
}

// Holder is the process that has a file open; 0 for none that this user can see.
func Holder(path string) (int, error) {
	all, err := filepath.Glob("/proc/[0-9]*/fd/*")
	if err != nil {
		return 0, err
	}
	for _, link := range all {
		if target, err := os.Readlink(link); err == nil && target == path {
			return strconv.Atoi(strings.Split(link, "/")[2])
		}
	}
	return 0, nil
}
