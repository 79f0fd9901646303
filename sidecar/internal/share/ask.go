package share

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"time"
)

// What a brick is asked: which programs of GlusterFS's it speaks (GF-DUMP), by ONC RPC
// (RFC 5531).
const (
	dumpProgram, dumpVersion, dumpProcedure = 123451501, 1, 1
	lastFragment                            = 1 << 31
	maxReply                                = 64 << 10 // bytes
)

// Ask returns nil if the brick at the socket answers.
func Ask(ctx context.Context, socket string) (err error) {
	conn, err := new(net.Dialer).DialContext(ctx, "unix", socket)
	if err != nil {
		return fmt.Errorf("the brick: %w", err)
	}
	defer func() {
		if err = errors.Join(err, conn.Close()); err != nil && ctx.Err() != nil {
			err = context.Cause(ctx)
		}
		if err != nil {
			err = fmt.Errorf("the brick does not answer: %w", err)
		}
	}()
	defer context.AfterFunc(ctx, func() { _ = conn.SetDeadline(time.Unix(1, 0)) })()
	const id = 1
	const null, call, version = 0, 0, 2
	var body []byte
	for _, n := range []uint32{id, call, version, dumpProgram, dumpVersion, dumpProcedure, null, 0, null, 0} {
		body = binary.BigEndian.AppendUint32(body, n)
	}
	body = binary.BigEndian.AppendUint64(body, 0) // whom to tell about changes: nobody
	if _, err := conn.Write(append(binary.BigEndian.AppendUint32(nil, lastFragment|uint32(len(body))), body...)); err != nil {
		return err
	}
	reply, err := readRecord(conn)
	if err != nil {
		return err
	}
	return judgeReply(reply, id)
}

// readRecord reads a message of RPC on a stream.
func readRecord(r io.Reader) ([]byte, error) {
	var record []byte
	for {
		var head [4]byte
		if _, err := io.ReadFull(r, head[:]); err != nil {
			return nil, err
		}
		mark := binary.BigEndian.Uint32(head[:])
		size := int(mark &^ lastFragment)
		if size > maxReply-len(record) {
			return nil, fmt.Errorf("a message of more than %d bytes", maxReply)
		}
		fragment := make([]byte, size)
		if _, err := io.ReadFull(r, fragment); err != nil {
			return nil, err
		}
		record = append(record, fragment...)
		if mark&lastFragment != 0 {
			return record, nil
		}
	}
}

// judgeReply returns an error if the reply to the call is none, or says that it was not done.
func judgeReply(reply []byte, id uint32) error {
	const message, accepted, success, maxVerifier = 1, 0, 0, 400
	// The call's id, the kind of message, the status; then kind and length of the verifier, itself, and the
	// outcome.
	const head, beforeVerifier = 12, 20
	word := func(at int) uint32 { return binary.BigEndian.Uint32(reply[at:]) }
	if len(reply) < head {
		return errors.New("it says too little to be understood")
	}
	if word(0) != id || word(4) != message {
		return errors.New("it says something that it was not asked for")
	}
	if status := word(8); status != accepted {
		return fmt.Errorf("it denies the question (%d)", status)
	}
	if len(reply) < beforeVerifier {
		return errors.New("it says too little to be understood")
	}
	length := word(16)
	at := beforeVerifier + int((min(length, maxVerifier+1)+3)&^3)
	if length > maxVerifier || len(reply) < at+4 {
		return errors.New("it says what cannot be understood")
	}
	if outcome := word(at); outcome != success {
		return fmt.Errorf("it refuses the question (%d)", outcome)
	}
	return nil
}
