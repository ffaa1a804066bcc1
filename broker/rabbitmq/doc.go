// Package rabbitmq is a log broker on the streams of RabbitMQ, 3.10 or later, over
// its stream protocol:
//
//	rabbitmq-stream://USER:PASSWORD@HOST:5552/VHOST?session=6s
//	rabbitmq-stream+tls://HOST:5551/VHOST?tls_ca=…&tls_cert=…&tls_key=…&sasl=external
//
// Options: timeout (of each call, 10s), session (after which others take over
// what a silent member of a group held, 6s), sasl (plain or external: the user of the client's
// certificate, which 3.10 offers for AMQP and does not take here), table (the stream with topics and groups, "freshet.table"), and
// those of package endpoint. Several hosts, of one cluster, may be given; each must have a
// replica of the streams, as a cluster makes them by default.
//
// # What a topic is
//
// Topic T with n partitions is the streams T-0 … T-(n-1), as a super stream names
// them. A topic that others made is a stream T (one partition), streams T-0, T-1, …,
// or, on 3.11 and later, a super stream with other names. Positions are the
// stream's offsets. They rise, and have gaps where RabbitMQ keeps something of its
// own in the stream: offsets that other clients store, and its list of publishers
// at the beginning of a segment. All records of a chunk have the time at which the
// server stored it, to the millisecond.
//
// A record is an AMQP 1.0 message: ID is its message-id, Key the annotation
// x-opt-partition-key, Headers are application properties, those of CloudEvents
// named as the AMQP binding does (cloudEvents:type), and Value is the body. Repeated names,
// and those that are no text, travel in an annotation. Of messages of others the id is
// cloudEvents:id or the message-id, and the key is cloudEvents:partitionkey, the
// group-id, or the routing key of an exchange. Sub-entries are read in all compressions.
//
// # Guarantees
//
// Publish returns when the server has confirmed every message: a majority of the
// replicas has it. RabbitMQ leaves it to the operating system when that reaches
// the disk: it survives the end of server processes; the power cut of one machine needs replicas
// elsewhere. There is no deduplication: the server knows publishers with counters, not ids.
//
// Groups, positions, topics and marks are entries of a small table with compare-and-set,
// the fold of one more stream. A change is one message, and its outcome is known when
// it is read back: the stream has one order, and every reader comes to the same
// table. So the Commit of a claim that went to somebody else fails, however late it comes.
//
// Append is fenced by the server: among all who append behind the same end it stores
// one, whole. A plain Publish into the same partition is noticed when it came before the Append
// began, but not when both happen at once: a partition that is written with Append
// is written with Append alone. An Append is one frame: after compression it must fit into the
// server's frame_max, 1 MiB unless set otherwise.
//
// RabbitMQ frees the records of a stream by age and size alone. Trim moves a mark
// before which nothing is delivered; the space comes free by the topic's
// retention. Topics lists those made here: the protocol does not list streams.
//
// The client of the RabbitMQ team is not used: it drops the time of a chunk, waits
// for minutes without a way to stop it when a server is away, and copies each message several times.
package rabbitmq
