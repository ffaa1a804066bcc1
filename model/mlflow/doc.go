// Package mlflow takes versions of models from MLflow's model registry, over its
// REST API. The URL is
//
//	mlflow+http://host:5000[/prefix]   or   mlflow+https://…
//
// with the options token_env or token_file (a bearer token), user and password_env
// (basic authentication), timeout (10 s), settle (300 ms, below) and those of TLS.
//
// A registered model is a model, its versions are the versions, and the alias
// "champion" is the champion, whoever sets it. A version has to have an ONNX flavor
// (mlflow.onnx.log_model): its MLmodel file names the model file, which is fetched
// through the server. golden.json and background.json beside it are taken along. The
// digest is that of the file as it was first fetched; a promotion or rollout pins it in
// the version's tag freshet.sha256, and a file that differs from it is Corrupt.
//
// # State
//
// What Freshet decides is kept in tags of the registered model: freshet.state is the
// state, freshet.log the latest of them. A tag holds few bytes, so past decisions of a
// rollout are cut where they do not fit. Evidence lies among the server's artifacts, below
// freshet/, which takes a server that serves them (mlflow server does by default).
//
// MLflow has no compare-and-set. Update therefore takes turns by Fischer's algorithm
// (Lamport, A fast mutual exclusion algorithm, 1987): a writer that sees no claim writes
// its own into the tag freshet.claim, waits for settle, and goes on only where the claim
// is still its own and the state as it was. This excludes two writers as long as no
// request of theirs takes longer than settle; one that did is noticed and begins anew.
// After its write it reads the state again, and where another one's lies there, which a
// stopped process can bring about, the update is done again on top of it. So an update
// is lost at most when a process stops for longer than settle between two of its steps.
// A Registry on a folder or bucket has no such hole.
package mlflow
