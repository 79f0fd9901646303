package wordpress

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"

	"farmhand/internal/child"
)

const (
	fpmPattern = "/usr/sbin/php-fpm*"
	startLimit = time.Minute
	stopLimit  = 10 * time.Second
)

// Options says which site is to run.
type Options struct {
	// Dir is the site's directory, absolute; sockets are in it, so its path may
	// have at most 90 bytes. An earlier run's files are used again.
	Dir string
	// Listen is where nginx takes requests.
	Listen netip.AddrPort
	// Workers is the number of PHP processes, each of which serves one request
	// at a time; 0 means 4.
	Workers int
	DB      Database
}

// Site is a running site. Its methods may be called from any goroutine.
type Site struct {
	// URL is the front page's, without the slash at its end.
	URL string
	// Dial connects a browser to the site; nil for what its name says. It has to be set
	// before the first browser.
	Dial func(ctx context.Context, network, address string) (net.Conn, error)

	log       string
	processes []process // in the order of their start
}

type process struct {
	name string
	*child.Child
}

// Start copies WordPress, starts its processes and returns when the site
// answers; whether it is installed is not looked at. The error has ErrMissing
// in its chain when packages are missing. ctx bounds the start only.
func Start(ctx context.Context, o Options) (*Site, error) {
	if err := missing(); err != nil {
		return nil, fmt.Errorf("WordPress needs %w", err)
	}
	if o.Workers == 0 {
		o.Workers = 4
	}
	const longest = 90 // of 107 bytes for a socket's path
	if !filepath.IsAbs(o.Dir) || len(o.Dir) > longest {
		return nil, fmt.Errorf("the site's directory %q is not an absolute path of at most %d bytes", o.Dir, longest)
	}
	tree := filepath.Join(o.Dir, "html")
	s := &Site{URL: "http://" + o.Listen.String(), log: filepath.Join(o.Dir, "php.log")}
	if err := os.MkdirAll(filepath.Join(o.Dir, "tmp"), 0o700); err != nil {
		return nil, fmt.Errorf("make the site's directory: %w", err)
	}
	if err := copyTree(tree); err != nil {
		return nil, fmt.Errorf("copy %s: %w", Package, err)
	}
	if err := writeConfig(tree, s.log, s.URL, o.DB); err != nil {
		return nil, fmt.Errorf("configure the site: %w", err)
	}
	fpm, err := newestFPM()
	if err != nil {
		return nil, err
	}
	err = errors.Join(
		os.WriteFile(filepath.Join(o.Dir, "fpm.conf"), []byte(fpmConfig(o, s.log)), 0o600),
		os.WriteFile(filepath.Join(o.Dir, "nginx.conf"), []byte(nginxConfig(o, tree)), 0o600),
	)
	if err != nil {
		return nil, fmt.Errorf("configure the site: %w", err)
	}
	arguments := []string{"--nodaemonize", "--fpm-config", filepath.Join(o.Dir, "fpm.conf")}
	if os.Getuid() == 0 {
		arguments = append(arguments, "--allow-to-run-as-root")
	}
	err = errors.Join(
		s.launch(o.Dir, "php-fpm", exec.Command(fpm, arguments...)),
		s.launch(o.Dir, "nginx", exec.Command("/usr/sbin/nginx", "-p", o.Dir, "-e", filepath.Join(o.Dir, "nginx.log"), "-c", filepath.Join(o.Dir, "nginx.conf"))),
	)
	if err == nil {
		err = s.awaitAnswer(ctx)
	}
	if err != nil {
		return nil, errors.Join(fmt.Errorf("start the site: %w", err), s.Stop())
	}
	return s, nil
}

// newestFPM is the path of the php-fpm with the highest version.
func newestFPM() (string, error) {
	found, err := filepath.Glob(fpmPattern)
	if err != nil || len(found) == 0 {
		return "", errors.Join(fmt.Errorf("find php-fpm: %w", ErrMissing), err)
	}
	return slices.Max(found), nil
}

// fpmConfig is php-fpm's configuration. The PHP settings keep the site off the
// machine's mail.
func fpmConfig(o Options, log string) string {
	account := ""
	if os.Getuid() == 0 {
		account = "user = root\ngroup = root\n" // php-fpm wants it said
	}
	return fmt.Sprintf(`[global]
error_log = %[1]s/fpm.log
log_level = notice

[site]
%[2]slisten = %[1]s/fpm.sock
pm = static
pm.max_children = %[3]d
catch_workers_output = yes
php_admin_value[error_log] = %[4]s
php_admin_flag[log_errors] = on
php_admin_value[sendmail_path] = /bin/true
php_admin_value[upload_tmp_dir] = %[1]s/tmp
php_admin_value[sys_temp_dir] = %[1]s/tmp
php_admin_value[max_execution_time] = 120
`, o.Dir, account, o.Workers, log)
}

// parameters are what nginx tells PHP. Debian's list of them leaves the port
// out of HTTP_HOST, without which WordPress sends its visitors in circles.
var parameters = []struct{ name, value string }{
	{"QUERY_STRING", "$query_string"},
	{"REQUEST_METHOD", "$request_method"},
	{"CONTENT_TYPE", "$content_type"},
	{"CONTENT_LENGTH", "$content_length"},
	{"SCRIPT_FILENAME", "$document_root$fastcgi_script_name"},
	{"SCRIPT_NAME", "$fastcgi_script_name"},
	{"REQUEST_URI", "$request_uri"},
	{"DOCUMENT_URI", "$document_uri"},
	{"DOCUMENT_ROOT", "$document_root"},
	{"SERVER_PROTOCOL", "$server_protocol"},
	{"SERVER_SOFTWARE", "nginx"},
	{"GATEWAY_INTERFACE", "CGI/1.1"},
	{"REQUEST_SCHEME", "$scheme"},
	{"REMOTE_ADDR", "$remote_addr"},
	{"REMOTE_PORT", "$remote_port"},
	{"SERVER_ADDR", "$server_addr"},
	{"SERVER_PORT", "$server_port"},
	{"SERVER_NAME", "$host"},
	{"REDIRECT_STATUS", "200"},
	{"HTTP_HOST", "$host:$server_port"},
}

