package compress

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"sync"

	"github.com/klauspost/compress/zlib"
	"github.com/klauspost/compress/zstd"
)

// Algorithm is how the frames of a connection are compressed.
type Algorithm uint8

// The algorithms that clients and servers negotiate.
const (
	Zlib Algorithm = iota + 1 // CLIENT_COMPRESS
	Zstd                      // CLIENT_ZSTD_COMPRESSION_ALGORITHM, MySQL 8.0.18 and later
)

func (a Algorithm) String() string {
	switch a {
	case Zlib:
		return "zlib"
	case Zstd:
		return "zstd"
	}
	return fmt.Sprintf("Algorithm(%d)", uint8(a))
}

// The levels that are used where none is asked for, and the range of each
// algorithm's levels: those of MySQL.
const (
	DefaultZlibLevel = 6
	DefaultZstdLevel = 3
	maxZlibLevel     = 9
	maxZstdLevel     = 22
)

// ErrLevel says that a level is outside its algorithm's range.
var ErrLevel = errors.New("compression level out of range")

// level checks a level and puts the default in the place of 0.
func (a Algorithm) level(level int) (int, error) {
	highest, byDefault := 0, 0
	switch a {
	case Zlib:
		highest, byDefault = maxZlibLevel, DefaultZlibLevel
	case Zstd:
		highest, byDefault = maxZstdLevel, DefaultZstdLevel
	default:
		return 0, fmt.Errorf("unknown compression algorithm %d", uint8(a))
	}
	if level < 0 || level > highest {
		return 0, fmt.Errorf("%w: %s level %d, want 1 to %d", ErrLevel, a, level, highest)
	}
	if level == 0 {
		return byDefault, nil
	}
	return level, nil
}

// An encoder appends the compressed form of src to dst. It is used by one
// goroutine at a time and given back to its pool in between.
type encoder interface {
	appendEncoded(dst, src []byte) ([]byte, error)
}

// A decoder reads the plain bytes of one frame after another. It is used by
// one goroutine at a time and given back to its pool between frames.
type decoder interface {
	io.Reader
	// reset makes the decoder read a new frame's body, or nil to let go of it.
	reset(body io.Reader) error
	// drained says whether the whole body was consumed.
	drained() bool
}

// The pools are the process's own: compressors are too large (a zlib writer
// takes up to a megabyte) to be kept by every idle connection.
var (
	zlibEncoders [maxZlibLevel + 1]sync.Pool
	zlibDecoders = sync.Pool{New: func() any { return &zlibDecoder{buffer: bufio.NewReaderSize(nil, bodyBuffer)} }}
	zstdDecoders = sync.Pool{New: func() any { return &zstdDecoder{buffer: bufio.NewReaderSize(nil, bodyBuffer)} }}
	zstdEncoders = newZstdEncoders()
)

// bodyBuffer is the size of the reads of a compressed frame's body.
const bodyBuffer = 16 << 10

func (a Algorithm) getEncoder(level int) (encoder, error) {
	if a == Zstd {
		return zstdEncoders[zstd.EncoderLevelFromZstd(level)]()
	}
	if e, ok := zlibEncoders[level].Get().(*zlibEncoder); ok {
		return e, nil
	}
	e := &zlibEncoder{level: level}
	var err error
	if e.writer, err = zlib.NewWriterLevel(&e.out, level); err != nil {
		return nil, fmt.Errorf("make a zlib writer: %w", err)
	}
	return e, nil
}

func (a Algorithm) putEncoder(e encoder) {
	if e, ok := e.(*zlibEncoder); ok {
		zlibEncoders[e.level].Put(e)
	}
}

func (a Algorithm) getDecoder() decoder {
	if a == Zstd {
		return zstdDecoders.Get().(*zstdDecoder)
	}
	return zlibDecoders.Get().(*zlibDecoder)
}

// putDecoder gives a decoder back that has finished its frame. One that failed
// is left to the garbage collector.
func (a Algorithm) putDecoder(d decoder) {
	if d.reset(nil) != nil {
		return
	}
	if a == Zstd {
		zstdDecoders.Put(d)
		return
	}
	zlibDecoders.Put(d)
}

// appender is an io.Writer at the end of a slice.
type appender []byte

func (a *appender) Write(p []byte) (int, error) {
	*a = append(*a, p...)
	return len(p), nil
}

type zlibEncoder struct {
	level  int
	out    appender
	writer *zlib.Writer
}

func (e *zlibEncoder) appendEncoded(dst, src []byte) ([]byte, error) {
	e.out = dst
	e.writer.Reset(&e.out)
	_, err := e.writer.Write(src)
	if err == nil {
		err = e.writer.Close()
	}
	dst, e.out = e.out, nil
	return dst, err
}

type zlibDecoder struct {
	buffer *bufio.Reader // zlib then reads nothing past the body, and fast
	reader io.ReadCloser
}

func (d *zlibDecoder) Read(p []byte) (int, error) { return d.reader.Read(p) }

func (d *zlibDecoder) drained() bool { return d.buffer.Buffered() == 0 }

func (d *zlibDecoder) reset(body io.Reader) error {
	d.buffer.Reset(body)
	if body == nil {
		return nil
	}
	if d.reader == nil {
		reader, err := zlib.NewReader(d.buffer)
		if err != nil {
			return err
		}
		d.reader = reader
		return nil
	}
	return d.reader.(zlib.Resetter).Reset(d.buffer, nil)
}

// zstdEncoder wraps an encoder that any number of goroutines may share.
type zstdEncoder struct{ shared *zstd.Encoder }

func (e zstdEncoder) appendEncoded(dst, src []byte) ([]byte, error) {
	return e.shared.EncodeAll(src, dst), nil
}

func newZstdEncoders() (encoders [zstd.SpeedBestCompression + 1]func() (encoder, error)) {
	for level := zstd.SpeedFastest; level <= zstd.SpeedBestCompression; level++ {
		encoders[level] = sync.OnceValues(func() (encoder, error) {
			shared, err := zstd.NewWriter(nil, zstd.WithEncoderLevel(level),
				// A frame of ours is never longer than maxPlain; a larger window
				// would only cost memory.
				zstd.WithWindowSize(maxPlain), zstd.WithLowerEncoderMem(true),
				// TCP and TLS have checksums of their own, and MySQL sends none here.
				zstd.WithEncoderCRC(false))
			if err != nil {
				return nil, fmt.Errorf("make a zstd encoder: %w", err)
			}
			return zstdEncoder{shared}, nil
		})
	}
	return encoders
}

type zstdDecoder struct {
	buffer *bufio.Reader
	reader *zstd.Decoder
}

func (d *zstdDecoder) Read(p []byte) (int, error) { return d.reader.Read(p) }

func (d *zstdDecoder) drained() bool { return d.buffer.Buffered() == 0 }

func (d *zstdDecoder) reset(body io.Reader) error {
	d.buffer.Reset(body)
	if d.reader == nil {
		reader, err := zstd.NewReader(nil,
			zstd.WithDecoderConcurrency(1), // decodes in the caller's goroutine
			zstd.WithDecoderLowmem(true),
			// The first bounds windows, the second one-segment frames.
			zstd.WithDecoderMaxWindow(maxZstdWindow), zstd.WithDecoderMaxMemory(maxZstdWindow))
		if err != nil {
			return err
		}
		d.reader = reader
	}
	if body == nil {
		return d.reader.Reset(nil)
	}
	return d.reader.Reset(d.buffer)
}
