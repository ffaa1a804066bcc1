package event

// Record is one event as it lies on a topic's partition.
//
// ID, Key, Headers and Value are byte slices that alias the buffer they were
// read into; who hands a record out says how long they stay valid. A publisher
// sets ID (may be empty), Key (may be nil: any partition), Headers and Value;
// the broker sets Position and Time.
type Record struct {
	// ID identifies the event for deduplication: the CloudEvents id. Empty means never deduplicated.
	ID []byte
	// Key selects the partition and is the unit of order: the CloudEvents partitionkey.
	Key []byte
	// Headers carry the other CloudEvents attributes as ce_* pairs (Kafka binding names) and anything else.
	Headers Headers
	// Value is the payload.
	Value []byte
	// Position is the record's place in its partition, counted from 0.
	Position int64
	// Time is when the broker stored the record, in Unix nanoseconds.
	Time int64
}

// Size is the number of payload bytes that the record carries: id, key, headers and value.
func (r *Record) Size() int { return len(r.ID) + len(r.Key) + len(r.Headers) + len(r.Value) }
