// Package forecast tells how many events will arrive: quantiles of the arrival rate by lead
// time, from an ensemble of members that are each cheap and simple.
//
// Order of events at the end of each step of the grid: forecasts made earlier are scored against
// what arrived; the members' weights, their error distributions and the calibration move;
// then the members see the value, and forecast anew. So no forecast is ever scored on what it has seen.
package forecast
