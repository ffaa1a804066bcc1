package cli

import (
	"context"
	"fmt"
	"strconv"
	"strings"
	"text/tabwriter"

	"github.com/spf13/cobra"

	"github.com/freshet-io/freshet/inference"
	"github.com/freshet-io/freshet/model"
)

func (a *app) modelsAddCommand(output *string) *cobra.Command {
	var sub model.Submission
	var features string
	var metrics []string
	cmd := &cobra.Command{
		Use:   "add NAME [FILE]",
		Short: "Add a version, if it passes admission",
		Long: `Add a version of a model, a file (.onnx, .rule.yaml) or a served one (--url), as a candidate.

It is let in when it loads, is no larger than allowed, its signature fits --features (or,
without them, is the champion's), its golden rows come out right, and rows with NaN and
infinities get an answer, the same one twice. Golden rows are JSON:

  {"inputs":  {"amount": [12.5, "NaN"], "night": [0, 1]},
   "outputs": {"probabilities": [[0.98, 0.02], [0.5, 0.5]]},
   "tolerance": 1e-5}

with a column for each input of the model, or for each value of its only input. NaN,
Infinity and -Infinity are strings. "nan_outputs": true says that rows with them may have such answers.`,
		Example: `  freshet models add fraud-risk model.onnx --golden golden.json --background sample.csv --metric auc=0.93
  freshet models add fraud-risk --url oip://triton:8001/fraud --golden golden.json`,
		Args: cobra.RangeArgs(1, 2),
		RunE: func(cmd *cobra.Command, args []string) error {
			sub.Name = args[0]
			if len(args) > 1 {
				sub.Path = args[1]
			}
			if (sub.Path == "") == (sub.URL == "") {
				return usagef("give either the model's FILE or the --url where it is served")
			}
			var err error
			if sub.Features, err = parseFeatures(features); err != nil {
				return err
			}
			if sub.Metrics, err = parseMetrics(metrics); err != nil {
				return err
			}
			return a.modelsAdd(cmd.Context(), sub, *output)
		},
	}
	f := cmd.Flags()
	f.StringVar(&sub.Version, "version", "", "name of the version; the default is one more than the greatest number so far")
	f.StringVar(&sub.URL, "url", "", "URL where the model is served, in place of FILE")
	f.StringVar(&sub.Golden, "golden", "", "file of golden rows: inputs with the answers that are known to be right")
	f.BoolVar(&sub.NoGolden, "no-golden", false, "add the version although there are no golden rows")
	f.BoolVar(&sub.NaNOutputs, "nan-outputs", false, "rows with NaN or infinities may have such answers")
	f.StringVar(&sub.Background, "background", "", "file with a sample of rows for explanations: .csv, .jsonl or .parquet")
	f.StringVar(&features, "features", "", "features that the pipeline gives, in order, such as amount,night:bool,visits:int64")
	f.BoolVar(&sub.NewSignature, "new-signature", false, "the signature may differ from the champion's")
	f.StringVar(&sub.Digest, "sha256", "", "SHA-256 that the file is expected to have")
	f.StringVar(&sub.Owner, "owner", "", "who answers for the version")
	f.StringVar(&sub.Data, "trained-on", "", "reference to the training data: a URL, a path, a query with a time")
	f.StringArrayVar(&metrics, "metric", nil, "metric of the evaluation, such as auc=0.93 (may be repeated)")
	f.StringVar(&sub.Notes, "notes", "", "what else there is to know")
	return cmd
}

// parseFeatures reads names with optional types, separated by commas.
func parseFeatures(text string) (all []inference.Signature, err error) {
	if text == "" {
		return nil, nil
	}
	for _, f := range strings.Split(text, ",") {
		name, kind, typed := strings.Cut(strings.TrimSpace(f), ":")
		s := inference.Signature{Name: name, Type: inference.Float64}
		if typed {
			s.Type = model.TypeOf(kind)
		}
		if name == "" || s.Type == 0 {
			return nil, usagef("--features: %q: expected NAME or NAME:TYPE, with a type float64, float32, int64, int32, bool or string", f)
		}
		all = append(all, s)
	}
	return all, nil
}

func parseMetrics(texts []string) (map[string]float64, error) {
	if len(texts) == 0 {
		return nil, nil
	}
	all := map[string]float64{}
	for _, text := range texts {
		name, value, _ := strings.Cut(text, "=")
		x, err := strconv.ParseFloat(value, 64)
		if err != nil || name == "" || x != x || x-x != 0 {
			return nil, usagef("--metric %q: expected NAME=NUMBER", text)
		}
		all[name] = x
	}
	return all, nil
}

func (a *app) modelsAdd(ctx context.Context, sub model.Submission, output string) error {
	if err := checkOutput(output, "text", "json"); err != nil {
		return err
	}
	r, err := a.ownRegistry(ctx, "adding versions")
	if err != nil {
		return err
	}
	added, err := r.Add(ctx, sub)
	if err != nil {
		return err
	}
	if output == "json" {
		return writeJSON(a.Stdout, stagedVersion{added.Version, model.Candidate})
	}
	v := added.Version
	w := tabwriter.NewWriter(a.Stdout, 0, 0, 2, ' ', 0)
	fmt.Fprintf(w, "added\t%s %s, a candidate\n", v.Name, v.Version)
	fmt.Fprintf(w, "digest\t%s\n", digestText(v.Digest))
	if v.URL != "" {
		fmt.Fprintf(w, "served at\t%s\n", v.URL)
	} else {
		fmt.Fprintf(w, "size\t%s\n", strings.TrimSuffix(bytesText(v.Size)+", "+complexityText(v), ", "))
	}
	fmt.Fprintf(w, "signature\t%s\n", model.SignatureText(v.Inputs, v.Outputs))
	for _, check := range checks(added, sub) {
		fmt.Fprintf(w, "checked\t%s\n", check)
	}
	if err := w.Flush(); err != nil {
		return err
	}
	if sub.NoGolden {
		a.log.Warn("there are no golden rows: whether the version answers rightly is unknown", "model", v.Name, "version", v.Version)
	}
	return nil
}

// checks is what an admission looked at.
func checks(added *model.Admitted, sub model.Submission) (all []string) {
	if added.GoldenRows > 0 {
		all = append(all, fmt.Sprintf("%s golden rows come out right, the furthest off by %.0f%% of the tolerance", group(int64(added.GoldenRows)), 100*added.Deviation))
	}
	if added.SpecialRows > 0 {
		all = append(all, fmt.Sprintf("%s rows with NaN and infinities have an answer, the same one twice", group(int64(added.SpecialRows))))
	}
	switch {
	case len(sub.Features) > 0:
		all = append(all, fmt.Sprintf("the signature fits the %d features", len(sub.Features)))
	case added.Champion != "" && sub.NewSignature:
		all = append(all, "the signature may differ from that of the champion, version "+added.Champion)
	case added.Champion != "":
		all = append(all, "the signature is that of the champion, version "+added.Champion)
	}
	if added.BackgroundRows > 0 {
		all = append(all, fmt.Sprintf("%s background rows fit the inputs", group(int64(added.BackgroundRows))))
	}
	return all
}
