// Package model keeps versions of models and decides which of them scores an
// event: a registry of names, versions and digests over an object store, the
// admission of new versions, and rollouts on events (canary, A/B, shadow) that
// promote or roll back by evidence.
package model
