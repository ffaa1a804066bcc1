package cli

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"github.com/freshet-io/freshet/broker"
	"github.com/freshet-io/freshet/errkind"
	"github.com/freshet-io/freshet/pipeline"
)

// topicInfo is a topic as `topics` shows it.
type topicInfo struct {
	Topic       string `json:"topic"`
	Partitions  int    `json:"partitions"`
	Events      int64  `json:"events"`
	Bytes       int64  `json:"bytes"`
	Retention   string `json:"retention,omitempty"`
	RetainBytes int64  `json:"retain_bytes,omitempty"`
	DedupWindow string `json:"dedup_window,omitempty"`
	// Internal: a pipeline keeps its state there, or carries events between two keys.
	Internal bool            `json:"internal,omitempty"`
	States   []partitionInfo `json:"partition_states,omitempty"`
	Groups   []groupInfo     `json:"groups,omitempty"`
}

type partitionInfo struct {
	Partition int   `json:"partition"`
	Start     int64 `json:"start"`
	End       int64 `json:"end"`
	Bytes     int64 `json:"bytes"`
}

type groupInfo struct {
	Group string `json:"group"`
	// Lag is the number of events that the group has not processed.
	Lag int64 `json:"lag"`
	// OldestAgeSeconds is how long ago the oldest of them was stored.
	OldestAgeSeconds float64             `json:"oldest_age_seconds"`
	Partitions       []groupPartitonInfo `json:"partitions"`
}

type groupPartitonInfo struct {
	Partition int `json:"partition"`
	// Committed is the group's position; −1 where it has none.
	Committed int64 `json:"committed"`
	Lag       int64 `json:"lag"`
}

func (a *app) topicsCommand() *cobra.Command {
	var output string
	var all bool
	list := func(cmd *cobra.Command, _ []string) error { return a.topicsList(cmd.Context(), all, output) }
	cmd := &cobra.Command{
		Use:   "topics",
		Short: "List, describe, make and delete topics",
		Long: `List, describe, make and delete topics. Without a command it lists them.

Topics in which a pipeline keeps its state (PIPELINE-state), or carries events from
one key to another (PIPELINE-by-FIELD), are shown with --all. In JSON they are always
there, marked "internal".`,
		Example: `  freshet topics
  freshet topics describe transactions --group card-fraud`,
		Args: cobra.NoArgs,
		RunE: list,
	}
	cmd.PersistentFlags().StringVarP(&output, "output", "o", "text", "output: text, json")

	listCmd := &cobra.Command{
		Use: "list", Short: "List topics", Example: "  freshet topics list --output json", Args: cobra.NoArgs, RunE: list,
	}
	for _, c := range []*cobra.Command{cmd, listCmd} {
		c.Flags().BoolVar(&all, "all", false, "show the topics that are internal to pipelines too")
	}

	var groups []string
	describe := &cobra.Command{
		Use:   "describe TOPIC",
		Short: "Show a topic's partitions and how far groups are behind",
		Long: `Show a topic's partitions and, for each --group, how many events it has not
processed and how old the oldest of them is. A pipeline's group is its name.`,
		Example: "  freshet topics describe transactions --group card-fraud",
		Args:    cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			return a.topicsDescribe(cmd.Context(), args[0], groups, output)
		},
	}
	describe.Flags().StringArrayVar(&groups, "group", nil, "consumer group to show (may be repeated)")

	var c broker.TopicConfig
	create := &cobra.Command{
		Use:     "create TOPIC",
		Short:   "Make a topic",
		Example: "  freshet topics create clicks --partitions 8 --retention 168h",
		Args:    cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			c.Name = args[0]
			return a.topicsCreate(cmd.Context(), c, output)
		},
	}
	f := create.Flags()
	f.IntVar(&c.Partitions, "partitions", 4, "number of partitions")
	f.DurationVar(&c.Retention, "retention", 0, "how long events are kept; 0 keeps them for ever")
	f.Int64Var(&c.RetainBytes, "retain-bytes", 0, "how many bytes each partition keeps; 0 means no limit")
	f.DurationVar(&c.DedupWindow, "dedup-window", pipeline.DedupWindow, "how long event ids are remembered; 0 drops no duplicates")

	del := &cobra.Command{
		Use:     "delete TOPIC",
		Short:   "Delete a topic with all its events",
		Example: "  freshet topics delete clicks",
		Args:    cobra.ExactArgs(1),
		RunE:    func(cmd *cobra.Command, args []string) error { return a.topicsDelete(cmd.Context(), args[0], output) },
	}
	cmd.AddCommand(listCmd, describe, create, del)
	return cmd
}

