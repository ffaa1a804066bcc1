// Package s3 keeps objects in a bucket of Amazon S3 or of a store that speaks its
// protocol and honours If-None-Match on PUT: AWS, MinIO, Ceph, Versity and others.
package s3
