// Package contract compiles the contract of a topic's events, a JSON Schema
// 2020-12 document with one annotation, into a decoder.
//
// A Contract is made once, by Load or Parse, and is safe for concurrent use. It
// says what an event looks like and which of its fields are its id, its key and
// its time. A Decoder, made for the fields that its user wants, reads each
// payload in a single pass that validates everything and extracts just those
// fields into columns; it belongs to one goroutine.
//
// Decode takes records in order and gives rows in the same order: every record
// becomes either exactly one row or exactly one Fault. It never panics,
// whatever the bytes. Strings in the rows alias the records where they hold no
// escape, so rows are valid as long as the records are and until the next
// Decode into the same Rows. In the steady state it allocates nothing for
// events without a fault, unless the schema uses a keyword that only the complete
// validator knows (see docs/contracts.md).
package contract