// withBroker runs do with what open opens.
func withBroker(ctx context.Context, open func(context.Context) (*broker.Broker, error), do func(b *broker.Broker) error) error {
	b, err := open(ctx)
	if err != nil {
		return err
	}
	return errors.Join(do(b), b.Close())
}

func describeTopic(t broker.Topic, name string, states bool) topicInfo {
	info := topicInfo{Topic: name, Partitions: len(t.Partitions), RetainBytes: t.Config.RetainBytes}
	if t.Config.Retention > 0 {
		info.Retention = durationText(t.Config.Retention)
	}
	if t.Config.DedupWindow > 0 {
		info.DedupWindow = durationText(t.Config.DedupWindow)
	}
	for i, p := range t.Partitions {
		info.Events += p.End - p.Start
		info.Bytes += p.Bytes
		if states {
			info.States = append(info.States, partitionInfo{i, p.Start, p.End, p.Bytes})
		}
	}
	return info
}

func (a *app) topicsList(ctx context.Context, all bool, output string) error {
	if err := checkOutput(output, "text", "json"); err != nil {
		return err
	}
	return withBroker(ctx, a.openExisting, func(b *broker.Broker) error {
		names, err := b.Topics(ctx)
		if err != nil {
			return err
		}
		internal := pipeline.InternalTopics(names)
		infos := []topicInfo{}
		for _, name := range names {
			t, err := b.Describe(ctx, name, "")
			if errkind.Is(err, errkind.NotFound) {
				continue // deleted meanwhile
			}
			if err != nil {
				return err
			}
			info := describeTopic(t, name, false)
			info.Internal = internal[name]
			infos = append(infos, info)
		}
		if output == "json" {
			return writeJSON(a.Stdout, infos)
		}
		if len(infos) == 0 {
			_, err := fmt.Fprintf(a.Stdout, "no topics in %s\n", a.where())
			return err
		}
		w := tabwriter.NewWriter(a.Stdout, 0, 0, 2, ' ', 0)
		fmt.Fprintln(w, "TOPIC\tPARTITIONS\tEVENTS\tSIZE")
		hidden := 0
		for _, i := range infos {
			if i.Internal && !all {
				hidden++
				continue
			}
			mark := ""
			if i.Internal {
				mark = "\tinternal"
			}
			fmt.Fprintf(w, "%s\t%d\t%s\t%s%s\n", i.Topic, i.Partitions, group(i.Events), bytesText(i.Bytes), mark)
		}
		if err := w.Flush(); err != nil || hidden == 0 {
			return err
		}
		_, err = fmt.Fprintf(a.Stdout, "%d more are internal to pipelines: --all shows them\n", hidden)
		return err
	})
}

func (a *app) topicsDescribe(ctx context.Context, topic string, groups []string, output string) error {
	if err := checkOutput(output, "text", "json"); err != nil {
		return err
	}
	if slices.Contains(groups, "") {
		return usagef("--group: the group has no name")
	}
	return withBroker(ctx, a.openExisting, func(b *broker.Broker) error {
		t, err := b.Describe(ctx, topic, "")
		if err != nil {
			return a.nameTopics(ctx, b, topic, err)
		}
		names, err := b.Topics(ctx)
		if err != nil {
			return err
		}
		info := describeTopic(t, topic, true)
		info.Internal = pipeline.InternalTopics(names)[topic]
		for _, g := range groups {
			gi, err := describeGroup(ctx, b, topic, g)
			if err != nil {
				return err
			}
			info.Groups = append(info.Groups, gi)
		}
		if output == "json" {
			return writeJSON(a.Stdout, info)
		}
		return a.printTopic(info)
	})
}

func describeGroup(ctx context.Context, b *broker.Broker, topic, name string) (groupInfo, error) {
	total, lags, err := b.Lag(ctx, topic, name)
	if err != nil {
		return groupInfo{}, err
	}
	t, err := b.Describe(ctx, topic, name)
	if err != nil {
		return groupInfo{}, err
	}
	g := groupInfo{Group: name, Lag: total.Records, OldestAgeSeconds: total.OldestAge.Seconds()}
	for i, p := range t.Partitions[:min(len(t.Partitions), len(lags))] {
		g.Partitions = append(g.Partitions, groupPartitonInfo{i, p.Committed, lags[i].Records})
	}
	return g, nil
}

