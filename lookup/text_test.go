package lookup

import (
	"errors"
	"io"
	"math"
	"net"
	"strings"
	"testing"

	"github.com/freshet-io/freshet/errkind"
	"github.com/freshet-io/freshet/event"
)

func TestTextIsReadAsItsKind(t *testing.T) {
	const null = "null"
	for _, c := range []struct {
		kind event.Kind
		text string
		want any // nil: does not fit
	}{
		{event.Float, "0.1", 0.1}, {event.Float, "-1e-300", -1e-300}, {event.Float, "Infinity", math.Inf(1)}, {event.Float, "nan", null},
		{event.Float, "", nil}, {event.Float, " 1", nil}, {event.Float, "0x1p4", nil}, {event.Float, "1_000", nil}, {event.Float, "1e999", nil}, {event.Float, "1,5", nil},
		{event.Int, "-9223372036854775808", int64(math.MinInt64)}, {event.Int, "3.0", int64(3)}, {event.Int, "1e3", int64(1000)},
		{event.Int, "3.5", nil}, {event.Int, "9223372036854775808", nil}, {event.Int, "nan", nil}, {event.Int, "", nil},
		{event.Bool, "True", true}, {event.Bool, "f", false}, {event.Bool, "1", true}, {event.Bool, "yes", nil}, {event.Bool, "", nil},
		{event.String, "", ""}, {event.String, "\xff", "\xff"},
		{event.Time, "2026-01-02T03:04:05.5Z", int64(1767323045_500000000)}, {event.Time, "2026-01-02 03:04:05", int64(1767323045_000000000)},
		{event.Time, "2026-01-02T04:04:05+01:00", int64(1767323045_000000000)}, {event.Time, "2026-01-02 03:04:05+00", int64(1767323045_000000000)},
		{event.Time, "2026-01-02", int64(1767312000_000000000)},
		{event.Time, "1767323045", int64(1767323045_000000000)}, {event.Time, "1767323045.25", int64(1767323045_250000000)}, {event.Time, "1767323045123", int64(1767323045_123000000)},
		{event.Time, "1767323045123456", int64(1767323045_123456000)}, {event.Time, "1767323045123456789", int64(1767323045_123456789)}, {event.Time, "-1", int64(-1_000000000)},
		{event.Time, "99999999999", nil}, {event.Time, "-9223372036854775808", int64(math.MinInt64)}, {event.Time, "1600-01-01", nil}, {event.Time, "soon", nil},
		{event.Time, "", nil}, {event.Time, "nan", nil}, {event.Time, "1e300", nil}, {event.Time, "Infinity", nil},
	} {
		var rows Rows
		rows.Reset([]Field{{"x", c.kind}}, 1)
		rows.Found(0, Unknown)
		rows.SetText(0, 0, c.text)
		var got any
		switch col := &rows.Columns[0]; {
		case rows.Reason(0) != nil:
			if !errkind.Is(rows.Reason(0), errkind.Invalid) || rows.IsFound(0) {
				t.Errorf("%v %q: reason %v, found %v", c.kind, c.text, rows.Reason(0), rows.IsFound(0))
			}
		case col.IsNull(0):
			got = null
		case c.kind == event.Float:
			got = col.Floats[0]
		case c.kind == event.Bool:
			got = col.Bools[0]
		case c.kind == event.String:
			got = col.Strings[0]
		default:
			got = col.Ints[0]
		}
		if got != c.want {
			t.Errorf("%v %q: got %v, want %v", c.kind, c.text, got, c.want)
		}
	}
}

func FuzzText(f *testing.F) {
	for _, s := range []string{"", "1.5", "2026-01-02T03:04:05Z", "1e99", "-0", "9223372036854775807", "0001-01-01"} {
		f.Add(s)
	}
	fields := []Field{{"f", event.Float}, {"i", event.Int}, {"b", event.Bool}, {"s", event.String}, {"t", event.Time}}
	f.Fuzz(func(t *testing.T, s string) {
		var rows Rows
		rows.Reset(fields, len(fields))
		for j := range fields {
			rows.Found(j, Unknown)
			rows.SetText(j, j, s)
			rows.SetTime(j, "at", s)
		}
	})
}

func TestURLsAreShownWithoutSecrets(t *testing.T) {
	for raw, want := range map[string]string{
		"redis://u:s3cret@h:1/2?x=s3cret#s3cret": "redis://h:1/2",
		"postgres://u:s3%cret@h/d":               "postgres://…",
		"postgres://u:s3/cret@h/d":               "postgres://…",
		"s3cret":                                 "(no URL)",
		"redis:s3cret":                           "(no URL)",
		"redis://:s3cret@/1":                     "redis://…",
	} {
		if got := Redact(raw); got != want {
			t.Errorf("%s: got %s, want %s", raw, got, want)
		}
		if _, err := ParseURL(raw); err != nil && strings.Contains(err.Error(), "cret") {
			t.Errorf("%s: the error holds the secret: %v", raw, err)
		}
	}
}

func TestNetworkErrorsAreTransient(t *testing.T) {
	_, refused := net.Dial("tcp", "127.0.0.1:1")
	for _, err := range []error{refused, io.EOF, io.ErrUnexpectedEOF, net.ErrClosed, &net.DNSError{Err: "no such host"}} {
		if NetworkKind(err) != errkind.Transient {
			t.Errorf("%v: %v", err, NetworkKind(err))
		}
	}
	if k := NetworkKind(errors.New("other")); k != errkind.Unknown {
		t.Errorf("another error: %v", k)
	}
}
