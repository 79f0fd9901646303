// Package notice looks in EC2's metadata service for the notice that the node's spot
// instance is taken away, about two minutes before, and tells the farm, which then has
// the node drained and another one launched.
//
// It decides nothing. That the metadata service is away is no notice.
package notice

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"time"

	"go.uber.org/zap"

	"farmhand/internal/cluster"
)

// Options are what a watch over notices needs.
type Options struct {
	// Node is the node's name in the farm.
	Node string
	// Endpoint is where the metadata service answers, as http://host:port.
	Endpoint string
	// Every is the time between two looks; 0 is DefaultEvery.
	Every time.Duration
	// Report is that of the farm's registry.
	Report func(ctx context.Context, name string, value []byte) error
	Log    *zap.Logger
}

// DefaultEvery is what AWS advises.
const DefaultEvery = 5 * time.Second

const (
	answerLimit = 3 * time.Second // the service is on the machine's host
	maxAnswer   = 4 << 10
	tokenLife   = "300" // seconds
)

// Run looks until ctx ends, or until the farm has heard of a notice: there is one only.
func Run(ctx context.Context, o Options) error {
	if o.Every == 0 {
		o.Every = DefaultEvery
	}
	client := &http.Client{Timeout: answerLimit, Transport: &http.Transport{Proxy: nil, DisableKeepAlives: true}}
	last := ""
	for {
		found, err := look(ctx, client, o.Endpoint)
		if err == nil && found != nil {
			o.Log.Warn("the machine is taken away", zap.Time("at", found.At), zap.String("why", found.Why))
			found.Name = o.Node
			var data []byte
			if data, err = found.Encode(); err == nil {
				err = o.Report(ctx, cluster.EndingReportName, data)
			}
			if err == nil {
				return nil
			}
		}
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		if text := fmt.Sprint(err); err != nil && text != last {
			o.Log.Warn("whether the machine is taken away is not known, or the farm does not hear it; tried again", zap.Error(err))
			last = text
		}
		select {
		case <-time.After(o.Every):
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}

// look returns the notice; nil if there is none.
func look(ctx context.Context, client *http.Client, endpoint string) (*cluster.EndingReport, error) {
	token, status, err := ask(ctx, client, http.MethodPut, endpoint+"/latest/api/token", "X-aws-ec2-metadata-token-ttl-seconds", tokenLife)
	if err == nil && status != http.StatusOK {
		err = fmt.Errorf("the metadata service gives no token: status %d", status)
	}
	if err != nil {
		return nil, err
	}
	text, status, err := ask(ctx, client, http.MethodGet, endpoint+"/latest/meta-data/spot/instance-action", "X-aws-ec2-metadata-token", strings.TrimSpace(token))
	switch {
	case err != nil:
		return nil, err
	case status == http.StatusNotFound:
		return nil, nil
	case status != http.StatusOK:
		return nil, fmt.Errorf("the metadata service answers with status %d", status)
	}
	var said struct {
		Action string    `json:"action"`
		Time   time.Time `json:"time"`
	}
	if err := json.Unmarshal([]byte(text), &said); err != nil || said.Action == "" {
		return nil, fmt.Errorf("the metadata service's notice cannot be read: %.100q", text)
	}
	return &cluster.EndingReport{At: said.Time, Why: "AWS takes the spot instance away (" + said.Action + ")"}, nil
}

func ask(ctx context.Context, client *http.Client, method, url, header, value string) (_ string, status int, err error) {
	request, err := http.NewRequestWithContext(ctx, method, url, nil)
	if err != nil {
		return "", 0, err
	}
	request.Header.Set(header, value)
	response, err := client.Do(request)
	if err != nil {
		return "", 0, err
	}
	defer func() { err = errors.Join(err, response.Body.Close()) }()
	text, err := io.ReadAll(io.LimitReader(response.Body, maxAnswer))
	return string(text), response.StatusCode, err
}
