package policies

import "time"

// Report is the outcome of a comparison.
type Report struct {
	// Made says when and on what; empty where a report must be the same for the same seed.
	Made   string  `json:"made,omitempty"`
	World  Stated  `json:"world"`
	Seeds  int     `json:"seeds"`
	Ours   string  `json:"ours"`
	Grids  []Grid  `json:"grids"`
	Traces []Trace `json:"traces"`
	// Over are the policies over all traces, by cost.
	Over []Over `json:"over_traces"`
	// Rivals compares ours with each policy of others, over traces.
	Rivals []Rival `json:"rivals"`
	Goals  []Goal  `json:"goals"`
	// Losses say where another policy does better than ours, in sentences.
	Losses []string `json:"losses"`
	// Notes say what a reader must know about how the figures came about.
	Notes []string `json:"notes"`
}

// Stated is the simulated world in words and figures.
type Stated struct {
	Objective    string  `json:"objective"`
	Target       float64 `json:"target_s"`
	Allowed      float64 `json:"late_share_allowed"`
	Overhead     float64 `json:"call_s"`
	PerEvent     float64 `json:"call_s_per_event"`
	Batch        int     `json:"batch"`
	MaxBatch     int     `json:"largest_batch"`
	Linger       float64 `json:"linger_s"`
	StartUp      float64 `json:"start_up_s"`
	Jitter       float64 `json:"start_up_jitter"`
	Stop         float64 `json:"stop_s"`
	Rebalance    float64 `json:"rebalance_s"`
	Delay        float64 `json:"signal_delay_s"`
	Partitions   int     `json:"partitions"`
	LargestShare float64 `json:"largest_partition_over_mean"`
	Min          int     `json:"min_workers"`
	Max          int     `json:"max_workers"`
	Mean         float64 `json:"mean_events_per_s"`
	Busy         float64 `json:"mean_needs_workers"`
}

// Grid states what a policy was tuned over.
type Grid struct {
	Policy   string   `json:"policy"`
	Defaults string   `json:"defaults"`
	Settings []string `json:"settings"`
}

// Trace is what came of one trace.
type Trace struct {
	Name string `json:"name"`
	// Step of the file and tick of the simulation, in seconds.
	Step float64 `json:"step_s"`
	Tick float64 `json:"tick_s"`
	// Tuned and Judged are the hours that were tuned by and that the figures are of.
	Tuned  float64 `json:"tuned_hours"`
	Judged float64 `json:"judged_hours"`
	Bursty bool    `json:"bursty"`
	// Rise is the rise of the rate from minute to minute, over the mean rate, that one minute in a thousand exceeds.
	Rise float64 `json:"rise"`
	// Peak is the largest rate of a minute over the mean.
	Peak  float64  `json:"peak_over_mean"`
	Notes []string `json:"notes,omitempty"`
	// Bound is the cost of the bound, in worker-hours, on the mean over seeds.
	Bound float64 `json:"bound_worker_hours"`
	Lines []Line  `json:"lines"`
	// Best is the tuned reactive policy that is cheapest with the objective kept.
	Best  string `json:"best_reactive"`
	drawn *drawing
}

// Line is one policy on one trace.
type Line struct {
	Policy string `json:"policy"`
	// Group is what it is compared as.
	Group   Group  `json:"group"`
	Setting string `json:"setting"`
	// Cost is over that of the bound with the same arrivals. Late is the share of all events.
	Cost Interval `json:"cost_over_bound"`
	Late Interval `json:"late_share"`
	// Freshness in seconds, of the events of all seeds.
	P50 float64 `json:"p50_s"`
	P95 float64 `json:"p95_s"`
	P99 float64 `json:"p99_s"`
	// Busy is the share of ready worker time spent in calls; Actions are changes of the number of workers a day.
	Busy    float64 `json:"busy"`
	Actions float64 `json:"actions_per_day"`
	// Worst is the largest late share of the events of one minute, over all seeds.
	Worst float64 `json:"worst_minute_late_share"`
	// Keeps says that the objective is kept on the mean.
	Keeps bool `json:"keeps_objective"`

	costs, lates []float64 // by seed
}

// Group is what a policy is compared as.
type Group string

// The groups.
const (
	Ours     Group = "ours"
	Ablation Group = "ablation"
	Tuned    Group = "tuned"
	Default  Group = "default"
	Offline  Group = "offline" // knows what will arrive
)

// bestName is the rival made of the best tuned reactive policy of each trace.
const bestName = "best tuned reactive"

// Over is one policy over all traces: medians of its figures.
type Over struct {
	Policy string  `json:"policy"`
	Group  Group   `json:"group"`
	Cost   float64 `json:"median_cost_over_bound"`
	Late   float64 `json:"median_late_share"`
	// MostLate is the largest late share; Keeps of N traces are those where it keeps the objective.
	MostLate float64 `json:"largest_late_share"`
	Keeps    int     `json:"keeps"`
	N        int     `json:"traces"`
}

// Rival is another policy against ours, over traces.
type Rival struct {
	Policy string   `json:"policy"`
	Group  Group    `json:"group"`
	Saved  []Saving `json:"savings"`
	// Kept is the median share of the other's cost that ours does without, on the Comparable traces; Strict
	// the same on those of them where ours is no later as well.
	Kept       float64 `json:"median_saving"`
	Comparable int     `json:"comparable"`
	Strict     float64 `json:"median_saving_where_no_later"`
	NoLater    int     `json:"comparable_and_no_later"`
	// Cost and LateTest are tests of the differences over all traces: of the logarithms of cost, and of late shares.
	Cost     Wilcoxon `json:"wilcoxon_cost"`
	LateTest Wilcoxon `json:"wilcoxon_late"`
}

// Saving is ours against another policy on one trace.
type Saving struct {
	Trace   string  `json:"trace"`
	Against string  `json:"against"`
	Saved   float64 `json:"saving"`
	// Limit is what the bound saves: nobody who is never late can save more.
	Limit float64 `json:"saving_of_the_bound"`
	// NoLater says that ours has no larger late share; OursKeeps and BothKeep who keeps the objective.
	NoLater   bool `json:"no_later"`
	OursKeeps bool `json:"ours_keeps_objective"`
	BothKeep  bool `json:"both_keep_objective"`
	// Comparable says that both keep the objective, or that the other is at least as late and costs more.
	Comparable bool `json:"comparable"`
}

// Goal is one aim with what was reached.
type Goal struct {
	Goal    string `json:"goal"`
	Reached string `json:"reached"`
	Met     bool   `json:"met"`
}

// drawing is what the page draws of a trace: a part of it, run again by itself.
type drawing struct {
	From, Length time.Duration
	Whole        []float64 // mean rate over the whole trace, to show where the part lies
	Lines        []drawnLine
}

type drawnLine struct {
	Policy string
	Group  Group
	Points []drawnPoint
}

// drawnPoint is a mean over a stretch; times in hours from the beginning of the part.
type drawnPoint struct {
	At                         float64
	Arrivals, Ready, Paid      float64
	Oldest, Late               float64
	Forecast, Lowest, Greatest float64
}
