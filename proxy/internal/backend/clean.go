package backend

import (
	"fmt"
	"strings"

	"farmhand/proxy/internal/wire"
)

// outlives are the capabilities of a login that set session variables (sql_mode
// by CLIENT_IGNORE_SPACE, wait_timeout by CLIENT_INTERACTIVE): after a reset the
// variables are the server's default ones.
const outlives = wire.ClientIgnoreSpace | wire.ClientInteractive

// COM_RESET_CONNECTION leaves less behind than it is said to, but not nothing
// (seen on MariaDB 10.11 and MySQL 9.7): the role stays, @@collation_database
// becomes the server's default although the default schema stays, and what
// init_connect did is gone. FOUND_ROWS() stays too: a session that asks for it
// is answered by the connection on which its own rows were.

// tracking is the statement that has the server report every change of session
// state in its OK packets: that, not parsing, is how the proxy follows a
// session. A reset connection falls back to the server's global values.
func (c *Conn) tracking() string {
	if c.MariaDB {
		return "SET SESSION session_track_system_variables='*', SESSION session_track_schema=ON, SESSION session_track_state_change=ON"
	}
	return "SET SESSION session_track_system_variables='*', SESSION session_track_schema=ON, SESSION session_track_state_change=ON, SESSION session_track_gtids=OWN_GTID"
}

func (c *Conn) writeQuery(sql string) {
	c.WriteCommand(append(wire.AppendQuery(nil, c.Caps), sql...))
}

// prepare readies a connection that has just logged in: session tracking, and
// what must be known to clean it one day.
func (c *Conn) prepare() error {
	if c.MariaDB {
		c.writeQuery("SELECT @@init_connect, CURRENT_ROLE()")
	} else {
		c.writeQuery("SELECT @@init_connect, NULL")
	}
	c.writeQuery(c.tracking()) // last, as after a reset, for ROW_COUNT() and its like
	if err := c.Flush(); err != nil {
		return fmt.Errorf("switch session tracking on: %w", err)
	}
	initConnect, role, err := c.readLoginState()
	if err != nil {
		return fmt.Errorf("ask for the login's role: %w", err)
	}
	if _, err := c.ReadReply(); err != nil {
		return fmt.Errorf("switch session tracking on: %w", err)
	}
	c.unclean = initConnect != "" || c.Caps&outlives != 0
	switch {
	case !c.MariaDB:
		c.role = "SET ROLE DEFAULT"
	case role == "":
		c.role = "SET ROLE NONE"
	default:
		c.role = "SET ROLE `" + strings.ReplaceAll(role, "`", "``") + "`"
	}
	return nil
}

// readLoginState reads the one row that prepare asks for.
func (c *Conn) readLoginState() (initConnect, role string, err error) {
	var t wire.Tracker
	for t.Begin(wire.ComQuery, c.Caps); !t.Done(); {
		p, err := c.ReadPayload(controlLimit)
		if err != nil {
			return "", "", err
		}
		if len(p) == 0 {
			return "", "", wire.ErrMalformed
		}
		row := t.InRows()
		if t.Next(len(p), p[0]) == wire.Hold {
			if _, err := t.Inspect(p); err != nil {
				return "", "", err
			}
			continue
		}
		if row {
			const null = 0xfb
			d := wire.Decode(p)
			initConnect = string(d.LenEncBytes())
			if p[len(p)-1] != null || d.Len() > 1 {
				role = string(d.LenEncBytes())
			}
			if err := d.Err(); err != nil {
				return "", "", err
			}
		}
	}
	if t.Err != nil {
		return "", "", t.Err
	}
	return initConnect, role, nil
}

// Reset brings the connection back to the state after login, and returns when
// the server has done so. The default schema stays what Schema says.
func (c *Conn) Reset() error { return c.reset(false) }

// reset is Reset. With reload it looks the schema up anew: another one of that
// name may have taken its place.
func (c *Conn) reset(reload bool) error {
	replies := 3
	c.WriteCommand([]byte{byte(wire.ComResetConnection)})
	if reload && c.MariaDB && c.Schema != "" {
		// For MariaDB, the schema that is the default already is not looked up.
		c.WriteCommand(append([]byte{byte(wire.ComInitDB)}, "information_schema"...))
		replies++
	}
	if c.Schema != "" {
		// It is the default already, but its character set is not in force.
		c.WriteCommand(append([]byte{byte(wire.ComInitDB)}, c.Schema...))
		replies++
	}
	c.writeQuery(c.role)
	if c.MariaDB {
		// What was counted and not listed (max_error_count=0) outlives the reset
		// until a statement has a table.
		c.writeQuery("DO (SELECT 1 FROM (SELECT 1) AS nothing)")
		replies++
	}
	c.writeQuery(c.tracking()) // last, for ROW_COUNT() and its like
	if err := c.Flush(); err != nil {
		return err
	}
	for range replies {
		ok, err := c.ReadReply()
		if err != nil {
			return err
		}
		c.Status = ok.Status &^ wire.StatusSessionStateChanged
	}
	if len(c.Buffered()) > 0 {
		return errUnexpectedData
	}
	c.Synced, c.Settings, c.Used, c.Warned, c.Unheard, c.InsertID = 0, nil, false, false, false, 0
	c.statements = c.statements[:0]
	return nil
}
