// Package kafka carries topics on Apache Kafka, 3.0 and later, and on servers
// that speak its protocol.
//
//	kafka://host:9092,other:9092/?replication=3
//	kafka+tls://user@host:9093/?sasl=scram-sha-512&password_env=KAFKA_PASSWORD&tls_ca=/etc/ca.pem
//
// # Mapping
//
// Topics, partitions, positions and groups are Kafka's own. Markers of
// transactions and what was aborted take positions too, so positions have gaps.
// A record's key and value are the message's, an empty key is none. The first
// header ce_id is the record's ID, all others are its Headers, in order and with
// repeats: a CloudEvent in the binary mode of the Kafka binding. Record.Time is the
// message's timestamp. Topics made here get the server's own time for it
// (message.timestamp.type=LogAppendTime); those made by others may carry their
// producers' times, which can step back within a partition.
//
// PartitionFor selects a key's partition, as Kafka's Java producer does. Topics
// are never made by being named. Only committed records are read. End of a
// partition is its high watermark: what an open transaction has written lies before it.
//
// # Guarantee
//
// With Commit each result is published once, together with the position that
// it came of. The order of events:
//
//  1. The group (cooperative-sticky) assigns a partition to this member.
//  2. Claim initialises the partition's transactional ids, TRANSACTIONAL_ID-GROUP-TOPIC-PARTITION:
//     the server fences who used them before and aborts what that one left open.
//     Only then it asks for the group's position, in which nothing is pending any more.
//  3. Commit writes the records, adds the position as this member of this
//     generation of the group, and ends the transaction. An owner that was fenced,
//     or a member that was given up, fails at the first of these steps with a Conflict.
//  4. A commit whose answer is lost is asked for again until the server says
//     what became of it. Where it does not, within timeout, the claim is given up
//     with a Conflict: whoever claims the partition next waits, in step 2, until it is decided.
//
// Publish goes through an idempotent producer with the acknowledgement of all
// replicas in sync; order within a partition holds when requests are repeated. A
// Publish that failed and is called again may store its records twice.
//
// # Options of the URL
//
//	sasl                 plain, scram-sha-256, scram-sha-512, oauthbearer; plain where the URL has a user
//	user, password_file, password_env
//	token_file, token_env    the token of oauthbearer, read at each connection
//	token_url, token_scope, token_audience    an OpenID provider's token endpoint; user and password are the client's id and secret
//	tls_ca, tls_cert, tls_key, tls_server_name
//	timeout              of one call to the server; 10s
//	session_timeout      after which the group gives a silent member up; 10s
//	transaction_timeout  after which the server aborts what a dead owner left open; 1m
//	transactional_id     how transactional ids begin; freshet
//	replication          of topics that are made; the server's default
//	compression          none, snappy, lz4, zstd, gzip; snappy
//	max_record_bytes     the largest batch; the server's message.max.bytes
//	client_id, rack
package kafka
