package queue

import (
	"context"
	"errors"
	"fmt"
	"net"
	"strconv"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	awshttp "github.com/aws/aws-sdk-go-v2/aws/transport/http"
	"github.com/aws/aws-sdk-go-v2/config"
	"github.com/aws/aws-sdk-go-v2/service/sqs"
	"github.com/aws/aws-sdk-go-v2/service/sqs/types"
	"github.com/aws/smithy-go"
)

// Bounds that SQS sets.
const (
	// MaxBody is the most that a message may have, in bytes.
	MaxBody = 256 << 10
	// MaxHold is the longest that a message can be held from its receipt on.
	MaxHold = 12 * time.Hour
	// MaxWait is the longest that one call of Receive waits.
	MaxWait = 20 * time.Second
)

// limit is how long one call may take beyond what it is to wait.
const limit = 15 * time.Second

// Queue is one queue. Its methods may be called from any goroutine.
type Queue struct {
	address Address
	client  *sqs.Client
}

// Open makes a client of the queue. It finds credentials, or fails with ErrDenied;
// the queue itself is not asked for anything.
func Open(ctx context.Context, a Address) (*Queue, error) {
	var options []func(*config.LoadOptions) error
	if a.Region != "" {
		options = append(options, config.WithRegion(a.Region))
	}
	loaded, err := config.LoadDefaultConfig(ctx, options...)
	if err != nil {
		return nil, fmt.Errorf("open queue %v: %w", a, err)
	}
	if loaded.Region == "" {
		return nil, fmt.Errorf("open queue %v: it is not known for which region requests are to be signed; expected ?region=NAME in the address, or AWS_REGION", a)
	}
	if _, err := loaded.Credentials.Retrieve(ctx); err != nil {
		return nil, fmt.Errorf("open queue %v: find credentials: %w: %w", a, ErrDenied, err)
	}
	return &Queue{address: a, client: sqs.NewFromConfig(loaded, func(o *sqs.Options) { o.BaseEndpoint = &a.Endpoint })}, nil
}

// Address is where the queue is.
func (q *Queue) Address() Address { return q.address }

// Counts are how many messages a queue has, about: SQS counts with a lag of up to a
// minute.
type Counts struct {
	Visible  int // wait to be received
	InFlight int // are held by receivers
	Delayed  int // cannot be received yet
}

// Counts asks how many messages there are.
func (q *Queue) Counts(ctx context.Context) (Counts, error) {
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	names := []types.QueueAttributeName{
		types.QueueAttributeNameApproximateNumberOfMessages,
		types.QueueAttributeNameApproximateNumberOfMessagesNotVisible,
		types.QueueAttributeNameApproximateNumberOfMessagesDelayed,
	}
	out, err := q.client.GetQueueAttributes(ctx, &sqs.GetQueueAttributesInput{QueueUrl: &q.address.URL, AttributeNames: names})
	if err != nil {
		return Counts{}, q.failed("count the messages", err)
	}
	var n [3]int
	for i, name := range names {
		// What is missing is unknown and not zero.
		if n[i], err = strconv.Atoi(out.Attributes[string(name)]); err != nil || n[i] < 0 {
			return Counts{}, fmt.Errorf("count the messages of %v: %s is %q", q.address, name, out.Attributes[string(name)])
		}
	}
	return Counts{Visible: n[0], InFlight: n[1], Delayed: n[2]}, nil
}

// Hold is how long the queue keeps a message from others that somebody has received
// and who does not say for how long.
func (q *Queue) Hold(ctx context.Context) (time.Duration, error) {
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	name := types.QueueAttributeNameVisibilityTimeout
	out, err := q.client.GetQueueAttributes(ctx, &sqs.GetQueueAttributesInput{QueueUrl: &q.address.URL, AttributeNames: []types.QueueAttributeName{name}})
	if err != nil {
		return 0, q.failed("ask how long a message is held", err)
	}
	seconds, err := strconv.Atoi(out.Attributes[string(name)])
	if err != nil || seconds < 0 {
		return 0, fmt.Errorf("ask how long a message of %v is held: %s is %q", q.address, name, out.Attributes[string(name)])
	}
	return time.Duration(seconds) * time.Second, nil
}

// Message is one to be sent.
type Message struct {
	Body string
	// Group and Once are for FIFO queues: messages of a group keep their order, and one
	// with the same Once as another that was sent in the last five minutes is dropped.
	Group, Once string
	// Attributes go with it, as text.
	Attributes map[string]string
}

// Send puts a message into the queue, with one try, and returns its ID. The error is
// ErrUnsent or ErrUnsure.
func (q *Queue) Send(ctx context.Context, m Message) (id string, err error) {
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	in := &sqs.SendMessageInput{QueueUrl: &q.address.URL, MessageBody: &m.Body}
	if q.address.FIFO() {
		in.MessageGroupId, in.MessageDeduplicationId = &m.Group, &m.Once
	}
	for name, value := range m.Attributes {
		if in.MessageAttributes == nil {
			in.MessageAttributes = map[string]types.MessageAttributeValue{}
		}
		in.MessageAttributes[name] = types.MessageAttributeValue{DataType: aws.String("String"), StringValue: aws.String(value)}
	}
	out, err := q.client.SendMessage(ctx, in, func(o *sqs.Options) { o.Retryer = aws.NopRetryer{} })
	if err != nil {
		kind := ErrUnsure
		if unsent(err) {
			kind = ErrUnsent
		}
		return "", fmt.Errorf("%w: %w", kind, q.failed("send a message", err))
	}
	return aws.ToString(out.MessageId), nil
}

