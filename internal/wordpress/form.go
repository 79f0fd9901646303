package wordpress

import (
	"fmt"
	"html"
	"net/http"
	"net/url"
	"regexp"
	"strings"
)

// Form is a form as its page shows it.
type Form struct {
	Action *url.URL
	Method string // GET or POST
	// Fields are what a browser would send if nothing was changed and no button
	// had a name.
	Fields url.Values
}

// WordPress writes its tags in a regular way: every value in quotes, no ">"
// inside a value of the tags that are looked at.
var (
	tagPattern       = regexp.MustCompile(`(?s)<(/?[a-zA-Z]+)((?:\s+[^<>]*?)?)\s*/?>`)
	attributePattern = regexp.MustCompile(`([a-zA-Z_:-]+)(?:\s*=\s*(?:"([^"]*)"|'([^']*)'))?`)
)

// attributes are those of one tag, by their names in lower case.
func attributes(text string) map[string]string {
	found := make(map[string]string)
	for _, m := range attributePattern.FindAllStringSubmatch(text, -1) {
		found[strings.ToLower(m[1])] = html.UnescapeString(m[2] + m[3])
	}
	return found
}

// Form returns the form of which the tag has an attribute of this value (its
// id, name or action).
func (p *Page) Form(value string) (*Form, error) {
	for _, at := range tagPattern.FindAllStringSubmatchIndex(p.Body, -1) {
		if !strings.EqualFold(p.Body[at[2]:at[3]], "form") {
			continue
		}
		found := attributes(p.Body[at[4]:at[5]])
		for _, v := range found {
			if v != value {
				continue
			}
			action, err := p.URL.Parse(found["action"])
			if err != nil {
				return nil, fmt.Errorf("the form %q: %w", value, err)
			}
			method := strings.ToUpper(found["method"])
			if method != http.MethodPost {
				method = http.MethodGet
			}
			content, _, _ := strings.Cut(p.Body[at[1]:], "</form>")
			return &Form{Action: action, Method: method, Fields: fields(content)}, nil
		}
	}
	return nil, fmt.Errorf("%s has no form %q: %s", p.URL, value, Excerpt(p.Body))
}

// fields reads a form's content.
func fields(content string) url.Values {
	values := url.Values{}
	selecting, chosen := "", false
	for _, at := range tagPattern.FindAllStringSubmatchIndex(content, -1) {
		a := attributes(content[at[4]:at[5]])
		name, named := a["name"]
		if _, off := a["disabled"]; off {
			continue
		}
		switch strings.ToLower(content[at[2]:at[3]]) {
		case "input":
			_, checked := a["checked"]
			switch a["type"] {
			case "submit", "button", "image", "reset", "file":
				continue
			case "checkbox", "radio":
				if !checked {
					continue
				}
				if _, ok := a["value"]; !ok {
					a["value"] = "on"
				}
			}
			if named {
				values.Add(name, a["value"])
			}
		case "textarea":
			text, _, _ := strings.Cut(content[at[1]:], "</textarea>")
			if named {
				values.Add(name, html.UnescapeString(strings.TrimPrefix(text, "\n")))
			}
		case "select":
			selecting, chosen = name, false
		case "/select":
			selecting = ""
		case "option":
			_, selected := a["selected"]
			switch {
			case selecting == "":
			case selected:
				values.Set(selecting, a["value"])
				chosen = true
			case !chosen && !values.Has(selecting):
				values.Set(selecting, a["value"]) // a browser chooses the first
			}
		}
	}
	return values
}

// Link returns the target of the first link that contains every part.
func (p *Page) Link(parts ...string) (string, error) {
	for _, at := range tagPattern.FindAllStringSubmatchIndex(p.Body, -1) {
		if !strings.EqualFold(p.Body[at[2]:at[3]], "a") {
			continue
		}
		href := attributes(p.Body[at[4]:at[5]])["href"]
		if href != "" && containsAll(href, parts) {
			target, err := p.URL.Parse(href)
			if err != nil {
				return "", fmt.Errorf("the link %q: %w", href, err)
			}
			return target.String(), nil
		}
	}
	return "", fmt.Errorf("%s has no link with %q: %s", p.URL, parts, Excerpt(p.Body))
}

func containsAll(s string, parts []string) bool {
	for _, part := range parts {
		if !strings.Contains(s, part) {
			return false
		}
	}
	return true
}
