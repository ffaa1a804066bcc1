// Package broker is the port between Freshet and whatever carries its events.
//
// It has two faces. Callers hold a *Broker: retry, splitting into batches,
// size limits and shutdown are written there, once. Adapters implement the
// small, batch-first Driver, and the optional Transactor and Admin, and prove
// themselves with package brokertest.
//
// The model is a partitioned log, as in Kafka: a topic has partitions, a
// partition is an ordered run of records with rising positions, a
// consumer group remembers one position a partition. Within a partition, order
// is kept; across partitions there is none.
package broker