// unsent reports whether an error says for sure that nothing was sent: nobody was
// reached, or the answer is a refusal.
func unsent(err error) bool {
	var dial *net.OpError
	if errors.As(err, &dial) && dial.Op == "dial" {
		return true
	}
	var answer *awshttp.ResponseError
	if errors.As(err, &answer) {
		return answer.HTTPStatusCode() >= 400 && answer.HTTPStatusCode() < 500
	}
	var invalid *smithy.SerializationError
	var parameters smithy.InvalidParamsError
	return errors.As(err, &invalid) || errors.As(err, &parameters)
}

// Received is a message that this receiver holds.
type Received struct {
	ID   string
	Body string
	// Attributes are those that its sender gave it, as text.
	Attributes map[string]string
	// Sent is when the queue got it, by the queue's clock; zero if it does not say.
	Sent time.Time
	// Times is how often it was received, about, this time included.
	Times int
	// Group is that of a message of a FIFO queue.
	Group string

	receipt string
}

// Receive takes one message, which nobody else gets for as long as hold, and waits up
// to wait for one, at most MaxWait; nil if there is none. It has one try: a message
// that was received and whose answer was lost stays held without a holder until its
// time is over.
func (q *Queue) Receive(ctx context.Context, wait, hold time.Duration) (*Received, error) {
	wait = min(wait, MaxWait)
	ctx, cancel := context.WithTimeout(ctx, wait+limit)
	defer cancel()
	out, err := q.client.ReceiveMessage(ctx, &sqs.ReceiveMessageInput{
		QueueUrl: &q.address.URL, MaxNumberOfMessages: 1,
		WaitTimeSeconds: int32(wait / time.Second), VisibilityTimeout: int32(hold / time.Second),
		MessageAttributeNames: []string{"All"},
		MessageSystemAttributeNames: []types.MessageSystemAttributeName{
			types.MessageSystemAttributeNameSentTimestamp, types.MessageSystemAttributeNameApproximateReceiveCount,
			types.MessageSystemAttributeNameMessageGroupId,
		},
	}, func(o *sqs.Options) { o.Retryer = aws.NopRetryer{} })
	if err != nil {
		return nil, q.failed("receive a message", err)
	}
	if len(out.Messages) == 0 {
		return nil, nil
	}
	m := out.Messages[0]
	r := &Received{
		ID: aws.ToString(m.MessageId), Body: aws.ToString(m.Body), Attributes: map[string]string{},
		Group: m.Attributes[string(types.MessageSystemAttributeNameMessageGroupId)], receipt: aws.ToString(m.ReceiptHandle),
	}
	if ms, err := strconv.ParseInt(m.Attributes[string(types.MessageSystemAttributeNameSentTimestamp)], 10, 64); err == nil {
		r.Sent = time.UnixMilli(ms)
	}
	if n, err := strconv.Atoi(m.Attributes[string(types.MessageSystemAttributeNameApproximateReceiveCount)]); err == nil {
		r.Times = n
	}
	for name, value := range m.MessageAttributes {
		if value.StringValue != nil {
			r.Attributes[name] = *value.StringValue
		}
	}
	return r, nil
}

// Extend holds a message for as long as hold from now on; 0 gives it back, and the
// next receiver gets it. ErrLost: it is too late for that.
func (q *Queue) Extend(ctx context.Context, r *Received, hold time.Duration) error {
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	_, err := q.client.ChangeMessageVisibility(ctx, &sqs.ChangeMessageVisibilityInput{
		QueueUrl: &q.address.URL, ReceiptHandle: &r.receipt, VisibilityTimeout: int32(hold / time.Second),
	})
	return q.held("hold message "+r.ID, err)
}

// Delete takes a message that was done out of the queue. ErrLost: it is too late, and
// somebody else has it or will.
func (q *Queue) Delete(ctx context.Context, r *Received) error {
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	_, err := q.client.DeleteMessage(ctx, &sqs.DeleteMessageInput{QueueUrl: &q.address.URL, ReceiptHandle: &r.receipt})
	return q.held("delete message "+r.ID, err)
}

// failed says what was being done, and adds what an error means to callers.
func (q *Queue) failed(what string, err error) error {
	if err == nil {
		return nil
	}
	what += " of " + q.address.String()
	var (
		gone   *types.QueueDoesNotExist
		answer *awshttp.ResponseError
	)
	switch {
	case errors.As(err, &gone):
		return fmt.Errorf("%s: %w: %w", what, ErrNotFound, err)
	case errors.As(err, &answer) && (answer.HTTPStatusCode() == 401 || answer.HTTPStatusCode() == 403):
		return fmt.Errorf("%s: %w: %w", what, ErrDenied, err)
	}
	return fmt.Errorf("%s: %w", what, err)
}

// held is failed of what is done with a message that somebody holds, or not any more.
func (q *Queue) held(what string, err error) error {
	var (
		inflight *types.MessageNotInflight
		receipt  *types.ReceiptHandleIsInvalid
		api      smithy.APIError
	)
	// Of a receipt whose time is over SQS says in some cases that the value is not possible.
	if errors.As(err, &inflight) || errors.As(err, &receipt) || errors.As(err, &api) && api.ErrorCode() == "InvalidParameterValue" {
		err = fmt.Errorf("%w: %w", ErrLost, err)
	}
	return q.failed(what, err)
}
