// Package feast looks rows up in a Feast feature server, over its HTTP API:
// POST /get-online-features for the features of one feature view.
//
// A row's time is the oldest event timestamp of its features, which the
// server gives in whole seconds. A value that is NULL, or whose status says that
// it is older than the view allows, is null; a row without any feature is missing. NaN is null.
//
// Keys go out as strings; the server turns them into integers where the
// entity is one. Because it fails a whole request for one key that is no integer,
// the driver asks once, before its first request, which of the two the entity
// is, and then takes keys that are no integers as missing.
//
// The Python server of Feast 0.67 is what the suite runs against.
package feast
