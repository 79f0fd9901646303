package role

import (
	"bufio"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/base64"
	"encoding/pem"
	"fmt"
	"io"
	"math/big"
	"net"
	"net/smtp"
	"os"
	"os/user"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"farmhand/internal/farmtest"
	"farmhand/sidecar/internal/membership"
)

// letter is one that a relay has taken.
type letter struct{ login, from, to, text string }

// relay is a mail server that takes what comes over STARTTLS by who logs in, and nothing else.
type relay struct {
	address, caFile, login string
	certificate            tls.Certificate
	letters                chan letter
	sessions               sync.WaitGroup
}

const relayPassword = `se"c$ret '1`

func newRelay(t *testing.T) *relay {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	must(t, err)
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "relay"}, NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}, DNSNames: []string{"localhost"}, IsCA: true, BasicConstraintsValid: true,
		KeyUsage: x509.KeyUsageCertSign | x509.KeyUsageDigitalSignature,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	must(t, err)
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	must(t, err)
	r := &relay{
		address: "localhost:" + fmt.Sprint(listener.Addr().(*net.TCPAddr).Port), caFile: filepath.Join(farmtest.ShortDir(t), "ca.crt"),
		login: base64.StdEncoding.EncodeToString([]byte("\x00site\x00" + relayPassword)), certificate: tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key},
		letters: make(chan letter, 10),
	}
	must(t, os.WriteFile(r.caFile, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), 0o644))
	must(t, os.Chmod(filepath.Dir(r.caFile), 0o755))
	r.sessions.Go(func() {
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			r.sessions.Go(func() {
				r.serve(conn)
				_ = conn.Close()
			})
		}
	})
	t.Cleanup(func() { must(t, listener.Close()); r.sessions.Wait() })
	return r
}

// serve is RFC 5321, 3207 and 4954 as far as a client needs them that sends a letter.
func (r *relay) serve(conn net.Conn) {
	_ = conn.SetDeadline(time.Now().Add(20 * time.Second))
	in, secure := bufio.NewReader(conn), false
	say := func(format string, args ...any) { _, _ = fmt.Fprintf(conn, format+"\r\n", args...) }
	say("220 relay ESMTP")
	var l letter
	for {
		line, err := in.ReadString('\n')
		if err != nil {
			return
		}
		line = strings.TrimRight(line, "\r\n")
		verb, rest, _ := strings.Cut(line, " ")
		switch verb = strings.ToUpper(verb); {
		case verb == "EHLO" && secure:
			say("250-relay\r\n250 AUTH PLAIN")
		case verb == "EHLO":
			say("250-relay\r\n250 STARTTLS")
		case verb == "STARTTLS" && !secure:
			say("220 go on")
			over := tls.Server(conn, &tls.Config{Certificates: []tls.Certificate{r.certificate}})
			if over.Handshake() != nil {
				return
			}
			conn, in, secure = over, bufio.NewReader(over), true
		case verb == "AUTH" && secure:
			kind, given, _ := strings.Cut(rest, " ")
			if kind == "PLAIN" && given == "" {
				say("334 ")
				if given, err = in.ReadString('\n'); err != nil {
					return
				}
			}
			if strings.TrimSpace(given) != r.login {
				say("535 who are you")
				continue
			}
			l.login = "site"
			say("235 welcome")
		case l.login == "" && verb != "QUIT":
			say("530 log in first")
		case verb == "MAIL":
			l.from = between(rest)
			say("250 ok")
		case verb == "RCPT":
			l.to = between(rest)
			say("250 ok")
		case verb == "DATA":
			say("354 go on")
			for {
				line, err := in.ReadString('\n')
				if err != nil {
					return
				}
				if line == ".\r\n" {
					break
				}
				l.text += line
			}
			r.letters <- l
			say("250 taken")
		case verb == "QUIT":
			say("221 bye")
			return
		default:
			say("500 what is %q", verb)
		}
	}
}

// between is the address in MAIL FROM:<…> and RCPT TO:<…>.
func between(text string) string {
	_, text, _ = strings.Cut(text, "<")
	text, _, _ = strings.Cut(text, ">")
	return text
}

func (r *relay) letter(t *testing.T) letter {
	t.Helper()
	select {
	case l := <-r.letters:
		return l
	case <-time.After(20 * time.Second):
		t.Fatal("no letter has come")
		return letter{}
	}
}

// newMailWorld is a web node whose site sends a letter at /mail.php, and says whether that went well.
func newMailWorld(t *testing.T, r *relay, program string) (w *webWorld, url string) {
	t.Helper()
	w, url, dir := newSiteWorld(t)
	must(t, os.WriteFile(filepath.Join(dir, "html", "mail.php"), []byte(`<?php
echo ini_get('sendmail_path'), ' ', var_export(mail('to@example.org', 'A subject', "First\n.dot\nlast", '', $_GET['more'] ?? ''), true);`), 0o644))
	secret := filepath.Join(dir, "relay.password")
	must(t, os.WriteFile(secret, []byte(relayPassword+"\n"), 0o600))
	m := &w.config.Web.Mail
	m.Relay, m.CAFile, m.User, m.PasswordFile, m.From, m.Program = r.address, r.caFile, "site", secret, "site@shop.example", program
	if p := w.config.Validate(); len(p) > 0 {
		t.Fatal(p)
	}
	return w, url
}

