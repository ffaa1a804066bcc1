#!/usr/bin/env python3
"""Train models in their frameworks, export them to ONNX, and keep what the frameworks themselves predict.

    pip install -r requirements.txt
    python make.py                # all cases
    python make.py 'xgboost-*'    # some

README.md describes the files. Everything is generated from fixed seeds.
"""

import fnmatch
import gzip
import json
import sys
import warnings
from pathlib import Path

import lightgbm
import numpy as np
import shap
import xgboost
from onnxmltools import convert_lightgbm, convert_xgboost
from onnxmltools.convert.common.data_types import FloatTensorType as LightType
from skl2onnx import to_onnx
from skl2onnx.common.data_types import FloatTensorType
from sklearn import ensemble, linear_model, neural_network, pipeline, preprocessing

FEATURES = 8
ROWS = 10_000  # that predictions are kept for
TRAIN = 2_000  # that models are trained on, and that covers come from
EXPLAINED = 100
OUT = Path(__file__).resolve().parent / "cases"


def hashed(n):
    """Mix the numbers n as SplitMix64 does (Steele, Lea and Flood, 2014)."""
    with np.errstate(over="ignore"):
        z = n.astype(np.uint64) * np.uint64(0x9E3779B97F4A7C15) + np.uint64(0x9E3779B97F4A7C15)
        z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        return z ^ (z >> np.uint64(31))


def rows(count, start, missing):
    """Make rows; rows.go makes the same. All sums and products here are exact in float32."""
    h = hashed(np.arange(start * FEATURES, (start + count) * FEATURES)).reshape(count, FEATURES)
    x = ((h >> np.uint64(40)).astype(np.int64) - (1 << 23)) / float(1 << 22)
    x *= np.array([1, 8, 0.125, 64, 1, 1, 2, 1])
    x[:, 4] = (h[:, 4] >> np.uint64(40)) % np.uint64(6)  # a category
    x[:, 5] = (h[:, 5] >> np.uint64(40)) % np.uint64(20)  # a count, with many ties
    if missing:
        x[(h & np.uint64(255)) < np.uint64(26)] = np.nan
    return x.astype(np.float32)


def training(missing=False):
    """Make the training table: the rows behind the kept ones, a score, and noise."""
    x = rows(TRAIN, ROWS, False)
    noise = ((hashed(np.arange(TRAIN) + (1 << 40)) >> np.uint64(40)).astype(np.float64) / float(1 << 24) - 0.5) * 2
    score = x[:, 0] + 0.1 * x[:, 1] * (x[:, 4] > 2) + 0.01 * x[:, 3] - np.abs(x[:, 6]) / 3 + 0.05 * x[:, 5] + noise
    return rows(TRAIN, ROWS, missing), score.astype(np.float32)


CASES = {}


def case(function):
    CASES[function.__name__.replace("_", "-")] = function
    return function


def scikit(model, classes=2, missing=False, regression=False, explain=False, answer=None):
    x, score = training(missing)
    y = score if regression else np.digitize(score, np.quantile(score, np.arange(1, classes) / classes))
    model.fit(x, y)
    options = {} if regression or answer else {"zipmap": False}
    proto = to_onnx(model, initial_types=[("X", FloatTensorType([None, FEATURES]))], target_opset={"": 17, "ai.onnx.ml": 3},
                    options={id(model): options} if options else None)
    if answer:
        answers = answer(model)
    else:
        answers = {"variable": model.predict} if regression else {"probabilities": model.predict_proba}
    return proto, answers, missing, (model if explain else None)


@case
def sklearn_logistic():
    "LogisticRegression behind a StandardScaler"
    return scikit(pipeline.make_pipeline(preprocessing.StandardScaler(), linear_model.LogisticRegression()))


@case
def sklearn_ridge():
    "Ridge regression"
    return scikit(linear_model.Ridge(), regression=True)


@case
def sklearn_forest():
    "RandomForestClassifier"
    return scikit(ensemble.RandomForestClassifier(20, max_depth=6, random_state=1), explain=True)


