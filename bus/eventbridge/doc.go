// Package eventbridge sends to the event buses of Amazon EventBridge.
//
//	eventbridge://REGION/BUS         "default" is the account's own bus
//	eventbridge://REGION/BUS?detail=data&source=shop.orders
//
// Credentials are those of Amazon's default chain, of profile=, or user= with
// password_env= or password_file= (an access key and its secret); role= is the
// ARN of a role to take on; endpoint= is an emulator or a private endpoint. Other
// options: timeout= of a call (10s), source= where a record has no ce_source
// (freshet), max_bytes= of an event (262144, as of a whole call).
//
// # Events
//
// EventBridge gives every event an id of its own and has no place for ours. By
// default (detail=event) the detail is the whole CloudEvent in JSON, so that a
// rule can match detail.data.score and a receiver tells repeats by detail.id.
// With detail=data the detail is the record's value, which has to be a JSON
// object, and the id is lost: repeats cannot be told. Either way the source is
// ce_source, the detail type ce_type and the time ce_time.
//
// # Sending
//
// Send puts ten events a call, several calls at a time: EventBridge has no order.
// Events of a call that are not taken, and may be later, are put again for a
// while before Send gives up. Those that never will be, because they are too large
// or malformed, are refused.
//
// Nothing is received here: a rule's target brings events in, an API destination
// to an HTTP endpoint that takes them, or an SQS queue.
package eventbridge
