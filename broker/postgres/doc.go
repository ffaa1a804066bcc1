// Package postgres is a log broker on PostgreSQL 13 or newer. It is for those who
// have a PostgreSQL, a few thousand events a second, and want results exactly
// once without another server.
//
//	postgres://user@host:5432/db?schema=freshet&password_env=PGPASSWORD
//
// # Layout
//
// Everything lies in one schema, which Open makes where it is missing. A topic is
// a row of topics and a row of partitions for each partition, which holds the
// partition's start and end. The records of all topics are rows of records (topic,
// partition, position, stored_at, id, key, headers, value). Positions count from 0
// without gaps: who writes holds the lock of the partition's row from the
// moment it takes positions until they are committed, so a reader never sees a
// gap that is filled later. The time of a record is that of the server's clock
// and never falls within a partition.
//
// ids holds the ids of the deduplication windows, positions those of groups, and
// leases the members of groups and who holds which partition (package lease).
//
// Other programs publish by the function publish of the schema, in a transaction
// of their own: the event is there exactly if the rest of their transaction is.
//
//	BEGIN;
//	UPDATE accounts SET …;
//	SELECT freshet.publish('transactions', '{"amount":12.5}', key => 'c-7', id => 'e-1', headers => '{"ce_type":"payment"}');
//	COMMIT;
//
// Until they commit, others wait who write to that partition: publish last.
//
// # Guarantee
//
// Commit is one SQL transaction, sent at once: it takes the leases of all
// claims and compares their epochs, moves the positions, locks the partitions that
// are written to, in one order for everybody, and adds the records. An epoch that
// has risen, because another member holds the partition now, ends it with a
// Conflict, and nothing of it is there. So results are published exactly once. Where
// the server's answer is lost the claims are revoked, and the error is a
// Conflict: who claims the partition next finds the group where the transaction
// has left it.
//
// Publish drops ids seen in the topic's window in the statement that stores the
// records. Transactions remember ids and drop nothing.
//
// An acknowledgement means that the transaction is committed: on disk where
// fsync and synchronous_commit are on, as they are by default, and on the replicas that
// synchronous_standby_names demands. Open warns where they are off.
//
// Readers are woken by NOTIFY, sent after the commit so that commits do not queue
// behind each other, and look by themselves every second.
//
// Trim moves a partition's start; rows before it are deleted in the background, a
// few thousand at a time. So are those that the topic's Retention and RetainBytes,
// looked at every 15 seconds, give free, and those of topics deleted.
//
// # Limits
//
// 16 MiB a record, 4,000 records a batch, 256 MiB a transaction, 1,024 partitions a
// topic. A process that is stopped while it sends a transaction larger than the buffers
// of its connection holds the locks of its partitions until it goes on or ends.
// Autovacuum has to be on. A pooler between must keep sessions: LISTEN and
// prepared statements belong to one.
//
// # Options of the URL
//
// The path is the database. schema (freshet), connections (8, and one that
// listens), session (10s, how long a member of a group that says nothing keeps its
// partitions), timeout (10s, of connecting and of each call), and those of package
// internal/endpoint for users, passwords and TLS; postgres+tls:// encrypts. With
// several hosts the first that takes writes is used.
package postgres
