//go:build !unix

package pebble

func isDiskFull(error) bool { return false }
