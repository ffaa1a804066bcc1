package redis

import (
	"strconv"
	"strings"

	"github.com/freshet-io/freshet/errkind"
)

// base is the first half of the ids of a topic's entries, the second half
// being their position + 1. As a time it lies in the year 2286: XADD with *
// continues the last id where that is ahead of the clock, so that what others
// add gets the next position too.
const base = "9999999999999"

// Positions of a stream that others made are their ids: milliseconds, and
// below them seqBits bits of the number within the millisecond.
const (
	seqBits = 20
	maxSeq  = 1<<seqBits - 1
	maxMS   = 1<<(63-seqBits) - 1
)

// id is the id of a stream's entry.
type id struct{ ms, seq uint64 }

func (i id) String() string {
	return strconv.FormatUint(i.ms, 10) + "-" + strconv.FormatUint(i.seq, 10)
}

func parseID[T string | []byte](b T) (id, error) {
	var out id
	half, digits := &out.ms, 0
	for i := range len(b) {
		switch c := b[i]; {
		case c >= '0' && c <= '9' && digits < 20:
			v := *half*10 + uint64(c-'0')
			if *half > (1<<64-1)/10 || v < *half*10 {
				return id{}, errBadID(string(b))
			}
			*half = v
			digits++
		case c == '-' && half == &out.ms && digits > 0:
			half, digits = &out.seq, 0
		default:
			return id{}, errBadID(string(b))
		}
	}
	if half == &out.ms || digits == 0 {
		return id{}, errBadID(string(b))
	}
	return out, nil
}

func errBadID(s string) error {
	if len(s) > 60 {
		s = s[:60] + "…"
	}
	return errkind.Errorf(errkind.Corrupt, "%q is no id of a stream", s)
}

// positionOf is the position of an entry. In a topic of our own the first half
// is base; elsewhere ids that do not fit are Unsupported.
func (t *topic) positionOf(i id) (int64, error) {
	if !t.native {
		if i.seq < 1 || i.seq > 1<<62 || i.ms != baseMS {
			return 0, errkind.Errorf(errkind.Corrupt, "topic %s has an entry with the id %s, expected %s-N: only XADD with * may add to it", t.config.Name, i, base)
		}
		return int64(i.seq) - 1, nil
	}
	if i.ms > maxMS || i.seq > maxSeq {
		return 0, errkind.Errorf(errkind.Unsupported, "stream %s has an entry with the id %s, which is too large for a position", t.config.Name, i)
	}
	return int64(i.ms<<seqBits | i.seq), nil
}

const baseMS = 9999999999999

// at is the id that an entry at position has.
func (t *topic) at(position int64) id {
	position = max(position, 0)
	if !t.native {
		return id{baseMS, uint64(position) + 1}
	}
	return id{uint64(position) >> seqBits, uint64(position) & maxSeq}
}

// before is the id behind which entries at position and later lie.
func (t *topic) before(position int64) id {
	if position <= 0 {
		if t.native {
			return id{}
		}
		return id{baseMS, 0}
	}
	return t.at(position - 1)
}

// bounds turns the first and last ids of a stream into positions: the first
// kept, and the end.
func (t *topic) bounds(first, last string) (start, end int64, err error) {
	if last != "0-0" {
		l, err := parseID(last)
		if err != nil {
			return 0, 0, err
		}
		switch {
		case t.native:
			if end, err = t.positionOf(l); err != nil {
				return 0, 0, err
			}
			end++
		case l.ms != baseMS:
			_, err := t.positionOf(l)
			return 0, 0, err
		default:
			end = int64(l.seq)
		}
	}
	if first == "" {
		return end, end, nil
	}
	f, err := parseID(first)
	if err != nil {
		return 0, 0, err
	}
	start, err = t.positionOf(f)
	return start, end, err
}

// decimal reads a whole number.
func decimal(s string) (int64, bool) {
	n, err := strconv.ParseInt(strings.TrimSpace(s), 10, 64)
	return n, err == nil
}
