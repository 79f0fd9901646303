package hook

import (
	"bytes"
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strconv"
	"time"

	"farmhand/internal/farm"
	"farmhand/internal/service"
	"farmhand/sidecar/internal/command"
)

// Webhook is where every event is posted to.
type Webhook struct {
	URL string // empty for none
	// SecretFile holds the key of the signature; empty for no signature.
	SecretFile string
	Limit      time.Duration // of one attempt
	Attempts   int
	// FirstWait is before the second attempt; it doubles with each.
	FirstWait time.Duration
}

// webhookAnswer is how much of an answer is read, in bytes.
const webhookAnswer = 1 << 10

// Signature is the value of the header X-Farmhand-Signature: the HMAC-SHA256 of
// the header X-Farmhand-Timestamp, a dot and the body.
func Signature(secret, timestamp string, body []byte) string {
	mac := hmac.New(sha256.New, []byte(secret))
	mac.Write([]byte(timestamp + "."))
	mac.Write(body)
	return "sha256=" + hex.EncodeToString(mac.Sum(nil))
}

// post posts the event until it is accepted or the attempts are used up.
func (w Webhook) post(ctx context.Context, client *http.Client, e farm.Event) command.Outcome {
	began := time.Now()
	wait := w.FirstWait
	for attempt := 1; ; attempt++ {
		again, err := w.once(ctx, client, e)
		o := command.Outcome{Status: command.OK, Err: err, Took: time.Since(began)}
		switch {
		case err == nil:
			return o
		case ctx.Err() != nil:
			o.Status, o.Err = command.Interrupted, context.Cause(ctx)
			return o
		case !again || attempt >= w.Attempts:
			o.Status = command.Failed
			o.Err = fmt.Errorf("attempt %d of %d: %w", attempt, w.Attempts, err)
			return o
		}
		timer := time.NewTimer(wait)
		wait *= 2
		select {
		case <-timer.C:
		case <-ctx.Done():
			timer.Stop()
		}
	}
}

// once posts the event; again is whether another attempt may help.
func (w Webhook) once(ctx context.Context, client *http.Client, e farm.Event) (again bool, err error) {
	body, err := json.Marshal(e)
	if err != nil {
		return false, err
	}
	ctx, cancel := context.WithTimeout(ctx, w.Limit)
	defer cancel()
	request, err := http.NewRequestWithContext(ctx, http.MethodPost, w.URL, bytes.NewReader(body))
	if err != nil {
		return false, err
	}
	timestamp := strconv.FormatInt(time.Now().Unix(), 10)
	request.Header.Set("Content-Type", "application/json")
	request.Header.Set("User-Agent", "farmhand-sidecar")
	request.Header.Set("X-Farmhand-Event", string(e.Kind))
	request.Header.Set("X-Farmhand-Event-Id", e.ID)
	request.Header.Set("X-Farmhand-Timestamp", timestamp)
	if w.SecretFile != "" {
		// Anew each time, so that it can be changed without a restart.
		secret, err := service.ReadSecret(w.SecretFile)
		if err != nil {
			return true, err
		}
		request.Header.Set("X-Farmhand-Signature", Signature(secret, timestamp, body))
	}
	response, err := client.Do(request)
	if err != nil {
		// The URL is a secret with some services, and so not for the journal.
		var with *url.Error
		if errors.As(err, &with) {
			err = with.Err
		}
		return true, err
	}
	_, err = io.Copy(io.Discard, io.LimitReader(response.Body, webhookAnswer))
	err = errors.Join(err, response.Body.Close())
	switch code := response.StatusCode; {
	case code/100 == 2:
		return false, nil // what it says beyond that is not ours to judge
	case code/100 == 5, code == http.StatusTooManyRequests, code == http.StatusRequestTimeout:
		return true, errors.Join(fmt.Errorf("it answers %s", response.Status), err)
	default:
		return false, errors.Join(fmt.Errorf("it answers %s", response.Status), err)
	}
}

// newClient returns a client that goes where it was told to and nowhere else.
func newClient() *http.Client {
	return &http.Client{
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
		Transport:     &http.Transport{MaxIdleConnsPerHost: 2, IdleConnTimeout: time.Minute, MaxResponseHeaderBytes: 16 << 10},
	}
}
