package main

import (
	"bufio"
	"context"
	"errors"
	"io"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"
)

// bareFile appends events to a file with a number of syncs that syncs tells,
// evenly spread, and reads it.
func bareFile(events [][]byte, syncs func() int64) side {
	return side{
		Name: "bare file",
		What: "buffered append of the same bytes to one file with as many fdatasyncs as the journal made in the same round, evenly spread; then one sequential read",
		run: func(_ context.Context, dir string) (sample, error) {
			n := max(1, min(syncs(), int64(len(events))))
			path := filepath.Join(dir, "file")
			m := startMeter()
			if err := appendFile(path, events, int(n)); err != nil {
				return sample{}, err
			}
			read, err := readFile(path)
			if err != nil {
				return sample{}, err
			}
			s := m.stop(len(events))
			s.Syncs = n
			return s, wantBytes(read, events)
		},
	}
}

func appendFile(path string, events [][]byte, syncs int) (err error) {
	f, err := os.Create(path)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	w := bufio.NewWriterSize(f, 1<<20)
	done := 0
	for i := range syncs {
		for end := len(events) * (i + 1) / syncs; done < end; done++ {
			if _, err := w.Write(events[done]); err != nil {
				return err
			}
		}
		if err := w.Flush(); err != nil {
			return err
		}
		// As the journal does: without the metadata that reading back does not need.
		if err := unix.Fdatasync(int(f.Fd())); err != nil {
			return err
		}
	}
	return nil
}

func readFile(path string) (int, error) {
	f, err := os.Open(path)
	if err != nil {
		return 0, err
	}
	defer f.Close()
	buf := make([]byte, 1<<20)
	total := 0
	for {
		n, err := f.Read(buf)
		total += n
		if errors.Is(err, io.EOF) {
			return total, nil
		}
		if err != nil {
			return 0, err
		}
	}
}
