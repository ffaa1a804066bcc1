"""Generated tables to train on and rows to ask about."""

from dataclasses import dataclass, field

import numpy as np
import onnx
from onnx import numpy_helper

FEATURES = 8
INF = np.float32(np.inf)


@dataclass
class Case:
    """One model, the rows to ask it about, and what its framework itself answers."""

    proto: onnx.ModelProto
    inputs: dict
    special: int  # index of the first row that is an edge, not an ordinary value
    framework: dict = field(default_factory=dict)


def case(about):
    """Mark a function as a case of its module, described by about."""
    def mark(function):
        function.__doc__ = about
        function.__globals__.setdefault("CASES", []).append(function)
        return function

    return mark


def table(rows=600, classes=2, seed=1, missing=0.0):
    """Make a table of float32 features and a class for each row."""
    rnd = np.random.default_rng(seed)
    x = rnd.normal(0, 1, (rows, FEATURES)) * np.array([1, 10, 0.1, 100, 1, 1, 3, 1])
    x[:, 4] = rnd.integers(0, 5, rows)
    x[:, 5] = np.exp(x[:, 5])
    score = x[:, 0] + 0.1 * x[:, 1] * (x[:, 4] > 2) + 0.01 * x[:, 3] - np.abs(x[:, 6]) / 3 + rnd.normal(0, 0.3, rows)
    y = np.digitize(score, np.quantile(score, np.arange(1, classes) / classes))
    if missing:
        x[rnd.random(x.shape) < missing] = np.nan
    return x.astype(np.float32), y.astype(np.int64), score.astype(np.float32)


def ordinary(rows=48, missing=0.0, dtype=np.float32):
    """Make rows like the table's that no model was trained on."""
    return table(rows, seed=99, missing=missing)[0].astype(dtype)


def edges(dtype=np.float32, nan=True, infinite=True):
    """Make rows of zeros, signed zeros, denormals, the largest numbers, infinities and NaN."""
    limit = np.finfo(dtype)
    values = [0.0, -0.0, float(limit.smallest_subnormal), float(limit.max), float(limit.min)]
    if infinite:
        values += [np.inf, -np.inf]
    if nan:
        values += [np.nan]
    rows = [np.full(FEATURES, v) for v in values]
    base = ordinary(1)[0].astype(np.float64)
    for v in values[5:]:  # one such value among ordinary ones, at each place
        for place in range(FEATURES):
            row = base.copy()
            row[place] = v
            rows.append(row)
    return np.array(rows).astype(dtype)


def around_splits(proto, base, most=24):
    """Make rows that lie on splits of the model's trees and one step beside them."""
    thresholds = []
    for node in proto.graph.node:
        attributes = {a.name: a for a in node.attribute}
        if "nodes_modes" not in attributes:
            continue
        if "nodes_values" in attributes:
            values = attributes["nodes_values"].floats
        else:
            name = "nodes_splits" if node.op_type == "TreeEnsemble" else "nodes_values_as_tensor"
            values = numpy_helper.to_array(attributes[name].t)
        if node.op_type == "TreeEnsemble":  # the leaves stand apart
            thresholds += zip(attributes["nodes_featureids"].ints, base.dtype.type(values))
            continue
        for mode, place, value in zip(attributes["nodes_modes"].strings, attributes["nodes_featureids"].ints, values):
            if mode != b"LEAF":
                thresholds.append((int(place), base.dtype.type(value)))
    step = max(1, len(thresholds) * 3 // most)
    rows = []
    for i, (place, value) in enumerate(thresholds[::step][:most // 3]):
        for v in (np.nextafter(value, -INF, dtype=base.dtype), value, np.nextafter(value, INF, dtype=base.dtype)):
            row = base[i % len(base)].copy()
            row[place] = v
            rows.append(row)
    return np.array(rows, dtype=base.dtype).reshape(-1, base.shape[1])


def ask(proto, name="X", dtype=np.float32, missing=0.0, nan=True, infinite=True, framework=None):
    """Build the case of a model with one input of FEATURES columns.

    framework maps an output's name to a function that answers for rows.
    """
    base = ordinary(missing=missing, dtype=dtype)
    x = np.vstack([base, around_splits(proto, base), edges(dtype, nan, infinite)])
    # The framework is asked about the ordinary rows only: at edges it may refuse.
    answers = {k: np.asarray(f(base)) for k, f in (framework or {}).items()}
    return Case(proto, {name: x}, len(base), answers)
