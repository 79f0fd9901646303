package wire

import "strconv"

// Capability is a set of capability flags: the 32 of MySQL and, above them, the
// 32 that MariaDB adds.
type Capability uint64

// The capability flags that both flavors share.
const (
	ClientMySQL               Capability = 1 << iota // CLIENT_LONG_PASSWORD; absent in a MariaDB greeting, where it announces the extended flags
	ClientFoundRows                                  // affected rows are found rows
	ClientLongFlag                                   // column flags have two bytes
	ClientConnectWithDB                              // the handshake response names a schema
	ClientNoSchema                                   // db.table.column is refused
	ClientCompress                                   // zlib
	ClientODBC                                       // no effect on the protocol
	ClientLocalFiles                                 // LOAD DATA LOCAL
	ClientIgnoreSpace                                // white space before ( of a function
	ClientProtocol41                                 // this protocol
	ClientInteractive                                // interactive_timeout instead of wait_timeout
	ClientSSL                                        // TLS after an SSLRequest
	ClientIgnoreSigpipe                              // client side only
	ClientTransactions                               // status flags in OK and EOF
	ClientReserved                                   // formerly 4.1
	ClientSecureConnection                           // 20-byte nonce
	ClientMultiStatements                            // several statements in a COM_QUERY
	ClientMultiResults                               // several result sets to a COM_QUERY
	ClientPSMultiResults                             // and to a COM_STMT_EXECUTE
	ClientPluginAuth                                 // authentication plugins
	ClientConnectAttrs                               // connection attributes
	ClientPluginAuthLenEnc                           // length-encoded authentication response
	ClientExpiredPasswords                           // can handle expired passwords
	ClientSessionTrack                               // session state changes in OK
	ClientDeprecateEOF                               // OK instead of EOF after rows
	ClientOptionalMetadata                           // result sets may come without column definitions (MySQL)
	ClientZstd                                       // zstd compression (MySQL)
	ClientQueryAttributes                            // attributes before a query's text (MySQL)
	ClientMultiFactor                                // multi-factor authentication (MySQL)
	ClientCapabilityExtension                        // reserved (MySQL)
	ClientSSLVerifyServerCert                        // client side only
	ClientRememberOptions                            // client side only
)

// The flags that MariaDB adds, valid where ClientMySQL is absent.
const (
	MariaDBProgress         Capability = 1 << (32 + iota) // progress reports as ERR packets with code 0xffff
	MariaDBComMulti                                       // withdrawn
	MariaDBStmtBulk                                       // COM_STMT_BULK_EXECUTE
	MariaDBExtendedMetadata                               // extended type information in column definitions
	MariaDBCacheMetadata                                  // prepared statements may omit unchanged metadata
	MariaDBBulkUnitResults                                // a result for each unit of a bulk
)

// Has reports whether all of f are set.
func (c Capability) Has(f Capability) bool { return c&f == f }

// Status is a set of server status flags, as OK and EOF packets carry them.
type Status uint16

// The server status flags.
const (
	StatusInTransaction         Status = 0x0001
	StatusAutocommit            Status = 0x0002
	StatusMoreResults           Status = 0x0008
	StatusNoGoodIndex           Status = 0x0010
	StatusNoIndex               Status = 0x0020
	StatusCursorExists          Status = 0x0040
	StatusLastRowSent           Status = 0x0080
	StatusDBDropped             Status = 0x0100
	StatusNoBackslashEscapes    Status = 0x0200
	StatusMetadataChanged       Status = 0x0400
	StatusQueryWasSlow          Status = 0x0800
	StatusPSOutParams           Status = 0x1000
	StatusInTransactionReadOnly Status = 0x2000
	StatusSessionStateChanged   Status = 0x4000
	StatusANSIQuotes            Status = 0x8000 // MariaDB
)

// Command is the first byte of a command payload.
type Command byte

// The commands.
const (
	ComSleep           Command = 0x00
	ComQuit            Command = 0x01
	ComInitDB          Command = 0x02
	ComQuery           Command = 0x03
	ComFieldList       Command = 0x04
	ComCreateDB        Command = 0x05
	ComDropDB          Command = 0x06
	ComRefresh         Command = 0x07
	ComShutdown        Command = 0x08
	ComStatistics      Command = 0x09
	ComProcessInfo     Command = 0x0a
	ComConnect         Command = 0x0b
	ComProcessKill     Command = 0x0c
	ComDebug           Command = 0x0d
	ComPing            Command = 0x0e
	ComTime            Command = 0x0f
	ComDelayedInsert   Command = 0x10
	ComChangeUser      Command = 0x11
	ComBinlogDump      Command = 0x12
	ComTableDump       Command = 0x13
	ComConnectOut      Command = 0x14
	ComRegisterSlave   Command = 0x15
	ComStmtPrepare     Command = 0x16
	ComStmtExecute     Command = 0x17
	ComStmtSendLong    Command = 0x18
	ComStmtClose       Command = 0x19
	ComStmtReset       Command = 0x1a
	ComSetOption       Command = 0x1b
	ComStmtFetch       Command = 0x1c
	ComDaemon          Command = 0x1d
	ComBinlogDumpGTID  Command = 0x1e
	ComResetConnection Command = 0x1f
	ComClone           Command = 0x20
	ComStmtBulkExecute Command = 0xfa // MariaDB
)

var commandNames = [256]string{
	ComQuit: "COM_QUIT", ComInitDB: "COM_INIT_DB", ComQuery: "COM_QUERY", ComFieldList: "COM_FIELD_LIST",
	ComCreateDB: "COM_CREATE_DB", ComDropDB: "COM_DROP_DB", ComRefresh: "COM_REFRESH", ComShutdown: "COM_SHUTDOWN",
	ComStatistics: "COM_STATISTICS", ComProcessInfo: "COM_PROCESS_INFO", ComProcessKill: "COM_PROCESS_KILL",
	ComDebug: "COM_DEBUG", ComPing: "COM_PING", ComChangeUser: "COM_CHANGE_USER", ComBinlogDump: "COM_BINLOG_DUMP",
	ComTableDump: "COM_TABLE_DUMP", ComRegisterSlave: "COM_REGISTER_SLAVE", ComStmtPrepare: "COM_STMT_PREPARE",
	ComStmtExecute: "COM_STMT_EXECUTE", ComStmtSendLong: "COM_STMT_SEND_LONG_DATA", ComStmtClose: "COM_STMT_CLOSE",
	ComStmtReset: "COM_STMT_RESET", ComSetOption: "COM_SET_OPTION", ComStmtFetch: "COM_STMT_FETCH",
	ComBinlogDumpGTID: "COM_BINLOG_DUMP_GTID", ComResetConnection: "COM_RESET_CONNECTION", ComClone: "COM_CLONE",
	ComStmtBulkExecute: "COM_STMT_BULK_EXECUTE",
}

func (c Command) String() string {
	if s := commandNames[c]; s != "" {
		return s
	}
	return "command 0x" + strconv.FormatUint(uint64(c), 16)
}

// The first bytes of server payloads that are not rows.
const (
	headerOK          = 0x00
	headerMoreData    = 0x01
	headerLocalInfile = 0xfb
	headerEOF         = 0xfe
	headerERR         = 0xff
)

// MaxPayload is the largest payload of one packet, 16 MiB - 1; a longer
// payload is continued in the next packet, and one that is a multiple of it
// ends with an empty packet.
const MaxPayload = 1<<24 - 1

// HeaderSize is the size of a packet's header: three bytes of length, one of
// sequence.
const HeaderSize = 4
