package e2e

import (
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"regexp"
	"strconv"
	"strings"
	"testing"

	"farmhand/internal/farmtest"
	"farmhand/internal/wordpress"
)

// journey is what people do on a new site, each with a browser of his own, and
// what the very next page must show after each step, however late replicas are:
// every page is a connection of its own, at the level farm.
type journey struct {
	t     *testing.T
	site  *wordpress.Site
	owner *wordpress.Browser
	guest *wordpress.Browser
	nonce string
}

var owner = wordpress.Owner{Title: "Farm Gazette", User: "editor", Password: "correct horse battery", Email: "editor@example.test"}

func (j *journey) run() {
	j.owner, j.guest = j.browser(), j.browser()
	if fresh, err := j.site.Install(j.t.Context(), owner); err != nil || !fresh {
		j.t.Fatalf("install: %v, newly installed: %v", err, fresh)
	}
	j.logIn()
	post := j.writePost("Barn dance on Saturday", "There will be fiddles and a wheelwright.")
	j.editPost(post)
	j.search()
	comment := j.comment(post)
	j.approve(post, comment)
	j.feeds(post)
	j.settings()
	j.addUser()
	j.deleteComment(post, comment)
	j.deletePost(post)
	j.logOut()
	j.logIn()
}

func (j *journey) browser() *wordpress.Browser {
	b, err := j.site.NewBrowser()
	if err != nil {
		j.t.Fatal(err)
	}
	j.t.Cleanup(b.Close)
	return b
}

// get fetches a page that a step starts from.
func (j *journey) get(b *wordpress.Browser, reference string) *wordpress.Page {
	j.t.Helper()
	page, err := b.Get(j.t.Context(), reference)
	if err != nil {
		j.t.Fatal(err)
	}
	return page
}

// submit sends the form of a page. status is what must come back.
func (j *journey) submit(b *wordpress.Browser, page *wordpress.Page, form string, changed url.Values, status int) *wordpress.Page {
	j.t.Helper()
	f, err := page.Form(form)
	if err != nil {
		j.t.Fatal(err)
	}
	answer, err := b.Submit(j.t.Context(), f, changed)
	if err != nil {
		j.t.Fatal(err)
	}
	if answer.Status != status {
		j.t.Fatalf("form %q of %s: status %d instead of %d: %s", form, page.URL, answer.Status, status, wordpress.Excerpt(answer.Body))
	}
	return answer
}

// follow fetches the first link of a page that contains all the parts.
func (j *journey) follow(b *wordpress.Browser, page *wordpress.Page, parts ...string) {
	j.t.Helper()
	link, err := page.Link(parts...)
	if err != nil {
		j.t.Fatal(err)
	}
	if _, err := b.Get(j.t.Context(), link); err != nil {
		j.t.Fatal(err)
	}
}

// looks is what a page must be like.
type looks func(*wordpress.Page) error

func shows(texts ...string) looks {
	return func(p *wordpress.Page) error {
		for _, text := range texts {
			if !strings.Contains(p.Body, text) {
				return fmt.Errorf("it does not show %q", text)
			}
		}
		return nil
	}
}

func lacks(text string) looks {
	return func(p *wordpress.Page) error {
		if strings.Contains(p.Body, text) {
			return fmt.Errorf("it shows %q", text)
		}
		return nil
	}
}

func isGone(p *wordpress.Page) error {
	if p.Status != http.StatusNotFound {
		return fmt.Errorf("its status is %d instead of 404", p.Status)
	}
	return nil
}

// next fetches the page that comes after something was written.
func (j *journey) next(after string, b *wordpress.Browser, reference string, want ...looks) {
	j.t.Helper()
	look := func() error {
		page, err := b.Get(j.t.Context(), reference)
		if err != nil {
			return err
		}
		for _, w := range want {
			if err := w(page); err != nil {
				return fmt.Errorf("%s: %w; it says: %.200s", page.URL, err, wordpress.Excerpt(page.Body))
			}
		}
		return nil
	}
	if err := look(); err != nil {
		j.t.Fatalf("%s: %v", after, err)
	}
}

func (j *journey) logIn() {
	j.t.Helper()
	if err := j.owner.LogIn(j.t.Context(), owner.User, owner.Password); err != nil {
		j.t.Fatal(err)
	}
	// A page that does not know of the session yet would end it.
	page := j.get(j.owner, "wp-admin/")
	if err := shows("Dashboard", "wp-admin-bar-logout")(page); err != nil {
		j.t.Fatalf("logged in: %s: %v", page.URL, err)
	}
}

