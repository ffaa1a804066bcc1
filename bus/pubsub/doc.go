// Package pubsub receives from and sends to Google Cloud Pub/Sub.
//
//	pubsub://PROJECT/SUBSCRIPTION          a receiver (also /subscriptions/SUBSCRIPTION)
//	pubsub://PROJECT/topics/TOPIC          a sender; /topics/ alone sends each batch to the topic that it names
//	pubsub://PROJECT/NAME?endpoint=HOST:PORT       the emulator: plain, without credentials
//	pubsub+tls://PROJECT/NAME?endpoint=us-east1-pubsub.googleapis.com:443    a region's endpoint
//
// Credentials are Google's application default ones (the environment, gcloud's,
// a workload identity, the machine's) or those of the file that credentials=
// names. PUBSUB_EMULATOR_HOST in the environment is as endpoint=. Other options:
// timeout= of a call (10s), lease= (60s; 10s to 600s) for which a message is ours
// without an extension, ordering=false to send without ordering keys.
//
// # Messages
//
// Attributes follow the CloudEvents binding of Pub/Sub: ce-id is the record's ID
// (the message id where it is missing), ce-source and so on are its headers
// ce_source and so on, content-type is itself, and so is any other attribute. The
// ordering key is the record's Key; ce-partitionkey is where there is none.
// What attributes cannot hold travels packed in freshet-record.
//
// # Receiving
//
// Messages come by one streaming pull that asks for no more than
// Limits.Unacknowledged, or 64 MiB, at a time. Their leases are extended until
// they are acknowledged. Ack returns when the service has taken every
// acknowledgement. On a subscription with exactly-once delivery it has then
// promised that they do not come again, and an acknowledgement that came too
// late is a Conflict; on others messages may come again, seldom.
//
// Order within a key is that of publishing where the subscription has message
// ordering. A message that comes again brings those behind it of its key.
//
// # Sending
//
// Send publishes up to 1,000 messages, 10 MB together, in one request, and the
// requests of a batch one after the other. A repeated batch is published
// again: receivers tell repeats by ce-id.
package pubsub