@case
def sklearn_boosting():
    "GradientBoostingClassifier"
    return scikit(ensemble.GradientBoostingClassifier(n_estimators=30, max_depth=4, random_state=1), explain=True)


@case
def sklearn_hist_boosting():
    "HistGradientBoostingClassifier with missing values"
    return scikit(ensemble.HistGradientBoostingClassifier(max_iter=20, max_leaf_nodes=15, random_state=1), missing=True)


@case
def sklearn_mlp():
    "MLPClassifier of two layers behind a StandardScaler"
    return scikit(pipeline.make_pipeline(preprocessing.StandardScaler(), neural_network.MLPClassifier((32, 16), max_iter=40, random_state=1)))


@case
def sklearn_isolation_forest():
    "IsolationForest: how odd a row is"
    return scikit(ensemble.IsolationForest(n_estimators=10, max_samples=128, random_state=1), answer=lambda m: {"scores": m.decision_function})


def light(kind, classes=2, regression=False, missing=True, categorical=None, explain=False, **parameters):
    x, score = training(missing)
    if categorical is not None:
        x[:, categorical] = np.nan_to_num(x[:, categorical])
    y = score if regression else np.digitize(score, np.quantile(score, np.arange(1, classes) / classes))
    parameters = {"n_estimators": 30, "num_leaves": 15, "n_jobs": 1, "random_state": 1, "verbose": -1, "deterministic": True} | parameters
    model = kind(**parameters).fit(x, y, categorical_feature="auto" if categorical is None else [categorical])
    proto = convert_lightgbm(model, initial_types=[("X", LightType([None, FEATURES]))], target_opset=15, zipmap=False)
    return proto, {proto.graph.output[-1].name: model.predict if regression else model.predict_proba}, missing, (model if explain else None)


@case
def lightgbm_binary():
    "LGBMClassifier with missing values"
    return light(lightgbm.LGBMClassifier, explain=True)


@case
def lightgbm_regression():
    "LGBMRegressor with missing values"
    return light(lightgbm.LGBMRegressor, regression=True)


@case
def lightgbm_multiclass():
    "LGBMClassifier of three classes"
    return light(lightgbm.LGBMClassifier, classes=3, n_estimators=15)


@case
def lightgbm_categorical():
    "LGBMClassifier with a categorical feature"
    return light(lightgbm.LGBMClassifier, categorical=4, missing=False, min_data_per_group=5, cat_smooth=1)


