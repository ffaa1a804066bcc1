package main

import (
	"fmt"
	"io"
	"slices"
	"strings"
)

const pageHead = `# Delivery

Written by ` + "`make delivery`" + ` from what it found; do not edit. For each broker it starts the real server, runs a pipeline on
it with ` + "`freshet run`" + `, sends numbered events at a steady rate whatever happens, breaks something meanwhile, and compares the
results with the events.

| column | meaning |
|---|---|
| in | events that were acknowledged to their sender |
| lost | of these, events without a result |
| repeated | results beyond the first of an event, as a reader of committed results sees them |
| by id | of these, how many are left when the receiver drops ids that it knows, as a pipeline with source.deduplicate does |
| order | first results that come after one of a later event of their key |
| wrong | results with a window's value that the events do not give: state that was lost, or counted twice |
| gap | the longest time without a publication, in seconds, by the times that records have: how long recovery took. Pulsar's are those of sending |

*window* has windows by the source's key; *shuffle* has further ones by another key, behind a shuffle.
Where a broker drops no repeats, an event whose acknowledgement was lost lies on the source topic twice; "in" then says so, and its results repeat by the same id.

`

// writePage writes docs/DELIVERY.md.
func writePage(w io.Writer, all []finding) error {
	var b strings.Builder
	b.WriteString(pageHead)
	b.WriteString("| fault | what happens |\n|---|---|\n")
	for _, f := range faults() {
		fmt.Fprintf(&b, "| %s | %s |\n", f.name, f.about)
	}
	for _, s := range brokers() {
		writeBroker(&b, s.name, all)
	}
	_, err := io.WriteString(w, b.String())
	return err
}

func writeBroker(b *strings.Builder, broker string, all []finding) {
	var versions, hosts, dates, rates, revisions []string
	note := func(list *[]string, s string) {
		if s != "" && !slices.Contains(*list, s) {
			*list = append(*list, s)
		}
	}
	var rows []string
	for _, fault := range faults() {
		for _, pipeline := range pipelines {
			i := slices.IndexFunc(all, func(f finding) bool {
				return f.Broker == broker && f.Fault == fault.name && f.Pipeline == pipeline
			})
			if i < 0 {
				continue
			}
			f := &all[i]
			note(&versions, f.Version)
			note(&hosts, f.Host)
			note(&dates, f.Date.UTC().Format("2006-01-02"))
			note(&rates, fmt.Sprint(f.Rate))
			note(&revisions, f.Revision)
			rows = append(rows, row(f))
		}
	}
	fmt.Fprintf(b, "\n## %s\n\n", broker)
	if len(rows) == 0 {
		b.WriteString("Not run yet.\n")
		return
	}
	fmt.Fprintf(b, "Version %s; %s events/s; %s; Freshet %s; %s. `go run ./test/delivery -broker %s`\n\n", strings.Join(versions, ", "), strings.Join(rates, " and "),
		strings.Join(dates, ", "), strings.Join(revisions, ", "), strings.Join(hosts, ", "), broker)
	b.WriteString("| fault | pipeline | in | lost | repeated | by id | order | wrong | gap |\n|---|---|---:|---:|---:|---:|---:|---:|---:|\n")
	for _, r := range rows {
		b.WriteString(r)
	}
}

func row(f *finding) string {
	if f.Failed != "" {
		line, _, _ := strings.Cut(f.Failed, "\n")
		return fmt.Sprintf("| %s | %s | failed: %s | | | | | | |\n", f.Fault, f.Pipeline, strings.ReplaceAll(line, "|", "\\|"))
	}
	c := f.Counts
	in := fmt.Sprint(c.In)
	if c.RepeatsIn > 0 {
		in += fmt.Sprintf(" (+%d sent twice)", c.RepeatsIn)
	}
	wrong := fmt.Sprint(c.WrongFeatures)
	if c.DeadLetters > 0 {
		wrong += fmt.Sprintf(" (%d dead letters)", c.DeadLetters)
	}
	return fmt.Sprintf("| %s | %s | %s | %d | %d | %d | %d | %s | %.1f |\n", f.Fault, f.Pipeline, in, c.Lost, c.Repeats, c.RepeatsByID, c.OutOfOrder, wrong, c.Gap)
}
