#!/usr/bin/env python3
"""Train small models, export them to ONNX and record what ONNX Runtime says.

For each case NAME it writes models/NAME.onnx and models/NAME.json, whose form
README.md describes. Everything is generated from fixed seeds; the same
versions of the packages give the same models.

    pip install -r requirements.txt
    python train.py                 # all cases
    python train.py --only 'lgbm*'  # some
    python train.py --list
"""

import argparse
import fnmatch
import json
import warnings
from pathlib import Path

import numpy as np
import onnx
import onnxruntime

import handmade
import sklearn_cases
import tree_cases

MAX_BYTES = 300_000  # of one file


def all_cases():
    cases = {}
    for module in (sklearn_cases, tree_cases, handmade):
        for case in module.CASES:
            if case.__name__ in cases:
                raise SystemExit(f"two cases are called {case.__name__}")
            cases[case.__name__] = case
    return {name.replace("_", "-"): case for name, case in cases.items()}


def numbers(array):
    """List the numbers of an array; what JSON cannot hold becomes a string."""
    def one(v):
        v = float(str(v))  # the shortest digits that give back the same float32 or float64
        if np.isnan(v):
            return "NaN"
        if np.isinf(v):
            return "Infinity" if v > 0 else "-Infinity"
        return v

    return [one(v) for v in array.ravel()]


def tensor(array):
    """Describe a tensor as JSON."""
    kind = {"f": "float", "i": "int", "b": "bool"}.get(array.dtype.kind, "string")
    if kind == "string":
        return {"type": "string", "shape": list(array.shape), "data": [str(v) for v in array.ravel()]}
    if kind == "bool":
        return {"type": "bool", "shape": list(array.shape), "data": array.ravel().tolist()}
    data = numbers(array) if kind == "float" else array.ravel().tolist()
    return {"type": f"{kind}{array.dtype.itemsize * 8}", "shape": list(array.shape), "data": data}


def maps(rows):
    """Describe ZipMap's output, a list of maps, as a tensor with the keys of its columns."""
    keys = list(rows[0])
    values = np.array([[row[k] for k in keys] for row in rows], dtype=np.float32)
    return tensor(values) | {"keys": keys}


def run(model, inputs):
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    options.inter_op_num_threads = 1
    options.log_severity_level = 3  # exporters announce some shapes wrongly; it would warn of each
    session = onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
    names = [output.name for output in session.get_outputs()]
    values = session.run(names, {k: v.astype(object) if v.dtype.kind == "U" else v for k, v in inputs.items()})
    return {n: maps(v) if isinstance(v, list) else tensor(v) for n, v in zip(names, values)}


def write(name, case, folder):
    model = case()
    proto = model.proto
    # The exporters draw a random name for the graph and list the operator sets in any order.
    proto.graph.name = name
    sets = sorted(proto.opset_import, key=lambda s: s.domain)
    del proto.opset_import[:]
    proto.opset_import.extend(sets)
    onnx.checker.check_model(proto)
    data = proto.SerializeToString(deterministic=True)
    document = {
        "about": " ".join(case.__doc__.split()),
        "ops": sorted({f"{node.domain or 'ai.onnx'}.{node.op_type}" for node in proto.graph.node}),
        "special": model.special,
        "inputs": {k: tensor(v) for k, v in model.inputs.items()},
        "outputs": run(data, model.inputs),
    }
    if model.framework:
        document["framework"] = {k: tensor(v) for k, v in model.framework.items()}
    # One key a line at the top and one tensor a line below, so that changes can be read.
    text = json.dumps(document, allow_nan=False, separators=(",", ":"))
    lines = ["{"]
    for i, (key, value) in enumerate(document.items()):
        comma = "," if i + 1 < len(document) else ""
        if key in ("inputs", "outputs", "framework"):
            inner = ",\n".join(f'  {json.dumps(k)}:{json.dumps(v, allow_nan=False, separators=(",", ":"))}' for k, v in value.items())
            lines.append(f" {json.dumps(key)}:{{\n{inner}\n }}{comma}")
        else:
            lines.append(f" {json.dumps(key)}:{json.dumps(value)}{comma}")
    lines.append("}")
    pretty = "\n".join(lines) + "\n"
    if json.loads(pretty) != json.loads(text):
        raise AssertionError("the two forms of the document differ")
    for what, size in ((".onnx", len(data)), (".json", len(pretty))):
        if size > MAX_BYTES:
            raise SystemExit(f"{name}{what} has {size:,} bytes, more than {MAX_BYTES:,}: make the model smaller")
    (folder / f"{name}.onnx").write_bytes(data)
    (folder / f"{name}.json").write_text(pretty)
    print(f"{name:28} {len(data):>8,} {len(pretty):>8,}  {' '.join(document['ops'])}")
    for output, answer in model.framework.items():
        got = np.array(document["outputs"][output]["data"], dtype=np.float64).reshape(document["outputs"][output]["shape"])
        got = got[:model.special].reshape(answer.shape)
        print(f"{'':28} {np.abs(got - answer).max():.1e} from the framework's own {output}")


def main():
    p = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    p.add_argument("--only", default="*", metavar="PATTERN", help="cases to make")
    p.add_argument("--list", action="store_true", help="list the cases and stop")
    p.add_argument("--out", type=Path, default=Path(__file__).resolve().parent / "models")
    args = p.parse_args()
    warnings.filterwarnings("ignore", category=FutureWarning)
    warnings.filterwarnings("ignore", category=UserWarning)
    args.out.mkdir(parents=True, exist_ok=True)
    for name, case in all_cases().items():
        if not fnmatch.fnmatch(name, args.only):
            continue
        if args.list:
            print(f"{name:28} {' '.join(case.__doc__.split())}")
        else:
            write(name, case, args.out)


if __name__ == "__main__":
    main()
