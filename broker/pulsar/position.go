package pulsar

import (
	"github.com/apache/pulsar-client-go/pulsar"

	"github.com/freshet-io/freshet/errkind"
)

// A position is a message id, packed so that positions rise as message ids do:
// 30 bits of ledger, 22 of entry, 11 of index in the batch. Ledgers are numbered
// for the whole cluster; an entry is a batch.
const (
	entryBits = 22
	batchBits = 11
	maxLedger = 1<<30 - 1
	maxEntry  = 1<<entryBits - 1
	maxBatch  = 1<<batchBits - 1
)

// id is where a message lies. batch is 0 for a message that is alone in its entry.
type id struct{ ledger, entry, batch int64 }

// position packs i. An id outside of the bounds is Unsupported.
func (i id) position() (int64, error) {
	if i.ledger < 0 || i.ledger > maxLedger || i.entry < 0 || i.entry > maxEntry || i.batch > maxBatch {
		return 0, errkind.Errorf(errkind.Unsupported, "message id %d:%d:%d: expected a ledger up to %d, an entry up to %d, an index in the batch up to %d",
			i.ledger, i.entry, i.batch, maxLedger, maxEntry, maxBatch)
	}
	return i.ledger<<(entryBits+batchBits) | i.entry<<batchBits | max(i.batch, 0), nil
}

// idAt unpacks a position.
func idAt(position int64) id {
	position = max(position, 0)
	return id{position >> (entryBits + batchBits), position >> batchBits & maxEntry, position & maxBatch}
}

// idOf is a client message id with the number of messages in its entry.
func idOf(m pulsar.MessageID) (i id, size int64) {
	return id{m.LedgerID(), m.EntryID(), max(int64(m.BatchIdx()), 0)}, max(int64(m.BatchSize()), 1)
}

// follows says whether i is certainly the message behind last, which is in an
// entry of size messages. The first message of a ledger is not certain to be.
func (i id) follows(last id, size int64) bool {
	if i.ledger != last.ledger {
		return false
	}
	if i.entry == last.entry {
		return i.batch == last.batch+1
	}
	return i.entry == last.entry+1 && i.batch == 0 && last.batch == size-1
}
