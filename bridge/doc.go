// Package bridge carries events between a bus and the topics of a broker.
//
// In: a message is received, stored on the topic, and acknowledged when that is
// durable; so none is lost, and one that is handed out again is stored again
// with the same id, which topics with deduplication drop. Out: records are
// handed over in the order of their partition, and the group's position moves
// behind them when the receiving side has them; so none is left out, and after a
// crash some are handed over again, with the same ids.
//
// Neither holds more than a batch for each partition: a slow side makes the other
// one wait.
package bridge
