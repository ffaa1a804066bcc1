package orchestrator

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math"
	"os"
	"slices"
	"strconv"
	"strings"

	"github.com/freshet-io/freshet/errkind"
)

// segments lists the numbers of the files in a folder, rising.
func segments(dir string) ([]uint64, error) {
	names, err := os.ReadDir(dir)
	if err != nil {
		return nil, err
	}
	var seqs []uint64
	for _, n := range names {
		number, ok := strings.CutSuffix(n.Name(), segmentSuffix)
		if !ok {
			continue
		}
		if seq, err := strconv.ParseUint(number, 10, 63); err == nil && fmt.Sprintf("%08d", seq) == number {
			seqs = append(seqs, seq)
		}
	}
	slices.Sort(seqs)
	return seqs, nil
}

func lastID(path string) (uint64, error) {
	last := uint64(0)
	_, _, err := scanFile(path, 0, func(e *Entry) error {
		last = max(last, e.ID)
		return nil
	}, nil)
	return last, err
}

// scanFile calls f for each entry from an offset on, and damaged for each line that is none. It
// returns where the file ends, and whether within a line.
func scanFile(path string, from int64, f func(*Entry) error, damaged func()) (end int64, torn bool, err error) {
	end, torn, err = scanLines(path, from, func(line []byte) error {
		if e, err := DecodeEntry(line); err == nil {
			return f(e)
		}
		if damaged != nil && len(line) > 0 {
			damaged()
		}
		return nil
	})
	if torn && damaged != nil {
		damaged()
	}
	return end, torn, err
}

// scanLines calls f for each whole line, whose end of line it drops. Of one that is too long f sees
// the beginning.
func scanLines(path string, from int64, f func(line []byte) error) (end int64, torn bool, err error) {
	file, err := os.Open(path)
	if err != nil {
		return from, false, err
	}
	defer file.Close()
	if _, err := file.Seek(from, io.SeekStart); err != nil {
		return from, false, err
	}
	r := bufio.NewReaderSize(file, 64<<10)
	end = from
	var line []byte
	for {
		part, err := r.ReadSlice('\n')
		end += int64(len(part))
		if len(line) <= maxLine { // what is longer is damage, and not kept
			line = append(line, part...)
		}
		switch {
		case errors.Is(err, bufio.ErrBufferFull):
			continue
		case errors.Is(err, io.EOF):
			return end, len(line) > 0, nil
		case err != nil:
			return end, false, err
		}
		if err := f(bytes.TrimSuffix(line, []byte{'\n'})); err != nil {
			return end, false, err
		}
		line = line[:0]
	}
}

func journalError(dir string, err error) error {
	switch {
	case errors.Is(err, fs.ErrPermission):
		return errkind.Errorf(errkind.Config, "journal of decisions in %s: the folder cannot be written: make it writable for this user or choose another with --data: %w", dir, err)
	case errkind.Of(err) != errkind.Unknown:
		return fmt.Errorf("journal of decisions in %s: %w", dir, err)
	}
	return errkind.Errorf(errkind.Transient, "journal of decisions in %s: %w", dir, err)
}

// maxPartitionSignals is up to how many partitions signals are kept by partition.
const maxPartitionSignals = 32

// compact returns the entry as it is written: quantiles with six digits, signals by partition only
// where those are few, candidates once.
func compact(e *Entry) *Entry {
	if e.Round == nil {
		return e
	}
	c := *e
	r := *e.Round
	c.Round = &r
	r.Demand = r.Demand.clone()
	for _, row := range r.Demand.Rates {
		for i := range row {
			row[i] = digits(row[i], 6)
		}
	}
	if len(r.Capacity.Shares) > 0 {
		r.Capacity.Shares = slices.Clone(r.Capacity.Shares)
		for i, s := range r.Capacity.Shares {
			r.Capacity.Shares[i] = digits(s, 5)
		}
	}
	if len(r.Signals.Partitions) > maxPartitionSignals {
		r.Signals.Partitions = nil
		r.Signals.Known &^= KnownPartitions
	}
	if len(r.Decided.Candidates) > 0 {
		r.Final.Candidates = nil
	}
	return &c
}

// digits rounds to n significant digits.
func digits(x float64, n int) float64 {
	if x == 0 || math.IsNaN(x) || math.IsInf(x, 0) {
		return x
	}
	y, err := strconv.ParseFloat(strconv.FormatFloat(x, 'g', n, 64), 64)
	if err != nil {
		return x
	}
	return y
}
