package config

import (
	"fmt"
	"maps"
	"net/url"
	"slices"

	"farmhand/internal/farm"
	"farmhand/internal/service"
)

// Hooks is what is run when something happens to a host.
type Hooks struct {
	// Directory is hooks.d; empty for no hooks.
	Directory string `yaml:"directory"`
	// TimeLimit is how long a hook may take; KillAfter how long it has then to
	// end by itself.
	TimeLimit service.Duration `yaml:"time_limit"`
	KillAfter service.Duration `yaml:"kill_after"`
	// Events are what differs for the hooks of single events, by the event's name.
	Events map[string]HookEvent `yaml:"events"`
	// Output is how much is kept of what a hook says.
	Output service.Size `yaml:"output"`
	// Attempts is how often the hooks of an event are begun, if the sidecar is
	// killed while they run.
	Attempts int `yaml:"attempts"`
	// Parallel is for how many hosts hooks run at the same time.
	Parallel int `yaml:"parallel"`
	// Journal is the size of the journal's file; as much of the old one is kept.
	Journal service.Size `yaml:"journal"`
	// SecretFiles hold what must not stand in the journal.
	SecretFiles []string `yaml:"secret_files"`
	Webhook     Webhook  `yaml:"webhook"`
}

// HookEvent is how the hooks of one event are run.
type HookEvent struct {
	// TimeLimit is how long each may take; 0 for the time limit of all hooks.
	TimeLimit service.Duration `yaml:"time_limit"`
}

// Webhook is where events are posted to.
type Webhook struct {
	// URL is https, or http to this machine; empty for none.
	URL string `yaml:"url"`
	// SecretFile holds the key of the signature; empty for no signature.
	SecretFile string           `yaml:"secret_file"`
	TimeLimit  service.Duration `yaml:"time_limit"`
	Attempts   int              `yaml:"attempts"`
	FirstWait  service.Duration `yaml:"first_wait"`
}

func defaultHooks() Hooks {
	return Hooks{
		Events:    map[string]HookEvent{},
		TimeLimit: duration("30s"), KillAfter: duration("5s"), Output: 16 << 10, Attempts: 5, Parallel: 4, Journal: 4 << 20,
		SecretFiles: []string{},
		Webhook:     Webhook{TimeLimit: duration("5s"), Attempts: 4, FirstWait: duration("1s")},
	}
}

// Wanted reports whether events are taken at all.
func (h Hooks) Wanted() bool { return h.Directory != "" || h.Webhook.URL != "" }

// Secrets are all files with what must not stand in the journal.
func (c *Config) Secrets() []string {
	files := append([]string{}, c.Hooks.SecretFiles...)
	if c.Hooks.Webhook.URL != "" && c.Hooks.Webhook.SecretFile != "" {
		files = append(files, c.Hooks.Webhook.SecretFile)
	}
	if c.Role == "mysql" {
		a := c.MySQL.Accounts
		files = append(files, a.Replication.PasswordFile, a.Monitor.PasswordFile)
		if a.Application.PasswordFile != "" {
			files = append(files, a.Application.PasswordFile)
		}
	}
	if m := c.Web.Mail; c.Role == "web" && m.Relay != "" && m.PasswordFile != "" {
		files = append(files, m.PasswordFile)
	}
	return files
}

func (h Hooks) validate(path string) service.Problems {
	var p service.Problems
	if h.Directory != "" {
		absolute(&p, path+".directory", h.Directory)
	}
	p.DurationBetween(path+".time_limit", h.TimeLimit, duration("10ms"), duration("24h"))
	p.DurationBetween(path+".kill_after", h.KillAfter, 0, duration("10m"))
	for _, name := range slices.Sorted(maps.Keys(h.Events)) {
		at := path + ".events." + name
		if !slices.Contains(farm.EventKinds(), farm.EventKind(name)) {
			p.Add(at, "there is no such event")
		}
		p.DurationBetween(at+".time_limit", h.Events[name].TimeLimit, 0, duration("24h"))
	}
	p.SizeBetween(path+".output", h.Output, 0, 1<<20)
	p.Between(path+".attempts", h.Attempts, 1, 1000)
	p.Between(path+".parallel", h.Parallel, 1, 100)
	p.SizeBetween(path+".journal", h.Journal, 64<<10, 1<<30)
	for i, file := range h.SecretFiles {
		absolute(&p, fmt.Sprintf("%s.secret_files[%d]", path, i), file)
	}
	w, path := h.Webhook, path+".webhook"
	if w.URL != "" {
		if err := checkURL(w.URL); err != nil {
			p.Add(path+".url", "%v", err)
		}
	}
	if w.SecretFile != "" {
		absolute(&p, path+".secret_file", w.SecretFile)
	}
	p.DurationBetween(path+".time_limit", w.TimeLimit, duration("10ms"), duration("5m"))
	p.Between(path+".attempts", w.Attempts, 1, 20)
	p.DurationBetween(path+".first_wait", w.FirstWait, duration("1ms"), duration("1m"))
	return p
}

// checkURL wants one whose content others on the way cannot read.
func checkURL(text string) error {
	u, err := url.Parse(text)
	switch {
	case err != nil || u.Host == "" || u.Scheme != "https" && u.Scheme != "http":
		return fmt.Errorf("it is not a URL; expected one such as https://example.org/farm")
	case u.User != nil:
		return fmt.Errorf("it has a user or a password in it; use secret_file")
	case u.Scheme == "http" && !farm.IsLoopback(u.Hostname()):
		return fmt.Errorf("http is for this machine only; expected https://%s%s", u.Host, u.Path)
	}
	return nil
}
