package service

import (
	"fmt"
	"os"
	"strconv"
	"sync"
	"time"
)

// Watchdog tells systemd that the service's main loop goes round (WATCHDOG=1,
// sd_watchdog_enabled(3)), so that one that hangs is started again. It has no
// goroutine of its own: a ping is always somebody's progress.
type Watchdog struct {
	notifier Notifier
	every    time.Duration // 0: nobody watches

	mu   sync.Mutex
	last time.Time
}

// NewWatchdog returns a watchdog as systemd wants it by WATCHDOG_USEC and
// WATCHDOG_PID; getenv is usually os.Getenv.
func NewWatchdog(n Notifier, getenv func(string) string) (*Watchdog, error) {
	w := &Watchdog{notifier: n}
	text := getenv("WATCHDOG_USEC")
	if text == "" {
		return w, nil
	}
	if pid := getenv("WATCHDOG_PID"); pid != "" && pid != strconv.Itoa(os.Getpid()) {
		return w, nil // another process is meant
	}
	micros, err := strconv.ParseUint(text, 10, 40)
	if err != nil || micros == 0 {
		return nil, fmt.Errorf("watchdog: WATCHDOG_USEC is %q; expected a number of microseconds", text)
	}
	// Twice in its time would do; a late one shall not be the end.
	w.every = time.Duration(micros) * time.Microsecond / 3
	return w, nil
}

// Beat is called by the main loop each time that it comes round.
func (w *Watchdog) Beat() error {
	if w.every == 0 {
		return nil
	}
	w.mu.Lock()
	due := time.Since(w.last) >= w.every
	if due {
		w.last = time.Now()
	}
	w.mu.Unlock()
	if !due {
		return nil
	}
	return w.notifier.send("WATCHDOG=1")
}
