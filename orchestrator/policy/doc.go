// Package policy has the rules that decide how many workers there should be: those of others, as they
// are, and ours.
//
// The rules of others are static, a HorizontalPodAutoscaler on CPU, KEDA on lag, Knative's
// pod autoscaler, DS2 and Flink's autoscaler. Each follows its published formulas and its
// source's constants; its Config holds what a tuner can turn, and its Default function what the product does when
// nothing is said. They keep within Objective.Min and Max, look at no forecast, and see signals as
// late as the world shows them. Where signals are missing they do what the original does, which
// is mostly nothing: Decision.Hold. Left out is what has no counterpart in a single stage with one
// metric: several metrics of an HPA, KEDA's fallback, formulas and persistent lag, Knative's activator, and
// what is off by default in Flink's autoscaler.
//
// Bound is the least that any schedule can cost that is never late. foresight is that schedule
// as it can be carried out, by one who knows what will arrive.
//
// Named makes the rules of others by name, and Grid says what to try when they are tuned.
package policy
