package wire

import (
	"fmt"
)

// Phase is where in a response a Tracker is.
type Phase uint8

// The phases of a response.
const (
	phaseFirst     Phase = iota // the first packet of a result: OK, ERR, LOCAL INFILE or a column count
	phaseColumns                // column definitions
	phaseColumnEOF              // the EOF after them
	phaseRows                   // rows, until EOF, OK or ERR
	phasePrepare                // the first packet of a COM_STMT_PREPARE's response
	phaseParams                 // parameter definitions
	phaseParamEOF               // the EOF after them
	phaseFields                 // COM_FIELD_LIST: column definitions until EOF
	phaseSingle                 // one packet, of any kind
	phaseInfile                 // the client sends a file
	phaseDone
)

// Step says what a packet is to a relay.
type Step uint8

// The steps.
const (
	// Pass: forward the packet; its content does not matter.
	Pass Step = iota
	// Hold: give the whole payload to Inspect before it is forwarded.
	Hold
)

// Event says what Inspect found in a packet.
type Event uint8

// The events.
const (
	// Nothing to act on: forward it.
	Nothing Event = iota
	// ResultOK: OK is valid; it ends a result or the response.
	ResultOK
	// ResultError: Err is valid; the response is over.
	ResultError
	// SendFile: the server asks the client for a file; the client's packets are
	// relayed until an empty one, then FileSent is called.
	SendFile
	// Prepared: Statement is valid.
	Prepared
)

// PreparedStatement is the answer to COM_STMT_PREPARE.
type PreparedStatement struct {
	ID      uint32
	Columns uint16
	Params  uint16
}

// Tracker follows the packets of a response to one command, without I/O and
// without decoding rows, and says when the response is over. It is a value to
// be reused: Begin starts it anew. It holds no pointer to a packet but those
// of OK and Err, which are valid until the packet is gone.
//
// A payload of MaxPayload bytes is continued in the next packet, whose bytes
// mean nothing here.
type Tracker struct {
	caps      Capability
	command   Command
	phase     Phase
	left      uint64 // definitions still to come in phaseColumns or phaseParams
	columns   uint64 // of a prepared statement, while its parameters are read
	continued bool   // the next packet continues the one before
	outParams bool   // the rows are a procedure's OUT parameters
	bare      bool   // a prepared statement comes without definitions

	// OK is the OK or EOF that Inspect saw last (of an EOF: Status and Warnings).
	OK OK
	// Err is the ERR packet that Inspect saw last.
	Err *Error
	// Statement is the prepared statement's header.
	Statement PreparedStatement
	// Results counts the results that are over.
	Results int
}

// Begin starts to follow the response to a command on a connection with the
// given capabilities.
func (t *Tracker) Begin(command Command, caps Capability) {
	*t = Tracker{caps: caps, command: command}
	switch command {
	case ComStmtPrepare:
		t.phase = phasePrepare
	case ComFieldList:
		t.phase = phaseFields
	case ComStmtFetch:
		t.phase = phaseRows
	case ComStatistics:
		t.phase = phaseSingle
	case ComStmtClose, ComStmtSendLong, ComQuit:
		t.phase = phaseDone
	default:
		t.phase = phaseFirst
	}
}

// Done reports whether the response is over.
func (t *Tracker) Done() bool { return t.phase == phaseDone }

// Continued reports whether the payload goes on in the next packet, which
// therefore cannot be anything else.
func (t *Tracker) Continued() bool { return t.continued }

// InRows reports whether the next packet is a row, unless Next says Hold to it:
// of a result set, or of COM_FIELD_LIST.
func (t *Tracker) InRows() bool { return t.phase == phaseRows || t.phase == phaseFields }

// Started reports whether the response is beyond its first packet.
func (t *Tracker) Started() bool {
	return t.phase != phaseFirst && t.phase != phasePrepare || t.Results > 0
}

// Next says what to do with the next packet, of which the header's length and
// the payload's first byte (0 where it is empty) are known. After Pass it has
// moved on; after Hold the caller gives the payload to Inspect.
func (t *Tracker) Next(length int, first byte) Step {
	if t.continued {
		t.continued = length == MaxPayload
		return Pass
	}
	switch t.phase {
	case phaseColumns, phaseParams:
		// A definition may, in theory, be continued.
		t.continued = length == MaxPayload
		if first == headerERR && length < MaxPayload {
			return Hold
		}
		t.left--
		if t.left == 0 {
			t.definitionsOver()
		}
		return Pass
	case phaseRows, phaseFields:
		if length == MaxPayload {
			t.continued = true
			return Pass
		}
		if first == headerERR || first == headerEOF && (length < 9 || t.caps.Has(ClientDeprecateEOF)) {
			return Hold
		}
		return Pass
	case phaseSingle:
		t.phase = phaseDone
		return Pass
	}
	return Hold
}

// definitionsOver moves on from the last definition of a block.
func (t *Tracker) definitionsOver() {
	eof := !t.caps.Has(ClientDeprecateEOF)
	switch {
	case t.phase == phaseParams && eof:
		t.phase = phaseParamEOF
	case t.phase == phaseColumns && eof:
		t.phase = phaseColumnEOF
	case t.phase == phaseParams:
		t.paramsOver()
	case t.command == ComStmtPrepare:
		t.phase = phaseDone
	default:
		t.phase = phaseRows
	}
}

func (t *Tracker) paramsOver() {
	switch {
	case t.columns == 0:
		t.phase = phaseDone
	case t.bare:
		t.phase = phaseColumnEOF
	default:
		t.phase, t.left = phaseColumns, t.columns
	}
}

