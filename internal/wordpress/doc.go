// Package wordpress runs Debian's WordPress for one site: a copy of the
// package's files with a configuration of its own, php-fpm and nginx as child
// processes on a loopback address, and a browser without JavaScript to use it.
//
// It owns the site's directory and its two processes. It changes nothing
// outside that directory (not /etc/wordpress, not Debian's services), sends
// nothing out of the machine, and makes neither the database nor its account.
//
// Invariant: the site's processes do not outlive the process that started them.
package wordpress
