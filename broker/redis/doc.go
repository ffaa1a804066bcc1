// Package redis is a log broker on Redis Streams: Redis 7 or Valkey, one server
// or a primary with replicas.
//
//	redis://user@host:6379/0?prefix=app:&password_env=REDIS_PASSWORD
//
// # Layout
//
// A topic T is the hash T:meta and a stream T:0, T:1, … for each partition, all
// behind the prefix. An entry has the fields t (microseconds at which it was
// stored, by the server's clock), id, key, h (headers, packed) and data. Its id is
// 9999999999999-N, N being its position + 1; so XADD with * from elsewhere
// continues the count. T:ids holds the ids of the deduplication window,
// T:group:G the positions and claims of a group, T:members:G its members.
//
// A stream with the key T and no T:meta, one that others made, is a topic of one
// partition. Its positions are its ids, milliseconds<<20 | number, so they have
// gaps, and its times those of the ids. Of its entries, and of what others add to
// a topic: the field data, value or payload is the record's value, ce_id or id
// its id, key or ce_partitionkey its key, all other fields headers. An entry
// without such a value is a row: its fields become a JSON object, in which with
// rows=typed (the default) numbers, true, false and null are what they say, and
// with rows=strings all are strings; fields that begin with ce_ are headers. What
// is published to such a stream is written in these fields.
//
// # Guarantee
//
// Redis runs a script to its end before anything else. Commit is one: it checks
// the epoch and holder of every claim, the types and the last ids of all
// streams, then adds all records, then moves all positions. Memory that is used up
// refuses the script before it begins (Exhausted). Each transaction has a number
// under its claims, which the script remembers: one whose answer was lost is sent
// again and is applied once. Where that gives no answer within twice the timeout
// the claims are revoked and the error is a Conflict. So results are published
// exactly once.
//
// Publish drops ids seen in the topic's window in the same script that stores
// the records. Transactions remember ids and drop nothing.
//
// A group's members are alive by the server's clock: each calls a script every
// half second, and whose session ends loses its partitions. A partition that
// changes hands gets a new epoch; a member that was frozen and comes back is
// refused by the commit script. Fetch, Claim and the membership outlive a
// server that is away.
//
// What an acknowledgement is worth is the server's configuration. With
// appendonly yes and appendfsync always nothing acknowledged is lost in a crash
// or power cut. With everysec the last second or two may be. Replication is
// asynchronous: a failover can lose what was acknowledged, wait_replicas=N makes it
// unlikely, not impossible. A server that has lost what was read here is reported
// as Corrupt.
//
// # Limits
//
// 4 MiB a record, 4,000 records a batch, 128 MiB a transaction, 1,024 partitions
// a topic. Retention and RetainBytes are applied when something is published.
// Redis Cluster is Unsupported: a transaction spans keys of several topics.
//
// # Options of the URL
//
// The path is the database. prefix (of all keys), timeout (10s), session (10s,
// how long a member that says nothing keeps its partitions), wait_replicas (0),
// rows (typed or strings), and those of package internal/endpoint for users,
// passwords and TLS; rediss:// and redis+tls:// encrypt.
package redis
