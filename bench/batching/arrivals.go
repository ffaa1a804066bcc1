package batching

import (
	"bufio"
	"errors"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"
)

// Arrivals are the times of rows since the beginning, rising.
type Arrivals []time.Duration

// Rate is the mean number of rows a second.
func (a Arrivals) Rate() float64 {
	if len(a) < 2 {
		return 0
	}
	return float64(len(a)) / a[len(a)-1].Seconds()
}

// At stretches time so that the mean rate is that many rows a second.
func (a Arrivals) At(rate float64) Arrivals {
	f := a.Rate() / rate
	out := make(Arrivals, len(a))
	for i, t := range a {
		out[i] = time.Duration(float64(t) * f)
	}
	return out
}

// Poisson makes n independent arrivals of one a second.
func Poisson(n int, seed uint64) Arrivals {
	r := rand.New(rand.NewPCG(seed, 1))
	out := make(Arrivals, n)
	at := 0.0
	for i := range out {
		at += r.ExpFloat64()
		out[i] = time.Duration(at * float64(time.Second))
	}
	return out
}

// Bursty makes n arrivals whose rate switches between one and eight times as
// much; quiet lasts 400 rows and a burst 400 rows in the mean.
func Bursty(n int, seed uint64) Arrivals {
	r := rand.New(rand.NewPCG(seed, 2))
	out := make(Arrivals, n)
	at, rate, left := 0.0, 1.0, r.ExpFloat64()*400
	for i := range out {
		if left--; left < 0 {
			rate, left = 9-rate, r.ExpFloat64()*400
		}
		at += r.ExpFloat64() / rate
		out[i] = time.Duration(at * float64(time.Second))
	}
	return out
}

// Traces are the files that Trace reads: counts by interval, and one with the
// time of each request.
var traceFiles = []string{
	"azure-llm-conversation.csv", "azure-functions-total-per-minute.csv", "twitter-2021-first-half-per-minute.csv",
	"nasa-http-per-minute.csv", "autothrottle-bursty-per-second.txt",
}

// Traces reads the first n arrivals of each trace that lies in dir, by name.
func Traces(dir string, n int, seed uint64) (map[string]Arrivals, error) {
	out := map[string]Arrivals{}
	for _, name := range traceFiles {
		a, err := Trace(filepath.Join(dir, name), n, seed)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return nil, err
		}
		out[strings.TrimSuffix(name, filepath.Ext(name))] = a
	}
	return out, nil
}

// Trace reads n arrivals from a file: times of requests in the first column
// ("2023-11-16 18:15:46.6805900"), or counts of equal intervals in the last, whose rows come
// at random within their interval. Counts are thinned, all by the same share, so that n rows
// cover 200 intervals: the shape of the load is that of the trace, its scale is not.
func Trace(path string, n int, seed uint64) (Arrivals, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, fmt.Errorf("read trace: %w", err)
	}
	defer f.Close()
	var stamps Arrivals
	var counts []float64
	var first time.Time
	for s := bufio.NewScanner(f); s.Scan(); {
		fields := strings.Split(strings.TrimSpace(s.Text()), ",")
		if at, err := time.Parse("2006-01-02 15:04:05.9999999", fields[0]); err == nil {
			if first.IsZero() {
				first = at
			}
			stamps = append(stamps, at.Sub(first))
		} else if c, err := strconv.ParseFloat(fields[len(fields)-1], 64); err == nil {
			counts = append(counts, c)
		}
		if len(stamps) == n {
			break
		}
	}
	if len(stamps) > 1 {
		return stamps, nil
	}
	if len(counts) < 2 {
		return nil, fmt.Errorf("read trace %s: neither times nor counts", path)
	}
	counts = counts[:min(len(counts), 200)]
	sum := 0.0
	for _, c := range counts {
		sum += c
	}
	r := rand.New(rand.NewPCG(seed, 3))
	var out Arrivals
	at, left := 0.0, 0.0 // rows at a rate of 1 within an interval as long as its share
	for i, c := range counts {
		rate := c / sum * float64(n)
		for left = float64(i); rate > 0; {
			left += r.ExpFloat64() / rate
			if left >= float64(i+1) {
				break
			}
			at = left
			out = append(out, time.Duration(at*float64(time.Second)))
		}
	}
	return out, nil
}
