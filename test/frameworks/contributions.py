#!/usr/bin/env python3
"""Time XGBoost's pred_contribs and the shap package's C code.

    python contributions.py FOLDER [ROWS]

For 100 trees of depth 6 and 500 of depth 8 on 30 features it trains a classifier, writes FOLDER/trees-COUNTxDEPTH.onnx and
the rows explained, FOLDER/rows.f32, and prints one line of JSON for each peer and number of threads: rows a second by the
clock and by processor time. shap's code runs on one thread.
"""

import json
import sys
import time
import warnings
from pathlib import Path

import numpy as np
import shap
import xgboost
from onnxmltools import convert_xgboost
from onnxmltools.convert.common.data_types import FloatTensorType

FEATURES = 30


def timed(call, rows):
    wall, cpu = time.perf_counter(), time.process_time()
    call()
    return {"rows_per_s": rows / (time.perf_counter() - wall), "rows_per_cpu_s": rows / (time.process_time() - cpu)}


def main():
    warnings.filterwarnings("ignore")
    folder, most = Path(sys.argv[1]), int(sys.argv[2]) if len(sys.argv) > 2 else 1000
    rnd = np.random.default_rng(1)
    x = rnd.normal(0, 1, (20_000, FEATURES)).astype(np.float32)
    y = x[:, 0] + x[:, 1] * x[:, 2] + np.sin(3 * x[:, 3]) * x[:, 4] + rnd.normal(0, 2, len(x)) > 0
    (folder / "rows.f32").write_bytes(x[:4096].tobytes())
    for count, depth in ((100, 6), (500, 8)):
        name = f"trees-{count}x{depth}"
        model = xgboost.XGBClassifier(n_estimators=count, max_depth=depth, min_child_weight=0, tree_method="hist", random_state=1)
        model.fit(x, y)
        proto = convert_xgboost(model, initial_types=[("X", FloatTensorType([None, FEATURES]))], target_opset=15)
        (folder / f"{name}.onnx").write_bytes(proto.SerializeToString())
        rows = most if depth == 6 else max(2, most // 20)
        booster = model.get_booster()
        for threads in (1, 2):
            booster.set_param({"nthread": threads})
            matrix = xgboost.DMatrix(x[:rows], nthread=threads)
            result = timed(lambda: booster.predict(matrix, pred_contribs=True), rows)
            print(json.dumps({"model": name, "peer": "xgboost", "threads": threads} | result), flush=True)
        explainer = shap.TreeExplainer(model, feature_perturbation="tree_path_dependent")
        explainer.model.model_type = "internal"  # its own code, not XGBoost's
        part = x[:rows].astype(np.float64)
        result = timed(lambda: explainer.shap_values(part, check_additivity=False), rows)
        print(json.dumps({"model": name, "peer": "shap", "threads": 1} | result), flush=True)


if __name__ == "__main__":
    main()
