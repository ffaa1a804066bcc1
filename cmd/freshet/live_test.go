package main

import (
	"bytes"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/freshet-io/freshet/bench/workload"
)

// liveSpeed is how many times as fast as it happened the live day is sent.
const liveSpeed = 15_000

// TestADaySentLiveIsScoredAsTheSameDayReplayed gives the example nine days of
// public payments and their labels as history. The tenth is sent once flat out,
// all there before the pipeline starts, and once at the pace of its own times to
// a pipeline that runs: every byte of every result is the same.
func TestADaySentLiveIsScoredAsTheSameDayReplayed(t *testing.T) {
	if testing.Short() {
		t.Skip("-short: a day of payments at fifteen thousand times its pace")
	}
	shared := sharedData(t)
	payments, err := workload.ReadPayments(filepath.Join(shared, "card-fraud", "transactions_2018-04.csv.gz"))
	if err != nil {
		t.Fatal(err)
	}
	morning := time.Date(2018, 4, 10, 0, 0, 0, 0, time.UTC).Unix()
	day := slices.IndexFunc(payments, func(p workload.Payment) bool { return p.Time >= morning })
	end := slices.IndexFunc(payments, func(p workload.Payment) bool { return p.Time >= morning+24*3600 })
	all := happenings(payments[:end], morning+24*3600)
	today := slices.IndexFunc(all, func(h happening) bool { return h.at >= morning })

	flat := t.TempDir()
	produceHappenings(t, flat, all)
	freshet(t, flat, "run", pipelineFile, "--until-idle", "--listen", "off")
	want := consume(t, flat, "scored-transactions")
	if len(want) != end {
		t.Fatalf("%d results of %d payments", len(want), end)
	}

	live := t.TempDir()
	produceHappenings(t, live, all[:today])
	url, _ := serve(t, live, pipelineFile)
	predictions := func() int { return int(metric(t, url, "freshet_predictions_total")) }
	within(t, time.Minute, "the history", func() bool { return predictions() == day })
	began := time.Now()
	half := 0
	for next := today; next < len(all); {
		now := morning + int64(time.Since(began)*liveSpeed/time.Second)
		if wait := all[next].at - now; wait > 0 {
			<-time.After(time.Duration(wait) * time.Second / liveSpeed)
			continue
		}
		// What is due goes off together, labels first: one that is there early waits
		// for its time, and payments must not overtake them.
		var labels, due []byte
		for ; next < len(all) && all[next].at <= now; next++ {
			if h := &all[next]; h.label != nil {
				labels = append(h.label.AppendJSON(labels), '\n')
			} else {
				due = append(h.payment.AppendJSON(due), '\n')
			}
		}
		postLines(t, url, "fraud-labels", labels)
		postLines(t, url, "transactions", due)
		if half == 0 && next > (today+len(all))/2 {
			half = predictions() - day
		}
	}
	took := time.Since(began)
	within(t, time.Minute, "the day", func() bool { return predictions() == end })
	if least := 24 * time.Hour / liveSpeed; took < least*9/10 || half < (end-day)/4 {
		t.Errorf("the day took %v of at least %v, and %d of its %d payments had results at half of it: it was not sent live", took, least, half, end-day)
	}
	sameResults(t, want, consume(t, live, "scored-transactions"))
	fmt.Printf("a day of %d payments, live at %.0f times its pace and flat out: same features and scores\n", end-day, (24*time.Hour).Seconds()/took.Seconds())
}

// happening is a payment or a label, at its time in Unix seconds.
type happening struct {
	at      int64
	payment *workload.Payment
	label   *workload.Label
}

// happenings are payments and the labels known before end in one order of time;
// at one time labels come first.
func happenings(payments []workload.Payment, end int64) (all []happening) {
	next := 0
	for i := range payments {
		for ; next < i; next++ {
			l := payments[next].Label(workload.LabelDelay)
			if l.KnownAt > payments[i].Time || l.KnownAt >= end {
				break
			}
			all = append(all, happening{l.KnownAt, nil, &l})
		}
		all = append(all, happening{payments[i].Time, &payments[i], nil})
	}
	return all
}

// produceHappenings stores them as two files, one of payments and one of labels.
func produceHappenings(t testing.TB, data string, all []happening) {
	t.Helper()
	var payments, labels bytes.Buffer
	for i := range all {
		if h := &all[i]; h.label != nil {
			labels.Write(append(h.label.AppendJSON(labels.AvailableBuffer()), '\n'))
		} else {
			payments.Write(append(h.payment.AppendJSON(payments.AvailableBuffer()), '\n'))
		}
	}
	dir := t.TempDir()
	for name, b := range map[string][]byte{"payments.ndjson": payments.Bytes(), "labels.ndjson": labels.Bytes()} {
		if err := os.WriteFile(filepath.Join(dir, name), b, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	freshet(t, data, "produce", "--pipeline", pipelineFile, filepath.Join(dir, "payments.ndjson"))
	freshet(t, data, "produce", "fraud-labels", filepath.Join(dir, "labels.ndjson"), "--contract", labelContract)
}

// postLines posts events, one a line, unless there are none.
func postLines(t testing.TB, url, topic string, lines []byte) {
	t.Helper()
	if len(lines) == 0 {
		return
	}
	resp, err := http.Post(url+"/topics/"+topic, "application/x-ndjson", bytes.NewReader(lines))
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	if resp.StatusCode/100 != 2 {
		t.Fatalf("posting to %s answers %s", topic, resp.Status)
	}
}
