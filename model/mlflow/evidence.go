package mlflow

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"

	"github.com/freshet-io/freshet/errkind"
	"github.com/freshet-io/freshet/model"
)

const artifacts = "/api/2.0/mlflow-artifacts/artifacts"

// evidenceFolder is where processes' evidence lies among the server's artifacts.
func evidenceFolder(name, rollout string) string {
	return "freshet/" + part(name) + "/evidence/" + part(rollout)
}

// part is a name as part of a path; one that servers would read otherwise becomes its hash.
func part(name string) string {
	if model.CheckName("name", name) == nil {
		return name
	}
	sum := sha256.Sum256([]byte(name))
	return hex.EncodeToString(sum[:16])
}

// noArtifacts says what it takes to keep evidence where the server does not.
func noArtifacts(err error) error {
	if errkind.Is(err, errkind.NotFound) || errkind.Is(err, errkind.Permanent) {
		return errkind.Errorf(errkind.Unsupported, "this MLflow server keeps no artifacts for others (--no-serve-artifacts?), and evidence has no other place: %w", err)
	}
	return err
}

// PutEvidence is in model.Source.
func (s *Source) PutEvidence(ctx context.Context, name, rollout, process string, e *model.Evidence) error {
	b, err := json.Marshal(e)
	if err == nil {
		err = s.c.repeat(ctx, func() error {
			body, err := s.c.do(ctx, http.MethodPut, artifacts+"/"+evidenceFolder(name, rollout)+"/"+part(process)+".json", nil, bytes.NewReader(b), "application/json")
			if err != nil {
				return err
			}
			return body.Close()
		})
	}
	if err != nil {
		return fmt.Errorf("write evidence of rollout %s of model %s: %w", rollout, name, noArtifacts(err))
	}
	return nil
}

// Evidence is in model.Source.
func (s *Source) Evidence(ctx context.Context, name, rollout string) ([]*model.Evidence, error) {
	all, err := s.evidence(ctx, evidenceFolder(name, rollout))
	if err != nil {
		return nil, fmt.Errorf("read evidence of rollout %s of model %s: %w", rollout, name, noArtifacts(err))
	}
	return all, nil
}

func (s *Source) evidence(ctx context.Context, folder string) (all []*model.Evidence, err error) {
	var list struct {
		Files []struct {
			Path string `json:"path"`
		} `json:"files"`
	}
	b, err := s.get(ctx, artifacts, url.Values{"path": {folder}})
	if err == nil {
		err = json.Unmarshal(b, &list)
	}
	if err != nil {
		return nil, err
	}
	for _, f := range list.Files {
		if !strings.HasSuffix(f.Path, ".json") {
			continue
		}
		b, err := s.get(ctx, artifacts+"/"+folder+"/"+url.PathEscape(f.Path[strings.LastIndexByte(f.Path, '/')+1:]), nil)
		if err != nil {
			return nil, err
		}
		e := &model.Evidence{}
		if err := json.Unmarshal(b, e); err != nil {
			return nil, errkind.Errorf(errkind.Corrupt, "%s is damaged: %w", f.Path, err)
		}
		all = append(all, e)
	}
	return all, nil
}

func (s *Source) get(ctx context.Context, path string, query url.Values) (b []byte, err error) {
	err = s.c.repeat(ctx, func() error {
		body, err := s.c.do(ctx, http.MethodGet, path, query, nil, "")
		if err != nil {
			return err
		}
		defer body.Close()
		if b, err = io.ReadAll(io.LimitReader(body, maxAnswer+1)); err != nil {
			return s.c.network(err)
		}
		if len(b) > maxAnswer {
			return errkind.Errorf(errkind.Permanent, "%s has more than %d bytes", path, maxAnswer)
		}
		return nil
	})
	return b, err
}
