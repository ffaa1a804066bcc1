// Package sqs receives from and sends to Amazon SQS, standard and FIFO queues.
//
//	sqs://REGION/QUEUE
//	sqs://REGION/QUEUE.fifo?account=123456789012
//	sqs://REGION/QUEUE?endpoint=http://127.0.0.1:4566     an emulator or a private endpoint
//
// Credentials are those of Amazon's default chain, of profile=, or user= with
// password_env= or password_file= (an access key and its secret); role= is the
// ARN of a role to take on. Other options: timeout= of a call (10s), visibility=
// (60s) for which a message is ours without an extension, wait= (20s) of a long
// poll (below 1s: of the pause between short ones), receives= (4) in flight.
//
// # Messages
//
// The body is the record's value, in Base64 where it is no text; then the
// attribute freshet-encoding says so. ce-id is the record's ID (where it is
// missing: a deduplication id that somebody gave, or the message id), ce-source
// and so on are its headers, content-type and other attributes are themselves. SQS
// has room for ten attributes: what does not fit travels packed in
// freshet-record. On FIFO queues the group is the record's Key, and the
// deduplication id its ID; where those are not what SQS takes, their SHA-256.
// On standard queues the Key is ce-partitionkey.
//
// # Receiving
//
// Ack deletes messages, ten a call and several calls at a time, and returns when
// SQS has taken all. The visibility timeout of messages that are out is extended,
// for 12 hours at most, which is the service's limit. On FIFO queues the order
// within a group is the queue's; no more than ten messages of a group are out at
// a time, since the queue hands out the next when those are deleted. Polls that are under way at Close may have taken
// messages: those come again after the visibility timeout.
//
// # Sending
//
// Send is ten messages a call: one call after the other on FIFO queues, several
// at a time on standard ones, which have no order. A batch that is sent again
// within five minutes is deduplicated by a FIFO queue. Where SQS takes a call's
// later messages and not an earlier one of the same group, which is rare, the
// earlier one is behind them when the batch is sent again.
package sqs
