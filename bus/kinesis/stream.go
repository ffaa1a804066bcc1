package kinesis

import (
	"context"
	"log/slog"
	"strings"

	"github.com/aws/aws-sdk-go-v2/service/kinesis"
	"github.com/aws/aws-sdk-go-v2/service/kinesis/types"

	"github.com/freshet-io/freshet/bus"
	ours "github.com/freshet-io/freshet/bus/internal/aws"
	"github.com/freshet-io/freshet/errkind"
)

// Options is what the program passes.
type Options struct {
	Logger *slog.Logger
	// Env looks up the environment; nil means an empty one. Amazon's own client
	// looks at the process's.
	Env    func(string) (string, bool)
	Limits bus.Limits
}

// stream is a stream that was found.
type stream struct {
	*ours.Target
	client *kinesis.Client
}

// open finds the stream; own takes the caller's options of the URL.
func open(ctx context.Context, raw string, o Options, own func(*ours.Target) error) (*stream, error) {
	t, err := ours.Parse(raw, o.Env)
	if err != nil {
		return nil, err
	}
	if err := own(t); err != nil {
		return nil, err
	}
	if err := t.Done(); err != nil {
		return nil, err
	}
	if t.Path == "" || strings.Contains(t.Path, "/") {
		return nil, errkind.Errorf(errkind.Config, "%s: expected kinesis://REGION/STREAM", t)
	}
	c, err := t.Config(ctx)
	if err != nil {
		return nil, err
	}
	return &stream{t, kinesis.NewFromConfig(c)}, nil
}

// shards lists all shards that still have records.
func (s *stream) shards(ctx context.Context) ([]types.Shard, error) {
	ctx, cancel := context.WithTimeout(ctx, s.Timeout)
	defer cancel()
	var all []types.Shard
	in := &kinesis.ListShardsInput{StreamName: &s.Path}
	for {
		out, err := s.client.ListShards(ctx, in)
		if err != nil {
			return nil, s.Failed("list the shards of", err)
		}
		all = append(all, out.Shards...)
		if out.NextToken == nil {
			return all, nil
		}
		in = &kinesis.ListShardsInput{NextToken: out.NextToken}
	}
}