func (a *app) printTopic(t topicInfo) error {
	w := tabwriter.NewWriter(a.Stdout, 0, 0, 2, ' ', 0)
	events := "events"
	if t.Internal {
		events = "records" // batches of events, or changes of state
		fmt.Fprintf(w, "topic\t%s, internal to a pipeline\n", t.Topic)
	} else {
		fmt.Fprintf(w, "topic\t%s\n", t.Topic)
	}
	fmt.Fprintf(w, "%s\t%s\n", events, group(t.Events))
	fmt.Fprintf(w, "size\t%s\n", bytesText(t.Bytes))
	keep := "for ever"
	switch {
	case t.Retention != "" && t.RetainBytes > 0:
		keep = fmt.Sprintf("for %s, at most %s a partition", t.Retention, bytesText(t.RetainBytes))
	case t.Retention != "":
		keep = "for " + t.Retention
	case t.RetainBytes > 0:
		keep = fmt.Sprintf("%s a partition", bytesText(t.RetainBytes))
	}
	fmt.Fprintf(w, "%s are kept\t%s\n", events, keep)
	ids := "not remembered"
	if t.DedupWindow != "" {
		ids = "remembered for " + t.DedupWindow
	}
	fmt.Fprintf(w, "event ids are\t%s\n", ids)
	if err := w.Flush(); err != nil {
		return err
	}
	head := []string{"\nPARTITION", "START", "END", "SIZE"}
	for _, g := range t.Groups {
		head = append(head, strings.ToUpper(g.Group)+" AT", "LAG")
	}
	fmt.Fprintln(w, strings.Join(head, "\t"))
	for i, p := range t.States {
		fmt.Fprintf(w, "%d\t%d\t%d\t%s", p.Partition, p.Start, p.End, bytesText(p.Bytes))
		for _, g := range t.Groups {
			at := "-"
			if c := g.Partitions[i].Committed; c >= 0 {
				at = fmt.Sprint(c)
			}
			fmt.Fprintf(w, "\t%s\t%d", at, g.Partitions[i].Lag)
		}
		fmt.Fprintln(w)
	}
	if err := w.Flush(); err != nil {
		return err
	}
	for _, g := range t.Groups {
		line := fmt.Sprintf("group %s: all %s processed", g.Group, events)
		if g.Lag > 0 {
			line = fmt.Sprintf("group %s: %s %s behind, the oldest stored %s ago", g.Group, group(g.Lag), events,
				time.Duration(g.OldestAgeSeconds*float64(time.Second)).Round(time.Second))
		}
		if _, err := fmt.Fprintln(a.Stdout, line); err != nil {
			return err
		}
	}
	return nil
}

func (a *app) topicsCreate(ctx context.Context, c broker.TopicConfig, output string) error {
	if err := checkOutput(output, "text", "json"); err != nil {
		return err
	}
	if err := broker.CheckTopicName(c.Name); err != nil {
		return errkind.With(errkind.Config, err)
	}
	switch {
	case c.Partitions < 1:
		return usagef("--partitions %d: expected 1 or more", c.Partitions)
	case c.Retention < 0:
		return usagef("--retention %s: expected 0 or longer", c.Retention)
	case c.RetainBytes < 0:
		return usagef("--retain-bytes %d: expected 0 or more", c.RetainBytes)
	case c.DedupWindow < 0:
		return usagef("--dedup-window %s: expected 0 or longer", c.DedupWindow)
	}
	return withBroker(ctx, a.openBroker, func(b *broker.Broker) error {
		if err := b.CreateTopic(ctx, c); err != nil {
			return err
		}
		if output == "json" {
			t, err := b.Describe(ctx, c.Name, "")
			if err != nil {
				return err
			}
			return writeJSON(a.Stdout, describeTopic(t, c.Name, true))
		}
		_, err := fmt.Fprintf(a.Stdout, "made topic %s with %d partitions\n", c.Name, c.Partitions)
		return err
	})
}

func (a *app) topicsDelete(ctx context.Context, topic, output string) error {
	if err := checkOutput(output, "text", "json"); err != nil {
		return err
	}
	return withBroker(ctx, a.openExisting, func(b *broker.Broker) error {
		if err := b.DeleteTopic(ctx, topic); err != nil {
			return a.nameTopics(ctx, b, topic, err)
		}
		if output == "json" {
			return writeJSON(a.Stdout, map[string]string{"deleted": topic})
		}
		_, err := fmt.Fprintf(a.Stdout, "deleted topic %s\n", topic)
		return err
	})
}
