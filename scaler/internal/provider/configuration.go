package provider

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/goccy/go-yaml"

	"farmhand/scaler/internal/farmfile"
)

// Configuration is what an instance runs by: the values of its role's keys in the
// farm file, by their paths below the role. What only the scaler goes by is not in it.
type Configuration map[string]string

// ConfigurationOf returns what an instance of the role runs by that is launched now.
func ConfigurationOf(r farmfile.Role) (Configuration, error) {
	text, err := yaml.Marshal(struct {
		Image      string              `yaml:"image"`
		Size       string              `yaml:"size"`
		Storage    farmfile.Storage    `yaml:"storage"`
		Hooks      farmfile.Hooks      `yaml:"hooks"`
		Parameters farmfile.Parameters `yaml:"parameters"`
	}{r.Image, r.Size, r.Storage, r.Hooks, r.Parameters})
	var content map[string]any
	if err == nil {
		err = yaml.Unmarshal(text, &content)
	}
	if err != nil {
		return nil, fmt.Errorf("configuration of an instance: %w", err)
	}
	c := Configuration{}
	c.add("", content)
	unused := map[string]bool{}
	if w := r.Parameters.Web; w != nil {
		unused = map[string]bool{"parameters.http.": w.HTTP.Port == 0, "parameters.release.": w.Release.Store == "", "parameters.mail.": w.Mail.Relay == ""}
	}
	for key := range c {
		drop := scalers(key)
		for tree, is := range unused {
			drop = drop || is && strings.HasPrefix(key, tree)
		}
		if drop {
			delete(c, key)
		}
	}
	return c, nil
}

func (c Configuration) add(path string, value any) {
	switch value := value.(type) {
	case map[string]any:
		for key, one := range value {
			c.add(strings.TrimPrefix(path+"."+key, "."), one)
		}
	case []any:
		for i, one := range value {
			c.add(fmt.Sprintf("%s[%d]", path, i), one)
		}
	default:
		c[path] = fmt.Sprint(value)
	}
}

// scalers reports whether only the scaler goes by a key.
func scalers(key string) bool {
	switch key {
	case "hooks.wait", "parameters.durability", "parameters.available_after", "parameters.replace_after", "parameters.lost_after", "storage.keep", "storage.pin", "storage.snapshots.every", "storage.snapshots.last", "storage.snapshots.for":
		return true
	}
	return strings.HasPrefix(key, "hooks.events.") && strings.HasSuffix(key, ".mode")
}

// live reports whether an instance that runs can take another value of a key without
// that anybody who uses it notices: by [Provider.Configure].
func live(key string) bool {
	switch key {
	case "parameters.buffer_pool", "parameters.proxy.consistency", "parameters.proxy.max_lag", "parameters.proxy.max_per_server":
		return true
	case "parameters.http.port", "parameters.http.nginx", "parameters.http.php.program":
		return false
	}
	for _, tree := range []string{"hooks.", "parameters.http.", "parameters.mail.", "parameters.release.", "parameters.templates", "parameters.health", "parameters.drain"} {
		if strings.HasPrefix(key, tree) {
			return true
		}
	}
	return false
}

// Change is a key whose value is another one than an instance runs by.
type Change struct {
	Key      string
	Was, Now string // empty if there is none
	// Live says that an instance that runs can take the new value; otherwise another
	// one has to take its place.
	Live bool
}

func (c Change) String() string {
	return fmt.Sprintf("%s: %s -> %s", c.Key, cmp.Or(c.Was, "-"), cmp.Or(c.Now, "-"))
}

// Changes returns what differs in now from c, by key. Of an instance of which nobody knows
// what it runs by (nil), nothing is known to differ.
func (c Configuration) Changes(now Configuration) []Change {
	if c == nil {
		return nil
	}
	all := maps.Clone(c)
	maps.Copy(all, now)
	var list []Change
	for _, key := range slices.Sorted(maps.Keys(all)) {
		if c[key] != now[key] {
			list = append(list, Change{Key: key, Was: c[key], Now: now[key], Live: live(key)})
		}
	}
	return list
}

// Configured returns c after what can be taken live was taken from now.
func (c Configuration) Configured(now Configuration) Configuration {
	next := maps.Clone(c)
	for _, change := range c.Changes(now) {
		if !change.Live {
			continue
		}
		if value, there := now[change.Key]; there {
			next[change.Key] = value
		} else {
			delete(next, change.Key)
		}
	}
	return next
}
