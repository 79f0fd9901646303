package wordpress

import (
	"maps"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"testing"
)

func page(t *testing.T, body string) *Page {
	t.Helper()
	at, err := url.Parse("http://site.test/wp-admin/edit.php?x=1")
	if err != nil {
		t.Fatal(err)
	}
	return &Page{URL: at, Status: http.StatusOK, Body: body}
}

func TestForm(t *testing.T) {
	p := page(t, `<h1>Hi</h1>
<form role="search" action="/"><input type="search" name="s" value="not this one"></form>
<form id='f' method="post" action="save.php?a=1&#038;b=2">
  <input type="hidden" id="n" name="_wpnonce" value="1234" /><input name="title" value="He said &quot;hi&quot;">
  <input type="checkbox" name="on" value="1" checked="checked"><input type="checkbox" name="off" value="1">
  <input type="checkbox" name="bare" checked>
  <input type="radio" name="r" value="a"><input type="radio" name="r" value="b" checked='checked'>
  <input type="submit" name="save" value="Save"><button name="b" value="1">x</button>
  <input name="gone" value="1" disabled="disabled">
  <textarea name="text" rows="3">
first &lt;line&gt;
second</textarea>
  <select name="zone"><optgroup label="x"><option value="1">one</option><option selected='selected' value="2">two</option><option value="3">three</option></optgroup></select>
  <select name="first"><option value="f">f</option><option value="g">g</option></select>
</form>
<form id="later"><input name="later"></form>`)
	form, err := p.Form("f")
	if err != nil {
		t.Fatal(err)
	}
	if got, want := form.Action.String(), "http://site.test/wp-admin/save.php?a=1&b=2"; got != want {
		t.Errorf("action %s, want %s", got, want)
	}
	if form.Method != http.MethodPost {
		t.Errorf("method %s", form.Method)
	}
	want := url.Values{
		"_wpnonce": {"1234"}, "title": {`He said "hi"`}, "on": {"1"}, "bare": {"on"}, "r": {"b"},
		"text": {"first <line>\nsecond"}, "zone": {"2"}, "first": {"f"},
	}
	if !maps.EqualFunc(form.Fields, want, slices.Equal) {
		t.Errorf("fields %q,\nwant   %q", form.Fields, want)
	}
	if search, err := p.Form("search"); err != nil || search.Method != http.MethodGet {
		t.Errorf("the search form: %+v, %v", search, err)
	}
	if _, err := p.Form("none"); err == nil || !strings.Contains(err.Error(), `"none"`) {
		t.Errorf("a form that is not there: %v", err)
	}
}

func TestLink(t *testing.T) {
	p := page(t, `<a href="post.php?post=1&amp;action=edit">Edit</a> <a class='x' href='post.php?post=1&#038;action=trash&#038;_wpnonce=abc'>Trash</a>`)
	link, err := p.Link("post=1&", "action=trash")
	if want := "http://site.test/wp-admin/post.php?post=1&action=trash&_wpnonce=abc"; err != nil || link != want {
		t.Errorf("%s (%v), want %s", link, err, want)
	}
	if link, err := p.Link("action=delete"); err == nil {
		t.Errorf("a link that is not there: %s", link)
	}
}

func TestExcerpt(t *testing.T) {
	body := "<html><style>p{}</style><script>x</script><body><p>One</p>\n two" + strings.Repeat("<b>x</b>", 5000)
	if got := Excerpt(body); !strings.HasPrefix(got, "One two x x") || len(got) > 700 {
		t.Errorf("%d bytes: %.100q", len(got), got)
	}
}

func TestPHPLiteral(t *testing.T) {
	if got, want := php(`it's a \ b`), `'it\'s a \\ b'`; got != want {
		t.Errorf("%s, want %s", got, want)
	}
}
