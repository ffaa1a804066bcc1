// Package export hands records of predictions to others: as OpenLineage run events,
// one run for what a version answered in an interval; as OpenTelemetry spans, one for
// each call of a model, with links to the events in its batch; and as Parquet, one row
// for each prediction.
package export
