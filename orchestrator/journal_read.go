package orchestrator

import (
	"errors"
	"io/fs"
	"slices"
	"time"

	"github.com/freshet-io/freshet/errkind"
)

// Query says which entries to read.
type Query struct {
	// From and Until bound their time; zero values do not.
	From, Until time.Time
	// ID asks for one; 0 for all.
	ID uint64
	// Start begins with the latest entry of kind start, where there is one.
	Start bool
	// Last keeps the latest so many; 0 keeps all.
	Last int
	// Keep, where it is not nil, says which of these to keep. Act and outcome of an entry may not
	// be there yet.
	Keep func(*Entry) bool
}

// ReadJournal reads entries, oldest first, each with its answer and outcome. Damaged is the number of lines that
// could not be read. It may run beside a process that writes. A folder without a journal is NotFound.
func ReadJournal(dir string, q Query) (entries []*Entry, damaged int, err error) {
	seqs, err := segments(dir)
	if errors.Is(err, fs.ErrNotExist) || err == nil && len(seqs) == 0 {
		return nil, 0, errkind.Errorf(errkind.NotFound, "there is no journal of decisions in %s", dir)
	}
	if err != nil {
		return nil, 0, journalError(dir, err)
	}
	// From the latest file back, as far as is needed: an answer lies behind its entry.
	later := map[uint64]*Entry{} // answers and outcomes, gathered in one entry each
	for i := len(seqs) - 1; i >= 0; i-- {
		var found []*Entry
		first := uint64(0)
		over := false
		_, _, err := scanFile(segmentPath(dir, seqs[i]), 0, func(e *Entry) error {
			if e.Kind == KindAct || e.Kind == KindOutcome {
				if later[e.Of] == nil {
					later[e.Of] = &Entry{}
				}
				fold(later[e.Of], e)
				return nil
			}
			if first == 0 {
				first = e.ID
			}
			if before := !q.From.IsZero() && e.Time.Before(q.From); before || !q.Until.IsZero() && e.Time.After(q.Until) ||
				q.ID != 0 && e.ID != q.ID || q.Keep != nil && !q.Keep(e) {
				over = over || before
				return nil
			}
			found = append(found, e)
			return nil
		}, func() { damaged++ })
		if errors.Is(err, fs.ErrNotExist) {
			continue // let go meanwhile
		}
		if err != nil {
			return nil, damaged, journalError(dir, err)
		}
		for k, e := range slices.Backward(found) {
			if q.Start && e.Kind == KindStart {
				found, over = found[k:], true
				break
			}
		}
		for _, e := range found {
			fold(e, later[e.ID])
		}
		entries = append(found, entries...)
		if over || q.Last > 0 && len(entries) >= q.Last || q.ID != 0 && first != 0 && first <= q.ID {
			break
		}
	}
	if q.Last > 0 && len(entries) > q.Last {
		entries = entries[len(entries)-q.Last:]
	}
	return entries, damaged, nil
}

// fold adds what is known of an entry in another place.
func fold(to, from *Entry) {
	if from == nil {
		return
	}
	if from.Act != nil {
		to.Act = from.Act
	}
	if from.Outcome != nil {
		to.Outcome = from.Outcome
	}
}
