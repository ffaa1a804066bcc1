package cli

import (
	"context"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/freshet-io/freshet/model"
)

func (a *app) modelsStageCommands(output *string) []*cobra.Command {
	var why string
	var canary, shadow, ab string
	promote := &cobra.Command{
		Use:   "promote NAME VERSION",
		Short: "Make a version the champion, at once or by a rollout",
		Long: `Make a version the champion: at once, or by a rollout that tries it out on a share of the
keys first. A canary's results are published; a shadow's are only compared with the
champion's; in an A/B comparison both are published and measured. Whose turn it is
depends on a hash of the key alone, so a key stays with its version. Gates in the
pipeline's rollout settings promote the version or roll it back, each with its evidence.`,
		Example: `  freshet models promote fraud-risk 2
  freshet models promote fraud-risk 3 --canary 10%`,
		Args: cobra.ExactArgs(2),
		RunE: func(cmd *cobra.Command, args []string) error {
			start, err := rolloutStart(canary, shadow, ab)
			if err != nil {
				return err
			}
			return a.modelsPromote(cmd.Context(), args[0], args[1], why, start, *output)
		},
	}
	f := promote.Flags()
	f.StringVar(&canary, "canary", "", "share of the keys that the version scores and publishes at first, such as 10%")
	f.StringVar(&shadow, "shadow", "", "share of the keys that the version scores beside the champion, such as 100%")
	f.StringVar(&ab, "ab", "", "share of the keys for an A/B comparison, such as 50%")

	rollback := &cobra.Command{
		Use:     "rollback NAME",
		Short:   "End the running rollout, or go back to the champion before",
		Example: `  freshet models rollback fraud-risk --why "too many alerts"`,
		Args:    cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			return a.modelsRollback(cmd.Context(), args[0], why, *output)
		},
	}
	archive := &cobra.Command{
		Use:     "archive NAME VERSION",
		Short:   "Put a version away that is not in use",
		Example: "  freshet models archive fraud-risk 1",
		Args:    cobra.ExactArgs(2),
		RunE: func(cmd *cobra.Command, args []string) error {
			return a.modelsChange(cmd.Context(), args[0], *output, func(ctx context.Context, c model.Catalog) (*model.State, error) {
				return model.ArchiveVersion(ctx, c, args[0], args[1], why)
			})
		},
	}
	del := &cobra.Command{
		Use:     "delete NAME VERSION",
		Short:   "Delete a version that is not in use, with its files",
		Example: "  freshet models delete fraud-risk 1",
		Args:    cobra.ExactArgs(2),
		RunE: func(cmd *cobra.Command, args []string) error {
			return a.modelsChange(cmd.Context(), args[0], *output, func(ctx context.Context, _ model.Catalog) (*model.State, error) {
				r, err := a.ownRegistry(ctx, "deleting versions")
				if err != nil {
					return nil, err
				}
				if err := r.Delete(ctx, args[0], args[1]); err != nil {
					return nil, err
				}
				return r.State(ctx, args[0])
			})
		},
	}
	for _, c := range []*cobra.Command{promote, rollback, archive} {
		c.Flags().StringVar(&why, "why", "", "reason, for the log")
	}
	return []*cobra.Command{promote, rollback, archive, del}
}

// rolloutStart reads the flags of a rollout; nil where there is none.
func rolloutStart(canary, shadow, ab string) (*model.Start, error) {
	var start *model.Start
	for _, f := range []struct {
		flag, value string
		role        model.Role
	}{{"--canary", canary, model.Canary}, {"--shadow", shadow, model.Shadow}, {"--ab", ab, model.Variant}} {
		if f.value == "" {
			continue
		}
		if start != nil {
			return nil, usagef("--canary, --shadow and --ab: give one of them")
		}
		share, err := parseShare(f.value)
		if err != nil {
			return nil, usagef("%s %q: expected a share above 0 and up to 100%%, such as 10%% or 0.1", f.flag, f.value)
		}
		start = &model.Start{Role: f.role, Share: share}
	}
	return start, nil
}

// parseShare reads 10% or 0.1.
func parseShare(text string) (float64, error) {
	number, percent := strings.CutSuffix(strings.TrimSpace(text), "%")
	share, err := strconv.ParseFloat(strings.TrimSpace(number), 64)
	if percent {
		share /= 100
	}
	if err == nil && !(share > 0 && share <= 1) {
		err = strconv.ErrRange
	}
	return share, err
}

func (a *app) modelsPromote(ctx context.Context, name, version, why string, start *model.Start, output string) error {
	if start == nil {
		return a.modelsChange(ctx, name, output, func(ctx context.Context, c model.Catalog) (*model.State, error) {
			return model.PromoteVersion(ctx, c, name, version, why)
		})
	}
	return a.modelsChange(ctx, name, output, func(ctx context.Context, c model.Catalog) (*model.State, error) {
		v, err := c.Version(ctx, name, version)
		if err != nil {
			return nil, err
		}
		reason := fmt.Sprintf("began %s of %s", start.Role, v.Version)
		if why != "" {
			reason += ": " + why
		}
		return c.Update(ctx, name, reason, func(s *model.State) error {
			start.Version, start.Now = v.Version, time.Now().UTC()
			return model.Begin(s, *start)
		})
	})
}

func (a *app) modelsRollback(ctx context.Context, name, why, output string) error {
	return a.modelsChange(ctx, name, output, func(ctx context.Context, c model.Catalog) (*model.State, error) {
		s, _, err := model.RollBackModel(ctx, c, name, why)
		return s, err
	})
}

// modelsChange makes a change and says what is in use after it.
func (a *app) modelsChange(ctx context.Context, name, output string, change func(ctx context.Context, c model.Catalog) (*model.State, error)) error {
	if err := checkOutput(output, "text", "json"); err != nil {
		return err
	}
	c, err := a.catalog(ctx)
	if err != nil {
		return err
	}
	s, err := change(ctx, c)
	if err != nil {
		return err
	}
	if output == "json" {
		return writeJSON(a.Stdout, s)
	}
	text := "champion " + firstText(s.Champion, "none")
	if n := len(s.Former); n > 0 {
		text += ", before it " + s.Former[n-1]
	}
	if r := s.Rollout; r.Running() {
		text = fmt.Sprintf("%s of version %s on %s of the keys, %s", r.Role, r.Version, shareText(r.Share), text)
	}
	_, err = fmt.Fprintf(a.Stdout, "%s: %s; %s (state %d)\n", name, s.Why, text, s.Generation)
	return err
}
