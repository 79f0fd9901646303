package page

import (
	"crypto/rand"
	"crypto/subtle"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"strings"
)

// guard lets in who has shown the token.
type guard struct {
	// token is in the address that the terminal shows. session is what the browser
	// shows from then on, so that the token is not in each of its requests.
	token, session string
	cookie         string // its name: browsers send cookies to all ports of a host
}

func newGuard(port uint16) guard {
	return guard{rand.Text(), rand.Text(), fmt.Sprintf("farmhand-ui-%d", port)}
}

// CheckListen refuses an address that other machines could reach.
func CheckListen(address string) error {
	at, err := netip.ParseAddrPort(address)
	if err != nil {
		return fmt.Errorf("%q: expected IP:PORT, such as 127.0.0.1:0", address)
	}
	if !at.Addr().IsLoopback() {
		return fmt.Errorf("%s is not a loopback address: the page is for this machine only; from another one: ssh -L 8090:127.0.0.1:PORT THIS-MACHINE", address)
	}
	return nil
}

// isLoopback reports whether the Host header names this machine by a name that no
// name server can give to somebody else's page (DNS rebinding). The port may be
// another one: that of an SSH tunnel.
func isLoopback(host string) bool {
	name := host
	if h, _, err := net.SplitHostPort(host); err == nil {
		name = h
	}
	if strings.EqualFold(name, "localhost") {
		return true
	}
	a, err := netip.ParseAddr(strings.Trim(name, "[]"))
	return err == nil && a.IsLoopback()
}

func same(a, b string) bool { return subtle.ConstantTimeCompare([]byte(a), []byte(b)) == 1 }

// headers are those of every answer.
var headers = map[string]string{
	"Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; " +
		"base-uri 'none'; form-action 'none'; frame-ancestors 'none'; require-trusted-types-for 'script'; trusted-types 'none'",
	"X-Content-Type-Options":       "nosniff",
	"X-Frame-Options":              "DENY",
	"Referrer-Policy":              "no-referrer",
	"Cross-Origin-Opener-Policy":   "same-origin",
	"Cross-Origin-Resource-Policy": "same-origin",
	"Cache-Control":                "no-store",
}

// errRefused is why a request is not answered.
var errRefused = errors.New("this page is for who started it: open the address that scaler ui has printed in its terminal, with its token")

func (g *guard) wrap(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		for key, value := range headers {
			w.Header().Set(key, value)
		}
		switch {
		case !isLoopback(r.Host):
			http.Error(w, "this page answers to localhost and loopback addresses only", http.StatusMisdirectedRequest)
			return
		case r.Method != http.MethodGet && r.Method != http.MethodHead:
			http.Error(w, "this page shows; nothing can be changed with it", http.StatusMethodNotAllowed)
			return
		}
		if shown := r.URL.Query().Get("token"); r.URL.Path == "/" && shown != "" && same(shown, g.token) {
			http.SetCookie(w, &http.Cookie{Name: g.cookie, Value: g.session, Path: "/", HttpOnly: true, SameSite: http.SameSiteStrictMode})
			http.Redirect(w, r, "/", http.StatusSeeOther) // the token leaves the address bar
			return
		}
		if c, err := r.Cookie(g.cookie); err != nil || !same(c.Value, g.session) {
			http.Error(w, errRefused.Error(), http.StatusForbidden)
			return
		}
		next.ServeHTTP(w, r)
	})
}
