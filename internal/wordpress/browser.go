package wordpress

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"mime/multipart"
	"net/http"
	"net/http/cookiejar"
	"net/url"
	"strings"
	"time"
)

// requestLimit bounds a request; an installation on a busy machine is slow.
const requestLimit = 2 * time.Minute

// largestPage bounds what is read of an answer, in bytes.
const largestPage = 16 << 20

// Browser is one person at the site: it keeps cookies, reads forms and follows
// links; it runs no JavaScript. It is for one goroutine.
type Browser struct {
	base      *url.URL
	client    *http.Client
	transport *http.Transport
}

// Page is what the site answered.
type Page struct {
	// URL is the page's own, after redirections.
	URL    *url.URL
	Status int
	// Location is where a redirection points that was not followed.
	Location string
	Body     string
}

// NewBrowser returns a person who has not been there before. Close it.
func (s *Site) NewBrowser() (*Browser, error) {
	base, err := url.Parse(s.URL + "/")
	if err != nil {
		return nil, err
	}
	jar, err := cookiejar.New(nil)
	if err != nil {
		return nil, err
	}
	transport := &http.Transport{MaxIdleConnsPerHost: 1, DialContext: s.Dial}
	b := &Browser{base: base, transport: transport}
	b.client = &http.Client{
		Jar: jar, Transport: transport, Timeout: requestLimit,
		CheckRedirect: func(r *http.Request, before []*http.Request) error {
			if before[0].Method != http.MethodGet {
				return http.ErrUseLastResponse
			}
			if r.URL.Host != base.Host {
				return fmt.Errorf("the site sends its visitors to %s", r.URL)
			}
			if len(before) > 10 {
				return fmt.Errorf("redirected more than 10 times, last from %s to %s", before[len(before)-1].URL, r.URL)
			}
			return nil
		},
	}
	return b, nil
}

// Close lets the browser's connections go.
func (b *Browser) Close() { b.transport.CloseIdleConnections() }

// Get fetches a page, following redirections. The reference is relative to the
// front page. A status of 500 and more is an error.
func (b *Browser) Get(ctx context.Context, reference string) (*Page, error) {
	target, err := b.base.Parse(reference)
	if err != nil {
		return nil, err
	}
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, target.String(), nil)
	if err != nil {
		return nil, err
	}
	return b.do(request)
}

// Submit sends a form as it is on its page but for changed fields. A
// redirection in answer to a POST is not followed: what the next page shows is
// the next question.
func (b *Browser) Submit(ctx context.Context, form *Form, changed url.Values) (*Page, error) {
	fields := url.Values{}
	for _, from := range []url.Values{form.Fields, changed} {
		for name, values := range from {
			fields[name] = values
		}
	}
	target := *form.Action
	body := io.Reader(nil)
	if form.Method == http.MethodPost {
		body = strings.NewReader(fields.Encode())
	} else {
		target.RawQuery = fields.Encode()
	}
	request, err := http.NewRequestWithContext(ctx, form.Method, target.String(), body)
	if err != nil {
		return nil, err
	}
	if body != nil {
		request.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	}
	return b.do(request)
}

// Upload gives the media library a file, and returns the address at which visitors get it.
func (b *Browser) Upload(ctx context.Context, name string, content []byte) (string, error) {
	page, err := b.Get(ctx, "wp-admin/media-new.php")
	if err != nil {
		return "", err
	}
	form, err := page.Form("file-form")
	if err != nil {
		return "", err
	}
	var body bytes.Buffer
	parts := multipart.NewWriter(&body)
	for field, value := range map[string]string{"_wpnonce": form.Fields.Get("_wpnonce"), "action": "upload-attachment", "name": name} {
		if err := parts.WriteField(field, value); err != nil {
			return "", err
		}
	}
	file, err := parts.CreateFormFile("async-upload", name)
	if err != nil {
		return "", err
	}
	if _, err := file.Write(content); err != nil {
		return "", err
	}
	if err := parts.Close(); err != nil {
		return "", err
	}
	target, err := b.base.Parse("wp-admin/async-upload.php")
	if err != nil {
		return "", err
	}
	request, err := http.NewRequestWithContext(ctx, http.MethodPost, target.String(), &body)
	if err != nil {
		return "", err
	}
	request.Header.Set("Content-Type", parts.FormDataContentType())
	if page, err = b.do(request); err != nil {
		return "", err
	}
	var answer struct {
		Success bool
		Data    struct{ URL string }
	}
	err = json.Unmarshal([]byte(page.Body), &answer)
	if err == nil && !answer.Success {
		err = errors.New("it was not taken")
	}
	if err != nil {
		return "", fmt.Errorf("upload of %s: status %d: %w: %s", name, page.Status, err, page.Body[:min(len(page.Body), 600)])
	}
	return answer.Data.URL, nil
}

// REST calls WordPress's own programming interface, as its editor does: nonce
// is from a page of the editor, in and out are encoded as JSON.
func (b *Browser) REST(ctx context.Context, route, nonce string, in, out any) (*Page, error) {
	body, err := json.Marshal(in)
	if err != nil {
		return nil, err
	}
	target, err := b.base.Parse("index.php?rest_route=" + url.QueryEscape(route))
	if err != nil {
		return nil, err
	}
	request, err := http.NewRequestWithContext(ctx, http.MethodPost, target.String(), bytes.NewReader(body))
	if err != nil {
		return nil, err
	}
	request.Header.Set("Content-Type", "application/json")
	request.Header.Set("X-WP-Nonce", nonce)
	page, err := b.do(request)
	if err != nil {
		return nil, err
	}
	if page.Status/100 != 2 {
		return page, fmt.Errorf("%s: status %d: %s", route, page.Status, Excerpt(page.Body))
	}
	if err := json.Unmarshal([]byte(page.Body), out); err != nil {
		return page, fmt.Errorf("%s: %w: %s", route, err, Excerpt(page.Body))
	}
	return page, nil
}

func (b *Browser) do(request *http.Request) (_ *Page, err error) {
	response, err := b.client.Do(request)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, response.Body.Close()) }()
	body, err := io.ReadAll(io.LimitReader(response.Body, largestPage))
	if err != nil {
		return nil, fmt.Errorf("%s %s: %w", request.Method, request.URL, err)
	}
	page := &Page{URL: response.Request.URL, Status: response.StatusCode, Location: response.Header.Get("Location"), Body: string(body)}
	if page.Status >= http.StatusInternalServerError {
		return nil, fmt.Errorf("%s %s: status %d: %s", request.Method, request.URL, page.Status, Excerpt(page.Body))
	}
	return page, nil
}

// Excerpt is the text of a page without its tags, cut to what fits a message.
func Excerpt(body string) string {
	var b strings.Builder
	for rest := body; rest != "" && b.Len() < 600; {
		text, after, _ := strings.Cut(rest, "<")
		tag, after, _ := strings.Cut(after, ">")
		if strings.HasPrefix(tag, "style") || strings.HasPrefix(tag, "script") {
			_, after, _ = strings.Cut(after, "</"+tag[:5])
			_, after, _ = strings.Cut(after, ">")
		}
		for _, word := range strings.Fields(text) {
			b.WriteString(word)
			b.WriteByte(' ')
		}
		rest = after
	}
	return strings.TrimSpace(b.String())
}
