package mariabackup

import (
	"encoding/binary"
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strings"

	"farmhand/internal/farm"
	"farmhand/internal/gtid"
)

// The files in which mariadb-backup says how far its copy goes, under older and
// newer names: by what a replica has applied, and by the binlog.
var (
	replicaNotes = []string{"xtrabackup_slave_info", "mariadb_backup_slave_info"}
	binlogNotes  = []string{"xtrabackup_binlog_info", "mariadb_backup_binlog_info"}
)

// slavePosition is in the file about a replica.
var slavePosition = regexp.MustCompile(`gtid_slave_pos\s*=\s*'([^']*)'`)

// positionOf is how far the copied data goes, by the contents of those files. Of a
// server that follows it is what that has applied; of another what its binlog
// says.
func positionOf(notes map[string]string) (position string, err error) {
	first := func(names []string) string {
		for _, name := range names {
			if text := notes[name]; text != "" {
				return text
			}
		}
		return ""
	}
	replica := first(replicaNotes)
	switch m := slavePosition.FindStringSubmatch(replica); {
	case m != nil:
		position = m[1]
	case replica != "":
		return "", errors.New("the server follows another one without GTIDs; its copy cannot be followed up")
	default:
		// File, offset and GTID position, parted by tabs.
		binlog := first(binlogNotes)
		fields := strings.Split(strings.TrimSuffix(binlog, "\n"), "\t")
		if len(fields) != 3 {
			return "", fmt.Errorf("the backup has no position: %q (has the server a binlog?)", binlog)
		}
		position = fields[2]
	}
	position = strings.Join(strings.Fields(position), "")
	if _, err := gtid.Parse(farm.MariaDB, position); err != nil {
		return "", fmt.Errorf("the backup's position: %w", err)
	}
	return position, nil
}

// PositionFinder is a writer that finds in a stream that goes through it, without
// keeping it, how far the data goes.
//
// The stream is a row of chunks: "XBSTCK01", a byte of flags, a byte of type, the
// length of the path (4 bytes, little-endian), the path; if the type is 'P', length
// (8), offset (8) and checksum (4) of the payload, and that; 'E' ends a file
// (extra/mariabackup/xbstream.h).
type PositionFinder struct {
	head  []byte // of a chunk, as far as it has come
	skip  uint64 // so much of a payload is to come
	note  string // the file that it belongs to, if that is one of ours
	notes map[string]string
	err   error
}

const (
	chunkMagic  = "XBSTCK01"
	fixedHead   = len(chunkMagic) + 2 + 4
	payloadHead = 8 + 8 + 4
	maxPath     = 4096
	maxNote     = 64 << 10
)

// Write never fails: that the stream is none shows in Position.
func (f *PositionFinder) Write(b []byte) (int, error) {
	n := len(b)
	for len(b) > 0 && f.err == nil {
		if f.skip > 0 {
			m := min(uint64(len(b)), f.skip)
			if f.note != "" {
				f.keep(b[:m])
			}
			f.skip -= m
			b = b[m:]
			continue
		}
		need := f.need()
		m := min(len(b), need-len(f.head))
		f.head = append(f.head, b[:m]...)
		b = b[m:]
		if len(f.head) == f.need() {
			f.chunk()
		}
	}
	return n, nil
}

// need is how long the head of the chunk is, as far as it is known.
func (f *PositionFinder) need() int {
	if len(f.head) < fixedHead {
		return fixedHead
	}
	need := fixedHead + f.pathLength()
	if f.head[len(chunkMagic)+1] == 'P' {
		need += payloadHead
	}
	return need
}

// pathLength is bounded, for what is no stream.
func (f *PositionFinder) pathLength() int {
	return int(min(binary.LittleEndian.Uint32(f.head[fixedHead-4:]), maxPath))
}

// chunk takes in a head that is whole.
func (f *PositionFinder) chunk() {
	head, kind, path := f.head, f.head[len(chunkMagic)+1], string(f.head[fixedHead:fixedHead+f.pathLength()])
	f.note = ""
	if !strings.HasPrefix(string(head), chunkMagic) || kind != 'P' && kind != 'E' {
		f.err = errors.New("what mariadb-backup writes is not the stream that is known here")
		return
	}
	if kind == 'P' {
		f.skip = binary.LittleEndian.Uint64(head[len(head)-payloadHead:])
		if slices.Contains(replicaNotes, path) || slices.Contains(binlogNotes, path) {
			f.note = path
		}
	}
	f.head = f.head[:0]
}

func (f *PositionFinder) keep(b []byte) {
	if f.notes == nil {
		f.notes = map[string]string{}
	}
	if f.notes[f.note] += string(b); len(f.notes[f.note]) > maxNote {
		f.err = fmt.Errorf("%s in the backup is too long", f.note)
	}
}

// Position is how far the data of the stream goes, once it has gone through.
func (f *PositionFinder) Position() (string, error) {
	switch {
	case f.err != nil:
		return "", f.err
	case f.skip > 0 || len(f.head) > 0:
		return "", errors.New("the backup's stream ends in the middle")
	}
	return positionOf(f.notes)
}
