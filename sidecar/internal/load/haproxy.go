package load

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"net"
	"strconv"
	"strings"
	"time"

	"farmhand/internal/cluster"
)

// HAProxy measures a haproxy by its stats socket. It is not for several goroutines at once.
type HAProxy struct {
	socket string
	rates  rates
}

// NewHAProxy returns what measures the haproxy whose stats socket is at path.
func NewHAProxy(path string) *HAProxy { return &HAProxy{socket: path} }

// Sample measures. The question itself is no client: it is asked at the socket.
func (h *HAProxy) Sample(ctx context.Context, now time.Time) (map[string]float64, error) {
	values, err := h.info(ctx)
	if err != nil {
		return nil, fmt.Errorf("measure haproxy: %w", err)
	}
	clients, ok := values["CurrConns"]
	requests, counted := values["CumReq"]
	if !ok || !counted {
		return nil, errors.New("measure haproxy: it does not say how many connections there are")
	}
	load := map[string]float64{cluster.LoadClients: clients}
	maps.Copy(load, h.rates.next(now, map[string]float64{cluster.LoadRequests: requests}))
	return load, nil
}

// maxAnswer bounds an answer, in bytes.
const maxAnswer = 1 << 20

// ask sends a question and reads names and numbers, with the text between, until the line end or
// the end of the connection. Values that are no numbers are left out.
func ask(ctx context.Context, network, address, question, between, end string) (_ map[string]float64, err error) {
	conn, err := new(net.Dialer).DialContext(ctx, network, address)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, conn.Close()) }()
	if deadline, ok := ctx.Deadline(); ok {
		if err := conn.SetDeadline(deadline); err != nil {
			return nil, err
		}
	}
	if _, err := io.WriteString(conn, question); err != nil {
		return nil, err
	}
	values := map[string]float64{}
	lines := bufio.NewScanner(io.LimitReader(conn, maxAnswer))
	for lines.Scan() {
		line := strings.TrimSpace(lines.Text())
		if end != "" && line == end {
			return values, nil
		}
		name, value, ok := strings.Cut(strings.TrimPrefix(line, "STAT "), between)
		if n, err := strconv.ParseFloat(strings.TrimSpace(value), 64); ok && err == nil {
			values[name] = n
		}
	}
	if err := lines.Err(); err != nil {
		return nil, err
	}
	if end != "" {
		return nil, fmt.Errorf("the answer of %s ends before %s", address, end)
	}
	return values, nil
}

// Worker is the process id of the worker that has the socket: another one after a reload.
func (h *HAProxy) Worker(ctx context.Context) (float64, error) {
	values, err := h.info(ctx)
	return values["Pid"], err
}

func (h *HAProxy) info(ctx context.Context) (map[string]float64, error) {
	return ask(ctx, "unix", h.socket, "show info\n", ":", "")
}
