// Package envelope lays records into messages of queues that know nothing of
// Freshet, and reads them back exactly: into a map of text attributes, as
// Pub/Sub and SQS have it, and into one JSON text, as Kinesis, EventBridge and
// Event Grid take it.
//
// CloudEvents attributes travel under the names of the CloudEvents bindings, for
// everybody to read. What a map or JSON loses of a record — the order and the
// repeats of headers, bytes that are no text, more headers than a message may
// have — is kept in one packed value beside them.
package envelope
