package contract

import (
	"math"
	"math/rand/v2"
	"testing"
	"time"
)

func TestTimesReadAsTheStandardLibraryReadsThem(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	zones := []*time.Location{time.UTC, time.FixedZone("", 2*3600), time.FixedZone("", -(11*3600 + 30*60))}
	for range 20000 {
		want := time.Unix(r.Int64N(secondsMax-secondsMin)+secondsMin, r.Int64N(1e9)).In(zones[r.IntN(3)])
		text := want.Format(time.RFC3339Nano)
		got, ok := parseTime(text, false)
		if ns, fits := got.unixNano(); !ok || !fits || ns != want.UnixNano() {
			t.Fatalf("%s: %d %v %v, want %d", text, ns, ok, fits, want.UnixNano())
		}
		// One byte changed at random: both must still agree on whether it is a time.
		b := []byte(text)
		b[r.IntN(len(b))] = "0123456789-:.TZ+ a"[r.IntN(18)]
		x, err := time.Parse(time.RFC3339Nano, string(b))
		got, ok = parseTime(string(b), false)
		if b[len(b)-2] == '6' && b[len(b)-3] == ':' {
			continue // the standard library takes 60 minutes in a zone, RFC 3339 does not
		}
		if err == nil && (!ok || got.seconds != x.Unix() || got.nanos != int64(x.Nanosecond())) {
			t.Fatalf("%s: %v %v, want %v", b, got, ok, x)
		}
	}
}

func TestTimesInEveryForm(t *testing.T) {
	for text, want := range map[string]int64{
		"2018-04-01T00:00:31":            1522540831e9,
		"2018-04-01 00:00:31":            1522540831e9,
		"2018-04-01 00:00:31.5":          1522540831.5e9,
		"2018-04-01 00:00:31.5+01:00":    1522537231.5e9,
		"2018-04-01t00:00:31z":           1522540831e9,
		"1970-01-01T00:00:00.1234567891": 123456789,
		"2016-12-31T23:59:60":            1483228800e9,
		"0000-03-01T00:00:00Z":           0,
		"2018-04-01":                     -1,
		"2018-04-01T00:00":               -1,
		"2018-04-01T00:00:31.":           -1,
		"2018-04-01T00:00:31 Z":          -1,
		"2018-04-01T00:00:31+0100":       -1,
		"2018-13-01T00:00:31":            -1,
		"20180401T000031Z":               -1,
		"":                               -1,
	} {
		got, ok := parseTime(text, true)
		ns, _ := got.unixNano()
		if ok != (want >= 0) || (ok && ns != want) {
			t.Errorf("%q: %d %v, want %d", text, ns, ok, want)
		}
	}
}

func TestEpochUnitIsToldByMagnitude(t *testing.T) {
	const beyond = math.MinInt64
	for text, want := range map[string]int64{
		"0":                             0,
		"1522540831":                    1522540831e9,
		"1522540831.25":                 1522540831.25e9,
		"1522540831.123456789123456789": 1522540831123456768, // more digits than 64 bits: as a double
		"1.522540831e9":                 1522540831e9,
		"-86400":                        -86400e9,
		"99999999999":                   beyond, // the year 5138
		"1522540831250":                 1522540831.25e9,
		"1522540831250000":              1522540831.25e9,
		"1522540831250000000":           1522540831.25e9,
		"1522540831250000001":           1522540831250000001,
		"9223372036854775808":           beyond,
		"1e300":                         beyond,
		"0.0000000001":                  0,
	} {
		s := scanner{b: []byte(text)}
		if s.number(0) != len(text) {
			t.Fatal(text)
		}
		got, ok := s.num.epochTime(s.b)
		if ok != (want != beyond) || (ok && got != want) {
			t.Errorf("%s: %d %v, want %d", text, got, ok, want)
		}
	}
}
