package contract

import (
	"fmt"
	"strings"
	"unicode/utf8"

	"github.com/freshet-io/freshet/errkind"
)

// Reasons why a record is not an event of its contract. The list is closed; the
// words appear in dead letters and metrics and do not change.
const (
	// ReasonEmpty is a payload of no bytes or only white space, or an envelope without data.
	ReasonEmpty = "empty"
	// ReasonTooLarge is a payload above the limit.
	ReasonTooLarge = "too_large"
	// ReasonInvalidUTF8 is a string with bytes that are not UTF-8.
	ReasonInvalidUTF8 = "invalid_utf8"
	// ReasonInvalidJSON is a payload that is not strict JSON, or beyond the limits
	// on depth and on the size of numbers.
	ReasonInvalidJSON = "invalid_json"
	// ReasonSchema is a payload that the schema forbids.
	ReasonSchema = "schema"
	// ReasonMissingKey is an event without the key that its contract names.
	ReasonMissingKey = "missing_key"
	// ReasonMissingTime is an event without the time that its contract names.
	ReasonMissingTime = "missing_time"
	// ReasonInvalidTime is an event time that cannot be read.
	ReasonInvalidTime = "invalid_time"
	// ReasonTimeOutOfRange is an event time before the earliest allowed or too
	// far after the record's arrival.
	ReasonTimeOutOfRange = "time_out_of_range"
	// ReasonEnvelope is a CloudEvents envelope that cannot be read.
	ReasonEnvelope = "envelope"
)

// Reasons lists every reason that a Fault can have.
func Reasons() []string {
	return []string{ReasonEmpty, ReasonTooLarge, ReasonInvalidUTF8, ReasonInvalidJSON, ReasonSchema,
		ReasonMissingKey, ReasonMissingTime, ReasonInvalidTime, ReasonTimeOutOfRange, ReasonEnvelope}
}

// Fault is a record that is not an event of the contract.
type Fault struct {
	// Record is the record's index in the slice that was decoded.
	Record int32
	// Reason is one of the Reason constants.
	Reason string
	// Err says where in the payload, what was expected and what was found. Its kind is Invalid.
	Err error
}

// fault is the first thing wrong with a payload, while it is on its way out of
// the recursion: each level puts its name before the path.
type fault struct {
	reason string
	at     int // byte offset in the payload; −1 where it has none
	what   string
	path   []string // innermost first
}

func (f *fault) error() error {
	var sb strings.Builder
	sb.WriteString("decode event: ")
	const outer, inner = 12, 4 // how much of a long path is shown
	for i := len(f.path) - 1; i >= 0; i-- {
		if i == len(f.path)-1-outer && i > inner {
			sb.WriteString("…")
			i = inner
		}
		if seg := f.path[i]; i == len(f.path)-1 {
			sb.WriteString(strings.TrimPrefix(seg, "."))
		} else {
			sb.WriteString(seg)
		}
	}
	if len(f.path) > 0 {
		sb.WriteString(": ")
	}
	sb.WriteString(f.what)
	if f.at >= 0 {
		fmt.Fprintf(&sb, " (byte %d)", f.at)
	}
	return errkind.New(errkind.Invalid, sb.String())
}

// shorten cuts what a message quotes, at a rune.
func shorten[T string | []byte](s T) string {
	const limit = 48
	if len(s) <= limit {
		return strings.ToValidUTF8(string(s), "\uFFFD")
	}
	n := limit
	for n > limit-utf8.UTFMax && !utf8.RuneStart(s[n]) {
		n--
	}
	return strings.ToValidUTF8(string(s[:n]), "\uFFFD") + "…"
}
