// Package aws launches a farm's instances on Amazon EC2, with what belongs to them
// there: volumes of EBS, Elastic IP addresses, places in load balancers' target groups,
// images.
//
// All that it knows stands in AWS, in the tags of what it has made, so that every
// scaler finds the same. It decides nothing, and gives an instance no credentials but
// the token that it joins with.
//
// Invariants: what has no tag of the farm is never changed; a call that was cut short,
// or whose answer was lost, can be made again and makes nothing twice; an instance or a
// volume that EC2 does not show is not taken for gone before its lag is over.
//
// docs/AWS.md has what it needs and what it costs.
package aws

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	sdk "github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/aws/retry"
	"github.com/aws/aws-sdk-go-v2/config"
	"github.com/aws/aws-sdk-go-v2/service/ec2"
	"github.com/aws/aws-sdk-go-v2/service/ec2/types"
	"github.com/aws/aws-sdk-go-v2/service/elasticloadbalancingv2"
	"github.com/aws/smithy-go"
	"go.uber.org/zap"

	"farmhand/scaler/internal/farmfile"
	"farmhand/scaler/internal/provider"
)

// Options say where a farm on AWS is.
type Options struct {
	// Farm is the farm's name, which the tags have.
	Farm string
	farmfile.AWS
	// Files are what an instance of the spec runs by; see [Files].
	Files func(provider.Spec) (Files, error)
	// Deliver has an instance that runs take other files; nil if nobody can.
	Deliver func(ctx context.Context, instance string, f Files) error
	// Lag is how long EC2 may take to show what was done; 0 is DefaultLag.
	Lag time.Duration
	// Poll is the time between two looks at what is awaited; 0 is DefaultPoll.
	Poll time.Duration
	// Attempts is how often one call is tried; 0 is DefaultAttempts.
	Attempts int
	// Backoff is the longest wait between two attempts; 0 is DefaultBackoff.
	Backoff time.Duration
	Log     *zap.Logger
}

// What Options are unless told otherwise.
const (
	DefaultLag      = 30 * time.Second
	DefaultPoll     = 2 * time.Second
	DefaultAttempts = 8
	DefaultBackoff  = 20 * time.Second
)

// Provider is a farm on AWS.
type Provider struct {
	Options
	ec2     *ec2.Client
	elb     *elasticloadbalancingv2.Client
	volumes *Volumes

	mu sync.Mutex
	// fresh are instances as our own calls left them, by id, until EC2 must show them so.
	fresh map[string]seen
	zones map[string]string // of the subnets, by id
}

var _ provider.Provider = (*Provider)(nil)

// seen is an instance and until when we know better than EC2's lists.
type seen struct {
	types.Instance
	until time.Time
}

// New finds credentials as AWS's SDK does: in the environment, the files in ~/.aws, or
// the control node's role. It asks AWS nothing yet.
func New(ctx context.Context, o Options) (*Provider, error) {
	if o.Lag == 0 {
		o.Lag = DefaultLag
	}
	if o.Poll == 0 {
		o.Poll = DefaultPoll
	}
	if o.Attempts == 0 {
		o.Attempts = DefaultAttempts
	}
	if o.Backoff == 0 {
		o.Backoff = DefaultBackoff
	}
	if o.Log == nil {
		o.Log = zap.NewNop()
	}
	options := []func(*config.LoadOptions) error{
		config.WithRegion(o.Region), config.WithRetryer(func() sdk.Retryer { return newRetryer(o.Attempts, o.Backoff) }),
	}
	if o.Endpoint != "" {
		options = append(options, config.WithBaseEndpoint(o.Endpoint))
	}
	c, err := config.LoadDefaultConfig(ctx, options...)
	if err != nil {
		return nil, fmt.Errorf("aws provider: %w", err)
	}
	p := &Provider{Options: o, ec2: ec2.NewFromConfig(c), elb: elasticloadbalancingv2.NewFromConfig(c), fresh: map[string]seen{}}
	p.volumes = &Volumes{p}
	return p, nil
}

// Volumes are those of the farm's instances.
func (p *Provider) Volumes() *Volumes { return p.volumes }

