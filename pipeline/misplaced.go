package pipeline

import (
	"unsafe"

	"github.com/freshet-io/freshet/broker"
	"github.com/freshet-io/freshet/errkind"
	"github.com/freshet-io/freshet/event"
)

// sendBackMisplaced makes dead letters of events that lie on another partition
// than their key selects: their sender did not key them, or by something else.
// A window that they joined would hold only a part of its key's events, and
// nobody would see it.
func (t *task) sendBackMisplaced(f *frame) {
	var wrong []int32
	for row := range f.rows.N {
		i := f.rows.Index[row]
		key := f.rows.Key[row]
		if string(f.recs.Records[i].Key) == key {
			continue // the broker placed it by this key
		}
		want := broker.PartitionFor(unsafe.Slice(unsafe.StringData(key), len(key)), t.p.partitions)
		if want == t.claim.Partition() {
			continue
		}
		wrong = append(wrong, i)
		f.letters = append(f.letters, letter{i, "wrong_partition", "features", 1, errkind.Errorf(errkind.Invalid,
			"the key %q belongs on partition %d of %d, and the event lies on %d: send events with the key that the pipeline's windows go by (freshet produce --pipeline, or --key)",
			shorten(key, 80), want, t.p.partitions, t.claim.Partition())})
	}
	if len(wrong) == 0 {
		return
	}
	// Decode what is left: rows lie side by side in columns and cannot be taken out one by one.
	var rest []event.Record
	var from []int32
	for _, i := range f.rows.Index[:f.rows.N] {
		if len(wrong) > 0 && wrong[0] == i {
			wrong = wrong[1:]
			continue
		}
		rest = append(rest, f.recs.Records[i])
		from = append(from, i)
	}
	t.decoder.Decode(rest, &f.rows)
	for row := range f.rows.N {
		f.rows.Index[row] = from[f.rows.Index[row]]
	}
}
