package control

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strconv"
	"time"

	"farmhand/internal/enrol"
	"farmhand/internal/farm"
	"farmhand/internal/pki"
	"farmhand/internal/registry"
)

// record is what the registry has of a member.
func (m Member) record() registry.Scaler {
	return registry.Scaler{Name: m.Name, Client: m.at(m.ClientPort), Peer: m.at(m.PeerPort), Join: m.at(m.JoinPort)}
}

func memberOf(name string, p enrol.Place) Member {
	return Member{Name: name, Address: p.Address, ClientPort: p.ClientPort, PeerPort: p.PeerPort, JoinPort: p.JoinPort}
}

// errExternal: the members of such a registry are its owner's.
var errExternal = errors.New("the registry is run by somebody else (external in registry.yaml), so it gets no member here; " +
	"a further control node has the same registry.yaml and certificates of its own (scaler registry init --member)")

// NewScalerToken makes a token that admits one control node, which will be m.
func (d Dir) NewScalerToken(ctx context.Context, client *registry.Client, c *Config, m Member, life time.Duration) (enrol.ScalerToken, time.Time, error) {
	fail := func(err error) (enrol.ScalerToken, time.Time, error) { return enrol.ScalerToken{}, time.Time{}, err }
	if len(c.External.Endpoints) > 0 {
		return fail(errExternal)
	}
	with := *c
	with.Members = []Member{m}
	if problems := with.Validate(); len(problems) > 0 {
		return fail(errors.New(problems[0].Path + ": " + problems[0].Message))
	}
	m = with.Members[0] // with the ports that it did not name
	all, err := client.Scalers(ctx)
	if err != nil {
		return fail(err)
	}
	if len(all) >= maxMembers {
		return fail(fmt.Errorf("the farm has %d control nodes, which is the most that is possible", len(all)))
	}
	authority, err := pki.ReadCertificate(d.control().Authority)
	if err != nil {
		return fail(err)
	}
	joins, err := joinsNow(ctx, client, c)
	if err != nil {
		return fail(err)
	}
	id, secret, expires, err := client.AddScalerToken(ctx, m.record(), life)
	if err != nil {
		return fail(err)
	}
	return enrol.ScalerToken{
		Token: enrol.Token{Addresses: joins, Fingerprint: pki.Fingerprint(authority), ID: id, Secret: secret, Names: m.Name},
		Place: enrol.Place{Address: m.Address, ClientPort: m.ClientPort, PeerPort: m.PeerPort, JoinPort: m.JoinPort},
	}, expires, nil
}

// joinsNow is where nodes join now, as the registry knows it.
func joinsNow(ctx context.Context, client *registry.Client, c *Config) ([]string, error) {
	all, err := client.Scalers(ctx)
	if err != nil {
		return nil, err
	}
	if _, joins := registry.Places(all); len(joins) > 0 {
		return joins, nil
	}
	return c.joins(), nil
}

// maxText leaves room for the rest of an answer, in bytes.
const maxText = enrol.MaxBody / 2

// scaler admits a control node: it signs its certificates. What it is not told yet
// is the authority's key, for its side of the connection has proven nothing but
// that it knows the token.
func (j *joins) scaler(ctx context.Context, r *http.Request) (enrol.ScalerReply, error) {
	var none enrol.ScalerReply
	var request enrol.ScalerRequest
	if err := read(r, &request); err != nil {
		return none, err
	}
	if err := farm.CheckName(request.Name); err != nil {
		return none, &refused{status: http.StatusBadRequest, reason: "the name is not possible: " + err.Error()}
	}
	config := j.roster.config()
	if len(config.External.Endpoints) > 0 {
		return none, &refused{status: http.StatusConflict, reason: errExternal.Error()}
	}
	m := memberOf(request.Name, request.Place)
	with := *config
	// Nothing is said of the other members to who has proven nothing yet.
	with.Members = []Member{m}
	if problems := with.Validate(); len(problems) > 0 {
		return none, &refused{status: http.StatusBadRequest, reason: "the member is not possible: " + problems[0].Message}
	}
	serverKey, err := readRequest(request.Server, memberPrefix+m.Name)
	if err != nil {
		return none, err
	}
	controlKey, err := readRequest(request.Control, registry.Administrator)
	if err != nil {
		return none, err
	}
	now := time.Now()
	// Signed before the token is spent; what can fail without it shall.
	server, err := j.authority.Server(serverKey, memberPrefix+m.Name, []string{m.Address}, now)
	if err != nil {
		return none, err
	}
	control, err := j.authority.Client(controlKey, registry.Administrator, now)
	if err != nil {
		return none, err
	}
	with.Members = append(slices.Clone(config.Members), m)
	text, err := j.dir.withMembers(&with)
	if err == nil && len(text) > maxText {
		err = fmt.Errorf("registry.yaml has %d bytes; %d can be sent", len(text), maxText)
	}
	if err != nil {
		return none, err
	}
	record := m.record()
	if record.Key, err = pki.KeyFingerprint(serverKey); err != nil {
		return none, err
	}
	if err := j.client.SpendScalerToken(ctx, request.ID, request.Secret, record, now); err != nil {
		return none, err
	}
	j.note(ctx, "control-node-admitted", "control node "+m.Name+" at "+m.Address+" was admitted, by a token", map[string]string{"scaler": m.Name, "address": m.Address})
	return enrol.ScalerReply{
		Server: string(pki.EncodeCertificate(server)), Control: string(pki.EncodeCertificate(control)),
		Authority: string(pki.EncodeCertificate(j.authority.Certificate())), Config: text,
	}, nil
}

// authorityKey tells a control node that is on its way in the authority's key, by
// which it can sign as the others can. The caller has shown the server certificate
// that scaler signed, and so has the key for which the token was spent.
func (j *joins) authorityKey(ctx context.Context, r *http.Request) (enrol.AuthorityReply, error) {
	var none enrol.AuthorityReply
	if r.TLS == nil || len(r.TLS.VerifiedChains) == 0 {
		return none, &refused{status: http.StatusUnauthorized, reason: "this needs the certificate of a new control node"}
	}
	cert := r.TLS.VerifiedChains[0][0]
	name, isMember := nameOf(cert)
	if !isMember || !slices.Contains(cert.DNSNames, pki.PeerHost) {
		return none, &refused{status: http.StatusForbidden, reason: "this needs the certificate of a new control node"}
	}
	record, err := j.client.Scaler(ctx, name)
	if err != nil {
		return none, err
	}
	key, err := pki.KeyOf(cert)
	if err != nil {
		return none, err
	}
	shown, err := pki.KeyFingerprint(key)
	if err != nil {
		return none, err
	}
	if !record.Joined.IsZero() || record.Key != shown {
		return none, &refused{status: http.StatusForbidden, reason: "the control node " + strconv.Quote(name) + " is not on its way in, or by another key"}
	}
	text, err := j.authority.EncodeKey()
	if err != nil {
		return none, err
	}
	j.note(ctx, "authority-key-given", "control node "+name+" was given the key of the farm's authority", map[string]string{"scaler": name})
	return enrol.AuthorityReply{Key: string(text)}, nil
}
