package load

import (
	"errors"
	"fmt"
	"maps"
	"syscall"
	"time"

	"github.com/prometheus/procfs"

	"farmhand/internal/cluster"
)

// Host measures a machine. It is not for several goroutines at once.
type Host struct {
	proc      procfs.FS
	directory string
	network   rates
	cpu       rates
}

// NewHost returns what measures this machine. directory is on the file system that
// is to be measured; empty for none.
func NewHost(directory string) (*Host, error) {
	return newHost(procfs.DefaultMountPoint, directory)
}

func newHost(proc, directory string) (*Host, error) {
	fs, err := procfs.NewFS(proc)
	if err != nil {
		return nil, fmt.Errorf("measure the machine: %w", err)
	}
	return &Host{proc: fs, directory: directory}, nil
}

// Sample measures. The error is about what is missing; the rest is good.
func (h *Host) Sample(now time.Time) (map[string]float64, error) {
	load := map[string]float64{}
	var errs []error
	for what, measure := range map[string]func(map[string]float64, time.Time) error{
		"load average": h.average, "processors": h.processors, "memory": h.memory, "disk": h.disk, "network": h.traffic,
	} {
		if err := measure(load, now); err != nil {
			errs = append(errs, fmt.Errorf("measure %s: %w", what, err))
		}
	}
	return load, errors.Join(errs...)
}

func (h *Host) average(load map[string]float64, _ time.Time) error {
	a, err := h.proc.LoadAvg()
	if err != nil {
		return err
	}
	load[cluster.Load1], load[cluster.Load5], load[cluster.Load15] = a.Load1, a.Load5, a.Load15
	return nil
}

// processors measures what part of the time they had something to do. Waiting for
// a disk is no work. What other machines of the same host took ("steal") is: there is
// that much less.
func (h *Host) processors(load map[string]float64, now time.Time) error {
	s, err := h.proc.Stat()
	if err != nil {
		return err
	}
	if len(s.CPU) == 0 {
		return errors.New("the kernel names none")
	}
	load[cluster.LoadProcessors] = float64(len(s.CPU))
	t := s.CPUTotal // guests are in user and nice already
	busy := t.User + t.Nice + t.System + t.IRQ + t.SoftIRQ + t.Steal
	per := h.cpu.next(now, map[string]float64{"busy": busy, "idle": t.Idle + t.Iowait})
	if all := per["busy"] + per["idle"]; all > 0 {
		load[cluster.LoadCPUShare] = per["busy"] / all
	}
	return nil
}

// memory counts as in use what programs could not get.
func (h *Host) memory(load map[string]float64, _ time.Time) error {
	m, err := h.proc.Meminfo()
	if err != nil {
		return err
	}
	if m.MemTotalBytes == nil || m.MemAvailableBytes == nil || *m.MemTotalBytes == 0 {
		return errors.New("the kernel does not say MemTotal and MemAvailable")
	}
	all := float64(*m.MemTotalBytes)
	load[cluster.LoadMemoryBytes] = all
	load[cluster.LoadMemoryShare] = 1 - float64(*m.MemAvailableBytes)/all
	return nil
}

// disk counts as df does: what only root could use is neither free nor there.
func (h *Host) disk(load map[string]float64, _ time.Time) error {
	if h.directory == "" {
		return nil
	}
	var s syscall.Statfs_t
	if err := syscall.Statfs(h.directory, &s); err != nil {
		return fmt.Errorf("statfs %s: %w", h.directory, err)
	}
	block, used := float64(s.Bsize), float64(s.Blocks-s.Bfree)
	free := float64(s.Bavail)
	if used+free == 0 {
		return fmt.Errorf("the file system of %s has no size", h.directory)
	}
	load[cluster.LoadDiskBytes] = float64(s.Blocks) * block
	load[cluster.LoadDiskFree] = free * block
	load[cluster.LoadDiskShare] = used / (used + free)
	return nil
}

// traffic leaves out what never leaves the machine.
func (h *Host) traffic(load map[string]float64, now time.Time) error {
	devices, err := h.proc.NetDev()
	if err != nil {
		return err
	}
	counters := map[string]float64{}
	for name, d := range devices {
		if name != "lo" {
			counters[cluster.LoadNetworkReceived] += float64(d.RxBytes)
			counters[cluster.LoadNetworkSent] += float64(d.TxBytes)
		}
	}
	maps.Copy(load, h.network.next(now, counters))
	return nil
}
