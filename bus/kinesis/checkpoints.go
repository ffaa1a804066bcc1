package kinesis

import (
	"encoding/json"
	"errors"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"github.com/freshet-io/freshet/errkind"
)

// finished is the checkpoint of a shard that has been read to its end.
const finished = "SHARD_END"

// checkpoints are how far shards are acknowledged, kept in a file.
type checkpoints struct {
	path string // empty where they are kept nowhere

	mu    sync.Mutex
	state checkpointFile
}

type checkpointFile struct {
	Stream string `json:"stream"`
	// Since is when a reader that began at the latest record was opened first.
	Since time.Time `json:"since,omitzero"`
	// Shards are sequence numbers, or "SHARD_END".
	Shards map[string]string `json:"shards"`
}

// loadCheckpoints reads the file that an option names; a missing one is empty.
func loadCheckpoints(option, stream string) (*checkpoints, error) {
	c := &checkpoints{path: strings.TrimPrefix(option, "file://"), state: checkpointFile{Stream: stream, Shards: map[string]string{}}}
	if c.path == "" {
		return c, nil
	}
	if !filepath.IsAbs(c.path) {
		return nil, errkind.Errorf(errkind.Config, "option checkpoints=%s: expected file:///PATH", option)
	}
	b, err := os.ReadFile(c.path)
	if errors.Is(err, fs.ErrNotExist) {
		if err := c.write(); err != nil { // find out now whether it can be
			return nil, err
		}
		return c, nil
	}
	if err != nil {
		return nil, errkind.Errorf(errkind.Config, "read checkpoints: %w", err)
	}
	var f checkpointFile
	if err := json.Unmarshal(b, &f); err != nil {
		return nil, errkind.Errorf(errkind.Corrupt, "read checkpoints: %s: %w", c.path, err)
	}
	if f.Stream != stream {
		return nil, errkind.Errorf(errkind.Config, "read checkpoints: %s is of the stream %q: each stream needs a file of its own", c.path, f.Stream)
	}
	if f.Shards != nil {
		c.state = f
	}
	return c, nil
}

// since is when a reader that begins at the latest record was opened first.
func (c *checkpoints) since(now time.Time) (time.Time, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.state.Since.IsZero() && len(c.state.Shards) == 0 {
		c.state.Since = now
		return now, c.write()
	}
	return c.state.Since, nil
}

// of is how far a shard is acknowledged; empty where nothing is known.
func (c *checkpoints) of(shard string) string {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.state.Shards[shard]
}

// move stores how far shards have come, durably.
func (c *checkpoints) move(to map[string]string) error {
	if len(to) == 0 {
		return nil
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	old := maps.Clone(c.state.Shards)
	maps.Copy(c.state.Shards, to)
	if err := c.write(); err != nil {
		c.state.Shards = old
		return err
	}
	return nil
}

// keep forgets shards that are gone.
func (c *checkpoints) keep(there map[string]bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	maps.DeleteFunc(c.state.Shards, func(shard, _ string) bool { return !there[shard] })
}

// write replaces the file. The lock is held, or nobody else has c yet.
func (c *checkpoints) write() error {
	if c.path == "" {
		return nil
	}
	b, err := json.MarshalIndent(&c.state, "", "\t")
	if err == nil {
		err = replace(c.path, append(b, '\n'))
	}
	if err != nil {
		return errkind.Errorf(errkind.Transient, "write checkpoints: %w", err)
	}
	return nil
}

// replace writes a file whole or not at all.
func replace(path string, b []byte) (err error) {
	f, err := os.CreateTemp(filepath.Dir(path), "."+filepath.Base(path)+".*")
	if err != nil {
		return err
	}
	defer func() {
		if err != nil {
			_ = os.Remove(f.Name())
		}
	}()
	_, err = f.Write(b)
	if err == nil {
		err = f.Sync()
	}
	if closed := f.Close(); err == nil {
		err = closed
	}
	if err == nil {
		err = os.Rename(f.Name(), path)
	}
	if err != nil {
		return err
	}
	dir, err := os.Open(filepath.Dir(path))
	if err != nil {
		return err
	}
	defer dir.Close()
	return dir.Sync()
}