// The editor's pages hold what its script needs.
var (
	noncePattern = regexp.MustCompile(`createNonceMiddleware\( "([0-9a-f]+)" \)`)
	draftPattern = regexp.MustCompile(`wp\.editPost\.initializeEditor\( 'editor', "post", (\d+),`)
)

// post is a post as REST shows it.
type post struct {
	ID      int
	Status  string
	Title   struct{ Raw string }
	Content struct{ Raw string }
}

// save does what the editor's button does, and holds the answer, which is read
// on the connection that wrote, against what was written.
func (j *journey) save(id int, title, content string) {
	j.t.Helper()
	var saved post
	in := map[string]string{"title": title, "content": content, "status": "publish"}
	if _, err := j.owner.REST(j.t.Context(), "/wp/v2/posts/"+strconv.Itoa(id), j.nonce, in, &saved); err != nil {
		j.t.Fatal(err)
	}
	if saved.ID != id || saved.Status != "publish" || saved.Title.Raw != title || saved.Content.Raw != content {
		j.t.Fatalf("post %d was saved as %q, %q; the answer says %+v", id, title, content, saved)
	}
}

func (j *journey) writePost(title, content string) int {
	j.t.Helper()
	page := j.get(j.owner, "wp-admin/post-new.php")
	nonce, draft := noncePattern.FindStringSubmatch(page.Body), draftPattern.FindStringSubmatch(page.Body)
	if nonce == nil || draft == nil {
		j.t.Fatalf("%s is no editor: %s", page.URL, wordpress.Excerpt(page.Body))
	}
	j.nonce = nonce[1]
	id, err := strconv.Atoi(draft[1])
	if err != nil {
		j.t.Fatal(err)
	}
	j.save(id, title, content)
	j.next("a post was published", j.guest, address(id), shows(title, content))
	j.next("a post was published", j.guest, "", shows(title))
	return id
}

func address(post int) string { return "?p=" + strconv.Itoa(post) }

func (j *journey) editPost(id int) {
	j.t.Helper()
	j.get(j.owner, fmt.Sprintf("wp-admin/post.php?post=%d&action=edit", id))
	j.save(id, "Barn dance on Sunday", "There will be hurdy-gurdies and naïve žluťoučký 🐎.")
	j.next("a post was edited", j.guest, address(id), shows("Barn dance on Sunday", "hurdy-gurdies", "žluťoučký 🐎"), lacks("fiddles"))
}

func (j *journey) search() {
	j.t.Helper()
	j.next("nothing", j.guest, "?s=hurdy-gurdies", shows("Barn dance on Sunday"))
	j.next("nothing", j.guest, "?s=fiddles", lacks("Barn dance on Sunday"))
}

const commentText = "Shall I bring my own horse?"

var commentPattern = regexp.MustCompile(`unapproved=(\d+)`)

func (j *journey) comment(post int) string {
	j.t.Helper()
	page := j.get(j.guest, address(post))
	answer := j.submit(j.guest, page, "commentform", url.Values{
		"author": {"Rosie"}, "email": {"rosie@example.test"}, "comment": {commentText},
	}, http.StatusFound)
	id := commentPattern.FindStringSubmatch(answer.Location)
	if id == nil {
		j.t.Fatalf("a comment leads to %q", answer.Location)
	}
	j.next("a comment was written", j.guest, answer.Location, shows(commentText, "awaiting moderation"))
	j.next("a comment waits", j.browser(), address(post), lacks(commentText))
	return id[1]
}

func (j *journey) approve(post int, comment string) {
	j.t.Helper()
	page := j.get(j.owner, "wp-admin/edit-comments.php")
	if err := shows(commentText)(page); err != nil {
		j.t.Fatal(err)
	}
	j.follow(j.owner, page, "comment.php?", "c="+comment, "action=approvecomment")
	j.next("a comment was approved", j.browser(), address(post), shows(commentText, "Rosie"))
}

func (j *journey) feeds(post int) {
	j.t.Helper()
	j.next("nothing", j.guest, "?feed=rss2", shows("<rss ", "Barn dance on Sunday"))
	j.next("nothing", j.guest, "?feed=comments-rss2", shows("<rss ", commentText))
	j.next("nothing", j.guest, "?rest_route=/wp/v2/posts/"+strconv.Itoa(post), shows("Barn dance on Sunday"))
}

