// Package folder keeps objects as files of a local or mounted folder. A file is
// written under a temporary name, synced, and renamed; the folder is synced
// behind it.
package folder
