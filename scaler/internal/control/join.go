package control

import (
	"context"
	"crypto/ecdsa"
	"crypto/x509"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"

	"farmhand/internal/atomicfile"
	"farmhand/internal/enrol"
	"farmhand/internal/pki"
	"farmhand/internal/registry"
	"farmhand/internal/service"
)

// Join makes d the directory of a further control node of the farm that the token
// is of. It becomes a member of the registry when it is run.
func Join(ctx context.Context, t enrol.ScalerToken, d Dir) (Member, error) {
	m := memberOf(t.Names, t.Place)
	if _, err := os.Stat(d.ConfigFile()); !errors.Is(err, fs.ErrNotExist) {
		return m, errors.Join(fmt.Errorf("there is a registry in %s already; it is left as it is", d.Path), err)
	}
	if _, err := os.Stat(d.data()); !errors.Is(err, fs.ErrNotExist) {
		return m, errors.Join(fmt.Errorf("there is data of an etcd in %s already; choose another directory", d.data()), err)
	}
	// What is wrong with this machine must be known before the token is spent.
	if err := m.available(ctx); err != nil {
		return m, err
	}
	if err := pki.MakeDir(d.Path); err != nil {
		return m, err
	}
	keys, request, err := d.prepare(t)
	if err != nil {
		return m, err
	}
	reply, err := enrol.AskScaler(ctx, t, request)
	if err != nil {
		return m, errors.Join(fmt.Errorf("join as control node %s: %w", m.Name, err), d.unprepare())
	}
	if err := d.become(ctx, t, reply, keys); err != nil {
		return m, fmt.Errorf("join as control node %s: %w; the token is spent: scaler registry remove %[1]s on another control node, and join with a new one", m.Name, err)
	}
	return m, nil
}

// available reports whether this machine can be m: listen where m is to answer.
func (m Member) available(ctx context.Context) error {
	for _, port := range []uint16{m.ClientPort, m.PeerPort, m.JoinPort} {
		var listen net.ListenConfig
		l, err := listen.Listen(ctx, "tcp", m.at(port))
		if err != nil {
			return fmt.Errorf("the token is for a control node at %s, and this machine cannot listen there; nothing was told to the farm: %w", m.at(port), err)
		}
		if err := l.Close(); err != nil {
			return err
		}
	}
	return nil
}

type keyPair struct{ server, control *ecdsa.PrivateKey }

// prepare makes the node's keys, and the request for their certificates.
func (d Dir) prepare(t enrol.ScalerToken) (k keyPair, r enrol.ScalerRequest, err error) {
	// Without a configuration, a key is what an attempt before has left.
	if err := d.unprepare(); err != nil {
		return k, r, err
	}
	r = enrol.ScalerRequest{ID: t.ID, Secret: t.Secret, Name: t.Names, Place: t.Place}
	for _, one := range []struct {
		key   **ecdsa.PrivateKey
		text  *string
		files pki.Files
		name  string
	}{
		{&k.server, &r.Server, d.server(), memberPrefix + t.Names},
		{&k.control, &r.Control, d.control(), registry.Administrator},
	} {
		if *one.key, err = pki.NewKey(); err != nil {
			return k, r, err
		}
		if err := pki.WriteKey(one.files.Key, *one.key); err != nil {
			return k, r, err
		}
		request, err := pki.Request(*one.key, one.name)
		if err != nil {
			return k, r, err
		}
		*one.text = string(request)
	}
	return k, r, nil
}

// unprepare removes the keys of an attempt that came to nothing.
func (d Dir) unprepare() error {
	var failed error
	for _, path := range []string{d.server().Key, d.control().Key, d.authorityKey()} {
		if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
			failed = errors.Join(failed, fmt.Errorf("remove the key of an attempt before: %w", err))
		}
	}
	return failed
}

func (d Dir) authorityKey() string { return pki.In(d.Path, "ca").Key }

// become checks the answer, gets the authority's key with it and writes all; the
// configuration, by which a directory is known, last.
func (d Dir) become(ctx context.Context, t enrol.ScalerToken, r enrol.ScalerReply, k keyPair) error {
	authority, err := pki.DecodeCertificate([]byte(r.Authority))
	if err != nil {
		return fmt.Errorf("the authority in the answer: %w", err)
	}
	if pki.Fingerprint(authority) != t.Fingerprint {
		return errors.New("the authority in the answer is not the token's")
	}
	c := Default()
	if err := service.Decode("the farm's registry.yaml", []byte(r.Config), &c); err != nil {
		return err
	}
	server, err := signed(r.Server, authority, k.server)
	if err != nil {
		return err
	}
	if m, err := c.member(server); err != nil || m != memberOf(t.Names, t.Place) {
		return errors.Join(fmt.Errorf("the answer is for %+v", m), err)
	}
	control, err := signed(r.Control, authority, k.control)
	if err != nil {
		return err
	}
	for path, cert := range map[string]*x509.Certificate{
		d.control().Authority: authority, d.server().Certificate: server, d.control().Certificate: control,
	} {
		if err := pki.WriteCertificate(path, cert); err != nil {
			return err
		}
	}
	reply, err := enrol.AskAuthority(ctx, t, d.server())
	if err != nil {
		return fmt.Errorf("get the key of the farm's authority: %w", err)
	}
	whole, err := pki.DecodeAuthority(authority, []byte(reply.Key))
	if err != nil {
		return err
	}
	if err := pki.WriteAuthority(d.Path, whole); err != nil {
		return err
	}
	if err := d.setSeat(joining); err != nil {
		return err
	}
	return atomicfile.WritePrivate(d.ConfigFile(), []byte(r.Config))
}

// signed is a certificate in an answer, which must be for our key.
func signed(text string, authority *x509.Certificate, key *ecdsa.PrivateKey) (*x509.Certificate, error) {
	cert, err := pki.DecodeCertificate([]byte(text))
	if err == nil {
		err = cert.CheckSignatureFrom(authority)
	}
	if err == nil && !key.PublicKey.Equal(cert.PublicKey) {
		err = errors.New("it is for another key")
	}
	if err != nil {
		return nil, fmt.Errorf("the certificate in the answer: %w", err)
	}
	return cert, nil
}
