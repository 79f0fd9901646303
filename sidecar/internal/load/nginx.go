package load

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"time"

	"farmhand/internal/cluster"
)

// Nginx measures an nginx by its module stub_status. It is not for several goroutines at once.
type Nginx struct {
	url    string
	client *http.Client
	asked  float64
	rates  rates
}

// NewNginx returns what measures the nginx whose status is at url.
func NewNginx(url string) *Nginx {
	return &Nginx{url: url, client: asksOnce()}
}

// Sample measures. What is asked here is not counted; checks by others are.
func (n *Nginx) Sample(ctx context.Context, now time.Time) (map[string]float64, error) {
	requests, err := n.requests(ctx)
	if err != nil {
		return nil, fmt.Errorf("measure nginx: %w", err)
	}
	n.asked++
	return n.rates.next(now, map[string]float64{cluster.LoadRequests: requests - n.asked}), nil
}

func (n *Nginx) requests(ctx context.Context) (float64, error) {
	var text []byte
	if err := get(ctx, n.client, n.url, maxAnswer, func(body io.Reader) (err error) {
		text, err = io.ReadAll(body)
		return err
	}); err != nil {
		return 0, err
	}
	const title = "server accepts handled requests\n"
	var accepted, handled, requests float64
	_, numbers, ok := strings.Cut(string(text), title)
	if _, err := fmt.Sscan(numbers, &accepted, &handled, &requests); !ok || err != nil {
		return 0, errors.New("it does not say how many requests there were")
	}
	return requests, nil
}
