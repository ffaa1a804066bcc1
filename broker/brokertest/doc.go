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
// that lacks a function which the Capabilities call for fails.
//
// Topics are given names that no earlier run used, so that a server may serve
// several runs, and are deleted at the end where the driver is an Admin.
package brokertest
