package wire

import "encoding/binary"

// AppendLenEnc appends n as a length-encoded integer.
func AppendLenEnc(dst []byte, n uint64) []byte {
	switch {
	case n < 0xfb:
		return append(dst, byte(n))
	case n < 1<<16:
		return append(dst, 0xfc, byte(n), byte(n>>8))
	case n < 1<<24:
		return append(dst, 0xfd, byte(n), byte(n>>8), byte(n>>16))
	}
	return binary.LittleEndian.AppendUint64(append(dst, 0xfe), n)
}

// AppendLenEncString appends s as a length-encoded string.
func AppendLenEncString[T ~string | ~[]byte](dst []byte, s T) []byte {
	return append(AppendLenEnc(dst, uint64(len(s))), s...)
}

// AppendHeader appends a packet header.
func AppendHeader(dst []byte, length int, seq uint8) []byte {
	return append(dst, byte(length), byte(length>>8), byte(length>>16), seq)
}

// AppendPackets appends payload as packets, split where it is longer than
// MaxPayload, and returns the sequence number that follows.
func AppendPackets(dst, payload []byte, seq uint8) ([]byte, uint8) {
	for {
		n := min(len(payload), MaxPayload)
		dst = append(AppendHeader(dst, n, seq), payload[:n]...)
		seq++
		payload = payload[n:]
		if n < MaxPayload {
			return dst, seq
		}
	}
}

// Header decodes a packet header; b holds at least HeaderSize bytes.
func Header(b []byte) (length int, seq uint8) {
	_ = b[3]
	return int(b[0]) | int(b[1])<<8 | int(b[2])<<16, b[3]
}
