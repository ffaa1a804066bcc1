package main

import (
	"context"
	"fmt"

	"github.com/redis/go-redis/v9"

	"github.com/freshet-io/freshet/event"
)

// redisClient is go-redis as a program without Freshet would use it: a stream entry
// has the same parts as Freshet's.
type redisClient struct{ c *redis.Client }

func openRedisClient(address, password string) *redisClient {
	return &redisClient{redis.NewClient(&redis.Options{Addr: address, Password: password})}
}

func (r *redisClient) create(context.Context, string) error { return nil }

func (r *redisClient) publish(ctx context.Context, topic string, recs []event.Record, s *stopwatch) error {
	return inParallel(ctx, logCallers, s, func(ctx context.Context) error {
		pipe := r.c.Pipeline()
		for i := range logBatch {
			e := &recs[i]
			pipe.Do(ctx, "XADD", topic, "*", "id", e.ID, "key", e.Key, "h", []byte(e.Headers), "data", e.Value)
		}
		_, err := pipe.Exec(ctx)
		return err
	})
}

func (r *redisClient) read(ctx context.Context, topic, from string) ([]redis.XMessage, error) {
	got, err := r.c.XRead(ctx, &redis.XReadArgs{Streams: []string{topic, from}, Count: logBatch, Block: -1}).Result()
	if err != nil {
		return nil, err
	}
	return got[0].Messages, nil
}

func (r *redisClient) consume(ctx context.Context, topic string, n int) (bytes int, err error) {
	for from := "0"; n > 0; {
		got, err := r.read(ctx, topic, from)
		if err != nil {
			return 0, err
		}
		for i := range got {
			s, ok := got[i].Values["data"].(string)
			if !ok {
				return 0, fmt.Errorf("entry %s has no data", got[i].ID)
			}
			bytes += len(s)
		}
		n, from = n-len(got), got[len(got)-1].ID
	}
	return bytes, nil
}

func (r *redisClient) move(ctx context.Context, from, to string, s *stopwatch) error {
	s.start()
	n := 0
	for at := "0"; s.more(n); {
		got, err := r.read(ctx, from, at)
		if err != nil {
			return err
		}
		pipe := r.c.TxPipeline()
		for i := range got {
			v := got[i].Values
			pipe.Do(ctx, "XADD", to, "*", "id", v["id"], "key", v["key"], "h", v["h"], "data", v["data"])
		}
		at = got[len(got)-1].ID
		pipe.HSet(ctx, "native-positions", from+">"+to, at)
		if _, err := pipe.Exec(ctx); err != nil {
			return err
		}
		n += len(got)
	}
	s.stop(n)
	return nil
}

func (r *redisClient) close() error { return r.c.Close() }