// Inspect takes the whole payload of a packet for which Next said Hold, and
// moves on.
func (t *Tracker) Inspect(p []byte) (Event, error) {
	if len(p) == 0 {
		return Nothing, fmt.Errorf("empty packet in a response to %v: %w", t.command, ErrMalformed)
	}
	if p[0] == headerERR {
		e, err := ParseError(p)
		if err != nil {
			return Nothing, err
		}
		// MariaDB reports progress in ERR packets that end nothing.
		if e.Code == 0xffff && t.caps.Has(MariaDBProgress) {
			return Nothing, nil
		}
		t.Err, t.phase = e, phaseDone
		return ResultError, nil
	}
	switch t.phase {
	case phaseFirst:
		return t.inspectFirst(p)
	case phasePrepare:
		return t.inspectPrepare(p)
	case phaseColumnEOF:
		e, err := t.eof(p)
		if err != nil {
			return Nothing, err
		}
		switch {
		case t.command == ComStmtPrepare:
			t.phase = phaseDone
		case t.command == ComStmtExecute && e.Status&(StatusCursorExists|StatusMoreResults) == StatusCursorExists:
			// The rows wait for COM_STMT_FETCH. A cursor of a stored procedure's own
			// sets the flag too, but then more results follow: CALL's at least.
			return t.resultOver(), nil
		default:
			t.outParams = e.Status&StatusPSOutParams != 0
			t.phase = phaseRows
		}
		return Nothing, nil
	case phaseParamEOF:
		if _, err := t.eof(p); err != nil {
			return Nothing, err
		}
		t.paramsOver()
		return Nothing, nil
	case phaseRows, phaseFields:
		return t.inspectEnd(p)
	}
	return Nothing, fmt.Errorf("packet after the end of a response to %v: %w", t.command, ErrMalformed)
}

// inspectEnd takes an EOF, or the OK that stands for it, that ends a result.
func (t *Tracker) inspectEnd(p []byte) (Event, error) {
	if !t.caps.Has(ClientDeprecateEOF) || len(p) < 7 {
		if _, err := t.eof(p); err != nil {
			return Nothing, err
		}
		return t.resultOver(), nil
	}
	ok, err := ParseOK(p, t.caps)
	if err != nil || ok.Header != headerEOF {
		return Nothing, fmt.Errorf("end of a result in a response to %v: %w", t.command, ErrMalformed)
	}
	t.OK = ok
	return t.resultOver(), nil
}

func (t *Tracker) eof(p []byte) (EOF, error) {
	e, err := ParseEOF(p)
	if err != nil || p[0] != headerEOF {
		return EOF{}, fmt.Errorf("EOF expected in a response to %v: %w", t.command, ErrMalformed)
	}
	t.OK = OK{Header: headerEOF, Status: e.Status, Warnings: e.Warnings}
	return e, nil
}

// resultOver ends a result whose status is in t.OK.
func (t *Tracker) resultOver() Event {
	t.Results++
	// MySQL's EOF after OUT parameters says that nothing follows, but the
	// procedure's OK does.
	more := t.OK.Status&StatusMoreResults != 0 || t.outParams
	t.outParams = false
	if more && t.command != ComStmtFetch {
		t.phase = phaseFirst
	} else {
		t.phase = phaseDone
	}
	return ResultOK
}

func (t *Tracker) inspectFirst(p []byte) (Event, error) {
	switch {
	case p[0] == headerOK:
		ok, err := ParseOK(p, t.caps)
		if err != nil {
			return Nothing, err
		}
		t.OK = ok
		return t.resultOver(), nil
	case p[0] == headerEOF:
		// COM_SET_OPTION and COM_DEBUG answer with it. (No count is so large.)
		return t.inspectEnd(p)
	case p[0] == headerLocalInfile:
		t.phase = phaseInfile
		return SendFile, nil
	}
	d := Decode(p)
	t.left = d.LenEnc()
	if d.Err() != nil || t.left == 0 || t.left > 1<<16 {
		return Nothing, fmt.Errorf("column count %d in a response to %v: %w", t.left, t.command, ErrMalformed)
	}
	t.phase = phaseColumns
	if t.caps&(ClientOptionalMetadata|MariaDBCacheMetadata) != 0 && d.Len() > 0 && d.Uint8() == 0 {
		// No column definitions follow, only the EOF after them.
		t.left = 0
		t.definitionsOver()
	}
	return Nothing, nil
}

// FileSent moves on after the client's empty packet that ends a LOCAL INFILE.
func (t *Tracker) FileSent() {
	if t.phase == phaseInfile {
		t.phase = phaseFirst
	}
}

func (t *Tracker) inspectPrepare(p []byte) (Event, error) {
	d := Decode(p)
	if d.Uint8() != headerOK {
		return Nothing, fmt.Errorf("response to %v: %w", t.command, ErrMalformed)
	}
	t.Statement = PreparedStatement{ID: d.Uint32(), Columns: d.Uint16(), Params: d.Uint16()}
	d.Skip(1)
	t.OK = OK{Warnings: d.Uint16()}
	if err := d.Err(); err != nil {
		return Nothing, err
	}
	t.columns = uint64(t.Statement.Columns)
	t.bare = t.caps.Has(ClientOptionalMetadata) && d.Len() > 0 && d.Uint8() == 0
	switch {
	case t.bare && t.caps.Has(ClientDeprecateEOF):
		t.phase = phaseDone
	case t.Statement.Params == 0:
		t.paramsOver()
	case t.bare: // the EOFs come all the same
		t.phase = phaseParamEOF
	default:
		t.phase, t.left = phaseParams, uint64(t.Statement.Params)
	}
	return Prepared, nil
}
