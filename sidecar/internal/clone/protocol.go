package clone

import (
	"errors"
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"time"
)

// Paths of the donor's. The latter two are for the joiner that gets an answer from
// the first, meanwhile.
const (
	dataPath    = "/v1/data"    // GET: the data
	connectPath = "/v1/connect" // POST: a connection to the database server
	donePath    = "/v1/done"    // POST: the data has come through connections, whole
)

// upgrade is what a connection becomes at connectPath.
const upgrade = "mysql"

// What is said in headers, and at the end in trailers: a failure after the first
// byte can be told nowhere else.
const (
	flavorHeader  = "Farmhand-Flavor"  // the joiner's
	versionHeader = "Farmhand-Version" // the joiner's
	sizeHeader    = "Farmhand-Size"    // about how much there is to come, in bytes
	bytesTrailer  = "Farmhand-Bytes"   // how many bytes were sent
	faultTrailer  = "Farmhand-Fault"   // why they are not all, quoted; empty if they are
	beforeTrailer = "Farmhand-Before"  // MariaDB: the donor's streams before the first byte
	afterTrailer  = "Farmhand-After"   // MariaDB: the donor's streams after the last byte
)

const (
	// stallLimit is how long nothing may come or go, unless another limit is given.
	stallLimit = 2 * time.Minute
	// maxReason bounds what is said of a failure.
	maxReason = 2000
	// maxHeader bounds the headers of a request or an answer.
	maxHeader = 16 << 10
	// maxStreams bounds what is said of streams, each of which takes some twenty bytes;
	// maxTrailer all trailers together.
	maxStreams = 24 << 10
	maxTrailer = 64 << 10
	// connectLimit bounds a connection's making, and the wait for an answer's start.
	connectLimit = 15 * time.Second
)

// RefusedError is why a donor gave nothing.
type RefusedError struct {
	Status int // of HTTP
	Reason string
}

func (e *RefusedError) Error() string { return "the donor refused: " + e.Reason }

// Is makes a donor that is busy known as ErrBusy.
func (e *RefusedError) Is(target error) bool {
	return target == ErrBusy && e.Status == http.StatusServiceUnavailable
}

// ErrBusy says that the donor gives its data to another one at the moment.
var ErrBusy = errors.New("the donor is busy")

// fault is an error as a trailer, and faultOf the error of one.
func fault(err error) string { return strconv.QuoteToASCII(short(err.Error())) }

func faultOf(trailer string) error {
	text, err := strconv.Unquote(trailer)
	if err != nil {
		text = trailer // of another version; its words are all that is known
	}
	return fmt.Errorf("the donor failed: %s", short(text))
}

// short is the end of a text, where programs say why they failed.
func short(text string) string {
	text = strings.ToValidUTF8(text, "?")
	if len(text) > maxReason {
		text = "… " + strings.ToValidUTF8(text[len(text)-maxReason:], "")
	}
	return text
}
