package contract

import (
	"math"
	"time"
)

const (
	nsPerSecond = int64(time.Second)
	// secondsMin and secondsMax bound the Unix seconds whose nanoseconds an int64 holds:
	// the years 1678 to 2262.
	secondsMin = math.MinInt64/nsPerSecond + 1
	secondsMax = math.MaxInt64/nsPerSecond - 1
)

// instant is a point in time as read from text.
type instant struct {
	seconds int64 // Unix
	nanos   int64
}

func (t instant) unixNano() (ns int64, ok bool) {
	if t.seconds < secondsMin || t.seconds > secondsMax {
		return 0, false
	}
	return t.seconds*nsPerSecond + t.nanos, true
}

// parseDate reads yyyy-mm-dd from the first ten bytes of s and returns the days since 1970.
func parseDate(s string) (days int64, ok bool) {
	if len(s) < 10 || s[4] != '-' || s[7] != '-' {
		return 0, false
	}
	y1, ok1 := two(s, 0)
	y2, ok2 := two(s, 2)
	m, ok3 := two(s, 5)
	d, ok4 := two(s, 8)
	y := y1*100 + y2
	if !ok1 || !ok2 || !ok3 || !ok4 || m < 1 || m > 12 || d < 1 || d > monthDays(y, m) {
		return 0, false
	}
	return civilDays(y, m, d), true
}

func monthDays(y, m int) int {
	switch m {
	case 2:
		if y%4 == 0 && (y%100 != 0 || y%400 == 0) {
			return 29
		}
		return 28
	case 4, 6, 9, 11:
		return 30
	}
	return 31
}

// civilDays counts the days from 1970-01-01 in the proleptic Gregorian calendar
// (H. Hinnant, "chrono-Compatible Low-Level Date Algorithms", days_from_civil).
func civilDays(y, m, d int) int64 {
	if m <= 2 {
		y--
	}
	y += 400 // keeps the era positive for the year 0
	era := y / 400
	yoe := y - era*400
	mp := (m + 9) % 12
	doy := (153*mp+2)/5 + d - 1
	doe := yoe*365 + yoe/4 - yoe/100 + doy
	return int64(era-1)*146097 + int64(doe) - 719468
}

func two(s string, i int) (int, bool) {
	a, b := s[i]-'0', s[i+1]-'0'
	return int(a)*10 + int(b), a <= 9 && b <= 9
}

// parseClock reads hh:mm:ss with an optional fraction from the beginning of s.
// Digits after the ninth of the fraction are dropped. rest is what follows.
func parseClock(s string) (seconds int, nanos int64, rest string, ok bool) {
	if len(s) < 8 || s[2] != ':' || s[5] != ':' {
		return 0, 0, "", false
	}
	h, ok1 := two(s, 0)
	m, ok2 := two(s, 3)
	sec, ok3 := two(s, 6)
	if !ok1 || !ok2 || !ok3 || h > 23 || m > 59 || sec > 60 {
		return 0, 0, "", false
	}
	seconds, rest = h*3600+m*60+sec, s[8:]
	if rest == "" || rest[0] != '.' {
		return seconds, 0, rest, true
	}
	i, unit := 1, nsPerSecond
	for ; i < len(rest) && rest[i]-'0' <= 9; i++ {
		unit /= 10
		nanos += int64(rest[i]-'0') * unit
	}
	return seconds, nanos, rest[i:], i > 1
}

// parseZone reads the whole of s as Z or ±hh:mm, as seconds east of UTC.
func parseZone(s string) (east int, ok bool) {
	if len(s) == 1 {
		return 0, s[0]|0x20 == 'z'
	}
	if len(s) != 6 || s[3] != ':' || (s[0] != '+' && s[0] != '-') {
		return 0, false
	}
	h, ok1 := two(s, 1)
	m, ok2 := two(s, 4)
	if !ok1 || !ok2 || h > 23 || m > 59 {
		return 0, false
	}
	east = h*3600 + m*60
	if s[0] == '-' {
		east = -east
	}
	return east, true
}

// parseTime reads RFC 3339. loose also takes a space for the T, and UTC where
// no zone is given. A leap second, allowed only as the last second of a day in
// UTC, is the first instant of the next day.
func parseTime(s string, loose bool) (instant, bool) {
	if len(s) < 19 || (s[10]|0x20 != 't' && (!loose || s[10] != ' ')) {
		return instant{}, false
	}
	days, ok := parseDate(s)
	if !ok {
		return instant{}, false
	}
	clock, nanos, zone, ok := parseClock(s[11:])
	if !ok {
		return instant{}, false
	}
	east := 0
	if zone != "" || !loose {
		if east, ok = parseZone(zone); !ok {
			return instant{}, false
		}
	}
	utc := clock - east
	if s[17] == '6' { // second 60
		if minute := (utc - 60 + 86400) % 86400; minute != 86400-60 {
			return instant{}, false
		}
	}
	return instant{days*86400 + int64(utc), nanos}, true
}

// epochTime reads a number as time since 1970, in a unit told by its magnitude:
// below 1e11 seconds (to the year 5138), below 1e14 milliseconds (from 1973), below
// 1e17 microseconds, above that nanoseconds.
func (n *number) epochTime(b []byte) (ns int64, ok bool) {
	f := n.float(b)
	shift := 0
	switch a := math.Abs(f); {
	case a < 1e11:
		shift = 9
	case a < 1e14:
		shift = 6
	case a < 1e17:
		shift = 3
	}
	if !n.long {
		m, e := n.mant, n.exp+shift
		ok := true
		switch {
		case e >= 0:
			m, ok = scale(m, e)
		case -e < len(pow10int):
			m /= pow10int[-e]
		default:
			m = 0
		}
		if !ok || m > math.MaxInt64 {
			return 0, false
		}
		if n.neg {
			return -int64(m), true
		}
		return int64(m), true
	}
	f *= pow10[shift]
	if math.Abs(f) >= math.MaxInt64 {
		return 0, false
	}
	return int64(f), true
}
