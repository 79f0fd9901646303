package role

import (
	"fmt"
	"net"
	"os"
	"os/user"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"farmhand/internal/atomicfile"
	"farmhand/internal/service"
	"farmhand/sidecar/internal/config"
)

// Names of files below the role's directory. What ends with .password is in no image.
const (
	mailFile     = "msmtp.conf"
	mailPassword = "mail.password"
)

// mailer makes the files by which msmtp, as PHP's account, sends to the relay, and returns what PHP's sendmail_path
// is to be; empty without a relay. The password is in a file of that account's only: mail() runs msmtp as whoever
// runs the site.
func (s *site) mailer(m config.Mail) (string, error) {
	if m.Relay == "" {
		return "", nil
	}
	if strings.ContainsAny(s.Directory, " \t'") {
		return "", fmt.Errorf("web.directory %s has a space or a quote in it, and stands in the command that PHP's mail() runs", s.Directory)
	}
	program, err := find(m.Program)
	if err != nil {
		return "", err
	}
	text, err := s.mailText(m)
	if err != nil {
		return "", err
	}
	if err := os.MkdirAll(s.Directory, 0o755); err != nil {
		return "", fmt.Errorf("the role's directory: %w", err)
	}
	if m.PasswordFile != "" {
		if err := s.keepPassword(m.PasswordFile); err != nil {
			return "", err
		}
	}
	path := filepath.Join(s.Directory, mailFile)
	if err := atomicfile.Write(path, []byte(text), 0o644, nil); err != nil {
		return "", err
	}
	return program + " --file=" + path + " -t -i", nil
}

// mailText is msmtp's configuration, in which there is no secret.
func (s *site) mailText(m config.Mail) (string, error) {
	host, port, err := net.SplitHostPort(m.Relay)
	if err != nil {
		return "", err
	}
	onOff := map[bool]string{true: "on", false: "off"}
	var b strings.Builder
	line := func(key, value string) { fmt.Fprintf(&b, "%s %s\n", key, value) }
	b.WriteString("# Written by the sidecar: what is changed here does not stay.\ndefaults\nsyslog off\naccount default\n")
	line("host", host)
	line("port", port)
	line("timeout", strconv.FormatInt(int64((time.Duration(m.TimeLimit)+time.Second-1)/time.Second), 10))
	line("tls", onOff[m.TLS != "none"])
	if m.TLS != "none" {
		line("tls_starttls", onOff[m.TLS == "starttls"])
		if m.CAFile != "" {
			line("tls_trust_file", m.CAFile)
		}
	}
	line("auth", onOff[m.User != ""])
	if m.User != "" {
		line("user", m.User)
		line("passwordeval", "cat '"+filepath.Join(s.Directory, mailPassword)+"'")
	}
	from := m.From
	if from == "" {
		if from, err = s.sender(); err != nil {
			return "", err
		}
	}
	line("from", from)
	return b.String(), nil
}

// sender is PHP's account at this machine.
func (s *site) sender() (string, error) {
	account := s.Account
	if account == "" {
		u, err := user.Current()
		if err != nil {
			return "", err
		}
		account = u.Username
	}
	host, err := os.Hostname()
	return account + "@" + host, err
}

// keepPassword copies the password to where PHP's account, and nobody else, can read it.
func (s *site) keepPassword(file string) error {
	password, err := service.ReadSecret(file)
	if err != nil {
		return err
	}
	path := filepath.Join(s.Directory, mailPassword)
	if err := atomicfile.WritePrivate(path, []byte(password+"\n")); err != nil {
		return err
	}
	if s.Account == "" {
		return nil
	}
	c, err := account(s.Account)
	if err != nil || c == nil {
		return err
	}
	return os.Chown(path, int(c.Uid), int(c.Gid))
}
