"""Logs models into the MLflow server at the URL given: fraud-risk with two versions as
ONNX, the first of which is the champion, and plain, which has no ONNX flavor."""
import json
import os
import sys
import tempfile

import mlflow
import mlflow.onnx
import mlflow.sklearn
import numpy as np
import pandas as pd
from mlflow.models import infer_signature
from skl2onnx import to_onnx
from skl2onnx.common.data_types import FloatTensorType
from sklearn.linear_model import LogisticRegression

mlflow.set_tracking_uri(sys.argv[1])
client = mlflow.MlflowClient()
rng = np.random.default_rng(1)
x = rng.normal(size=(300, 3)).astype(np.float32)
y = (x @ [1, -2, 0.5] > 0).astype(int)


def train(c):
    m = LogisticRegression(C=c).fit(x, y)
    proto = to_onnx(m, initial_types=[("features", FloatTensorType([None, 3]))], options={id(m): {"zipmap": False}},
                    target_opset={"": 17, "ai.onnx.ml": 3})
    return m, proto


# As log_model does it.
m, proto = train(0.01)
with mlflow.start_run():
    mlflow.log_metric("auc", 0.91)
    mlflow.onnx.log_model(proto, name="model", registered_model_name="fraud-risk", signature=infer_signature(x, m.predict_proba(x)))

# Among the artifacts of a run, with golden rows beside the model.
m, proto = train(1.0)
frame = pd.DataFrame(x, columns=["amount", "visits", "risk"])
with mlflow.start_run() as run, tempfile.TemporaryDirectory() as folder:
    mlflow.log_metric("auc", 0.93)
    path = os.path.join(folder, "model")
    mlflow.onnx.save_model(proto, path, signature=infer_signature(frame, m.predict_proba(x)))
    golden = {"inputs": {"features": x[:20].tolist()}, "outputs": {"probabilities": m.predict_proba(x[:20]).tolist()}}
    with open(os.path.join(path, "golden.json"), "w") as f:
        json.dump(golden, f)
    mlflow.log_artifacts(path, "model")
    client.create_model_version("fraud-risk", source=f"runs:/{run.info.run_id}/model", run_id=run.info.run_id, description="less regularised")
    mlflow.sklearn.log_model(m, name="plain", registered_model_name="plain")

client.set_registered_model_alias("fraud-risk", "champion", "1")
