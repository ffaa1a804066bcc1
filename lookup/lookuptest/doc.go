// Package lookuptest holds the conformance suite of lookup drivers.
//
// A driver, ours or a stranger's, proves itself with Run against a real
// server. The suite reaches the server through a relay of its own, so that it can
// cut connections, refuse them and let them hang. A case is skipped only by
// what the driver's Capabilities or the Harness declare.
package lookuptest
