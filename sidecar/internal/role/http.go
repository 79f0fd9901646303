package role

import (
	"cmp"
	_ "embed"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"os/user"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"

	"farmhand/sidecar/internal/config"
	"farmhand/sidecar/internal/load"
	"farmhand/sidecar/internal/render"
)

// The templates of the configurations of nginx and php-fpm.
//
//go:embed nginx.conf.tmpl
var nginxTemplate string

//go:embed php-fpm.conf.tmpl
var phpFPMTemplate string

// Templates are those built in that another file can take the place of, by the program's name.
var Templates = map[string]string{config.NginxProgram: nginxTemplate, config.PHPFPMProgram: phpFPMTemplate}

// site is a web node's nginx and php-fpm, and what their templates see.
type site struct {
	config.HTTP
	Directory string
	Mounts    []config.Mount
	// currentDir and nextDir lead to the releases that visitors get and that is tried, and NextSocket is where the
	// latter is asked for; NextSocket is empty without releases.
	currentDir, nextDir, NextSocket string
	// Sendmail is the command that PHP's mail() runs; empty for what php.ini says.
	Sendmail string
	// Account and Group are of the system account that both serve requests as; empty
	// for our own.
	Account, Group string
	// Socket is between nginx and the processes that run the site. HealthSocket is of a process
	// that only says that php-fpm runs, also while all of the others are busy: if load balancers
	// took out the nodes that have much to do, the rest would have more.
	Socket, HealthSocket string

	nginx, phpFPM *program
}

// Pool is some of php-fpm's processes.
type Pool struct {
	Name, Socket string
	Children     int
	// Ping is the path by which one of them says that it is there.
	Ping string
	// Settings are PHP's, by their names.
	Settings map[string]string
}

// pingPath is asked to see whether PHP answers.
const pingPath = "/farmhand-ping"

// SitePools are those that run sites.
func (s site) SitePools() []Pool {
	var list []Pool
	if s.DocumentRoot != "" {
		list = append(list, Pool{"site", s.Socket, s.Children, pingPath, s.Settings})
	}
	for _, one := range s.Sites {
		settings := maps.Clone(s.Settings)
		maps.Copy(settings, one.Settings)
		list = append(list, Pool{one.Name, s.socketOf(one), one.Children, pingPath + "/" + one.Name, settings})
	}
	return list
}

// Pools are php-fpm's.
func (s site) Pools() []Pool {
	return append(s.SitePools(), Pool{Name: "health", Socket: s.HealthSocket, Children: 1, Ping: pingPath})
}

func (s site) socketOf(one config.HTTPSite) string {
	return filepath.Join(s.Directory, "php-"+one.Name+".sock")
}

// Server is what nginx does with the requests for some names.
type Server struct {
	// Listen is nginx's word for it: an address, or unix: and a path.
	Listen string
	Names  []string
	// Root is empty for nothing but what belongs to the farm.
	Root, FrontController string
	Socket                string // of the processes that run it
	// First is who answers the farm itself.
	First bool
}

// Servers are nginx's: for visitors, and for the release that is tried.
func (s site) Servers() []Server {
	list := []Server{{s.Listen + " default_server", []string{"_"}, s.DocumentRoot, s.FrontController, s.Socket, true}}
	for _, one := range s.Sites {
		list = append(list, Server{s.Listen, one.Names, one.DocumentRoot, one.FrontController, s.socketOf(one), false})
	}
	if s.NextSocket == "" {
		return list
	}
	for _, one := range list {
		one.Listen, one.First = strings.Replace(one.Listen, s.Listen, "unix:"+s.NextSocket, 1), false
		if one.Root != "" {
			one.Root = s.nextDir + strings.TrimPrefix(one.Root, s.currentDir)
		}
		list = append(list, one)
	}
	return list
}

// Seconds is the time limit, rounded up.
func (s site) Seconds() int64 {
	return int64((time.Duration(s.TimeLimit) + time.Second - 1) / time.Second)
}

// Patience is how long nginx waits for PHP, in seconds: until those that are under way have ended, and then for
// the page itself.
func (s site) Patience() int64 { return 2*s.Seconds() + 5 }

// Bytes is the limit of a request's body.
func (s site) Bytes() int64 { return int64(s.MaxBody) }

// maxSocketPath is how long a unix socket's path may be.
const maxSocketPath = 107

// webAccounts are what distributions call the account of web servers.
var webAccounts = []string{"www-data", "nginx", "apache", "http", "www", "nobody"}

