package auth

import (
	"fmt"

	"farmhand/proxy/internal/wire"
)

// ServerError is the ERR packet with which a server refused a login.
type ServerError = wire.Error

// Refusal is the ERR packet to send to a client that is not let in. Its message
// is meant for that client and holds no secret.
type Refusal struct {
	Code    uint16
	State   string // SQLSTATE, five characters
	Message string
}

func (r *Refusal) Error() string {
	return fmt.Sprintf("refused with %d (%s): %s", r.Code, r.State, r.Message)
}

// Codes and states of refusals, as the servers use them
// (https://dev.mysql.com/doc/mysql-errors/en/server-error-reference.html).
const (
	codeHandshake       = 1043 // ER_HANDSHAKE_ERROR
	codeAccessDenied    = 1045 // ER_ACCESS_DENIED_ERROR
	codeOldClient       = 1251 // ER_NOT_SUPPORTED_AUTH_MODE
	codeDeniedNoMethod  = 1698 // ER_ACCESS_DENIED_NO_PASSWORD_ERROR
	codeNotReachable    = 2003 // CR_CONN_HOST_ERROR, what MySQL Router answers then
	codeSecureTransport = 3159 // ER_SECURE_TRANSPORT_REQUIRED

	stateConnection = "08S01"
	stateAuthMode   = "08004"
	stateDenied     = "28000"
	stateGeneral    = "HY000"
)

// refuseDenied is the one answer to a wrong password and to an unknown user.
func refuseDenied(user, host string, usedPassword bool) *Refusal {
	used := "NO"
	if usedPassword {
		used = "YES"
	}
	return &Refusal{
		codeAccessDenied, stateDenied,
		fmt.Sprintf("Access denied for user '%s'@'%s' (using password: %s)", user, host, used),
	}
}

func refuseBadHandshake() *Refusal {
	return &Refusal{codeHandshake, stateConnection, "Bad handshake"}
}

func refuseOldClient() *Refusal {
	return &Refusal{
		codeOldClient, stateAuthMode,
		"Client does not support authentication protocol requested by server; consider upgrading MySQL client",
	}
}

func refuseInsecure() *Refusal {
	return &Refusal{
		codeSecureTransport, stateGeneral,
		"Connections using insecure transport are prohibited by the proxy's configuration; connect with TLS or over the unix socket",
	}
}

// refuseNotReachable says that the primary, which alone could have said whether
// the client may in, did not answer. what is the question that failed.
func refuseNotReachable(user, host, what string, err error) *Refusal {
	return &Refusal{
		codeNotReachable, stateGeneral,
		fmt.Sprintf("Cannot authenticate '%s'@'%s': %s: %v", user, host, what, err),
	}
}
