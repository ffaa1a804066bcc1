// Package rabbitmq receives from queues of RabbitMQ, quorum queues and classic
// ones, and sends to its exchanges, over AMQP 0.9.1:
//
//	amqp://USER:PASSWORD@HOST:5672/VHOST?queue=payments
//	amqps://HOST:5671/VHOST?exchange=results&routing_key=scored&tls_ca=…
//
// Options: queue; exchange and routing_key (of a Sender; {key} in it is the record's
// key); declare=quorum or classic makes the queue where it is missing; sasl (plain
// or external: the user of the client's certificate); max_bytes (the largest message
// sent, 16 MiB); timeout (10s); and those of package endpoint. Of several hosts the first that
// answers is taken.
//
// A Receiver takes as many messages as Limits.Unacknowledged, acknowledges runs
// at once, and gives back to the head of the queue what is not wanted. What was not
// acknowledged when the connection ends comes again, marked as redelivered.
//
// Send returns nil when the server has confirmed every message: a quorum queue
// then has it on a majority of its nodes. A message for which there is no queue
// is a NotFound error, one that a full queue refuses a Throttled one.
//
// ID is the message-id, Key the header x-opt-partition-key, CloudEvents attributes
// are headers as the AMQP binding names them (cloudEvents:type, read also as
// cloudEvents_type), and the content type is the message's own. Headers are a map,
// so where there is more than one they also travel packed, in their order. Of messages of
// others the id is cloudEvents:id or the message-id, and the key is
// cloudEvents:partitionkey, or the routing key where it is not the name of the queue.
package rabbitmq
