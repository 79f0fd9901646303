package main

import (
	"os"
	"sync"

	"go.uber.org/zap"

	"farmhand/internal/report"
	"farmhand/internal/service"
)

// underSystemd returns report with systemd told of it: at the first one the service
// is ready, and each is a sign that the role's loop goes round, for the watchdog.
// (Reports come at every change, and once a second.) Without systemd it is report.
func underSystemd(each func(report.Report) error, log *zap.Logger) (func(report.Report) error, error) {
	notifier := service.NewNotifier(os.Getenv("NOTIFY_SOCKET"))
	watchdog, err := service.NewWatchdog(notifier, os.Getenv)
	if err != nil {
		return nil, err
	}
	var first sync.Once
	return func(r report.Report) error {
		told := func(err error) {
			if err != nil {
				log.Warn("systemd not told", zap.Error(err))
			}
		}
		first.Do(func() { told(notifier.Ready(string(r.State))) })
		told(watchdog.Beat())
		return each(r)
	}, nil
}
