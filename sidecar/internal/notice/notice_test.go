package notice

import (
	"context"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"sync/atomic"
	"testing"
	"time"

	"go.uber.org/goleak"
	"go.uber.org/zap"

	"farmhand/internal/cluster"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// TestANoticeReachesTheFarm also where the service wants a token, has trouble, and the
// farm does not hear it at first.
func TestANoticeReachesTheFarm(t *testing.T) {
	var looks, reports atomic.Int32
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch {
		case r.Method == http.MethodPut && r.URL.Path == "/latest/api/token" && r.Header.Get("X-aws-ec2-metadata-token-ttl-seconds") != "":
			_, _ = io.WriteString(w, "the-token")
		case r.Header.Get("X-aws-ec2-metadata-token") != "the-token":
			w.WriteHeader(http.StatusUnauthorized)
		case r.URL.Path != "/latest/meta-data/spot/instance-action":
			t.Errorf("asked for %s", r.URL.Path)
		default:
			switch looks.Add(1) {
			case 1, 2:
				w.WriteHeader(http.StatusNotFound)
			case 3:
				w.WriteHeader(http.StatusInternalServerError)
			case 4:
				_, _ = io.WriteString(w, "<html>")
			default:
				_, _ = io.WriteString(w, `{"action": "terminate", "time": "2026-11-29T10:22:00Z"}`)
			}
		}
	}))
	defer s.Close()
	var heard *cluster.EndingReport
	err := Run(t.Context(), Options{
		Node: "web1", Endpoint: s.URL, Every: time.Millisecond, Log: zap.NewNop(),
		Report: func(_ context.Context, name string, value []byte) error {
			if reports.Add(1) < 3 {
				return errors.New("no answer")
			}
			var err error
			if heard, err = cluster.DecodeEndingReport(value); name != cluster.EndingReportName {
				t.Errorf("reported as %s", name)
			}
			return err
		},
	})
	if err != nil || looks.Load() != 7 || heard == nil || heard.Name != "web1" || !heard.At.Equal(time.Date(2026, 11, 29, 10, 22, 0, 0, time.UTC)) {
		t.Errorf("after %d looks %+v, %v", looks.Load(), heard, err)
	}
}

func TestNoServiceIsNoNotice(t *testing.T) {
	s := httptest.NewServer(http.NotFoundHandler())
	s.Close()
	ctx, stop := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer stop()
	err := Run(ctx, Options{Node: "web1", Endpoint: s.URL, Every: time.Millisecond, Log: zap.NewNop(), Report: func(context.Context, string, []byte) error {
		t.Error("reported")
		return nil
	}})
	if !errors.Is(err, context.DeadlineExceeded) {
		t.Error(err)
	}
}
