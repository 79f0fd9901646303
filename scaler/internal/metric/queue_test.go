package metric

import (
	"testing"
	"time"

	"farmhand/internal/queue"
	"farmhand/internal/sqstest"
	"farmhand/scaler/internal/farmfile"
)

func TestAskQueue(t *testing.T) {
	sqstest.SetCredentials(t)
	sqs := sqstest.NewSQS(t)
	m := metricOf(farmfile.QueueMetric, time.Minute)
	m.Queue, m.TimeLimit = sqs.Queue("jobs", sqstest.QueueOptions{})+"?region="+sqstest.Region, farmfile.Duration(10*time.Second)
	sqs.Put("jobs", "1", "2", "3")
	a, err := queue.ParseAddress(m.Queue)
	if err != nil {
		t.Fatal(err)
	}
	q, err := queue.Open(t.Context(), a)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := q.Receive(t.Context(), 0, time.Minute); err != nil {
		t.Fatal(err)
	}
	ask := askQueue("worker", &m)
	if n, err := ask(t.Context()); err != nil || n != 3 {
		t.Errorf("%v, %v; one is in flight and two wait", n, err)
	}
	sqs.Fail("GetQueueAttributes", sqstest.Denied)
	if n, err := ask(t.Context()); err == nil {
		t.Errorf("refused, and it is %v", n)
	}
}
