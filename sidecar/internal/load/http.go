package load

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
)

// asksOnce is a client for measurements: no proxy of the environment's is between, and no
// connection stays open, for a measurement must not outlive its context.
func asksOnce() *http.Client {
	return &http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
}

// get reads what is at a URL, at most limit bytes of it. Any answer but 200 is an error.
func get(ctx context.Context, client *http.Client, url string, limit int64, read func(io.Reader) error) (err error) {
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return err
	}
	response, err := client.Do(request)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, response.Body.Close()) }()
	if response.StatusCode != http.StatusOK {
		return fmt.Errorf("%s answers %s", url, response.Status)
	}
	return read(io.LimitReader(response.Body, limit))
}
