// Package jetstream carries topics on NATS JetStream: a single server, a cluster,
// or the one that package server runs inside the process. Servers are of version
// 2.11 or later; appends of several records need 2.12, and publishing with one
// acknowledgement a batch 2.14.
//
//	nats://[user:password@|token@]host[:4222][,host…][?option=value…]
//	nats+tls://…                    encrypted
//
//	user, password_file, password_env, token_file, token_env
//	creds=FILE                      credentials of a user of an account (JWT and seed)
//	nkey=FILE                       seed of an NKey (SU…)
//	tls_ca, tls_cert, tls_key, tls_server_name; tls_first=true for servers that
//	                                begin with the handshake
//	domain, api_prefix              JetStream behind a leaf node, or of another account
//	inbox_prefix                    subjects of answers, where permissions demand one
//	replicas                        of streams made here; 3 in a cluster, else 1
//	timeout=10s                     of a call of the server
//	session=10s                     how long a member of a group may be silent
//
// # Mapping
//
// Partition P of topic T is the stream T_pP with the subject freshet.topic.T.P,
// where bytes other than letters, digits, "_" and "-" are written =xx; its
// metadata say that it is ours. A stream that somebody else made is a topic of
// one partition under the stream's name. Buckets and the streams of MQTT sessions
// are no topics.
//
// A record's position is its message's sequence − 1. Positions are without gaps,
// but for streams of others out of which messages were deleted, by hand or by a
// limit for each subject: there reading steps over the gaps.
//
// An event travels as the CloudEvents binding for NATS says, in binary mode:
// attribute x is the header ce-x, percent-encoded where it must be, ID is ce-id,
// Key is ce-partitionkey, everything else is a header of its own name. What this
// cannot carry (an order of headers other than specversion, source, type, time,
// content type, others by name; binary values) lies once more in Freshet-Packed,
// for readers of this package. Of messages of others, Nats-Msg-Id is the ID where
// there is no ce-id, and the last token of the subject is the key where a stream's
// subjects have wildcards and there is no ce-partitionkey. Published on such a
// stream, a record goes to its first subject, with the key in place of a wildcard
// at its end, or "_" for a key that is no token.
//
// # Guarantees
//
// Publish returns when JetStream has acknowledged every record. In a topic with a
// deduplication window each message carries its ID as Nats-Msg-Id, and the server
// drops those that it knows: a call that failed is repeated without duplicates.
// Without a window, where the server can, the records for a partition are a batch
// that the server takes up to the first one that is missing. Elsewhere they are
// single messages under way at once; a record waits for the acknowledgement of the
// one before it of the same key, so that a message lost on the way, when a leader
// changes, is never overtaken by a later one of its key. Nothing is sent on a new
// connection that was meant for one that broke. Records without a key have no
// such promise in calls that fail.
//
// Append is one message that names the sequence expected before it, or an atomic
// batch whose first message does: all or nothing. There are no transactions.
//
// Groups are leases in the stream freshet_groups, which is made with the first
// group: one message for each member and each partition, changed only by whoever
// knows its sequence. The group's position is in the same message as the
// partition's holder, so a former holder's Commit is a Conflict. What a member
// that died held is free after session.
//
// Reading goes through a consumer of its own, in memory and without
// acknowledgements, which is made anew where reading stands after a lost
// connection, server or message.
//
// # What may be lost
//
// Acknowledged means: written to the operating system of the stream's only server,
// or of most of its replicas. That survives the end of processes. It is not on
// disk: a server syncs every sync_interval, by default 2 minutes. With one replica
// a power cut, or a kernel that dies, loses what was acknowledged since, up to 2
// minutes of it, and where groups stand with it. With three replicas that
// happens when most machines lose power together, and, in bad luck, when one does
// while another is behind: spread replicas over power supplies. With sync_interval:
// always a server acknowledges after the disk has the message, at a tenth of the
// rate or less.
package jetstream
