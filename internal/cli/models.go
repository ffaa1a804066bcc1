package cli

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"github.com/freshet-io/freshet/errkind"
	"github.com/freshet-io/freshet/model"
)

// stagedVersion is a version as `models` shows it: version.json and where it stands.
type stagedVersion struct {
	*model.Version
	Stage model.Stage
}

// MarshalJSON adds the stage to the version's own fields.
func (s stagedVersion) MarshalJSON() ([]byte, error) {
	b, err := json.Marshal(s.Version)
	if err != nil {
		return nil, err
	}
	stage, err := json.Marshal(s.Stage)
	if err != nil {
		return nil, err
	}
	return slices.Concat(b[:len(b)-1], []byte(`,"stage":`), stage, []byte("}")), nil
}

func (a *app) modelsCommand() *cobra.Command {
	var output string
	list := func(cmd *cobra.Command, args []string) error { return a.modelsList(cmd.Context(), args, output) }
	cmd := &cobra.Command{
		Use:   "models",
		Short: "List, add, promote and roll back versions of models",
		Long: `List, add, promote and roll back versions of models. Without a command it lists them.

The registry is a folder or a bucket, or MLflow's: --models or FRESHET_MODELS names it
(file:///srv/models, s3://bucket/prefix, mlflow+http://host:5000), and without them it
is the folder models in --data. A version is a candidate when it was added, the champion
when it was promoted, and scores a share of the keys while a rollout tries it out.
Where a version is asked for, champion, latest and previous (the champion before) are
names of one, too.`,
		Example: `  freshet models
  freshet models add fraud-risk model.onnx --golden golden.json
  freshet models promote fraud-risk 2 --canary 10%`,
		Args: cobra.NoArgs,
		RunE: list,
	}
	cmd.PersistentFlags().StringVarP(&output, "output", "o", "text", "output: text, json")
	listCmd := &cobra.Command{
		Use: "list [NAME]", Short: "List versions of one model or of all", Example: "  freshet models list fraud-risk --output json", Args: cobra.MaximumNArgs(1), RunE: list,
	}
	show := &cobra.Command{
		Use: "show NAME [VERSION]", Short: "Show a version: by default the champion, or else the latest", Example: "  freshet models show fraud-risk 2", Args: cobra.RangeArgs(1, 2),
		RunE: func(cmd *cobra.Command, args []string) error { return a.modelsShow(cmd.Context(), args, output) },
	}
	diff := &cobra.Command{
		Use: "diff NAME [FROM [TO]]", Short: "Show how two versions differ: by default the champion and the latest", Example: "  freshet models diff fraud-risk 1 2", Args: cobra.RangeArgs(1, 3),
		RunE: func(cmd *cobra.Command, args []string) error { return a.modelsDiff(cmd.Context(), args, output) },
	}
	evidence := false
	log := &cobra.Command{
		Use: "log NAME", Short: "Show who decided what about a model, and why", Example: "  freshet models log fraud-risk --evidence", Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			return a.modelsLog(cmd.Context(), args[0], evidence, output)
		},
	}
	log.Flags().BoolVar(&evidence, "evidence", false, "show the numbers that each decision about a rollout stands on (in JSON they always are there)")
	cmd.AddCommand(listCmd, show, a.modelsAddCommand(&output), diff, log)
	cmd.AddCommand(a.modelsStageCommands(&output)...)
	return cmd
}

// catalog opens the registry that the command is about.
func (a *app) catalog(ctx context.Context) (model.Catalog, error) {
	source, err := a.models().Source(ctx, a.registryURL())
	if err != nil {
		return nil, err
	}
	c, ok := source.(model.Catalog)
	if !ok {
		return nil, errkind.Errorf(errkind.Unsupported, "the registry at %s cannot be looked through", shown(a.registryURL()))
	}
	return c, nil
}

// ownRegistry is the registry where it is Freshet's own.
func (a *app) ownRegistry(ctx context.Context, what string) (*model.Registry, error) {
	c, err := a.catalog(ctx)
	if err != nil {
		return nil, err
	}
	r, ok := c.(*model.Registry)
	if !ok {
		return nil, errkind.Errorf(errkind.Unsupported, "%s is for MLflow's own tools to do: this registry is MLflow's", what)
	}
	return r, nil
}

func (a *app) modelsList(ctx context.Context, names []string, output string) error {
	if err := checkOutput(output, "text", "json"); err != nil {
		return err
	}
	c, err := a.catalog(ctx)
	if err != nil {
		return err
	}
	all := len(names) == 0
	if all {
		if names, err = c.Models(ctx); err != nil {
			return err
		}
	}
	versions := []stagedVersion{}
	rollouts := map[string]*model.Rollout{}
	for _, name := range names {
		s, err := c.State(ctx, name)
		var found []*model.Version
		if err == nil {
			found, err = c.Versions(ctx, name)
		}
		if all && errkind.Is(err, errkind.NotFound) {
			continue // deleted meanwhile
		}
		if err != nil {
			return err
		}
		for _, v := range found {
			versions = append(versions, stagedVersion{v, s.Stage(v.Version)})
		}
		if s.Rollout.Running() {
			rollouts[name] = s.Rollout
		}
	}
	if output == "json" {
		return writeJSON(a.Stdout, versions)
	}
	if len(versions) == 0 {
		_, err := fmt.Fprintf(a.Stdout, "no models in %s; freshet models add NAME FILE adds one\n", shown(a.registryURL()))
		return err
	}
	w := tabwriter.NewWriter(a.Stdout, 0, 0, 2, ' ', 0)
	fmt.Fprintln(w, "MODEL\tVERSION\tSTAGE\tDIGEST\tSIZE\tCREATED\tOWNER\tSIGNATURE")
	for _, v := range versions {
		stage := string(v.Stage)
		if r := rollouts[v.Name]; r != nil && r.Version == v.Version.Version && v.Stage == model.InRollout {
			stage = fmt.Sprintf("%s %s", r.Role, shareText(r.Share))
		}
		size := bytesText(v.Size)
		if v.Format == model.FormatRemote {
			size = "remote"
		}
		fmt.Fprintf(w, "%s\t%s\t%s\t%s\t%s\t%s\t%s\t%s\n", v.Name, v.Version.Version, stage, digestText(v.Digest), size,
			timeText(v.Created), firstText(v.Owner, "-"), model.SignatureText(v.Inputs, v.Outputs))
	}
	return w.Flush()
}

