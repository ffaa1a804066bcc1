// Package pulsar carries topics on Apache Pulsar, in one namespace of a cluster:
//
//	pulsar://HOST:6650/TENANT/NAMESPACE?admin=http://HOST:8080
//	pulsar+tls://HOST:6651/TENANT/NAMESPACE?admin=https://HOST:8443
//
// TENANT/NAMESPACE is public/default where the URL has none. "pulsar+ssl" says
// the same as "pulsar+tls". The admin API is needed: it makes topics and says
// what they hold. By default it is on the first host at port 8080, or 8443.
//
// # Mapping
//
// A topic is a partitioned topic, TOPIC-partition-0 and so on. One that is not
// partitioned is a topic with one partition. A record goes to the partition
// that broker.PartitionFor names, whatever Pulsar's own clients would choose.
//
// A position is a message id, packed: ledger<<33 | entry<<11 | index in the
// batch, for ledgers below 2^30, entries below 2^22 and batches of up to 2,048;
// what lies outside is Unsupported. Positions rise and have gaps, so readers
// and claims are broker.Positioners.
//
// Record.Time is the message's publish time, or the broker's where it notes
// one (AppendBrokerTimestampMetadataInterceptor), in milliseconds; never before
// that of the record read before it. ID is the property ce_id, Key the
// message's key, Headers its properties. What a map of strings cannot carry is
// in properties of their own: the order of headers (freshet_order); repeats,
// values that are not UTF-8 and names of ours (freshet_headers, base64); a
// binary key (freshet_key). A message that Freshet has not written has no
// ce_id: its ID is LEDGER:ENTRY:INDEX, the same at each reading, and its
// properties are headers sorted by name. A key that a Java client wrote as
// bytes is read in base64: the library does not say which it is.
//
// # Topics made here
//
// CreateTopic sets policies of the topic, for which the cluster must have
// topic-level policies (it has by default): retention, which Pulsar needs to
// keep records that no subscription asks for; that the topic is not deleted
// when nobody uses it; and deduplication by producer, so that what the library
// sends again after a lost connection is stored once. That deduplication knows
// no ids, so Capabilities.Dedup is not declared. Retention is rounded to whole
// minutes and MiB. Topics made by others have the policies of their makers:
// without a retention they lose records that no subscription holds.
//
// Trim notes a mark in the topic's properties, from which on the topic begins.
// Pulsar itself can delete whole ledgers only, when every subscription is
// behind them and the retention lets them go. So the first Trim of a topic that
// keeps everything gives each partition a subscription "freshet-keeper" at its
// first message, and then takes the topic's retention away; Trim moves the
// keeper. Who deletes that subscription deletes the records.
//
// # Groups
//
// The positions of a group are a partitioned topic of their own,
// freshet-positions~TOPIC~GROUP: the last message of its partition i is the
// group's position in partition i. Members join a failover subscription there,
// by which the broker names one holder for each partition, and another one when
// it goes: at once where its connection ends, after the broker's keep-alive
// (30 to 60 s) where it is frozen. A claim is made in this order:
//
//  1. The broker names the member the partition's holder.
//  2. The member takes the exclusive producer of the partition of positions.
//     Every older producer is fenced, for ever: its Commit is a Conflict.
//  3. It reads the position, which can move no more but by itself.
//
// Commit returns when the position is stored. It may go back. Acknowledgements
// on a subscription would be lighter, but brokers write them once a second, and
// going back would disconnect the consumers. A key-shared subscription is not
// used: it hands the keys of one partition to several consumers, so that no
// position says what is done and no order but a key's holds.
//
// # Guarantee
//
// What was published is on the bookies' disks when Publish returns, in order.
// A Publish that failed may have stored some. Capabilities has no Transactions:
// Pulsar's would move positions of subscriptions, which fence nobody.
//
// Append is one entry, written by a producer that has the partition for itself:
//
//  1. The broker fences every other producer, with a new epoch of the topic
//     that is on disk.
//  2. What they had under way is stored or refused; then the end is read.
//  3. Where it is not the end that the caller knows: Conflict, nothing stored.
//  4. The records go as one batch, which is one entry: all of them or none.
//
// An owner that was frozen and comes back is fenced at its next Append, takes
// the partition anew, finds another end, and gets a Conflict. All records of an
// Append together have to fit the largest message. Publish on a partition that
// somebody has for itself fences that owner, who then sees what was published.
//
// # Options
//
//	admin          the admin API: http://HOST:PORT or https://HOST:PORT
//	timeout        of each request and of each record on its way; 10s
//	max_message    the brokers' maxMessageSize, in bytes; 5242880
//	queue          messages that each reader fetches ahead; 1000
//	compression    none, lz4 or zstd; none
//	token_file, token_env                    a token; the file is read for each connection
//	user, password_file, password_env        basic authentication; or USER:PASSWORD@ in the URL
//	oauth2_issuer, oauth2_key_file, oauth2_audience, oauth2_scope   client credentials
//	tls_ca, tls_cert, tls_key, tls_server_name   as everywhere; without other
//	                                         credentials the certificate is the client's
//
// Brokers must be reached directly: taking a partition from its owner does not
// go through a Pulsar proxy.
package pulsar
