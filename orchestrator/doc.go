// Package orchestrator keeps a freshness objective at the least cost. It observes a
// pipeline, forecasts what will arrive, decides how many workers there should be
// (and how large their batches, and what is sent elsewhere), acts, and writes down why.
//
// This package holds the words (Signals, Capacity, Demand, Decision), what binds a forecaster
// and a policy together within rails (Controller), the loop that runs it, and the journal. It knows no
// pipeline, no broker and no cluster: it states the small interfaces that it needs. Below
// it lie
//
//   - trace: arrivals over time, from files
//   - forecast: forecasters, their ensemble, calibration and backtest
//   - policy: the rules of others as they are, the bound, and ours
//   - simulate: queues, workers and faults, to compare policies by
//   - actuator: the port by which orders are carried out, and its adapters
//   - observe: signals from a running pipeline or from Prometheus
//
// Order of events of one round: signals are taken; the forecaster sees the arrivals; the
// policy decides; the rails bound what it decided; the decision is in the journal and on disk; then it is
// carried out; the outcome is added to the journal. So an order that was given is always
// in the journal, and one that is only in the journal was perhaps not given.
package orchestrator
