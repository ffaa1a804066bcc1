// Package brokertest is the proof that a broker.Driver keeps the port's
// contract. Any adapter runs it against itself:
//
//	func TestConformance(t *testing.T) {
//		brokertest.Run(t, brokertest.Harness{Open: open, Restart: restart})
//	}
//
// Run holds the driver to the contract, RunCrash to its promises when the
// broker dies without warning, and Benchmark measures it on the work that all
// adapters are compared by. A case is skipped only where the driver's
// Capabilities say that it does not offer what the case is about; a harness
// that lacks a function which the Capabilities call for fails. The last line of
// Run says what ran against what.
//
// Where a driver is Gapless, positions are held to count from 0 and everything
// that a call stored to be visible when it returns. Elsewhere positions only
// rise and are taken from records, never computed, but for the one behind a record
// (Batch.Next); a position that the driver reports may be any between the same two
// records; and a transaction may become visible a little after its Commit.
//
// Topics are given names that no earlier run used, so that a server may serve
// several runs, and are deleted at the end where the driver is an Admin.
package brokertest
