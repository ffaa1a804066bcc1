// Package bus is the port to queues and buses: whatever hands each message out
// and takes an acknowledgement for it, without partitions, positions or a way
// back. RabbitMQ queues, MQTT, Pub/Sub and SQS are such; so are databases, files
// and webhooks that results go to.
//
// An adapter implements Receiver where messages come from it, Sender where they
// go to it, or both, and proves itself with package bustest. Package bridge
// carries messages between a bus and the topics of a broker.
package bus
