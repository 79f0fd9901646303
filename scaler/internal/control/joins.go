package control

import (
	"context"
	"crypto/ecdsa"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"time"

	"go.uber.org/zap"

	"farmhand/internal/enrol"
	"farmhand/internal/pki"
	"farmhand/internal/registry"
)

// joins answers those who want to become nodes, and nodes that renew their
// certificates.
type joins struct {
	client    *registry.Client
	authority *pki.Authority
	registry  []byte // the certificate that the registry's servers are signed by, PEM
	dir       Dir
	roster    *roster
	who       string // this control node, for the journal
	limiter   *limiter
	log       *zap.Logger
}

// joinLimit bounds the work for one request.
const joinLimit = 10 * time.Second

func (j *joins) handler() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("POST "+enrol.JoinPath, answer(j, j.join))
	mux.HandleFunc("POST "+enrol.RenewPath, answer(j, j.renew))
	mux.HandleFunc("POST "+enrol.ScalerPath, answer(j, j.scaler))
	mux.HandleFunc("POST "+enrol.AuthorityPath, answer(j, j.authorityKey))
	return mux
}

// refused is an answer other than 200.
type refused struct {
	status int
	reason string
	cause  error // for our own log; may be nil
}

func (e *refused) Error() string {
	if e.cause != nil {
		return e.cause.Error()
	}
	return e.reason
}

// answer makes a handler of what answers one kind of request.
func answer[R any](j *joins, reply func(context.Context, *http.Request) (R, error)) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		ctx, cancel := context.WithTimeout(r.Context(), joinLimit)
		defer cancel()
		host, _, err := net.SplitHostPort(r.RemoteAddr)
		if err != nil {
			host = r.RemoteAddr
		}
		status, body := http.StatusOK, any(nil)
		if release, ok := j.limiter.enter(host, time.Now()); !ok {
			status, body = http.StatusTooManyRequests, enrol.Refusal{Error: "too many requests; try again in a few seconds"}
		} else {
			defer release()
			r.Body = http.MaxBytesReader(w, r.Body, enrol.MaxBody)
			answered, err := reply(ctx, r)
			if body = answered; err != nil {
				status, body = j.refuse(ctx, r, host, err)
			}
		}
		w.Header().Set("Content-Type", "application/json")
		w.Header().Set("Cache-Control", "no-store")
		w.WriteHeader(status)
		if err := json.NewEncoder(w).Encode(body); err != nil {
			j.log.Info("answer to a node did not arrive", zap.String("peer", host), zap.Error(err))
		}
	}
}

// refuse logs and journals why, and says what the other side may know of it.
func (j *joins) refuse(ctx context.Context, r *http.Request, host string, err error) (int, enrol.Refusal) {
	status, reason := http.StatusInternalServerError, "the scaler could not do it; its log says why"
	var known *refused
	switch {
	case errors.As(err, &known):
		status, reason = known.status, known.reason
	case errors.Is(err, registry.ErrTokenRefused):
		status, reason = http.StatusForbidden, "the token is not valid: it was used already, has lapsed, or is not of this farm"
	case errors.Is(err, registry.ErrTokenUnfit):
		status, reason = http.StatusForbidden, err.Error()
	case errors.Is(err, registry.ErrNameTaken):
		status, reason = http.StatusConflict, "the farm has, or had until lately, a node of that name; \"scaler registry expel\" removes it, or choose another name"
	case errors.Is(err, registry.ErrUnknownScaler):
		status, reason = http.StatusForbidden, "the farm does not know this control node, or not any more"
	case errors.Is(err, registry.ErrUnknownNode):
		status, reason = http.StatusForbidden, "the farm does not know this node any more"
	case errors.Is(err, registry.ErrUnavailable):
		status, reason = http.StatusServiceUnavailable, "the registry does not answer the scaler"
	}
	j.log.Warn("request of a node refused", zap.String("path", r.URL.Path), zap.String("peer", host), zap.Int("status", status), zap.Error(err))
	// Not what any stranger can cause: it would push the rest out of the journal.
	if errors.Is(err, registry.ErrTokenUnfit) || errors.Is(err, registry.ErrNameTaken) || errors.Is(err, registry.ErrUnknownNode) || errors.Is(err, registry.ErrUnknownScaler) {
		j.note(ctx, "join-refused", err.Error(), map[string]string{"peer": host})
	}
	return status, enrol.Refusal{Error: reason}
}

// read decodes a request of which nothing may be unknown.
func read(r *http.Request, into any) error {
	decoder := json.NewDecoder(r.Body)
	decoder.DisallowUnknownFields()
	if err := decoder.Decode(into); err != nil {
		return &refused{status: http.StatusBadRequest, reason: "the request cannot be read", cause: err}
	}
	return nil
}

