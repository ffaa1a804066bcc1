// Package bustest is the proof that a bus.Receiver or bus.Sender keeps the
// port's contract. Any adapter runs it against the real server:
//
//	func TestReceiver(t *testing.T) {
//		bustest.RunReceiver(t, bustest.ReceiverHarness{Queue: newQueue, Ordered: true})
//	}
//
// RunReceiver and RunSender hold the adapter to the contract; RunReceiverCrash and
// RunSenderCrash to its promises when the server dies without warning, again and
// again, under load. What a bus cannot do by its nature the harness declares, and
// only that is skipped.
//
// A message that must not come is waited for during ReceiverHarness.Quiet.
package bustest
