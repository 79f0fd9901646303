package main

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// calls is how many system calls some processes made, in all and by name.
type calls struct {
	all    float64
	byName map[string]float64
}

// counter counts system calls. It slows what it looks at, so it does that in
// runs of its own, which are not timed.
type counter struct {
	name string // "" if the machine has none
	cost string
	// prepare makes ready to count what the processes do.
	prepare func(pids []int, dir string) (counting, error)
}

// counting counts from begin to end; close is to be called in any case.
type counting interface {
	begin() error
	end() (calls, error)
	close()
}

// named are the calls that are counted by name; the rest is in the sum.
var named = []string{
	"read", "write", "readv", "writev", "recvfrom", "sendto", "recvmsg", "sendmsg", "splice", "epoll_wait", "epoll_pwait", "epoll_pwait2",
	"epoll_ctl", "poll", "ppoll", "futex", "nanosleep", "clock_nanosleep", "sched_yield", "accept4", "socket", "connect", "setsockopt",
	"getsockname", "getpeername", "shutdown", "close", "fcntl", "madvise", "mmap", "munmap", "getpid", "tgkill", "rt_sigreturn", "timerfd_settime",
}

// findCounter chooses how to count: perf counts in the kernel and costs a
// system call a fraction of a microsecond, strace stops the process twice for
// each.
func findCounter(dir string) counter {
	perf := counter{"perf stat", "counted in the kernel by tracepoints, well below 1 µs a call", preparePerf}
	if c, err := perf.prepare([]int{os.Getpid()}, dir); err == nil {
		err = c.begin()
		if err == nil {
			_, err = c.end()
		}
		c.close()
		if err == nil {
			return perf
		}
	}
	if _, err := exec.LookPath("strace"); err == nil && os.Getuid() == 0 {
		return counter{"strace -c -f", "stops the process twice for each call, some 10 µs each: batches are smaller, and the figures good to a tenth", prepareStrace}
	}
	return counter{}
}

// perfStat is a "perf stat" that is told by a pipe when to count.
type perfStat struct {
	cmd         *exec.Cmd
	out         string
	orders, ack *os.File
	ended       bool
}

func preparePerf(pids []int, dir string) (counting, error) {
	p := &perfStat{out: filepath.Join(dir, "perf.txt")}
	list := make([]string, len(pids))
	for i, pid := range pids {
		list[i] = strconv.Itoa(pid)
	}
	args := []string{"stat", "-D", "-1", "--control", "fd:3,4", "-o", p.out, "-p", strings.Join(list, ","), "-e", "raw_syscalls:sys_enter"}
	for _, name := range named {
		if kernelHas(name) {
			args = append(args, "-e", "syscalls:sys_enter_"+name)
		}
	}
	p.cmd = exec.Command("perf", args...)
	p.cmd.Env = append(os.Environ(), "LC_ALL=C")
	p.cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true} // Ctrl-C is this program's
	ordersIn, orders, err := os.Pipe()
	if err != nil {
		return nil, err
	}
	ack, ackOut, err := os.Pipe()
	if err != nil {
		return nil, errors.Join(err, ordersIn.Close(), orders.Close())
	}
	p.orders, p.ack = orders, ack
	p.cmd.ExtraFiles = []*os.File{ordersIn, ackOut}
	err = p.cmd.Start()
	_, _ = ordersIn.Close(), ackOut.Close() // the child has its own
	if err != nil {
		p.ended = true
		p.close()
		return nil, err
	}
	return p, nil
}

// order has perf do something and waits until it has.
func (p *perfStat) order(what string) error {
	if err := p.ack.SetReadDeadline(time.Now().Add(10 * time.Second)); err != nil {
		return err
	}
	if _, err := p.orders.WriteString(what + "\n"); err != nil {
		return fmt.Errorf("perf stat: %s: %w", what, err)
	}
	if _, err := p.ack.Read(make([]byte, 16)); err != nil {
		return fmt.Errorf("perf stat: %s: %w", what, err)
	}
	return nil
}

func (p *perfStat) begin() error { return p.order("enable") }

func (p *perfStat) end() (calls, error) {
	if err := p.order("disable"); err != nil {
		return calls{}, err
	}
	p.close()
	text, err := os.ReadFile(p.out)
	if err != nil {
		return calls{}, err
	}
	return parsePerf(string(text))
}