// readRequest returns the key of a certificate request that is for name.
func readRequest(text, name string) (*ecdsa.PublicKey, error) {
	named, key, err := pki.ReadRequest([]byte(text))
	if err == nil && named != name {
		err = fmt.Errorf("it is for %.64q, the request for %q", named, name)
	}
	if err != nil {
		return nil, &refused{status: http.StatusBadRequest, reason: "the certificate request is not possible", cause: fmt.Errorf("certificate request: %w", err)}
	}
	return key, nil
}

func (j *joins) join(ctx context.Context, r *http.Request) (enrol.Reply, error) {
	var request enrol.Request
	if err := read(r, &request); err != nil {
		return enrol.Reply{}, err
	}
	if err := registry.CheckNodeName(request.Name); err != nil {
		return enrol.Reply{}, &refused{status: http.StatusBadRequest, reason: "the name is not possible: " + err.Error()}
	}
	key, err := readRequest(request.Request, request.Name)
	if err != nil {
		return enrol.Reply{}, err
	}
	now := time.Now()
	// Signed before the token is spent; what can fail without it shall.
	cert, err := j.authority.Client(key, request.Name, now)
	if err != nil {
		return enrol.Reply{}, err
	}
	node, err := j.client.SpendToken(ctx, request.ID, request.Secret, request.Name, now)
	if err != nil {
		return enrol.Reply{}, err
	}
	secrets, err := j.secrets(ctx, node.Role)
	if err != nil {
		// It may have what it needs on its machine; if not, it says so.
		j.log.Warn("a node was not given its passwords", zap.String("node", node.Name), zap.Error(err))
	}
	j.note(ctx, "node-joined", "node "+node.Name+" joined with the role "+node.Role, map[string]string{"node": node.Name, "role": node.Role})
	reply := j.reply(node, pki.EncodeCertificate(cert))
	reply.Secrets = secrets
	return reply, nil
}

// PasswordsRecord is the record, of the control nodes, of the accounts' passwords: a JSON
// object of texts, by the accounts' names in the farm.
const PasswordsRecord = "passwords"

// secrets are the passwords that a node of the role needs: a database server all of them,
// another node the one with which its proxy looks at the servers. Nil if there are none.
func (j *joins) secrets(ctx context.Context, role string) (map[string]string, error) {
	record, err := registry.ControlRecord(PasswordsRecord)
	if err != nil {
		return nil, err
	}
	data, err := j.client.Read(ctx, record)
	if err != nil || data == nil {
		return nil, err
	}
	var all map[string]string
	if json.Unmarshal(data, &all) != nil {
		return nil, errors.New("the farm's passwords in the registry cannot be read") // without the text
	}
	if role != "mysql" {
		return map[string]string{"monitor": all["monitor"]}, nil
	}
	return all, nil
}

// renew signs the key of the certificate that the caller has shown, if its
// holder is a node still.
func (j *joins) renew(ctx context.Context, r *http.Request) (enrol.Reply, error) {
	if r.TLS == nil || len(r.TLS.VerifiedChains) == 0 {
		return enrol.Reply{}, &refused{status: http.StatusUnauthorized, reason: "a renewal needs the certificate that is to be renewed; one that has expired cannot be, join again"}
	}
	old := r.TLS.VerifiedChains[0][0]
	node, err := j.client.Node(ctx, old.Subject.CommonName)
	if err != nil {
		return enrol.Reply{}, err
	}
	key, err := pki.KeyOf(old)
	if err != nil {
		return enrol.Reply{}, err
	}
	cert, err := j.authority.Client(key, node.Name, time.Now())
	if err != nil {
		return enrol.Reply{}, err
	}
	j.note(ctx, "certificate-renewed", "node "+node.Name+" renewed its certificate", map[string]string{"node": node.Name})
	return j.reply(node, pki.EncodeCertificate(cert)), nil
}

func (j *joins) reply(n registry.Node, cert []byte) enrol.Reply {
	config := j.roster.config()
	return enrol.Reply{
		Node:              enrol.Node{Farm: config.Farm, Name: n.Name, Role: n.Role, Endpoints: config.endpoints(), Scalers: config.joins()},
		Certificate:       string(cert),
		Authority:         string(pki.EncodeCertificate(j.authority.Certificate())),
		RegistryAuthority: string(j.registry),
	}
}

// note writes an event to the journal. That it cannot is no reason to refuse a
// node: it is logged.
func (j *joins) note(ctx context.Context, kind, text string, fields map[string]string) {
	if _, err := j.client.Append(ctx, registry.Entry{Kind: kind, Who: j.who, Text: text, Fields: fields}); err != nil {
		j.log.Warn("event not journaled", zap.String("kind", kind), zap.Error(err))
	}
}
