// Package actuatortest is the suite that every actuator passes. It proves what makes a
// change of capacity safe:
//
//   - idempotent: orders given twice, by two at once, or after a failure in the middle do what
//     they do given once
//   - observable: Status says what is there, and not what was asked for
//   - reversible: Revert brings back what ruled before, also when another process gave the orders,
//     when it died between two writes, and when it gave several; and it leaves alone what
//     someone else has written since
//   - bounded: every call ends by its context, orders say until when they are meant
//
// A Harness says how to make a unit and which troubles can be brought about; a case
// whose trouble the harness does not have is skipped.
package actuatortest
