package wordpress

import (
	"context"
	"fmt"
	"net/http"
	"net/url"
	"strings"
)

// Owner is a site's first account and its title.
type Owner struct {
	Title, User, Password, Email string
}

// Install goes through WordPress's own installation pages. It returns false
// when the site was installed before.
func (s *Site) Install(ctx context.Context, owner Owner) (bool, error) {
	b, err := s.NewBrowser()
	if err != nil {
		return false, err
	}
	defer b.Close()
	page, err := b.Get(ctx, "wp-admin/install.php")
	if err != nil {
		return false, err
	}
	if strings.Contains(page.Body, "already installed") {
		return false, nil
	}
	form, err := page.Form("setup")
	if err != nil {
		return false, err
	}
	page, err = b.Submit(ctx, form, url.Values{
		"weblog_title": {owner.Title}, "user_name": {owner.User}, "admin_email": {owner.Email},
		"admin_password": {owner.Password}, "admin_password2": {owner.Password}, "pw_weak": {"on"},
		"blog_public": {"0"},
	})
	if err != nil {
		return false, err
	}
	if page.Status != http.StatusOK || !strings.Contains(page.Body, "Success!") {
		return false, fmt.Errorf("the installation ends with status %d and says %s", page.Status, Excerpt(page.Body))
	}
	return true, nil
}

// LogIn sends the login form. That the session holds is for the next page to
// show.
func (b *Browser) LogIn(ctx context.Context, user, password string) error {
	page, err := b.Get(ctx, "wp-login.php")
	if err != nil {
		return err
	}
	form, err := page.Form("loginform")
	if err != nil {
		return err
	}
	page, err = b.Submit(ctx, form, url.Values{"log": {user}, "pwd": {password}})
	if err != nil {
		return err
	}
	if page.Status != http.StatusFound {
		return fmt.Errorf("logging in as %s: status %d: %s", user, page.Status, Excerpt(page.Body))
	}
	return nil
}
