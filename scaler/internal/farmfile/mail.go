package farmfile

import "farmhand/internal/service"

// Mail is where PHP's mail() of a web role goes.
type Mail struct {
	Relay        string   `yaml:"relay" is:"listen?" about:"the mail server's host:port that mail() of PHP sends to; \"\" for what php.ini says"`
	TLS          MailTLS  `yaml:"tls" about:"how the connection is encrypted; none is for a relay on this machine"`
	CAFile       string   `yaml:"ca_file" is:"path?" about:"the file, on the servers, with the authorities that the relay's certificate may be of; \"\" for the system's"`
	User         string   `yaml:"user" is:"text?" about:"whom to log in as; \"\" for nobody"`
	PasswordFile string   `yaml:"password_file" is:"path?" about:"the file, on the servers, with that user's password; it never stands here"`
	From         string   `yaml:"from" is:"text?" about:"the sender of what does not say its own (mail()'s fifth argument, -f); \"\" for the account at the machine"`
	TimeLimit    Duration `yaml:"time_limit" is:"1s..10m" about:"how long the relay may take to answer"`
	Program      string   `yaml:"program" is:"text" about:"msmtp: a name that is looked for, or a path"`
}

// MailTLS is how a connection to a mail server is encrypted.
type MailTLS string

// The ways.
const (
	StartTLS MailTLS = "starttls"
	TLSOnly  MailTLS = "tls"
	NoTLS    MailTLS = "none"
)

func (MailTLS) choices() []string { return []string{string(StartTLS), string(TLSOnly), string(NoTLS)} }

// wordForm is what stands in a line of msmtp's file.
const wordForm = `^[^"\\\s\x00-\x1f\x7f]*$`

func (m *Mail) check(p *service.Problems, path string, port int) {
	if m.Relay == "" {
		return
	}
	if port == 0 {
		p.Add(path+".relay", "there is no PHP whose mail it is: http.port says where it serves")
	}
	if (m.User == "") != (m.PasswordFile == "") {
		p.Add(path+".password_file", "expected user and password_file, or neither")
	}
	if m.User != "" && m.TLS == NoTLS {
		p.Add(path+".tls", "a password is not sent without encryption; expected starttls or tls")
	}
	for key, text := range map[string]string{"user": m.User, "from": m.From} {
		if !matches(wordForm, text) {
			p.Add(path+"."+key, "%q has a space, a quote or a control character in it", text)
		}
	}
}
