// Package compress speaks MySQL's compressed protocol on either end of a
// connection: a [Conn] takes and gives plain protocol bytes and moves them
// inside compressed frames.
//
// It owns the framing, the sequence numbers of the frames and the pools of
// compressors. It knows nothing of the packets inside: a frame may hold a part
// of a packet or several, and who negotiates compression, and when it begins
// (after the OK that ends the connection phase), is its caller's business.
//
// The invariant: memory is bounded whatever the peer declares. A frame is
// decoded as a stream, never yields more than the length that its header
// declares (16 MiB - 1 at most), and one that yields less or carries more is an
// error. For zlib that costs the decoder's window of 32 KiB; for zstd a window
// of up to 16 MiB, as MySQL's own one-segment frames need.
//
// # Sequence numbers
//
// Both directions share one counter, which starts at 0 with each command: a
// client that sent frames 0 to k-1 gets its answer in frames k, k+1 and so on,
// modulo 256. MySQL and MariaDB alike refuse a frame out of order, as do
// libmysqlclient, libmariadb and PHP's mysqlnd. None of these looks at the
// numbers of the packets inside, and cannot: a server sets its packet counter
// to the frame counter at each flush, so those numbers jump. Whoever reads
// packets out of a Conn must not check them either.
//
// See https://dev.mysql.com/doc/dev/mysql-server/latest/page_protocol_basic_compression.html
package compress