// newRetryer slows down as AWS asks for it. That there is no capacity is an answer,
// though AWS says it with a status that is for trouble of its own.
func newRetryer(attempts int, backoff time.Duration) sdk.Retryer {
	final := retry.IsErrorRetryableFunc(func(err error) sdk.Ternary {
		if isCode(err, noCapacity...) {
			return sdk.FalseTernary
		}
		return sdk.UnknownTernary
	})
	return retry.NewAdaptiveMode(func(o *retry.AdaptiveModeOptions) {
		o.StandardOptions = append(o.StandardOptions, func(s *retry.StandardOptions) {
			s.MaxAttempts, s.MaxBackoff = attempts, backoff
			s.Retryables = append([]retry.IsErrorRetryable{final}, s.Retryables...)
		})
	})
}

// noCapacity are the refusals after which another type, zone or market may do.
var noCapacity = []string{
	"InsufficientInstanceCapacity", "InsufficientHostCapacity", "InsufficientCapacity", "SpotMaxPriceTooLow",
	"MaxSpotInstanceCountExceeded", "InstanceLimitExceeded", "VcpuLimitExceeded", "Unsupported",
	"InsufficientFreeAddressesInSubnet",
}

// isCode reports whether an error is one of AWS's with one of the codes.
func isCode(err error, codes ...string) bool {
	var refusal smithy.APIError
	return errors.As(err, &refusal) && slices.Contains(codes, refusal.ErrorCode())
}

// The tags of what we have made.
const (
	tagFarm          = "farmhand:farm"
	tagInstance      = "farmhand:instance" // the name of an instance, or of the one that has a volume
	tagRole          = "farmhand:role"
	tagKind          = "farmhand:kind"
	tagEnding        = "farmhand:ending" // it is to go
	tagKeep          = "farmhand:keep"
	tagVolume        = "farmhand:volume" // the name of a volume, or of the one that an instance gets
	tagInherits      = "farmhand:inherits"
	tagSlot          = "farmhand:slot"           // its place among the role's instances, from 1
	tagConfiguration = "farmhand:configuration." // and a number
	tagDisk          = "farmhand:disk"           // from 1
	tagSpec          = "farmhand:spec"
	tagEpoch         = "farmhand:epoch"
	tagFrom          = "farmhand:from"
	tagSnapshot      = "farmhand:snapshot"
	tagMoment        = "farmhand:moment"
	tagTaken         = "farmhand:taken"
	tagImage         = "farmhand:image"
)

// tags are tags as AWS has them, by key.
func tags(from map[string]string) []types.Tag {
	var list []types.Tag
	for _, key := range sortedKeys(from) {
		list = append(list, types.Tag{Key: sdk.String(key), Value: sdk.String(from[key])})
	}
	return list
}

func tagsOf(list []types.Tag) map[string]string {
	m := map[string]string{}
	for _, t := range list {
		m[sdk.ToString(t.Key)] = sdk.ToString(t.Value)
	}
	return m
}

func sortedKeys[V any](m map[string]V) []string {
	var keys []string
	for key := range m {
		keys = append(keys, key)
	}
	slices.Sort(keys)
	return keys
}

// filters want of what is listed that it has the tags, the farm's among them.
func (p *Provider) filters(want map[string]string) []types.Filter {
	list := []types.Filter{filter("tag:"+tagFarm, p.Farm)}
	for _, key := range sortedKeys(want) {
		list = append(list, filter("tag:"+key, want[key]))
	}
	return list
}

// filter takes values without a meaning of EC2's wildcards.
func filter(name string, values ...string) types.Filter {
	literal := strings.NewReplacer(`\`, `\\`, `*`, `\*`, `?`, `\?`)
	for i := range values {
		values[i] = literal.Replace(values[i])
	}
	return types.Filter{Name: sdk.String(name), Values: values}
}

// clientToken is a name for one thing to be done: what is asked for again by the same is
// not done twice.
func (p *Provider) clientToken(parts ...string) *string {
	sum := sha256.Sum256([]byte(strings.Join(append([]string{p.Farm}, parts...), "\x00")))
	return sdk.String(hex.EncodeToString(sum[:24]))
}

// errLate is why an await ends.
var errLate = errors.New("not after")

// await looks again and again until done says so, for at most limit; done's error ends
// it at once.
func (p *Provider) await(ctx context.Context, limit time.Duration, what string, done func() (bool, error)) error {
	ctx, cancel := context.WithTimeoutCause(ctx, limit, fmt.Errorf("%s: %w %v", what, errLate, limit))
	defer cancel()
	for {
		switch ok, err := done(); {
		case err != nil && ctx.Err() != nil:
			return context.Cause(ctx)
		case err != nil || ok:
			return err
		}
		select {
		case <-time.After(p.Poll):
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}
