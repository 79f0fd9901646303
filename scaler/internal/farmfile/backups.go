package farmfile

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/goccy/go-yaml/ast"

	"farmhand/internal/backup"
	"farmhand/internal/objects"
	"farmhand/internal/service"
	"farmhand/scaler/internal/decide"
	"farmhand/scaler/internal/safekeep"
	"farmhand/scaler/internal/schedule"
)

// Backups are the database's.
type Backups struct {
	Store       string     `yaml:"store" is:"store?" about:"where they are: /path, or s3://bucket/prefix?endpoint=https://host&region=name; credentials never stand here; \"\" for no backups"`
	Schedule    Recurrence `yaml:"schedule" about:"when a full one is taken: a period such as 24h, or five cron fields such as \"30 3 * * *\"; \"\" for only when asked"`
	Windows     []Window   `yaml:"windows" is:"0..32" about:"the only times in which a scheduled one begins; none for at any time"`
	Method      Method     `yaml:"method" about:"what a full one is: physical is a copy of the files; logical is statements, which takes longer, and can be restored on another series"`
	FromPrimary bool       `yaml:"from_primary" about:"whether one is taken of the primary while no replica can give one"`
	Throttle    Size       `yaml:"throttle" is:"0..64GiB" about:"how much of the data is read per second; 0 for no bound"`
	EncryptTo   []string   `yaml:"encrypt_to" is:"0..16" about:"age public keys (age1…) that all is encrypted to; none for no encryption"`
	Retention   Retention  `yaml:"retention" about:"which are kept: those that any of its rules keeps; all if there is no rule"`
	Archive     Archive    `yaml:"archive" about:"the binlog's archive, which goes on all the time"`
	Drills      Drills     `yaml:"drills" about:"when a restore is tried out"`
}

// Method is what a full backup is made of.
type Method string

// The methods.
const (
	Physical Method = "physical"
	Logical  Method = "logical"
)

func (Method) choices() []string { return []string{string(Physical), string(Logical)} }

// Retention says which full backups are kept.
type Retention struct {
	Last    int      `yaml:"last" is:"0..10000" about:"so many of the newest"`
	For     Duration `yaml:"for" is:"0..87600h" about:"those that are younger"`
	Hourly  int      `yaml:"hourly" is:"0..10000" about:"the newest of each of the last so many hours that have one"`
	Daily   int      `yaml:"daily" is:"0..10000" about:"the same of days"`
	Weekly  int      `yaml:"weekly" is:"0..10000" about:"the same of weeks, from Monday on"`
	Monthly int      `yaml:"monthly" is:"0..10000" about:"the same of months"`
	Yearly  int      `yaml:"yearly" is:"0..10000" about:"the same of years"`
}

// Archive is the binlog's archive.
type Archive struct {
	Every Duration `yaml:"every" is:"100ms..1h" about:"how long a transaction waits at most until its piece is stored: what is lost if everything is lost at once"`
	Size  Size     `yaml:"size" is:"64KiB..1GiB" about:"a piece that is as large is stored at once"`
	Keep  Duration `yaml:"keep" is:"0..87600h" about:"how far back any moment can be restored; 0 for as far as the oldest full backup that is kept"`
}

// Drills are tries to restore.
type Drills struct {
	Schedule     Recurrence `yaml:"schedule" about:"when one is made: a period or cron fields as above; \"\" for never"`
	IdentityFile string     `yaml:"identity_file" is:"path?" about:"the file, on the database servers, with the age secret keys for encrypted backups"`
}

// Recurrence is when something comes again.
type Recurrence struct{ schedule.Schedule }

// UnmarshalYAML reads a period or cron fields.
func (r *Recurrence) UnmarshalYAML(n ast.Node) error {
	text, err := service.Scalar(n, `a period such as 24h, or cron fields such as "30 3 * * *"`)
	if err != nil {
		return err
	}
	s, err := schedule.Parse(text)
	if err != nil {
		return service.ErrorAt(n, "%v", err)
	}
	*r = Recurrence{s}
	return nil
}

// MarshalYAML writes it as it is read.
func (r Recurrence) MarshalYAML() (any, error) { return r.String(), nil }

func (b *Backups) check(p *service.Problems, path string, f *Farm) {
	for i, w := range b.Windows {
		w.check(p, fmt.Sprintf("%s.windows[%d]", path, i))
	}
	if _, err := backup.ParseRecipients(strings.Join(b.EncryptTo, "\n")); err != nil {
		p.Add(path+".encrypt_to", "%v", err)
	}
	if len(b.EncryptTo) > 0 && !b.Drills.Schedule.Never() && b.Drills.IdentityFile == "" {
		p.Add(path+".drills.identity_file", "it is missing, and encrypted backups cannot be restored without")
	}
	if b.Store == "" {
		return
	}
	if _, err := objects.ParseURL(b.Store); err != nil {
		p.Add(path+".store", "%v", err)
	}
	name := f.Database()
	if name == "" {
		p.Add(path+".store", "the farm has no role of kind mysql that could be backed up")
	}
}

// Database is the name of the farm's role of kind mysql; empty if there is none.
func (f *Farm) Database() string {
	for name, role := range sorted(f.Roles) {
		if role.Kind == MySQLKind {
			return name
		}
	}
	return ""
}

// Safekeeping returns what the file says about backups, for [safekeep.Next], which
// is to know nothing of files.
func (f *Farm) Safekeeping() safekeep.Policy {
	b := f.Backups
	p := safekeep.Policy{
		Store: b.Store, EncryptTo: slices.Clone(b.EncryptTo), Throttle: int64(b.Throttle),
		ArchiveEvery: time.Duration(b.Archive.Every), ArchiveSize: int64(b.Archive.Size), KeepArchive: time.Duration(b.Archive.Keep),
		Full: b.Schedule.Schedule, Zone: f.TimeZone.Location, FromPrimary: b.FromPrimary, Logical: b.Method == Logical,
		Retain: backup.Policy{
			Last: b.Retention.Last, For: time.Duration(b.Retention.For), Hourly: b.Retention.Hourly, Daily: b.Retention.Daily,
			Weekly: b.Retention.Weekly, Monthly: b.Retention.Monthly, Yearly: b.Retention.Yearly,
		},
		Drill: b.Drills.Schedule.Schedule, IdentityFile: b.Drills.IdentityFile,
	}
	if name := f.Database(); name != "" {
		p.Alone = f.Roles[name].Count.Max == 1
	}
	for _, w := range b.Windows {
		p.Windows = append(p.Windows, w.decide())
	}
	return p
}

// decide is the window for what decides by it.
func (w Window) decide() decide.Schedule {
	s := decide.Schedule{From: int(w.From), To: int(w.To)}
	for _, day := range w.Days {
		// A week begins on Monday here, and on Sunday in time.Weekday.
		s.Days = append(s.Days, time.Weekday((slices.Index(days, string(day))+1)%7))
	}
	return s
}