// TestMailFiles: PHP knows the command, and the password is in one file only, which is PHP's account's.
func TestMailFiles(t *testing.T) {
	w, url := newMailWorld(t, newRelay(t), "true")
	w.start(t)
	w.source <- members(7, host("db1", "primary", "1", membership.Up))
	w.await(t, "all well", fine)
	dir := w.config.Web.Directory
	status, said, err := page(url + "/mail.php")
	program, found := find("true")
	must(t, found)
	if want := program + " --file=" + filepath.Join(dir, mailFile) + " -t -i true"; err != nil || status != 200 || said != want {
		t.Errorf("%d %q, %v; expected %q", status, said, err, want)
	}
	account := "root"
	if os.Geteuid() == 0 {
		account, err = firstAccount(webAccounts...)
	} else {
		var u *user.User
		if u, err = user.Current(); err == nil {
			account = u.Username
		}
	}
	must(t, err)
	u, err := user.Lookup(account)
	must(t, err)
	for _, path := range append(w.config.Secrets(), filepath.Join(dir, mailPassword)) {
		info, err := os.Stat(path)
		must(t, err)
		if info.Mode().Perm() != 0o600 {
			t.Errorf("%s is %v", path, info.Mode())
		}
		if owner := fmt.Sprint(info.Sys().(*syscall.Stat_t).Uid); path == filepath.Join(dir, mailPassword) && owner != u.Uid {
			t.Errorf("%s is of %s, not of %s", path, owner, account)
		}
	}
	entries, err := os.ReadDir(dir)
	must(t, err)
	for _, e := range entries {
		if !e.Type().IsRegular() || e.Name() == mailPassword {
			continue
		}
		text, err := os.ReadFile(filepath.Join(dir, e.Name()))
		must(t, err)
		if strings.Contains(string(text), relayPassword) {
			t.Errorf("the password is in %s", e.Name())
		}
	}
	w.end(t)
}

// TestMail: what a page sends arrives at the relay, over TLS, by who logs in; a relay whose certificate is not
// believed gets nothing, and the page knows.
func TestMail(t *testing.T) {
	r := newRelay(t)
	// The relay is one that others can talk to as well.
	c, err := smtp.Dial(r.address)
	must(t, err)
	pool := x509.NewCertPool()
	authority, err := os.ReadFile(r.caFile)
	must(t, err)
	pool.AppendCertsFromPEM(authority)
	must(t, c.StartTLS(&tls.Config{RootCAs: pool, ServerName: "localhost"}))
	must(t, c.Auth(smtp.PlainAuth("", "site", relayPassword, "localhost")))
	must(t, c.Mail("a@example.org"))
	must(t, c.Rcpt("b@example.org"))
	data, err := c.Data()
	must(t, err)
	_, err = io.WriteString(data, "Subject: x\n\ny\n")
	must(t, err)
	must(t, data.Close())
	must(t, c.Quit())
	if l := r.letter(t); l.from != "a@example.org" || l.to != "b@example.org" {
		t.Errorf("%+v", l)
	}

	needProgram(t, "msmtp")
	w, url := newMailWorld(t, r, "msmtp")
	w.start(t)
	w.source <- members(7, host("db1", "primary", "1", membership.Up))
	w.await(t, "all well", fine)
	sends := func(query, outcome string) {
		t.Helper()
		if status, said, err := page(url + "/mail.php" + query); err != nil || status != 200 || !strings.HasSuffix(said, " "+outcome) {
			t.Errorf("%d %q, %v; expected %s", status, said, err, outcome)
		}
	}
	for query, from := range map[string]string{"": "site@shop.example", "?more=-fother@shop.example": "other@shop.example"} {
		sends(query, "true")
		l := r.letter(t)
		if l.login != "site" || l.from != from || l.to != "to@example.org" || !strings.Contains(l.text, "Subject: A subject") || !strings.Contains(l.text, "First\r\n..dot\r\nlast") {
			t.Errorf("%s: %+v", query, l)
		}
	}
	w.end(t)

	w.config.Web.Mail.CAFile = filepath.Join(filepath.Dir(r.caFile), "other.crt")
	must(t, os.WriteFile(w.config.Web.Mail.CAFile, readFile(t, newRelay(t).caFile), 0o644))
	w.start(t)
	w.source <- members(7, host("db1", "primary", "1", membership.Up))
	w.await(t, "all well", fine)
	sends("", "false")
	if len(r.letters) > 0 {
		t.Error("a relay that is not believed has a letter")
	}
	w.end(t)
}

func readFile(t *testing.T, path string) []byte {
	t.Helper()
	text, err := os.ReadFile(path)
	must(t, err)
	return text
}
