package cli

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/freshet-io/freshet/errkind"
	"github.com/freshet-io/freshet/internal/builtin"
)

// app is one run of the command line: the process and the global flags.
type app struct {
	Process
	data       string
	brokerURL  string // empty for the journal in data
	brokerWait time.Duration
	modelsURL  string
	opened     *builtin.Models // nil until a command needs models
	syncEvery  time.Duration
	logLevel   string
	logFormat  string
	log        *slog.Logger
	// started is set when cobra has accepted the arguments: an error without a
	// kind from before that is one of usage.
	started bool
}

// Main runs the command line and returns the exit code.
func Main(p Process) int {
	a := &app{Process: p}
	ctx, stop := a.drainContext(context.Background())
	defer stop()
	root := a.root()
	root.SetArgs(p.Args)
	err := root.ExecuteContext(ctx)
	if cerr := a.closeModels(); cerr != nil && err == nil {
		err = cerr
	}
	if err != nil && !a.started && errkind.Of(err) == errkind.Unknown {
		err = usagef("%w; see freshet --help", err)
	}
	if err != nil && !isSilent(err) {
		fmt.Fprintf(p.Stderr, "freshet: %s\n", err)
	}
	return exitCode(err)
}

// silent marks an error whose account the command has already printed.
type silent struct{ error }

func (s silent) Unwrap() error { return s.error }

func isSilent(err error) bool {
	var s silent
	return errors.As(err, &s)
}

func (a *app) root() *cobra.Command {
	root := &cobra.Command{
		Use:   "freshet",
		Short: "Machine-learning inference on event streams, inside a freshness objective",
		Long: `Freshet runs machine-learning inference on event streams inside a freshness objective.

A pipeline is one YAML file: events of a topic are validated by a contract,
enriched with features, scored by a model and routed to topics. Topics live in
a durable journal in the data folder, with no service to install, or on the broker
that --broker names.

` + exitHelp,
		Example: `  freshet demo card-fraud
  freshet lint pipeline.yaml
  freshet produce --pipeline pipeline.yaml events.jsonl
  freshet run pipeline.yaml --until-idle
  freshet consume scored-transactions`,
		Args:              cobra.NoArgs,
		SilenceErrors:     true,
		SilenceUsage:      true,
		DisableAutoGenTag: true,
		RunE:              func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
		PersistentPreRunE: func(cmd *cobra.Command, _ []string) error { return a.start(cmd) },
	}
	root.SetIn(a.Stdin)
	root.SetOut(a.Stdout)
	root.SetErr(a.Stderr)
	f := root.PersistentFlags()
	f.StringVar(&a.data, "data", "freshet-data", "folder of the embedded journal: topics, positions and state")
	f.StringVar(&a.brokerURL, "broker", "", "URL of the broker that holds the topics, instead of the journal in --data; FRESHET_BROKER is its default")
	f.DurationVar(&a.brokerWait, "broker-wait", 0, "how long to wait for a broker that cannot be reached, at the start and later; 0s is 10m for run and broker, 15s for other commands")
	f.StringVar(&a.modelsURL, "models", "", "URL of the registry of models, file:///…, s3://… or mlflow+http://…; FRESHET_MODELS is its default, and then the folder models in --data")
	f.DurationVar(&a.syncEvery, "sync-every", 0, "relax the journal: sync this often instead of before every acknowledgement; a power cut then loses what came since")
	f.StringVar(&a.logLevel, "log-level", "info", "least level to log: debug, info, warn or error")
	f.StringVar(&a.logFormat, "log-format", "text", "format of the log on standard error: text or json")
	root.AddCommand(
		a.demoCommand(), a.runCommand(), a.lintCommand(), a.testCommand(),
		a.produceCommand(), a.consumeCommand(), a.topicsCommand(), a.featuresCommand(), a.modelsCommand(),
		a.lineageCommand(), a.orchestrateCommand(), a.benchCommand(), a.brokerCommand(), a.journalCommand(), a.versionCommand(),
	)
	return root
}

// start runs before every command, once its arguments are known to be well formed.
func (a *app) start(cmd *cobra.Command) error {
	var level slog.Level
	switch a.logLevel {
	case "debug", "info", "warn", "error":
		if err := level.UnmarshalText([]byte(a.logLevel)); err != nil {
			return err
		}
	default:
		return usagef("--log-level %q: expected debug, info, warn or error", a.logLevel)
	}
	options := &slog.HandlerOptions{Level: level}
	switch a.logFormat {
	case "text":
		a.log = slog.New(slog.NewTextHandler(a.Stderr, options))
	case "json":
		a.log = slog.New(slog.NewJSONHandler(a.Stderr, options))
	default:
		return usagef("--log-format %q: expected text or json", a.logFormat)
	}
	if a.data == "" {
		return usagef("--data: the folder has no name")
	}
	if a.brokerWait < 0 {
		return usagef("--broker-wait %s: expected 0 or longer", a.brokerWait)
	}
	if a.brokerURL == "" {
		a.brokerURL, _ = a.lookupEnv("FRESHET_BROKER")
	}
	if a.modelsURL == "" {
		a.modelsURL, _ = a.lookupEnv("FRESHET_MODELS")
	}
	if a.syncEvery < 0 {
		return usagef("--sync-every %s: expected 0 or longer", a.syncEvery)
	}
	a.started = true
	return nil
}

// lookupEnv is Env for commands; without one there are no variables.
func (a *app) lookupEnv(name string) (string, bool) {
	if a.Env == nil {
		return "", false
	}
	return a.Env(name)
}

// outputFlag adds --output; the first choice is the default.
func outputFlag(f *pflag.FlagSet, to *string, choices ...string) {
	f.StringVarP(to, "output", "o", choices[0], "output: "+strings.Join(choices, ", "))
}

func checkOutput(value string, choices ...string) error {
	for _, c := range choices {
		if value == c {
			return nil
		}
	}
	return usagef("--output %q: expected %s", value, strings.Join(choices, " or "))
}

// writeJSON writes v as one line of JSON.
func writeJSON(w io.Writer, v any) error {
	enc := json.NewEncoder(w)
	enc.SetEscapeHTML(false)
	if err := enc.Encode(v); err != nil {
		return fmt.Errorf("write output: %w", err)
	}
	return nil
}

// inputSize looks at a file that the user named, without opening it; −1 is
// unknown. "-" is standard input.
func inputSize(name string) (int64, error) {
	if name == "-" {
		return -1, nil
	}
	st, err := os.Stat(name)
	switch {
	case err != nil:
		return 0, usagef("read input: %w", err)
	case st.IsDir():
		return 0, usagef("read input: %s is a folder, expected a file of JSON lines or CSV", name)
	case !st.Mode().IsRegular():
		return -1, nil
	}
	return st.Size(), nil
}

func (a *app) openInput(name string) (io.ReadCloser, error) {
	if name == "-" {
		return io.NopCloser(a.Stdin), nil
	}
	f, err := os.Open(name)
	if err != nil {
		return nil, usagef("read input: %w", err)
	}
	return f, nil
}
