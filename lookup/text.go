package lookup

import (
	"math"
	"strconv"
	"strings"
	"time"

	"github.com/freshet-io/freshet/errkind"
	"github.com/freshet-io/freshet/event"
)

// SetText reads row i's value of field j from text, for servers that hold or
// send values as text:
//
//   - number: as strconv.ParseFloat reads it; NaN is null;
//   - integer: decimal digits, or a number without a fraction up to ±2⁵³, as in 3.0;
//   - boolean: true, false, True, False, 1, 0, t, f;
//   - string: as it is;
//   - time: see ParseTime.
//
// Where the text does not fit, the row is made Invalid.
func (r *Rows) SetText(i, j int, text string) {
	c := &r.Columns[j]
	ok := true
	switch c.Kind {
	case event.Float:
		var v float64
		if v, ok = parseFloat(text); ok {
			r.SetFloat(i, j, v)
		}
	case event.Int:
		c.Ints[i], ok = parseInt(text)
	case event.Bool:
		c.Bools[i], ok = parseBool(text)
	case event.String:
		c.Strings[i] = text
	case event.Time:
		c.Ints[i], ok = ParseTime(text)
	}
	if !ok {
		r.Unfit(i, j, text)
	}
}

// SetFloat sets row i's value of the number field j; NaN is null.
func (r *Rows) SetFloat(i, j int, v float64) {
	if math.IsNaN(v) {
		r.Columns[j].SetNull(i)
		return
	}
	r.Columns[j].Floats[i] = v
}

// SetTime sets the time of row i's values from text, as ParseTime reads it.
func (r *Rows) SetTime(i int, field, text string) {
	at, ok := ParseTime(text)
	if !ok {
		r.Invalid(i, errkind.Errorf(errkind.Invalid, "time field %s: %s is no time", field, quote(text)))
		return
	}
	r.At[i] = at
}

// Unfit makes row i Invalid because what the server has for field j, described
// by got, does not fit the field's kind.
func (r *Rows) Unfit(i, j int, got string) {
	r.Invalid(i, errkind.Errorf(errkind.Invalid, "field %s: %s does not fit kind %v", r.Columns[j].Name, quote(got), r.Columns[j].Kind))
}

func parseFloat(s string) (float64, bool) {
	// ParseFloat takes underscores and hexadecimal digits only with a prefix 0x;
	// no server writes those.
	if strings.ContainsAny(s, "xX_") {
		return 0, false
	}
	v, err := strconv.ParseFloat(s, 64)
	return v, err == nil
}

func parseInt(s string) (int64, bool) {
	if v, err := strconv.ParseInt(s, 10, 64); err == nil {
		return v, true
	}
	const exact = 1 << 53
	v, ok := parseFloat(s)
	if !ok || v != math.Trunc(v) || math.Abs(v) > exact {
		return 0, false
	}
	return int64(v), true
}

func parseBool(s string) (v, ok bool) {
	switch s {
	case "true", "True", "1", "t":
		return true, true
	case "false", "False", "0", "f":
		return false, true
	}
	return false, false
}

// ParseTime reads a time into Unix nanoseconds: RFC 3339, also with a space for
// the T and with no zone, which is UTC; or a number, the time since 1970 in a
// unit told by its magnitude as in a contract: below 1e11 seconds, below 1e14
// milliseconds, below 1e17 microseconds, else nanoseconds.
func ParseTime(s string) (ns int64, ok bool) {
	if len(s) >= 10 && s[4] == '-' {
		return parseDateTime(s)
	}
	if v, err := strconv.ParseInt(s, 10, 64); err == nil {
		return timeOfInt(v)
	}
	v, ok := parseFloat(s)
	if !ok {
		return 0, false
	}
	return timeOfFloat(v)
}

// timeOfInt is ParseTime's rule for whole numbers.
func timeOfInt(v int64) (int64, bool) {
	switch a := magnitude(v); {
	case a < 1e11:
		if a > math.MaxInt64/uint64(time.Second) {
			return 0, false
		}
		return v * 1e9, true
	case a < 1e14:
		return v * 1e6, true
	case a < 1e17:
		return v * 1e3, true
	}
	return v, true
}

func magnitude(v int64) uint64 {
	if v < 0 {
		return -uint64(v)
	}
	return uint64(v)
}

// timeOfFloat is ParseTime's rule for numbers with a fraction. It is exact to
// the microsecond for seconds of this century.
func timeOfFloat(v float64) (ns int64, ok bool) {
	unit := 1.0
	switch a := math.Abs(v); {
	case math.IsNaN(v), math.IsInf(v, 0):
		return 0, false
	case a < 1e11:
		unit = 1e9
	case a < 1e14:
		unit = 1e6
	case a < 1e17:
		unit = 1e3
	}
	whole, frac := math.Modf(v)
	t := whole*unit + math.Round(frac*unit)
	if math.Abs(t) >= math.MaxInt64 {
		return 0, false
	}
	return int64(whole)*int64(unit) + int64(math.Round(frac*unit)), true
}

var timeLayouts = [...]string{
	time.RFC3339Nano, "2006-01-02 15:04:05.999999999Z07:00", "2006-01-02 15:04:05.999999999Z07",
	"2006-01-02T15:04:05.999999999", "2006-01-02 15:04:05.999999999", time.DateOnly,
}

func parseDateTime(s string) (int64, bool) {
	for _, layout := range timeLayouts {
		if t, err := time.Parse(layout, s); err == nil {
			return unixNano(t)
		}
	}
	return 0, false
}

// unixNano is t in Unix nanoseconds, where an int64 holds it.
func unixNano(t time.Time) (int64, bool) {
	ns := t.UnixNano()
	return ns, time.Unix(0, ns).Equal(t)
}

// quote cuts what a message quotes.
func quote(s string) string {
	const limit = 64
	if len(s) > limit {
		s = s[:limit] + "…"
	}
	return strconv.Quote(s)
}