func (a *app) modelsShow(ctx context.Context, args []string, output string) error {
	if err := checkOutput(output, "text", "json"); err != nil {
		return err
	}
	c, err := a.catalog(ctx)
	if err != nil {
		return err
	}
	name := args[0]
	s, err := c.State(ctx, name)
	if err != nil {
		return err
	}
	number := model.LatestAlias
	if s.Champion != "" {
		number = model.ChampionAlias
	}
	if len(args) > 1 {
		number = args[1]
	}
	v, err := c.Version(ctx, name, number)
	if err != nil {
		return err
	}
	if output == "json" {
		return writeJSON(a.Stdout, stagedVersion{v, s.Stage(v.Version)})
	}
	return a.printVersion(v, s)
}

func (a *app) printVersion(v *model.Version, s *model.State) error {
	w := tabwriter.NewWriter(a.Stdout, 0, 0, 2, ' ', 0)
	line := func(name, value string) {
		if value != "" {
			fmt.Fprintf(w, "%s\t%s\n", name, value)
		}
	}
	line("model", v.Name)
	line("version", v.Version)
	line("stage", string(s.Stage(v.Version)))
	if r := s.Rollout; r.Running() && r.Version == v.Version {
		line("rollout", fmt.Sprintf("%s on %s of the keys against %s, since %s", r.Role, shareText(r.Share), r.Champion, timeText(r.Began)))
	}
	line("digest", v.Digest)
	line("url", v.URL)
	if v.URL == "" {
		line("file", fmt.Sprintf("%s, %s", v.Format, bytesText(v.Size)))
		line("model size", complexityText(v))
	}
	line("signature", model.SignatureText(v.Inputs, v.Outputs))
	line("features", strings.Join(v.FeatureNames, ", "))
	for _, o := range v.Outputs {
		if len(o.Labels) > 0 {
			line("labels", o.Name+": "+strings.Join(o.Labels, ", "))
		}
	}
	line("metrics", metricsText(v.Metrics))
	line("owner", v.Owner)
	line("trained on", v.Data)
	line("notes", v.Notes)
	line("golden rows", v.Golden)
	line("background", v.Background)
	line("created", timeText(v.Created))
	return w.Flush()
}

func (a *app) modelsDiff(ctx context.Context, args []string, output string) error {
	if err := checkOutput(output, "text", "json"); err != nil {
		return err
	}
	c, err := a.catalog(ctx)
	if err != nil {
		return err
	}
	names := []string{model.ChampionAlias, model.LatestAlias}
	copy(names, args[1:])
	from, err := c.Version(ctx, args[0], names[0])
	if err != nil {
		return err
	}
	to, err := c.Version(ctx, args[0], names[1])
	if err != nil {
		return err
	}
	differences := model.Diff(from, to)
	if output == "json" {
		if differences == nil {
			differences = []model.Difference{}
		}
		return writeJSON(a.Stdout, map[string]any{"model": args[0], "from": from.Version, "to": to.Version, "differences": differences})
	}
	if len(differences) == 0 {
		_, err := fmt.Fprintf(a.Stdout, "versions %s and %s of %s do not differ\n", from.Version, to.Version, args[0])
		return err
	}
	w := tabwriter.NewWriter(a.Stdout, 0, 0, 2, ' ', 0)
	fmt.Fprintf(w, "%s\tVERSION %s\tVERSION %s\n", strings.ToUpper(args[0]), from.Version, to.Version)
	for _, d := range differences {
		from, to := d.From, d.To
		if d.Field == "digest" || d.Field == "golden rows" || d.Field == "background" {
			from, to = digestText(from), digestText(to)
		}
		fmt.Fprintf(w, "%s\t%s\t%s\n", d.Field, firstText(from, "-"), firstText(to, "-"))
	}
	return w.Flush()
}

// digestText is the beginning of a digest, as people compare it.
func digestText(digest string) string {
	if len(digest) > 12 {
		return digest[:12]
	}
	return firstText(digest, "-")
}

func timeText(t time.Time) string {
	if t.IsZero() {
		return "-"
	}
	return t.UTC().Format("2006-01-02 15:04:05")
}

func shareText(share float64) string { return fmt.Sprintf("%.4g%%", 100*share) }

func metricsText(metrics map[string]float64) string {
	var all []string
	for name, x := range metrics {
		all = append(all, fmt.Sprintf("%s %.6g", name, x))
	}
	slices.Sort(all)
	return strings.Join(all, ", ")
}

func complexityText(v *model.Version) string {
	var all []string
	c := v.Complexity
	for _, f := range []struct {
		n    int64
		what string
	}{{int64(c.Trees), "trees"}, {int64(c.TreeNodes), "tree nodes"}, {int64(c.Depth), "levels deep"}, {int64(c.Nodes), "graph nodes"}, {c.Parameters, "weights"}} {
		if f.n > 0 {
			all = append(all, group(f.n)+" "+f.what)
		}
	}
	return strings.Join(all, ", ")
}
