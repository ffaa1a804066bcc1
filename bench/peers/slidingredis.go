package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/redis/go-redis/v9"
)

// redisServer names a redis-server program; without it the one in PATH is used.
const redisServer = "FRESHET_REDIS_SERVER"

func redisEngine() slidingEngine {
	e := slidingEngine{
		name: "Redis sorted sets",
		what: "redis-server without persistence over a Unix socket, one connection, a pipeline of 1,024 events: for each a ZADD, a ZREMRANGEBYSCORE and a ZRANGE of the longest window, added up by the client",
		open: newRedisSliding, once: true,
	}
	if redisProgram() == "" {
		e.missing = "no redis-server in PATH, nor in " + redisServer
	}
	return e
}

func redisProgram() string {
	if p := os.Getenv(redisServer); p != "" {
		return p
	}
	p, err := exec.LookPath("redis-server")
	if err != nil {
		return ""
	}
	return p
}

type redisSliding struct {
	server *exec.Cmd
	client *redis.Client
}

func newRedisSliding(ctx context.Context, _ *slidingWork, dir string) (slidingSide, error) {
	socket := filepath.Join(dir, "redis.sock")
	s := &redisSliding{server: exec.CommandContext(ctx, redisProgram(), "--port", "0", "--unixsocket", socket, "--save", "", "--appendonly", "no", "--daemonize", "no", "--dir", dir)}
	s.server.Stderr = os.Stderr
	if err := s.server.Start(); err != nil {
		return nil, fmt.Errorf("start redis-server: %w", err)
	}
	s.client = redis.NewClient(&redis.Options{Network: "unix", Addr: socket, PoolSize: 1, ReadTimeout: time.Minute, WriteTimeout: time.Minute})
	for tries := 0; ; tries++ {
		err := s.client.Ping(ctx).Err()
		if err == nil {
			return s, nil
		}
		if tries == 100 {
			return nil, errors.Join(fmt.Errorf("reach redis-server: %w", err), s.close())
		}
		time.Sleep(20 * time.Millisecond)
	}
}

func (s *redisSliding) take(w *slidingWork, from, to int, answers []slidingAnswer) error {
	ctx := context.Background()
	p := s.client.Pipeline()
	windows := make([]*redis.ZSliceCmd, to-from)
	for i := from; i < to; i++ {
		name, at := w.names[w.keys[i]], w.at(i)/1000
		p.ZAdd(ctx, name, redis.Z{Score: float64(at), Member: strconv.Itoa(i) + ":" + strconv.Itoa(int(w.cents[i]))})
		if answers == nil {
			continue // nothing leaves while the longest window fills
		}
		p.ZRemRangeByScore(ctx, name, "-inf", strconv.FormatInt(at-slidingSpans[2].Microseconds(), 10))
		windows[i-from] = p.ZRangeWithScores(ctx, name, 0, -1)
	}
	if _, err := p.Exec(ctx); err != nil {
		return err
	}
	for i := range answers {
		a, at := &answers[i], w.at(from+i)/1000
		*a = slidingAnswer{}
		var sums [3]int
		for _, z := range windows[i].Val() {
			_, text, _ := strings.Cut(z.Member.(string), ":")
			cents, err := strconv.Atoi(text)
			if err != nil {
				return err
			}
			for n, over := range slidingSpans {
				if at-int64(z.Score) < over.Microseconds() {
					a.Counts[n]++
					sums[n] += cents
				}
			}
		}
		for n := range sums {
			a.Means[n] = float64(sums[n]) / (100 * float64(a.Counts[n]))
		}
	}
	return nil
}

// outside is the greatest memory of the server.
func (s *redisSliding) outside() (int64, error) {
	return processPeak(strconv.Itoa(s.server.Process.Pid))
}

func (s *redisSliding) close() error {
	err := s.client.Close()
	if kerr := s.server.Process.Kill(); kerr != nil {
		return errors.Join(err, kerr)
	}
	_ = s.server.Wait() // it was killed
	return err
}
