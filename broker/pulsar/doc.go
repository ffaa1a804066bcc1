// Package pulsar carries topics on Apache Pulsar.
package pulsar
