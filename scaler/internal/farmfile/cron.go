package farmfile

import (
	"time"

	"github.com/goccy/go-yaml/ast"

	"farmhand/internal/queue"
	"farmhand/internal/service"
	"farmhand/scaler/internal/cron"
)

// CatchUp is what becomes of ticks that no scaler was there for.
type CatchUp cron.CatchUp

func (CatchUp) choices() []string {
	return []string{string(cron.None), string(cron.One), string(cron.All)}
}

// Unsure is what becomes of a tick of which nobody can know whether its message was
// sent.
type Unsure cron.Unsure

func (Unsure) choices() []string { return []string{string(cron.Repeat), string(cron.Skip)} }

// Cron is a message that is put into a queue again and again.
type Cron struct {
	Schedule Recurrence `yaml:"schedule" about:"when: five cron fields such as \"30 3 * * *\", or a period such as 15m"`
	TimeZone string     `yaml:"time_zone" is:"text?" about:"where those times are; \"\" for the farm's time_zone"`
	Queue    string     `yaml:"queue" is:"queue" about:"the queue's URL; of another server than AWS's with ?region=NAME; credentials never stand here"`
	Body     string     `yaml:"body" is:"body" about:"the message"`
	Group    string     `yaml:"group" is:"text?" about:"the message group in a FIFO queue; \"\" for the name of this entry"`
	CatchUp  CatchUp    `yaml:"catch_up" about:"what becomes of times that no scaler was there for: none, one (the newest), or all, up to catch_up_limit"`
	Limit    int        `yaml:"catch_up_limit" is:"1..1000" about:"catch_up all: the most that are made up for, the newest"`
	Unsure   Unsure     `yaml:"unsure" about:"what is done if nobody can know whether a message was sent: repeat (at least once) or skip (at most once); a FIFO queue knows within some minutes, and there it is exactly once"`
}

// UnmarshalYAML reads the entry over the defaults.
func (c *Cron) UnmarshalYAML(n ast.Node) error {
	usual := defaults().cron
	type plain Cron // without this method
	if err := over(n, (*plain)(&usual)); err != nil {
		return err
	}
	*c = usual
	return nil
}

// maxBody is less than a message may have: the farm file is a value in the registry.
const maxBody = 4 << 10

func (c *Cron) check(p *service.Problems, path string) {
	if c.Schedule.Never() {
		p.Add(path, "the key schedule is missing; expected five cron fields or a period")
	}
	if matches(forms["queue"].pattern, c.Queue) {
		if _, err := queue.ParseAddress(c.Queue); err != nil {
			p.Add(path+".queue", "%v", err)
		}
	}
	if len(c.Body) > maxBody {
		p.Add(path+".body", "%d bytes; expected at most %d: what is larger belongs into a file or an object that the message names", len(c.Body), maxBody)
	}
	if _, err := c.zone(time.UTC); err != nil {
		p.Add(path+".time_zone", "this machine knows no time zone %q; expected UTC or one such as Europe/Berlin", c.TimeZone)
	}
}

func (c *Cron) zone(usual *time.Location) (*time.Location, error) {
	if c.TimeZone == "" {
		return usual, nil
	}
	return time.LoadLocation(c.TimeZone)
}

// CronJob is an entry of the section cron for what decides by it and sends.
type CronJob struct {
	cron.Job
	Queue       queue.Address
	Body, Group string
}

// CronJobs returns what the file says about messages that come again and again, in
// the order of their names.
func (f *Farm) CronJobs() (jobs []CronJob, err error) {
	for name, c := range sorted(f.Cron) {
		address, err := queue.ParseAddress(c.Queue)
		if err != nil {
			return nil, err
		}
		zone, err := c.zone(f.TimeZone.Location)
		if err != nil {
			return nil, err
		}
		job := CronJob{Queue: address, Body: c.Body, Group: c.Group, Job: cron.Job{
			Name: name, Schedule: c.Schedule.Schedule, Zone: zone, CatchUp: cron.CatchUp(c.CatchUp), Limit: c.Limit,
			Unsure: cron.Unsure(c.Unsure), FIFO: address.FIFO(),
		}}
		if job.Group == "" {
			job.Group = name
		}
		jobs = append(jobs, job)
	}
	return jobs, nil
}
