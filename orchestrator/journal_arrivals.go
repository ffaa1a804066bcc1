package orchestrator

import (
	"encoding/json"
	"errors"
	"io/fs"
	"math"
	"slices"
	"time"

	"github.com/freshet-io/freshet/errkind"
)

// arrivalLine is what a line says of arrivals.
type arrivalLine struct {
	V     int
	Kind  EntryKind
	Round *struct {
		Signals struct {
			Time     time.Time
			Window   float64 `json:"window_s"`
			Known    []string
			Arrivals any
		}
	}
}

// Arrivals tells the arrivals that a journal knows of, oldest first, as a Forecaster takes them: a loop that begins again
// need not learn them again. Windows of which nothing is known are left out. A folder without a journal has none.
func Arrivals(dir string, observe func(end time.Time, window time.Duration, rate float64)) error {
	seqs, err := segments(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return journalError(dir, err)
	}
	var latest time.Time
	for _, seq := range seqs {
		_, _, err := scanLines(segmentPath(dir, seq), 0, func(line []byte) error {
			if checkLine(line) != nil {
				return nil
			}
			var a arrivalLine
			if json.Unmarshal(line, &a) != nil || a.V != lineVersion || a.Kind != KindRound || a.Round == nil {
				return nil
			}
			s := &a.Round.Signals
			rate, number := s.Arrivals.(float64)
			if !number && s.Arrivals != nil || rate < 0 || math.IsInf(rate, 0) {
				return nil
			}
			if !s.Time.After(latest) || !(s.Window > 0 && s.Window < 86400) || !slices.Contains(s.Known, knownNames[0]) {
				return nil
			}
			latest = s.Time
			observe(s.Time, time.Duration(s.Window*float64(time.Second)), rate)
			return nil
		})
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return journalError(dir, err)
		}
	}
	return nil
}

// checkLine holds a line against its checksum.
func checkLine(line []byte) error {
	if len(line) < crcTail || len(line) > maxLine {
		return errkind.Errorf(errkind.Corrupt, "read journal line: %d bytes", len(line))
	}
	body, tail := line[:len(line)-crcTail], string(line[len(line)-crcTail:])
	if tail[:len(crcField)] != crcField || tail[len(tail)-2:] != `"}` {
		return errkind.New(errkind.Corrupt, "read journal line: it has no checksum at its end")
	}
	if tail[len(crcField):len(crcField)+8] != sumText(body) {
		return errkind.New(errkind.Corrupt, "read journal line: its checksum does not match")
	}
	return nil
}
