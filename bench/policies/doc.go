// Package policies compares scaling policies in one simulated world: ours, the rules of others with
// their defaults and as tuned, one that knows the future, and a bound that nobody who is never late stays under.
//
// What makes it fair:
//
//   - Every trace is scaled to the same mean, and every policy meets the same arrivals (by seed) and the same workers.
//   - Policies of others are tuned on the first third of a trace over a grid that the report states; all figures are
//     of the rest. Ours has one setting for all traces.
//   - Cost is compared only between policies that keep the objective, or where the other is as late and costs
//     more. A second figure leaves out where ours is later at all.
//   - Means over seeds have confidence intervals, differences over traces an exact test.
//   - The report says where ours loses, and which goals are missed.
package policies
