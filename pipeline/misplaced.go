package pipeline

import (
	"unsafe"

	"github.com/freshet-io/freshet/broker"
	"github.com/freshet-io/freshet/errkind"
	"github.com/freshet-io/freshet/event"
)

// wrongPartition finds events that lie on another partition than their key
// selects: their sender did not key them, or by something else. A window that
// they joined would hold only a part of its key's events, and nobody would see it.
func (d *sourceDecoder) wrongPartition(rec *event.Record, key string) error {
	if string(rec.Key) == key {
		return nil // the broker placed it by this key
	}
	want := broker.PartitionFor(keyBytes(key), d.partitions)
	if want == d.partition {
		return nil
	}
	return errkind.Errorf(errkind.Invalid,
		"the key %q belongs on partition %d of %d, and the event lies on %d: send events with the key that the pipeline's windows go by (freshet produce --pipeline, or --key)",
		shorten(key, 80), want, d.partitions, d.partition)
}

// keyBytes is the key's text, not to be changed.
func keyBytes(key string) []byte { return unsafe.Slice(unsafe.StringData(key), len(key)) }
