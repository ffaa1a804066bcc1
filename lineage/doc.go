// Package lineage keeps one record per prediction: which event on which position
// was scored by which version of which model, on which features of which time,
// why, and when. Records travel on a topic of the pipeline, many in one message;
// a Store on the local disk answers questions about them.
package lineage