// newSite finds the programs and the account. proxy is told to end when PHP has.
func newSite(c config.Config, proxy *program) (*site, error) {
	h, dir := c.Web.HTTP, c.Web.Directory
	s := &site{HTTP: h, Directory: dir, Mounts: c.Web.Mounts, Socket: filepath.Join(dir, "php.sock"), HealthSocket: filepath.Join(dir, "php-health.sock")}
	if c.Web.Release.Store != "" {
		s.currentDir, s.nextDir, s.NextSocket = c.Web.CurrentDir(), c.Web.NextDir(), filepath.Join(c.Web.SiteDir(), "next.sock")
	}
	sockets := []string{s.HealthSocket, s.NextSocket}
	for _, one := range s.Sites {
		sockets = append(sockets, s.socketOf(one))
	}
	for _, socket := range sockets {
		if len(socket) > maxSocketPath {
			return nil, fmt.Errorf("the path of a socket, %s, is longer than %d bytes: give web.directory a shorter one", socket, maxSocketPath)
		}
	}
	nginx, err := find(h.Nginx)
	if err != nil {
		return nil, err
	}
	phpFPM, err := findPHPFPM(h.PHPFPM)
	if err != nil {
		return nil, err
	}
	if os.Geteuid() == 0 { // php-fpm does not run as root that is not told to
		if s.Account, err = firstAccount(webAccounts...); err != nil {
			return nil, err
		}
		if s.Group, err = groupOf(s.Account); err != nil {
			return nil, err
		}
	}
	if s.Sendmail, err = s.mailer(c.Web.Mail); err != nil {
		return nil, fmt.Errorf("mail: %w", err)
	}
	limit := time.Duration(h.TimeLimit) + 2*time.Second
	s.nginx = &program{
		name: config.NginxProgram, args: []string{nginx, "-c", s.nginxFile(), "-g", s.pid("nginx")}, stopSignal: syscall.SIGQUIT, reloadSignal: syscall.SIGHUP,
		stopAfter: limit, uses: s.HealthSocket, prepare: s.clear, record: filepath.Join(c.State, "program-"+config.NginxProgram+".json"),
	}
	s.phpFPM = &program{
		name: config.PHPFPMProgram, args: []string{phpFPM, "--nodaemonize", "--force-stderr", "--fpm-config", s.phpFPMFile()},
		stopSignal: syscall.SIGQUIT, reloadSignal: syscall.SIGUSR2, stopAfter: limit, until: []*program{s.nginx},
		record: filepath.Join(c.State, "program-"+config.PHPFPMProgram+".json"),
	}
	if proxy != nil {
		proxy.until = []*program{s.phpFPM}
	}
	return s, nil
}

// clear removes the socket that an nginx has left which was killed: the next one would not begin.
func (s *site) clear() error {
	if s.NextSocket == "" {
		return nil
	}
	if err := os.Remove(s.NextSocket); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return nil
}

func (s *site) nginxFile() string  { return filepath.Join(s.Directory, "nginx.conf") }
func (s *site) phpFPMFile() string { return filepath.Join(s.Directory, "php-fpm.conf") }

// pid says where nginx notes its process. Nobody reads that; a check would remove that of who runs.
func (s *site) pid(name string) string {
	return fmt.Sprintf("pid \"%s\";", filepath.Join(s.Directory, name+".pid"))
}

// join adds the files, the health check and the measurement to the node.
func (s *site) join(n *node, secrets []string) {
	n.values = *s
	file := func(p *program, other, destination string, check ...string) render.Template {
		source, text := p.name, Templates[p.name]
		if other != "" {
			source, text = other, ""
		}
		return render.Template{
			Source: source, Text: text, Destination: destination, Mode: 0o600, Limit: 10 * time.Second,
			Check: append([]string{p.args[0]}, check...), Signal: p.reload, Secrets: secrets,
		}
	}
	n.templates = append(n.templates,
		file(s.phpFPM, s.PHPFPMTemplate, s.phpFPMFile(), "--test", "--fpm-config", render.NewFile),
		file(s.nginx, s.NginxTemplate, s.nginxFile(), "-t", "-q", "-c", render.NewFile, "-g", s.pid("nginx-check")),
	)
	for _, pool := range s.SitePools() {
		// A process has to be free within the limit: nodes that have much to do are not ill.
		n.check(&check{interval: 2 * time.Second, limit: 5 * time.Second, failures: 3, successes: 2, try: get("http://" + s.Listen + pool.Ping)})
	}
	n.farm.measures("nginx", load.NewNginx("http://"+s.Listen+"/farmhand-status").Sample)
}

// groupOf is the name of an account's own group.
func groupOf(account string) (string, error) {
	u, err := user.Lookup(account)
	if err != nil {
		return "", err
	}
	g, err := user.LookupGroupId(u.Gid)
	if err != nil {
		return "", fmt.Errorf("account %s: %w", account, err)
	}
	return g.Name, nil
}

// findPHPFPM returns the path of php-fpm: the one that is asked for, or the one without a version in
// its name, or the newest: php-fpm8.2 or php-fpm82.
func findPHPFPM(name string) (string, error) {
	const plain = "php-fpm"
	if name != "" {
		return find(name)
	}
	path, err := find(plain)
	if err == nil {
		return path, nil
	}
	var found []string
	for _, dir := range append(filepath.SplitList(os.Getenv("PATH")), directories...) {
		more, globErr := filepath.Glob(filepath.Join(dir, plain+"[0-9]*"))
		if globErr != nil {
			return "", globErr
		}
		found = append(found, more...)
	}
	if len(found) == 0 {
		return "", fmt.Errorf("%w; nor is there one with a version in its name", err)
	}
	version := func(path string) string { return strings.TrimPrefix(filepath.Base(path), plain) }
	return slices.MaxFunc(found, func(a, b string) int {
		a, b = version(a), version(b)
		return cmp.Or(cmp.Compare(len(a), len(b)), strings.Compare(a, b)) // 8.10 is newer than 8.9
	}), nil
}
