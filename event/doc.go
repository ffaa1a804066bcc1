// Package event holds the words that every part of Freshet shares about events:
// the record that travels on topics, its CloudEvents 1.0 envelope, and the
// columnar batch into which contracts decode payloads.
//
// It imports only the standard library and errkind.
package event
