package ort

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"io"
	"io/fs"
	"os"

	"github.com/freshet-io/freshet/errkind"
	"github.com/freshet-io/freshet/inference/ort/internal/graph"
)

// source is a model's file. It stays open, for another worker may need it when
// the path leads elsewhere.
type source struct {
	file   *os.File
	size   int64
	digest string
}

// openSource reads the file for the first time.
func openSource(path string, limit int64) (*source, *graph.Model, error) {
	f, err := os.Open(path)
	if err != nil {
		kind := errkind.Permanent
		if errors.Is(err, fs.ErrNotExist) {
			kind = errkind.NotFound
		}
		return nil, nil, errkind.With(kind, err)
	}
	s := &source{file: f}
	g, err := s.first(limit)
	if err != nil {
		return nil, nil, errors.Join(err, f.Close())
	}
	return s, g, nil
}

func (s *source) first(limit int64) (*graph.Model, error) {
	info, err := s.file.Stat()
	switch {
	case err != nil:
		return nil, errkind.With(errkind.Permanent, err)
	case !info.Mode().IsRegular():
		return nil, errkind.New(errkind.Config, "it is not a regular file")
	case info.Size() > limit:
		return nil, errkind.Errorf(errkind.Exhausted, "the file has %d bytes, at most %d are allowed", info.Size(), limit)
	}
	s.size = info.Size()
	return s.read()
}

// read reads the file, again: it must be what it was.
func (s *source) read() (*graph.Model, error) {
	data := make([]byte, s.size)
	if _, err := io.ReadFull(io.NewSectionReader(s.file, 0, s.size), data); err != nil {
		return nil, errkind.With(errkind.Permanent, err)
	}
	sum := sha256.Sum256(data)
	digest := hex.EncodeToString(sum[:])
	if s.digest != "" && digest != s.digest {
		return nil, errkind.Errorf(errkind.Corrupt, "the model's file was changed since it was opened: its SHA-256 is %s and was %s", digest, s.digest)
	}
	s.digest = digest
	return graph.Read(data)
}
