// Package ec2 asks Amazon EC2 which instances there are: one call of its query API,
// signed and with credentials as AWS's SDK does it.
//
// The SDK's own client for EC2 has some 700 calls. To compile it takes minutes and a
// gigabyte of memory, and all of it would be in a program that uses text/template,
// for which the linker keeps every method.
//
// It decides nothing and keeps nothing; an answer is whole or an error. It tries
// nothing again: when, is for who asks.
package ec2

import (
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/xml"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	v4 "github.com/aws/aws-sdk-go-v2/aws/signer/v4"
	"github.com/aws/aws-sdk-go-v2/config"
)

// Client asks EC2. Its methods may be called from any goroutine.
type Client struct {
	endpoint, region string
	credentials      aws.CredentialsProvider
	http             *http.Client
}

// Bounds of an answer.
const (
	pageSize     = 1000     // instances; the most that EC2 gives at once
	maxPages     = 100      // so many instances no farm has
	maxPageBytes = 64 << 20 // of a page
)

// Open finds the credentials as AWS's SDK does, in the environment, the files in
// ~/.aws, or the instance's role, and also the region and the endpoint if they are
// empty. The caller closes it.
func Open(ctx context.Context, region, endpoint string) (*Client, error) {
	var options []func(*config.LoadOptions) error
	if region != "" {
		options = append(options, config.WithRegion(region))
	} else {
		options = append(options, config.WithEC2IMDSRegion()) // if nothing else says it
	}
	c, err := config.LoadDefaultConfig(ctx, options...)
	if err != nil {
		return nil, fmt.Errorf("EC2: %w", err)
	}
	if c.Region == "" {
		return nil, errors.New("EC2: the region is not known: neither given, nor in the environment, nor is this an instance")
	}
	endpoint = cmp.Or(endpoint, aws.ToString(c.BaseEndpoint), "https://ec2."+c.Region+".amazonaws.com"+suffix(c.Region))
	client := &http.Client{
		Transport: http.DefaultTransport.(*http.Transport).Clone(),
		// What is signed is for one place.
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
	return &Client{endpoint: strings.TrimSuffix(endpoint, "/") + "/", region: c.Region, credentials: c.Credentials, http: client}, nil
}

// suffix is what the names of China's endpoints end with.
func suffix(region string) string {
	if strings.HasPrefix(region, "cn-") {
		return ".cn"
	}
	return ""
}

// Close closes the connections that are idle.
func (c *Client) Close() { c.http.CloseIdleConnections() }

// State is what an instance does.
type State string

// The states that matter; the others are on the way to the last one, or back.
const (
	Pending State = "pending"
	Running State = "running"
)

// Instance is one that there is, or was until an hour ago.
type Instance struct {
	ID      string
	State   State
	Address string // the private one; empty if it has none (any more)
	Tags    map[string]string
}

// Instances returns all instances that have all of the tags with these values, and the
// tags of keys with any. The order is EC2's.
func (c *Client) Instances(ctx context.Context, tags map[string]string, keys ...string) ([]Instance, error) {
	form := url.Values{"Action": {"DescribeInstances"}, "Version": {"2016-11-15"}, "MaxResults": {strconv.Itoa(pageSize)}}
	filters := 0
	filter := func(name, value string) {
		filters++
		form.Set(fmt.Sprintf("Filter.%d.Name", filters), name)
		form.Set(fmt.Sprintf("Filter.%d.Value.1", filters), literal(value))
	}
	for _, key := range keys {
		filter("tag-key", key)
	}
	for _, key := range slices.Sorted(maps.Keys(tags)) {
		filter("tag:"+key, tags[key])
	}
	var all []Instance
	seen := map[string]bool{}
	for range maxPages {
		page, err := c.page(ctx, form)
		if err != nil {
			return nil, fmt.Errorf("EC2: DescribeInstances: %w", err)
		}
		for _, i := range page.Instances {
			one := Instance{ID: i.ID, State: i.State, Address: i.Address, Tags: map[string]string{}}
			for _, t := range i.Tags {
				one.Tags[t.Key] = t.Value
			}
			all = append(all, one)
		}
		if page.NextToken == "" {
			return all, nil
		}
		if seen[page.NextToken] {
			return nil, errors.New("EC2: DescribeInstances: it says twice that the same page comes next")
		}
		seen[page.NextToken] = true
		form.Set("NextToken", page.NextToken)
	}
	return nil, fmt.Errorf("EC2: DescribeInstances: there are more than %d pages", maxPages)
}

// literal is a value as a filter takes it: without a meaning of its wildcards.
func literal(value string) string {
	return strings.NewReplacer(`\`, `\\`, `*`, `\*`, `?`, `\?`).Replace(value)
}

// page is what is read of an answer.
type page struct {
	Instances []struct {
		ID      string `xml:"instanceId"`
		State   State  `xml:"instanceState>name"`
		Address string `xml:"privateIpAddress"`
		Tags    []struct {
			Key   string `xml:"key"`
			Value string `xml:"value"`
		} `xml:"tagSet>item"`
	} `xml:"reservationSet>item>instancesSet>item"`
	NextToken string `xml:"nextToken"`
}

// Error is EC2's refusal, such as RequestLimitExceeded.
type Error struct{ Code, Message string }

func (e *Error) Error() string { return e.Code + ": " + e.Message }

func (c *Client) page(ctx context.Context, form url.Values) (_ *page, err error) {
	body := form.Encode()
	request, err := http.NewRequestWithContext(ctx, http.MethodPost, c.endpoint, strings.NewReader(body))
	if err != nil {
		return nil, err
	}
	request.Header.Set("Content-Type", "application/x-www-form-urlencoded; charset=utf-8")
	credentials, err := c.credentials.Retrieve(ctx)
	if err != nil {
		return nil, fmt.Errorf("credentials: %w", err)
	}
	sum := sha256.Sum256([]byte(body))
	if err := v4.NewSigner().SignHTTP(ctx, credentials, request, hex.EncodeToString(sum[:]), "ec2", c.region, time.Now()); err != nil {
		return nil, fmt.Errorf("sign the question: %w", err)
	}
	response, err := c.http.Do(request)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, response.Body.Close()) }()
	answer := io.LimitReader(response.Body, maxPageBytes)
	if response.StatusCode != http.StatusOK {
		var refusal struct {
			Errors []Error `xml:"Errors>Error"`
		}
		if err := xml.NewDecoder(answer).Decode(&refusal); err == nil && len(refusal.Errors) > 0 {
			return nil, &refusal.Errors[0]
		}
		return nil, fmt.Errorf("%s answers %s", c.endpoint, response.Status)
	}
	p := &page{}
	if err := xml.NewDecoder(answer).Decode(p); err != nil {
		return nil, fmt.Errorf("its answer cannot be read: %w", err)
	}
	return p, nil
}