func nginxConfig(o Options, tree string) string {
	account := ""
	if os.Getuid() == 0 {
		account = "user root root;\n"
	}
	var fastcgi strings.Builder
	for _, p := range parameters {
		fmt.Fprintf(&fastcgi, "      fastcgi_param %s %s;\n", p.name, p.value)
	}
	return fmt.Sprintf(`%[2]sdaemon off;
worker_processes 1;
pid %[1]s/nginx.pid;
error_log %[1]s/nginx.log;
events { worker_connections 256; }
http {
  include /etc/nginx/mime.types;
  default_type application/octet-stream;
  access_log off;
  server_tokens off;
  client_max_body_size 64m;
  client_body_temp_path %[1]s/tmp/body;
  fastcgi_temp_path %[1]s/tmp/fastcgi;
  proxy_temp_path %[1]s/tmp/proxy;
  uwsgi_temp_path %[1]s/tmp/uwsgi;
  scgi_temp_path %[1]s/tmp/scgi;
  server {
    listen %[3]v;
    root %[4]s;
    index index.php;
    location / { try_files $uri $uri/ /index.php?$args; }
    location ~ \.php$ {
      try_files $uri =404;
%[5]s      fastcgi_read_timeout 180s;
      fastcgi_pass unix:%[1]s/fpm.sock;
    }
  }
}
`, o.Dir, account, o.Listen, tree, fastcgi.String())
}

// launch starts a process whose output goes to NAME.out in dir.
func (s *Site) launch(dir, name string, cmd *exec.Cmd) error {
	output, err := os.Create(filepath.Join(dir, name+".out"))
	if err != nil {
		return err
	}
	cmd.Stdout, cmd.Stderr = output, output
	// SIGTERM, by which both also end their workers; SIGKILL would leave those.
	c, err := child.Start(cmd, syscall.SIGTERM)
	if err = errors.Join(err, output.Close()); err != nil {
		return fmt.Errorf("%s: %w", name, err)
	}
	s.processes = append(s.processes, process{name, c})
	return nil
}

// awaitAnswer returns when PHP answers through nginx: by WordPress's
// stylesheet generator, which needs no database.
func (s *Site) awaitAnswer(ctx context.Context) error {
	ctx, cancel := context.WithTimeoutCause(ctx, startLimit, fmt.Errorf("it did not answer within %v", startLimit))
	defer cancel()
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for {
		err := s.probe(ctx)
		if err == nil {
			return nil
		}
		if ended := s.ended(); ended != nil {
			return ended
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return fmt.Errorf("%w; last: %w", context.Cause(ctx), err)
		}
	}
}

func (s *Site) probe(ctx context.Context) error {
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, s.URL+"/wp-admin/load-styles.php?load=none", nil)
	if err != nil {
		return err
	}
	client := http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
	response, err := client.Do(request)
	if err != nil {
		return err
	}
	if err := response.Body.Close(); err != nil {
		return err
	}
	if response.StatusCode != http.StatusOK {
		return errors.New(response.Status)
	}
	return nil
}

// ended says that one of the processes has, with what it had to say.
func (s *Site) ended() error {
	for _, p := range s.processes {
		select {
		case <-p.Done():
			var said []string
			for _, name := range []string{p.name + ".out", "fpm.log", "nginx.log"} {
				text, err := os.ReadFile(filepath.Join(filepath.Dir(s.log), name))
				if err == nil && len(text) > 0 {
					said = append(said, strings.TrimSpace(string(text)))
				}
			}
			return fmt.Errorf("%s ended: %w: %s", p.name, p.Ended(), strings.Join(said, "; "))
		default:
		}
	}
	return nil
}

// Done is closed when a process of the site has ended.
func (s *Site) Done() <-chan struct{} {
	done := make(chan struct{})
	first := make(chan struct{}, len(s.processes))
	for _, p := range s.processes {
		go func() {
			<-p.Done()
			first <- struct{}{}
		}()
	}
	go func() {
		<-first
		close(done)
	}()
	return done
}

// Stop ends the site's processes, the last started first.
func (s *Site) Stop() error {
	var failed error
	for _, p := range slices.Backward(s.processes) {
		p.Signal(syscall.SIGTERM)
		select {
		case <-p.Done():
		case <-time.After(stopLimit):
			failed = errors.Join(failed, fmt.Errorf("%s did not end within %v and was killed", p.name, stopLimit))
			// With its workers: child.Start gave it a process group.
			if err := syscall.Kill(-p.PID(), syscall.SIGKILL); err != nil {
				failed = errors.Join(failed, fmt.Errorf("kill %s: %w", p.name, err))
			}
			<-p.Done()
		}
	}
	return failed
}

// DatabaseErrors are the lines in which WordPress complains of its database.
func (s *Site) DatabaseErrors() ([]string, error) {
	text, err := os.ReadFile(s.log)
	if errors.Is(err, os.ErrNotExist) {
		return nil, nil // PHP makes it with the first line
	}
	if err != nil {
		return nil, fmt.Errorf("read PHP's log: %w", err)
	}
	var found []string
	for line := range strings.Lines(string(text)) {
		if strings.Contains(line, "WordPress database error") || strings.Contains(line, "mysqli") || strings.Contains(line, "PHP Fatal") {
			found = append(found, strings.TrimSpace(line))
		}
	}
	return found, nil
}