func (p *perfStat) close() {
	if !p.ended {
		p.ended = true
		_ = p.cmd.Process.Signal(syscall.SIGINT) // it writes its table and ends; it may have ended
		_ = p.cmd.Wait()                         // by the signal
	}
	_, _ = p.orders.Close(), p.ack.Close() // a second time does nothing
}

// kernelHas says whether a system call has a tracepoint: the names differ
// between architectures. perf itself says so if there are none at all.
func kernelHas(name string) bool {
	const events = "/sys/kernel/tracing/events/syscalls"
	if _, err := os.Stat(events); err != nil {
		return name == "futex" || name == "nanosleep"
	}
	_, err := os.Stat(events + "/sys_enter_" + name)
	return err == nil
}

var perfCount = regexp.MustCompile(`^\s*([\d,]+|<not counted>)\s+(?:raw_syscalls:sys_enter|syscalls:sys_enter_(\w+))`)

// parsePerf reads what perf stat writes.
func parsePerf(text string) (calls, error) {
	c := calls{byName: map[string]float64{}}
	seen := false
	for line := range strings.Lines(text) {
		if m := perfCount.FindStringSubmatch(line); m != nil {
			var n float64 // not counted: no thread ran
			if m[1] != "<not counted>" {
				var err error
				if n, err = strconv.ParseFloat(strings.ReplaceAll(m[1], ",", ""), 64); err != nil {
					return c, err
				}
			}
			if m[2] == "" {
				c.all, seen = n, true
			} else {
				c.byName[m[2]] = n
			}
		}
	}
	if !seen {
		return c, fmt.Errorf("perf stat said nothing that is understood:\n%s", text)
	}
	return c, nil
}

// straced is an strace that counts from begin to end.
type straced struct {
	args []string
	cmd  *exec.Cmd
	out  bytes.Buffer
	read chan struct{} // closed at the end of its output
}

func prepareStrace(pids []int, _ string) (counting, error) {
	s := &straced{args: []string{"-c", "-f", "-U", "name,calls"}}
	for _, pid := range pids {
		s.args = append(s.args, "-p", strconv.Itoa(pid))
	}
	return s, nil
}

// begin returns when strace has attached.
func (s *straced) begin() error {
	s.cmd = exec.Command("strace", s.args...)
	s.cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true} // Ctrl-C is this program's
	says, err := s.cmd.StderrPipe()
	if err != nil {
		return err
	}
	if err := s.cmd.Start(); err != nil {
		return err
	}
	attached := make(chan struct{})
	s.read = make(chan struct{})
	go func() {
		defer close(s.read)
		lines := bufio.NewScanner(says)
		for first := true; lines.Scan(); {
			if first && strings.Contains(lines.Text(), "attached") {
				first = false
				close(attached)
			}
			s.out.WriteString(lines.Text() + "\n")
		}
	}()
	select {
	case <-attached:
		return nil
	case <-s.read:
		return fmt.Errorf("strace ended: %s", s.out.String())
	}
}

func (s *straced) end() (calls, error) {
	s.close()
	return parseStrace(s.out.String())
}

func (s *straced) close() {
	if s.cmd == nil || s.cmd.Process == nil {
		return
	}
	_ = s.cmd.Process.Signal(syscall.SIGINT) // it lets the processes go, prints its table and ends
	<-s.read
	_ = s.cmd.Wait() // by the signal
	s.cmd = nil
}

// parseStrace reads the table of strace -c -U name,calls.
func parseStrace(text string) (calls, error) {
	c := calls{byName: map[string]float64{}}
	seen := false
	lines := bufio.NewScanner(strings.NewReader(text))
	for lines.Scan() {
		fields := strings.Fields(lines.Text())
		if len(fields) != 2 {
			continue
		}
		n, err := strconv.ParseFloat(fields[1], 64)
		if err != nil {
			continue // the head and the rules
		}
		if fields[0] == "total" {
			c.all, seen = n, true
		} else {
			c.byName[fields[0]] += n
		}
	}
	if !seen {
		return c, fmt.Errorf("strace said nothing that is understood:\n%s", text)
	}
	return c, nil
}