def boost(model, classes=2, missing=True, explain=False, groups=None):
    x, score = training(missing)
    regression = isinstance(model, xgboost.XGBRegressor) or groups is not None
    y = score if regression else np.digitize(score, np.quantile(score, np.arange(1, classes) / classes))
    if groups:
        y = np.digitize(score, np.quantile(score, [0.25, 0.5, 0.75]))
        model.fit(x, y, qid=np.arange(TRAIN) // groups)
        same = xgboost.XGBRegressor()  # the exporter knows no rankers; a ranker's score is its margin
        same.load_model(as_regressor(model))
        proto = convert_xgboost(same, initial_types=[("X", LightType([None, FEATURES]))], target_opset=15)
    else:
        model.fit(x, y)
        proto = convert_xgboost(model, initial_types=[("X", LightType([None, FEATURES]))], target_opset=15)
    return proto, {proto.graph.output[-1].name: model.predict if regression else model.predict_proba}, missing, (model if explain else None)


def as_regressor(model):
    """Write a ranker's trees as those of a regressor."""
    document = json.loads(model.get_booster().save_raw("json"))
    document["learner"]["objective"] = {"name": "reg:squarederror", "reg_loss_param": {"scale_pos_weight": "1"}}
    return bytearray(json.dumps(document).encode())


XGB = {"n_estimators": 30, "max_depth": 5, "tree_method": "hist", "n_jobs": 1, "random_state": 1}


@case
def xgboost_binary():
    "XGBClassifier with missing values"
    return boost(xgboost.XGBClassifier(**XGB), explain=True)


@case
def xgboost_regression():
    "XGBRegressor with missing values"
    return boost(xgboost.XGBRegressor(**XGB), explain=True)


@case
def xgboost_ranking():
    "XGBRanker of groups of 20 rows"
    return boost(xgboost.XGBRanker(**XGB), groups=20)


def recount(model, x):
    """Set the covers of shap's trees to the numbers of rows of x that pass their nodes."""
    weights = model.node_sample_weight
    weights[:] = 0
    for t in range(weights.shape[0]):
        at = np.zeros(len(x), dtype=int)
        live = np.arange(len(x))
        while len(live):
            np.add.at(weights[t], at[live], 1)
            left, right = model.children_left[t], model.children_right[t]
            live = live[left[at[live]] >= 0]
            i = at[live]
            v = x[live, model.features[t][i]]
            at[live] = np.where(np.isnan(v), model.children_default[t][i], np.where(v <= model.thresholds[t][i], left[i], right[i]))


def explanations(model):
    """Explain the last class of the first rows, base value last."""
    x, background = rows(EXPLAINED, 0, MISSING[0]), rows(TRAIN, ROWS, MISSING[0])
    if isinstance(model, xgboost.XGBRegressor):  # covers are numbers of rows
        return "pred_contribs of XGBoost", model.get_booster().predict(xgboost.DMatrix(x), pred_contribs=True)
    explainer = shap.TreeExplainer(model, feature_perturbation="tree_path_dependent")
    explainer.model.model_type = "internal"  # shap's own code, not the framework's
    recount(explainer.model, background.astype(np.float64))
    values = np.asarray(explainer.shap_values(x.astype(np.float64), check_additivity=False))
    if values.ndim == 3:
        values = values[:, :, -1]
    # shap keeps the base value of the covers that it was made with: take what is left of the raw value.
    if hasattr(model, "get_booster"):
        raw = model.predict(x, output_margin=True)
    elif isinstance(model, lightgbm.LGBMModel):
        raw = model.predict(x, raw_score=True)
    elif isinstance(model, ensemble.GradientBoostingClassifier):
        raw = model.decision_function(x)
    else:
        raw = model.predict_proba(x)[:, -1]
    base = raw - values.sum(axis=1)
    if np.ptp(base) > 1e-4:
        raise SystemExit(f"base values differ by {np.ptp(base)}")
    return "shap's TreeExplainer", np.hstack([values, base[:, None]])


MISSING = [False]


def save(name, array):
    (OUT / name).write_bytes(gzip.compress(np.ascontiguousarray(array).tobytes(), 9, mtime=0))


def main():
    warnings.filterwarnings("ignore")
    OUT.mkdir(exist_ok=True)
    index_file = OUT / "index.json"
    index = json.loads(index_file.read_text()) if index_file.exists() else {}
    for name, function in CASES.items():
        if not fnmatch.fnmatch(name, sys.argv[1] if len(sys.argv) > 1 else "*"):
            continue
        proto, answers, missing, explained = function()
        proto.graph.name = name
        sets = {s.domain: s.version for s in proto.opset_import}
        del proto.opset_import[:]
        for domain in sorted(sets):
            entry = proto.opset_import.add()
            entry.domain, entry.version = domain, sets[domain]
        data = proto.SerializeToString(deterministic=True)
        (OUT / f"{name}.onnx").write_bytes(data)
        x = rows(ROWS, 0, missing)
        entry = {"about": function.__doc__, "missing": missing, "outputs": {}}
        for output, answer in answers.items():
            y = np.asarray(answer(x), dtype=np.float32).reshape(ROWS, -1)
            if y.shape[1] == 2:
                y = y[:, 1:]  # the other column is one minus this
                entry["complement"] = True
            save(f"{name}.{output}.f32.gz", y)
            entry["outputs"][output] = y.shape[1]
        if explained is not None:
            MISSING[0] = missing
            entry["explainer"], values = explanations(explained)
            save(f"{name}.explained.f64.gz", values.astype(np.float64))
        index[name] = entry
        print(f"{name:28} {len(data):>8,}", entry)
        index_file.write_text(json.dumps(index, indent=1, sort_keys=True) + "\n")


if __name__ == "__main__":
    main()
