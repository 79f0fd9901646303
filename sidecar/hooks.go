package main

import (
	"os"
	"time"

	"go.uber.org/zap"

	"farmhand/internal/farm"
	"farmhand/sidecar/internal/config"
	"farmhand/sidecar/internal/hook"
)

// newRunner returns what runs the hooks that the configuration asks for.
func newRunner(c config.Config, log *zap.Logger) (*hook.Runner, error) {
	h := c.Hooks
	if h.Directory != "" {
		if _, err := os.Stat(h.Directory); err != nil {
			log.Warn("there are no hooks", zap.Error(err))
		}
	}
	limits := map[farm.EventKind]time.Duration{}
	for name, e := range h.Events {
		limits[farm.EventKind(name)] = time.Duration(e.TimeLimit)
	}
	return hook.NewRunner(hook.Options{
		Node: c.Name, Limits: limits, Hooks: h.Directory, State: c.State,
		Limit: time.Duration(h.TimeLimit), Grace: time.Duration(h.KillAfter), Output: int(h.Output),
		Attempts: h.Attempts, Parallel: h.Parallel, Journal: int64(h.Journal), Secrets: c.Secrets(),
		Webhook: hook.Webhook{
			URL: h.Webhook.URL, SecretFile: h.Webhook.SecretFile, Limit: time.Duration(h.Webhook.TimeLimit),
			Attempts: h.Webhook.Attempts, FirstWait: time.Duration(h.Webhook.FirstWait),
		},
		Log: log.Named("hooks"),
	})
}