func (j *journey) settings() {
	j.t.Helper()
	page := j.get(j.owner, "wp-admin/options-general.php")
	j.submit(j.owner, page, "options.php", url.Values{"blogname": {"The Daily Plough"}, "blogdescription": {"straight furrows"}}, http.StatusFound)
	j.next("the settings were changed", j.guest, "?feed=rss2", shows("<title>The Daily Plough</title>", "straight furrows"))
	j.next("the settings were changed", j.owner, "wp-admin/options-general.php", shows(`value="The Daily Plough"`))
	page = j.get(j.owner, "wp-admin/options-permalink.php")
	answer := j.submit(j.owner, page, "options-permalink.php", url.Values{"selection": {"/%postname%/"}, "permalink_structure": {"/%postname%/"}}, http.StatusFound)
	j.get(j.owner, answer.Location) // makes the rules
	j.next("the addresses were changed", j.guest, "barn-dance-on-saturday/", shows("Barn dance on Sunday"))
}

func (j *journey) addUser() {
	j.t.Helper()
	page := j.get(j.owner, "wp-admin/user-new.php")
	j.submit(j.owner, page, "createuser", url.Values{
		"user_login": {"miller"}, "email": {"miller@example.test"}, "pass1": {"grind grind grind"}, "pass2": {"grind grind grind"},
		"pw_weak": {"on"}, "role": {"author"}, "send_user_notification": nil,
	}, http.StatusFound)
	j.next("a user was added", j.owner, "wp-admin/users.php", shows("miller@example.test"))
	if err := j.browser().LogIn(j.t.Context(), "miller", "grind grind grind"); err != nil {
		j.t.Error(err)
	}
}

func (j *journey) deleteComment(post int, comment string) {
	j.t.Helper()
	page := j.get(j.owner, "wp-admin/edit-comments.php")
	j.follow(j.owner, page, "comment.php?", "c="+comment, "action=trashcomment")
	j.next("a comment was put into the bin", j.browser(), address(post), lacks(commentText))
	page = j.get(j.owner, "wp-admin/edit-comments.php?comment_status=trash")
	j.follow(j.owner, page, "comment.php?", "c="+comment, "action=deletecomment")
	j.next("a comment was deleted", j.owner, "wp-admin/edit-comments.php?comment_status=trash", lacks(commentText))
}

func (j *journey) deletePost(id int) {
	j.t.Helper()
	number := "post=" + strconv.Itoa(id) + "&"
	page := j.get(j.owner, "wp-admin/edit.php")
	j.follow(j.owner, page, "post.php?", number, "action=trash")
	j.next("a post was put into the bin", j.guest, address(id), isGone)
	page = j.get(j.owner, "wp-admin/edit.php?post_status=trash&post_type=post")
	j.follow(j.owner, page, "post.php?", number, "action=delete")
	j.next("a post was deleted", j.owner, "wp-admin/edit.php?post_status=trash&post_type=post", lacks("Barn dance"))
	j.next("a post was deleted", j.guest, "?s=hurdy-gurdies", lacks("Barn dance"))
}

func (j *journey) logOut() {
	j.t.Helper()
	page := j.get(j.owner, "wp-admin/")
	j.follow(j.owner, page, "wp-login.php?", "action=logout")
	j.next("he logged out", j.owner, "wp-admin/", shows(`id="loginform"`))
	if page := j.get(j.owner, "wp-admin/edit.php"); !strings.Contains(page.URL.Path, "wp-login.php") {
		j.t.Errorf("after logging out, the list of posts leads to %s", page.URL)
	}
}

// startSite runs WordPress on a schema and an account of its own until the test
// ends. host is as in wp-config.php.
func startSite(t *testing.T, f *farmtest.Farm, name, host string) *wordpress.Site {
	t.Helper()
	f.Primary().Exec(t,
		"CREATE DATABASE "+name,
		"CREATE USER '"+name+"'@'%' IDENTIFIED BY 'sow and reap'",
		"GRANT ALL ON "+name+".* TO '"+name+"'@'%'")
	f.WaitCaughtUp(t)
	dir := farmtest.ShortDir(t)
	site, err := wordpress.Start(t.Context(), wordpress.Options{
		Dir: dir, Listen: farmtest.FreePort(t),
		DB: wordpress.Database{Host: host, Schema: name, User: name, Password: "sow and reap"},
	})
	if errors.Is(err, wordpress.ErrMissing) {
		t.Skip(err)
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := site.Stop(); err != nil {
			t.Error(err)
		}
		complaints, err := site.DatabaseErrors()
		if err != nil {
			t.Error(err)
		}
		for _, line := range complaints {
			t.Errorf("PHP's log: %s", line)
		}
	})
	return site
}
