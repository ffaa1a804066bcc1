// Package kinesis receives from and sends to Amazon Kinesis data streams.
//
//	kinesis://REGION/STREAM?checkpoints=file:///var/lib/freshet/orders.json
//	kinesis://REGION/STREAM?start=earliest
//
// Credentials are those of Amazon's default chain, of profile=, or user= with
// password_env= or password_file= (an access key and its secret); role= is the
// ARN of a role to take on; endpoint= is an emulator or a private endpoint. Other
// options: timeout= of a call (10s), poll= (250ms) between reads of a shard, which
// allows five a second for all its readers, start= latest, earliest or a time in
// RFC 3339, checkpoints=, strict=true (see Sending).
//
// # Messages
//
// Kinesis has data and a partition key. A record that is only a value and a key
// is put as it is; any other, with its ID and headers, as a CloudEvent in JSON,
// and what that loses in the attribute freshetrecord. Data that is a CloudEvent in
// JSON is read as one; other data is the value, with SHARD:SEQUENCE for the ID and
// the partition key for the Key. Records that the Kinesis Producer Library has
// aggregated are taken apart.
//
// # Receiving
//
// A receiver reads all shards of a stream, a shard after those that it was split
// or merged from. Kinesis takes no acknowledgements: how far each shard is
// acknowledged without a gap is kept in the file that checkpoints= names. The order of events in
// Ack: the messages are noted, the file is written and synced where a shard got
// on, Ack returns. A receiver that opens the file again continues there, so what
// was acknowledged behind a message that was not comes again. Without
// checkpoints= a receiver that opens anew begins at start=, which then has to be given, and
// nothing lasts: start=latest misses what comes while nobody reads.
//
// One receiver reads a stream for a file. Two with one file get everything
// twice and lose nothing.
//
// # Sending
//
// Send puts up to 500 records a call, in order. Where a shard takes some records
// of a call and not others, because it is at its limit, those are put again in
// order for a while before Send gives up; so a record can come behind a later one
// of its key. strict=true puts one record of a key a call, which keeps the order at a price.
package kinesis
