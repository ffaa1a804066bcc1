// Package lease turns a queue that lends messages for a while into a
// bus.Receiver: SQS with its visibility timeout, Pub/Sub with its
// acknowledgement deadline, Event Grid with its locks.
//
// The order of events, for each message: a puller takes it, with a lease, when
// fewer than Options.Unacknowledged messages are held; the lease is extended
// from then on, at a third of its time; Receive hands it out, unless its lease
// has ended meanwhile; Ack tells the queue to forget it and returns when the
// queue has said so; only then is there room for another. Nack, Close and the
// end of the process make it come again.
//
// Messages of one group keep their order: when one is given back or lost, those
// of its group that were not handed out yet are given back too.
package lease
