// Package builtin is the one list of adapters in this program: what a broker
// URL or a model's path may name. Nothing else imports adapters.
package builtin
