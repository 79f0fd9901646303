package config

import (
	"regexp"
	"strings"

	"farmhand/internal/farm"
	"farmhand/internal/service"
)

// Mail is where PHP's mail() goes: to a relay, by msmtp.
type Mail struct {
	// Relay is the mail server's host:port; empty for what php.ini says.
	Relay string `yaml:"relay"`
	// TLS is "starttls", "tls" or "none".
	TLS string `yaml:"tls"`
	// CAFile has the authorities that the relay's certificate may be of; empty for the system's.
	CAFile string `yaml:"ca_file"`
	// User is whom to log in as, with the password in PasswordFile; both are empty for nobody.
	User         string `yaml:"user"`
	PasswordFile string `yaml:"password_file"`
	// From is the sender of what does not say its own; empty for the account at the machine.
	From string `yaml:"from"`
	// TimeLimit is how long the relay may take to answer.
	TimeLimit service.Duration `yaml:"time_limit"`
	// Program is msmtp: a name that is looked for, or a path.
	Program string `yaml:"program"`
}

func defaultMail() Mail { return Mail{TLS: "starttls", TimeLimit: duration("15s"), Program: "msmtp"} }

// wordForm is what stands in a line of msmtp's file.
var wordForm = regexp.MustCompile(`^[^"\\\s\x00-\x1f\x7f]*$`)

func (m Mail) validate(p *service.Problems, path string) {
	if m.Relay == "" {
		return
	}
	if err := farm.CheckAddress(m.Relay); err != nil || strings.HasPrefix(m.Relay, "/") {
		p.Add(path+".relay", "%q is not a host:port", m.Relay)
	}
	p.OneOf(path+".tls", m.TLS, "starttls", "tls", "none")
	if (m.User == "") != (m.PasswordFile == "") {
		p.Add(path+".password_file", "expected user and password_file, or neither")
	}
	if m.User != "" && m.TLS == "none" {
		p.Add(path+".tls", "a password is not sent without encryption; expected starttls or tls")
	}
	for key, file := range map[string]string{"password_file": m.PasswordFile, "ca_file": m.CAFile} {
		if file != "" {
			absolute(p, path+"."+key, file)
		}
	}
	for key, text := range map[string]string{"user": m.User, "from": m.From, "ca_file": m.CAFile} {
		if !wordForm.MatchString(text) {
			p.Add(path+"."+key, "%q has a space, a quote or a control character in it", text)
		}
	}
	p.DurationBetween(path+".time_limit", m.TimeLimit, duration("1s"), duration("10m"))
	p.Required(path+".program", m.Program)
}
