"""Makes the models that the tests call: models.py FOLDER [FOLDER_OF_ONNX_FILES]."""

import json
import os
import sys

import joblib
import numpy as np
from sklearn.ensemble import HistGradientBoostingClassifier
from sklearn.linear_model import LogisticRegression

folder = sys.argv[1]


def tensor(name, datatype, *shape):
    return {"name": name, "datatype": datatype, "shape": [-1, *shape]}


def put(name, implementation, uri=None, version=None, **settings):
    os.makedirs(os.path.join(folder, name))
    parameters = {}
    if uri:
        parameters["uri"] = uri
    if version:
        parameters["version"] = version
    with open(os.path.join(folder, name, "model-settings.json"), "w") as f:
        json.dump({"name": name, "implementation": implementation, "parameters": parameters, **settings}, f)


r = np.random.default_rng(7)
x = r.normal(size=(500, 4))
y = (x[:, 0] + x[:, 1] * x[:, 2] > 0.2).astype(np.int64)
sklearn = "mlserver_sklearn.SKLearnModel"
for name, model in {
    "boosting": HistGradientBoostingClassifier(max_iter=20, max_depth=4),
    "logistic": LogisticRegression(),
}.items():
    model.fit(x, y)
    if name == "boosting":
        described = {
            "inputs": [tensor("x", "FP64", 4)],
            "outputs": [tensor("predict", "INT64"), tensor("predict_proba", "FP64", 2)],
        }
    else:
        described = {}  # as most people leave it: the settings of the caller have to say it
    put(name, sklearn, "./model.joblib", "v3" if name == "boosting" else None, **described)
    joblib.dump(model, os.path.join(folder, name, "model.joblib"))

with open(os.path.join(folder, "golden.json"), "w") as f:
    probe = r.normal(size=(64, 4))
    model = joblib.load(os.path.join(folder, "logistic", "model.joblib"))
    json.dump({"x": probe.ravel().tolist(), "proba": model.predict_proba(probe).ravel().tolist()}, f)

every = ["BOOL", "INT8", "INT16", "INT32", "INT64", "UINT8", "UINT16", "UINT32", "UINT64", "FP16", "FP32", "FP64", "BYTES"]
put(
    "echo",
    "runtimes.Echo",
    inputs=[tensor(t.lower(), t, 2) for t in every],
    outputs=[tensor(t.lower() + "_out", t, 2) for t in every],
)
put("numbers", "runtimes.Echo", inputs=[tensor("x", "FP64", 3)], outputs=[tensor("x_out", "FP64", 3)])

for source in sys.argv[2:]:
    import onnxruntime

    names = {"tensor(float)": "FP32", "tensor(double)": "FP64", "tensor(int64)": "INT64", "tensor(string)": "BYTES"}
    for file in sorted(os.listdir(source)):
        if not file.endswith(".onnx"):
            continue
        path = os.path.abspath(os.path.join(source, file))
        session = onnxruntime.InferenceSession(path)

        def described(side):
            tensors = [t for t in side if t.type in names]  # and no mappings of classes
            return [tensor(t.name, names[t.type], *[d if isinstance(d, int) else -1 for d in t.shape[1:]]) for t in tensors]

        put(file.removesuffix(".onnx"), "runtimes.Onnx", path, inputs=described(session.get_inputs()), outputs=described(session.get_outputs()))
