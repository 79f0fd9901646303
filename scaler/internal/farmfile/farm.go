// Package farmfile owns the farm file, farm.yaml, which says what a farm is to
// be: its keys, their defaults and what makes a value acceptable.
// docs/FARMFILE.md explains it to the people who write one.
//
// It refuses to hold a secret and to act on anything. Its values are what the
// scaler decides by: they need no clock, no file and no network.
//
// Every key is declared once, as a field of a struct, with its bounds and its
// meaning beside it (keys.go); what is checked, the JSON schema and the tables of
// the documentation all come from there.
//
// Invariant: a [Farm] that [Load] returned is complete and within bounds, fits
// together, and is never changed.
package farmfile

import (
	"cmp"
	"encoding/json"
	"errors"
	"path/filepath"
	"reflect"
	"slices"

	"github.com/goccy/go-yaml"
	"github.com/goccy/go-yaml/ast"

	"farmhand/internal/service"
)

// Short names for the types that a value of the file can have.
type (
	Duration = service.Duration
	Size     = service.Size
	FileMode = service.FileMode
)

// Farm is the whole of a farm file.
type Farm struct {
	Name     string          `yaml:"name" is:"label" about:"the farm's name"`
	TimeZone TimeZone        `yaml:"time_zone" about:"where the times of day in this file are"`
	Provider Provider        `yaml:"provider" about:"who launches the farm's servers"`
	Roles    map[string]Role `yaml:"roles" is:"1..32" keys:"label" about:"what there is in the farm, by name"`
	Backups  Backups         `yaml:"backups" about:"the database's backups"`
	Cron     map[string]Cron `yaml:"cron" is:"0..100" keys:"label" about:"messages that are put into a queue again and again, by name"`
	Policies Policies        `yaml:"policies" about:"what the farm may do by itself"`

	unknown service.Problems // the keys of the file that there are not
}

// UnmarshalYAML reads the farm over what f has. Keys that are not known are noted
// for [Farm.Validate], so that they are all told, and with what else is wrong.
func (f *Farm) UnmarshalYAML(n ast.Node) error {
	unknownKeys(&f.unknown, "", n, reflect.ValueOf(*f))
	type plain Farm // without this method
	return over(n, (*plain)(f))
}

// Load reads the farm file at path over the defaults and validates it. An error
// about the content is a [service.ConfigErrors], in the order of the file.
func Load(path string) (*Farm, error) {
	f := defaults().farm
	return f.loaded(path, service.Load(path, &f))
}

// Parse is [Load] of a file's content; path is where it is from.
func Parse(path string, content []byte) (*Farm, error) {
	f := defaults().farm
	return f.loaded(path, service.Decode(path, content, &f))
}

// loaded is the farm that was read, or why it is none.
func (f *Farm) loaded(path string, err error) (*Farm, error) {
	if err != nil {
		var errs service.ConfigErrors
		if errors.As(err, &errs) {
			slices.SortStableFunc(errs, func(a, b *service.ConfigError) int {
				return cmp.Or(cmp.Compare(a.Line, b.Line), cmp.Compare(a.Column, b.Column))
			})
		}
		return nil, err
	}
	if local := f.Provider.Parameters.Local; local != nil && !filepath.IsAbs(local.Directory) {
		local.Directory = filepath.Join(filepath.Dir(path), local.Directory)
	}
	return f, nil
}

// MarshalJSON writes the farm with the keys of the file and every default. It goes
// by way of YAML, whose library writes JSON that is none for some texts.
func (f *Farm) MarshalJSON() ([]byte, error) {
	data, err := yaml.Marshal(f)
	if err != nil {
		return nil, err
	}
	var content any
	if err := yaml.Unmarshal(data, &content); err != nil {
		return nil, err
	}
	return json.Marshal(content)
}

// Validate returns everything that is wrong with the farm.
func (f *Farm) Validate() service.Problems {
	p := slices.Clone(f.unknown)
	checkKeys(&p, f)
	f.Provider.check(&p, f)
	for name, role := range sorted(f.Roles) {
		role.check(&p, "roles."+name, f)
	}
	f.Backups.check(&p, "backups", f)
	for name, c := range sorted(f.Cron) {
		c.check(&p, "cron."+name)
	}
	f.Policies.check(&p, f)
	return p
}
