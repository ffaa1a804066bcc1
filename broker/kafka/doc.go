// Package kafka carries topics on Apache Kafka and what speaks its protocol.
package kafka
