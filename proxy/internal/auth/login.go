package auth

import (
	"bytes"
	"errors"
	"fmt"

	"farmhand/proxy/internal/wire"
)

// maxServerPackets bounds the packets of a server's exchange: two plugins tried
// with two packets each are more than any server sends.
const maxServerPackets = 16

// ErrUnfit is in the error of a Login whose server asked for a plugin that the
// credential or the link does not suit. For a credential that fits a row of the
// account table it means that the server, going by the host that it sees, took
// another row, or none: for an unknown account a server may ask for any plugin.
var ErrUnfit = errors.New("the server asks for what the credential cannot give")

var errHashOnly = fmt.Errorf("%w: only SHA1 of the password is known, which suits %s alone", ErrUnfit, nativeName)

// FirstResponse returns the authentication response for the handshake response
// (or COM_CHANGE_USER) and the plugin that it is for, given the greeting's
// plugin and nonce. That is another plugin than the greeting's if the credential
// cannot answer that one at once; the server then switches as it needs.
func (c *Credential) FirstResponse(plugin string, nonce []byte, secure bool) (usePlugin string, response []byte) {
	if len(nonce) < NonceLen {
		return nativeName, nil // no server's; it will refuse, or switch
	}
	usePlugin = c.firstPlugin(plugin, secure)
	response, err := answerers[usePlugin].answer(c, challenge{data: nonce[:NonceLen], secure: secure})
	if err != nil {
		return usePlugin, nil // cannot be: these plugins answer any nonce of this length
	}
	return usePlugin, response
}

// firstPlugin is the plugin to begin with: the greeting's if a nonce of 20 bytes
// is enough for it and the credential can do it. A password is never volunteered
// in the clear: mysql_clear_password and sha256_password wait until the server
// insists.
func (c *Credential) firstPlugin(plugin string, secure bool) string {
	switch plugin {
	case nativeName, cachingName:
	default:
		plugin = cachingName
	}
	if answerers[plugin].fits(c, secure) != nil {
		return nativeName
	}
	return plugin
}

// Login answers a server's authentication challenge after a handshake response
// that carried c.FirstResponse(plugin, nonce, secure), until the server's OK,
// whose payload it returns (the caller's to keep). plugin and nonce are the
// greeting's; secure means that nobody can read the link.
//
// It returns a *ServerError if the server refused the login, the link's error,
// or an error that says why the server's demand cannot be met. A connection
// whose Login failed is of no further use.
func Login(link Link, c *Credential, plugin string, nonce []byte, secure bool) (ok []byte, err error) {
	if len(nonce) < NonceLen {
		return nil, fmt.Errorf("log in: the server's nonce has %d bytes: %w", len(nonce), errMalformed)
	}
	name := c.firstPlugin(plugin, secure)
	ch := challenge{data: nonce[:NonceLen], secure: secure}
	if l, ok := link.(SocketLink); ok {
		ch.socket = l.UnixSocket()
	}
	for range maxServerPackets {
		payload, err := link.ReadPacket()
		if err != nil {
			return nil, fmt.Errorf("log in: %w", err)
		}
		if len(payload) == 0 {
			return nil, fmt.Errorf("log in: %w", errMalformed)
		}
		var reply []byte
		switch payload[0] {
		case headerOK:
			return bytes.Clone(payload), nil
		case headerErr:
			refused, err := wire.ParseError(payload)
			if err != nil {
				return nil, fmt.Errorf("log in: the server's error: %w", err)
			}
			return nil, refused
		case headerNextAuth:
			return nil, errors.New("log in: the server asks for a second factor, which the proxy does not have")
		case headerSwitch:
			if name, ch.data, err = parseSwitch(payload[1:]); err != nil {
				return nil, fmt.Errorf("log in: %w", err)
			}
			reply, err = firstAnswer(c, name, ch)
		default:
			data := payload
			if payload[0] == headerMoreData { // MariaDB sends data that needs no escape as it is
				data = payload[1:]
			}
			reply, err = answerers[name].more(c, ch, data)
		}
		if err != nil {
			return nil, fmt.Errorf("log in with %s: %w", name, err)
		}
		if reply == nil {
			continue
		}
		if err := link.WritePacket(reply); err != nil {
			return nil, fmt.Errorf("log in: %w", err)
		}
	}
	return nil, fmt.Errorf("log in: no end after %d packets: %w", maxServerPackets, errMalformed)
}

// firstAnswer answers an AuthSwitchRequest.
func firstAnswer(c *Credential, name string, ch challenge) ([]byte, error) {
	how, ok := answerers[name]
	if !ok {
		return nil, fmt.Errorf("%w: the proxy does not have this plugin", ErrUnfit)
	}
	if err := how.fits(c, ch.secure); err != nil {
		return nil, err
	}
	return how.answer(c, ch)
}

// parseSwitch reads an AuthSwitchRequest after its first byte: the plugin's name
// ended by NUL, and its data. The data is copied: it outlives the packet.
func parseSwitch(payload []byte) (name string, data []byte, err error) {
	if len(payload) == 0 {
		return "", nil, errors.New("the server asks for the password hash of MySQL 4.0, which is not supported")
	}
	plugin, rest, ok := bytes.Cut(payload, []byte{0})
	if !ok {
		return "", nil, errMalformed
	}
	name = string(plugin)
	data = bytes.Clone(rest)
	switch name {
	case nativeName, cachingName, sha256Name:
		// 20 bytes and a NUL, which some servers leave out.
		if len(data) < NonceLen {
			return "", nil, errMalformed
		}
		data = data[:NonceLen]
	}
	return name, data, nil
}
