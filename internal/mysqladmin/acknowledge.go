package mysqladmin

import (
	"context"
	"encoding/binary"
	"fmt"

	"github.com/go-mysql-org/go-mysql/mysql"
)

// Acknowledge tells a server that a semi-synchronous replica has received all of its
// binlog up to a place: it connects as one that goes on from there (COM_BINLOG_DUMP),
// which the server takes for that, and reads what comes until the server says that it is
// all. Whether it is so, the caller knows. The account needs REPLICATION SLAVE. The
// connection is closed then.
func (c *Conn) Acknowledge(ctx context.Context, file string, offset uint32) (err error) {
	// Names of MariaDB, and of MySQL.
	if _, err := c.Exec(ctx, "SET @rpl_semi_sync_slave=1, @master_binlog_checksum=@@GLOBAL.binlog_checksum,"+
		" @rpl_semi_sync_replica=1, @source_binlog_checksum=@@GLOBAL.binlog_checksum"); err != nil {
		return fmt.Errorf("acknowledge: %w", err)
	}
	defer func() {
		c.broken = fmt.Errorf("acknowledge: %w", ErrClosed)
		if closing := c.raw.Close(); err == nil {
			err = closing
		}
	}()
	const nonBlocking = 1 // the end is said
	dump := make([]byte, 4, 15+len(file))
	dump = append(dump, mysql.COM_BINLOG_DUMP)
	dump = binary.LittleEndian.AppendUint32(dump, offset)
	dump = binary.LittleEndian.AppendUint16(dump, nonBlocking)
	// A server's own id would end the connection that this server receives by.
	dump = binary.LittleEndian.AppendUint32(dump, 0)
	dump = append(dump, file...)
	err = c.guard(ctx, func() error {
		c.mysql.ResetSequence()
		if err := c.mysql.WritePacket(dump); err != nil {
			return err
		}
		for {
			p, err := c.mysql.ReadPacket()
			switch {
			case err != nil:
				return err
			case len(p) > 0 && p[0] == mysql.EOF_HEADER:
				return nil
			case len(p) > 0 && p[0] == mysql.ERR_HEADER:
				return c.mysql.HandleErrorPacket(p)
			}
		}
	})
	if err != nil {
		return fmt.Errorf("acknowledge: %w", err)
	}
	return nil
}
