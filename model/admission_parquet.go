package model

import (
	"errors"
	"fmt"
	"os"
	"slices"

	"github.com/apache/arrow-go/v18/parquet"
	"github.com/apache/arrow-go/v18/parquet/file"

	"github.com/freshet-io/freshet/errkind"
)

// readParquet reads the flat columns of a Parquet file; others are left out.
func readParquet(path string) (t *table, err error) {
	if info, err := os.Stat(path); err != nil {
		return nil, errkind.With(errkind.NotFound, err)
	} else if info.Size() > maxSample {
		return nil, errkind.Errorf(errkind.Exhausted, "more than %d bytes: give a sample", maxSample)
	}
	// The library panics on some files that lie about themselves.
	defer func() {
		if p := recover(); p != nil {
			t, err = nil, fmt.Errorf("the file is no sound Parquet file: %v", p)
		}
	}()
	r, err := file.OpenParquetFile(path, false)
	if err != nil {
		return nil, err
	}
	defer r.Close()
	if r.NumRows() > maxSampleRows {
		return nil, fmt.Errorf("more than %d rows: give a sample", maxSampleRows)
	}
	t = &table{}
	schema := r.MetaData().Schema
	for i := range schema.NumColumns() {
		about := schema.Column(i)
		if about.MaxRepetitionLevel() > 0 || about.MaxDefinitionLevel() > 1 {
			continue
		}
		c := column{name: about.Path()}
		for g := range r.NumRowGroups() {
			group := r.RowGroup(g)
			chunk, err := group.Column(i)
			if err != nil {
				return nil, fmt.Errorf("column %s: %w", c.name, err)
			}
			values, err := readChunk(chunk, int(group.NumRows()))
			if errors.Is(err, errors.ErrUnsupported) {
				c.values = nil
				break
			}
			if err != nil {
				return nil, fmt.Errorf("column %s: %w", c.name, err)
			}
			c.values = append(c.values, values...)
		}
		if len(c.values) == int(r.NumRows()) && len(c.values) > 0 {
			if err := t.add(column{c.name, c.values}); err != nil {
				return nil, err
			}
		}
	}
	return t, nil
}

func readChunk(chunk file.ColumnChunkReader, n int) ([]any, error) {
	switch c := chunk.(type) {
	case *file.Float64ColumnChunkReader:
		return readValues(c, c.ReadBatch, n, func(x float64) any { return x })
	case *file.Float32ColumnChunkReader:
		return readValues(c, c.ReadBatch, n, func(x float32) any { return float64(x) })
	case *file.Int64ColumnChunkReader:
		return readValues(c, c.ReadBatch, n, func(x int64) any { return x })
	case *file.Int32ColumnChunkReader:
		return readValues(c, c.ReadBatch, n, func(x int32) any { return int64(x) })
	case *file.BooleanColumnChunkReader:
		return readValues(c, c.ReadBatch, n, func(x bool) any { return x })
	case *file.ByteArrayColumnChunkReader:
		return readValues(c, c.ReadBatch, n, func(x parquet.ByteArray) any { return string(x) })
	}
	return nil, errors.ErrUnsupported
}

// readValues reads the n rows of a chunk; a value that is absent is nil.
func readValues[T any](chunk file.ColumnChunkReader, read func(int64, []T, []int16, []int16) (int64, int, error), n int, value func(T) any) ([]any, error) {
	all := make([]any, 0, n)
	values, levels := make([]T, n), make([]int16, n)
	required := chunk.Descriptor().MaxDefinitionLevel() == 0
	for len(all) < n {
		total, got, err := read(int64(n-len(all)), values, levels, nil)
		if err != nil {
			return nil, err
		}
		if total == 0 {
			return nil, fmt.Errorf("%d values, expected %d", len(all), n)
		}
		next := 0
		for _, level := range levels[:total] {
			if (required || level == 1) && next < got {
				all = append(all, value(values[next]))
				next++
			} else {
				all = append(all, nil)
			}
		}
	}
	return slices.Clip(all), nil
}
