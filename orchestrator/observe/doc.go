// Package observe takes signals from running pipelines: from the /metrics of one or several
// processes, or from a Prometheus server that scrapes them. Both give Counters; a Meter makes
// signals of two of them.
package observe
