"""Graphs built node by node: networks as PyTorch exports them, and operators that no exporter above writes."""

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper
from sklearn import ensemble, tree

from data import FEATURES, Case, ask, case, edges, ordinary, table

OPSETS = [helper.make_opsetid("", 17), helper.make_opsetid("ai.onnx.ml", 3)]


def model(nodes, inputs, outputs, constants=None, opsets=None):
    def info(values):
        return [helper.make_tensor_value_info(n, t, s) for n, t, s in values]

    graph = helper.make_graph(nodes, "graph", info(inputs), info(outputs),
                              [numpy_helper.from_array(v, k) for k, v in (constants or {}).items()])
    proto = helper.make_model(graph, opset_imports=opsets or OPSETS, producer_name="handmade")
    proto.ir_version = 10
    return proto


def dense(rnd, into, out):
    return (rnd.normal(0, 1, (into, out)) * np.sqrt(2 / into)).astype(np.float32), rnd.normal(0, 0.1, out).astype(np.float32)


def wide_rows(columns):
    """Rows of any width: ordinary ones, then constant rows and single infinities and NaN."""
    rnd = np.random.default_rng(5)
    rows = [rnd.normal(0, 1, columns) for _ in range(48)]
    for v in (0, 1e-40, 3e38, np.inf, -np.inf, np.nan):
        rows.append(np.full(columns, v))
    for v in (np.inf, -np.inf, np.nan):
        row = rows[0].copy()
        row[columns // 2] = v
        rows.append(row)
    return np.array(rows, dtype=np.float32)


@case("Network 30-64-64-1 as PyTorch exports it: Gemm with transB, Relu, Sigmoid")
def mlp_30_64_64_1():
    rnd = np.random.default_rng(1)
    constants, nodes, x = {}, [], "input"
    for i, (into, out) in enumerate([(30, 64), (64, 64), (64, 1)]):
        weight, bias = dense(rnd, into, out)
        # PyTorch keeps the weights of a layer as [out, in].
        constants |= {f"net.{2*i}.weight": np.ascontiguousarray(weight.T), f"net.{2*i}.bias": bias}
        nodes.append(helper.make_node("Gemm", [x, f"net.{2*i}.weight", f"net.{2*i}.bias"], [f"gemm{i}"], alpha=1.0, beta=1.0, transB=1))
        x = f"act{i}" if i < 2 else "output"
        nodes.append(helper.make_node("Relu" if i < 2 else "Sigmoid", [f"gemm{i}"], [x]))
    proto = model(nodes, [("input", TensorProto.FLOAT, ["batch", 30])], [("output", TensorProto.FLOAT, ["batch", 1])], constants)
    return Case(proto, {"input": wide_rows(30)}, 48)


@case("Network as Keras exports it: MatMul and Add, BatchNormalization, Elu, LeakyRelu, Softmax over three classes, ArgMax")
def mlp_matmul_softmax():
    rnd = np.random.default_rng(2)
    w0, b0 = dense(rnd, 20, 24)
    w1, b1 = dense(rnd, 24, 17)
    w2, b2 = dense(rnd, 17, 3)
    constants = {"w0": w0, "b0": b0, "w1": w1, "b1": b1, "w2": w2, "b2": b2,
                 "scale": rnd.uniform(0.5, 2, 24).astype(np.float32), "shift": rnd.normal(0, 1, 24).astype(np.float32),
                 "mean": rnd.normal(0, 1, 24).astype(np.float32), "var": rnd.uniform(0.5, 2, 24).astype(np.float32)}
    nodes = [
        helper.make_node("MatMul", ["x", "w0"], ["m0"]),
        helper.make_node("Add", ["m0", "b0"], ["a0"]),
        helper.make_node("BatchNormalization", ["a0", "scale", "shift", "mean", "var"], ["n0"], epsilon=1e-3),
        helper.make_node("Elu", ["n0"], ["h0"], alpha=1.0),
        helper.make_node("MatMul", ["h0", "w1"], ["m1"]),
        helper.make_node("Add", ["m1", "b1"], ["a1"]),
        helper.make_node("LeakyRelu", ["a1"], ["h1"], alpha=0.1),
        helper.make_node("MatMul", ["h1", "w2"], ["m2"]),
        helper.make_node("Add", ["m2", "b2"], ["a2"]),
        helper.make_node("Softmax", ["a2"], ["probabilities"], axis=-1),
        helper.make_node("ArgMax", ["probabilities"], ["label"], axis=-1, keepdims=0),
    ]
    proto = model(nodes, [("x", TensorProto.FLOAT, ["n", 20])],
                  [("label", TensorProto.INT64, ["n"]), ("probabilities", TensorProto.FLOAT, ["n", 3])], constants)
    return Case(proto, {"x": wide_rows(20)}, 48)


@case("Transformer encoder as PyTorch exports it: 2 layers, width 64, 4 heads, 32 tokens, GELU by Erf, mean over tokens")
def transformer_encoder():
    rnd = np.random.default_rng(11)
    tokens, width, heads, hidden, words, layers = 32, 64, 4, 128, 64, 2
    constants = {
        "words": rnd.normal(0, 1, (words, width)).astype(np.float32), "places": rnd.normal(0, 0.3, (tokens, width)).astype(np.float32),
        "split": np.array([0, 0, heads, width // heads]), "join": np.array([0, 0, width]),
        "root": np.float32(np.sqrt(width // heads)), "half": np.float32(0.5), "one": np.float32(1), "sqrt2": np.float32(np.sqrt(2)),
    }
    nodes = [helper.make_node("Gather", ["words", "ids"], ["e"], axis=0), helper.make_node("Add", ["e", "places"], ["x0"])]

    def linear(x, name, into, out):
        weight = (rnd.normal(0, 1, (into, out)) / np.sqrt(into)).astype(np.float32)
        constants.update({f"{name}.w": weight, f"{name}.b": rnd.normal(0, 0.1, out).astype(np.float32)})
        nodes.append(helper.make_node("MatMul", [x, f"{name}.w"], [f"{name}.m"]))
        nodes.append(helper.make_node("Add", [f"{name}.b", f"{name}.m"], [name]))
        return name

    def norm(x, name):
        constants.update({f"{name}.s": rnd.uniform(0.5, 1.5, width).astype(np.float32), f"{name}.c": rnd.normal(0, 0.1, width).astype(np.float32)})
        nodes.append(helper.make_node("LayerNormalization", [x, f"{name}.s", f"{name}.c"], [name], axis=-1, epsilon=1e-5))
        return name

    def op(kind, inputs, name, **attributes):
        nodes.append(helper.make_node(kind, inputs, [name], **attributes))
        return name

    x = "x0"
    for i in range(layers):
        p = f"l{i}."
        parts = {}
        for part in "qkv":
            flat = linear(x, p + part, width, width)
            split = op("Reshape", [flat, "split"], p + part + "4")
            parts[part] = op("Transpose", [split], p + part + "t", perm=[0, 2, 3, 1] if part == "k" else [0, 2, 1, 3])
        scores = op("Div", [op("MatMul", [parts["q"], parts["k"]], p + "qk"), "root"], p + "scores")
        mixed = op("MatMul", [op("Softmax", [scores], p + "share", axis=-1), parts["v"]], p + "mixed")
        joined = op("Reshape", [op("Transpose", [mixed], p + "mixedt", perm=[0, 2, 1, 3]), "join"], p + "joined")
        x = norm(op("Add", [x, linear(joined, p + "o", width, width)], p + "r1"), p + "n1")
        h = linear(x, p + "up", width, hidden)
        erf = op("Erf", [op("Div", [h, "sqrt2"], p + "g1")], p + "g2")
        gelu = op("Mul", [op("Mul", [h, op("Add", [erf, "one"], p + "g3")], p + "g4"), "half"], p + "g5")
        x = norm(op("Add", [x, linear(gelu, p + "down", hidden, width)], p + "r2"), p + "n2")
    pooled = op("ReduceMean", [x], "pooled", axes=[1], keepdims=0)
    weight, bias = dense(rnd, width, 2)
    constants |= {"head.w": np.ascontiguousarray(weight.T), "head.b": bias}
    op("Softmax", [op("Gemm", [pooled, "head.w", "head.b"], "logits", transB=1)], "probabilities", axis=-1)
    proto = model(nodes, [("ids", TensorProto.INT64, ["n", tokens])], [("probabilities", TensorProto.FLOAT, ["n", 2])], constants)
    return Case(proto, {"ids": rnd.integers(0, words, (24, tokens))}, 24)


@case("Network with an embedding: Gather by an integer column, Concat with numbers, Tanh, Clip")
def embedding():
    rnd = np.random.default_rng(3)
    w0, b0 = dense(rnd, 10, 16)
    w1, b1 = dense(rnd, 16, 2)
    constants = {"table": rnd.normal(0, 1, (12, 6)).astype(np.float32), "w0": w0, "b0": b0, "w1": w1, "b1": b1,
                 "shape": np.array([-1, 6]), "low": np.float32(-1), "high": np.float32(1)}
    nodes = [
        helper.make_node("Gather", ["table", "code"], ["rows"], axis=0),
        helper.make_node("Reshape", ["rows", "shape"], ["flat"]),
        helper.make_node("Clip", ["numbers", "low", "high"], ["clipped"]),
        helper.make_node("Concat", ["flat", "clipped"], ["joined"], axis=1),
        helper.make_node("Gemm", ["joined", "w0", "b0"], ["g0"]),
        helper.make_node("Tanh", ["g0"], ["h0"]),
        helper.make_node("Gemm", ["h0", "w1", "b1"], ["y"]),
    ]
    proto = model(nodes, [("code", TensorProto.INT64, ["n", 1]), ("numbers", TensorProto.FLOAT, ["n", 4])],
                  [("y", TensorProto.FLOAT, ["n", 2])], constants)
    code = rnd.integers(0, 12, (52, 1))
    code[48:] = [[-1], [-12], [0], [11]]
    numbers = rnd.normal(0, 1, (52, 4)).astype(np.float32)
    numbers[49:] = [[np.nan] * 4, [np.inf] * 4, [-np.inf] * 4]
    return Case(proto, {"code": code, "numbers": numbers}, 48)


@case("Comparisons and choice: Cast, Greater, Less, Equal, And, Or, Not, Where, IsNaN, Abs, Log, Sqrt, Pow, Min, Max, ReduceSum")
def logic():
    constants = {"zero": np.float32(0), "one": np.float32(1), "two": np.float32(2), "axes": np.array([1])}
    n = helper.make_node
    nodes = [
        n("IsNaN", ["x"], ["missing"]),
        n("Where", ["missing", "zero", "x"], ["filled"]),
        n("Greater", ["filled", "one"], ["high"]),
        n("Less", ["filled", "zero"], ["low"]),
        n("Or", ["high", "low"], ["outside"]),
        n("Not", ["outside"], ["inside"]),
        n("Equal", ["filled", "zero"], ["null"]),
        n("And", ["inside", "null"], ["exact"]),
        n("Cast", ["exact"], ["exactly"], to=TensorProto.INT64),
        n("Abs", ["filled"], ["size"]),
        n("Add", ["size", "one"], ["more"]),
        n("Log", ["more"], ["log"]),
        n("Sqrt", ["size"], ["root"]),
        n("Pow", ["root", "two"], ["power"]),
        n("Min", ["log", "root"], ["least"]),
        n("Max", ["log", "power"], ["most"]),
        n("Where", ["outside", "least", "most"], ["chosen"]),
        n("ReduceSum", ["chosen", "axes"], ["sum"], keepdims=1),
    ]
    proto = model(nodes, [("x", TensorProto.FLOAT, ["n", FEATURES])],
                  [("exactly", TensorProto.INT64, ["n", FEATURES]), ("outside", TensorProto.BOOL, ["n", FEATURES]),
                   ("chosen", TensorProto.FLOAT, ["n", FEATURES]), ("sum", TensorProto.FLOAT, ["n", 1])], constants)
    return Case(proto, {"x": np.vstack([ordinary(48), edges()])}, 48)


def forest_five():
    """Write a trained forest as the operator TreeEnsemble of ai.onnx.ml 5, children and leaves apart."""
    x, _, score = table()
    trained = ensemble.ExtraTreesRegressor(6, max_depth=5, random_state=1).fit(x, score)
    features, splits, truth, truth_leaf, falsity, falsity_leaf, roots = [], [], [], [], [], [], []
    leaves = []
    for grown in (e.tree_ for e in trained.estimators_):
        base = len(features)
        inner = {node: base + i for i, node in enumerate(np.flatnonzero(grown.children_left >= 0))}
        roots.append(base)

        def place(child):
            if child in inner:
                return inner[child], 0
            leaves.append(grown.value[child, 0, 0] / len(trained.estimators_))
            return len(leaves) - 1, 1

        for node in inner:
            features.append(int(grown.feature[node]))
            splits.append(np.float32(grown.threshold[node]))
            for child, ids, flags in ((grown.children_left[node], truth, truth_leaf), (grown.children_right[node], falsity, falsity_leaf)):
                at, leaf = place(child)
                ids.append(int(at))
                flags.append(leaf)
    return dict(
        n_targets=1, aggregate_function=1, post_transform=0, tree_roots=roots,
        nodes_modes=helper.make_tensor("modes", TensorProto.UINT8, [len(features)], [0] * len(features)),  # BRANCH_LEQ
        nodes_featureids=features,
        nodes_splits=helper.make_tensor("splits", TensorProto.FLOAT, [len(features)], splits),
        nodes_truenodeids=truth, nodes_trueleafs=truth_leaf,
        nodes_falsenodeids=falsity, nodes_falseleafs=falsity_leaf,
        leaf_targetids=[0] * len(leaves),
        leaf_weights=helper.make_tensor("weights", TensorProto.FLOAT, [len(leaves)], np.array(leaves, np.float32)),
    ), trained


@case("ExtraTreesRegressor written as TreeEnsemble of ai.onnx.ml 5")
def tree_ensemble_5():
    attributes, trained = forest_five()
    proto = model([helper.make_node("TreeEnsemble", ["X"], ["Y"], domain="ai.onnx.ml", **attributes)],
                  [("X", TensorProto.FLOAT, ["n", FEATURES])], [("Y", TensorProto.FLOAT, ["n", 1])],
                  opsets=[helper.make_opsetid("", 21), helper.make_opsetid("ai.onnx.ml", 5)])
    return ask(proto, framework={"Y": trained.predict})


@case("TreeEnsemble of ai.onnx.ml 5 with set membership (BRANCH_MEMBER)")
def tree_ensemble_5_member():
    # x4 in {1, 3} ? (x0 <= 0 ? 1 : 2) : (x4 in {2} ? 3 : 4)
    proto = model([helper.make_node(
        "TreeEnsemble", ["X"], ["Y"], domain="ai.onnx.ml", n_targets=1, aggregate_function=1, post_transform=0, tree_roots=[0],
        nodes_modes=helper.make_tensor("modes", TensorProto.UINT8, [3], [6, 0, 6]),
        nodes_featureids=[4, 0, 4],
        nodes_splits=helper.make_tensor("splits", TensorProto.FLOAT, [3], [0.0, 0.0, 0.0]),
        membership_values=helper.make_tensor("members", TensorProto.FLOAT, [5], [1.0, 3.0, float("nan"), 2.0, float("nan")]),
        nodes_truenodeids=[1, 0, 2], nodes_trueleafs=[0, 1, 1],
        nodes_falsenodeids=[2, 1, 3], nodes_falseleafs=[0, 1, 1],
        leaf_targetids=[0, 0, 0, 0],
        leaf_weights=helper.make_tensor("weights", TensorProto.FLOAT, [4], [1.0, 2.0, 3.0, 4.0]))],
        [("X", TensorProto.FLOAT, ["n", FEATURES])], [("Y", TensorProto.FLOAT, ["n", 1])],
        opsets=[helper.make_opsetid("", 21), helper.make_opsetid("ai.onnx.ml", 5)])
    return ask(proto)


def float64_tree(trained, kind, leaf):
    """Write one tree of scikit-learn with thresholds and leaves as float64 tensors, as ai.onnx.ml 3 can hold them.

    leaf(value) gives the weights of a leaf for the targets or classes.
    """
    tree = trained.tree_
    inner = tree.children_left >= 0
    count = tree.node_count
    places, ids, weights = [], [], []
    for node in np.flatnonzero(~inner):
        for i, weight in enumerate(leaf(tree.value[node, 0])):
            places.append(int(node))
            ids.append(i)
            weights.append(float(weight))
    attributes = {
        "nodes_treeids": [0] * count, "nodes_nodeids": list(range(count)),
        "nodes_featureids": [int(f) if i else 0 for f, i in zip(tree.feature, inner)],
        "nodes_modes": ["BRANCH_LEQ" if i else "LEAF" for i in inner],
        "nodes_truenodeids": [int(n) if i else 0 for n, i in zip(tree.children_left, inner)],
        "nodes_falsenodeids": [int(n) if i else 0 for n, i in zip(tree.children_right, inner)],
        "nodes_values_as_tensor": helper.make_tensor("values", TensorProto.DOUBLE, [count], np.where(inner, tree.threshold, 0)),
        f"{kind}_treeids": [0] * len(ids), f"{kind}_nodeids": places, f"{kind}_ids": ids,
        f"{kind}_weights_as_tensor": helper.make_tensor("weights", TensorProto.DOUBLE, [len(ids)], weights),
    }
    return attributes


@case("DecisionTreeRegressor with thresholds and weights as float64 tensors (nodes_values_as_tensor)")
def tree_double_tensor_regressor():
    x, _, score = table()
    trained = tree.DecisionTreeRegressor(max_depth=6, random_state=1).fit(x.astype(np.float64), score)
    node = helper.make_node("TreeEnsembleRegressor", ["X"], ["Y"], domain="ai.onnx.ml", n_targets=1,
                            **float64_tree(trained, "target", lambda v: v))
    proto = model([node], [("X", TensorProto.DOUBLE, ["n", FEATURES])], [("Y", TensorProto.FLOAT, ["n", 1])])
    return ask(proto, dtype=np.float64)


@case("DecisionTreeClassifier with thresholds and weights as float64 tensors, classes named by strings")
def tree_double_tensor_classifier():
    x, y, _ = table(classes=3)
    trained = tree.DecisionTreeClassifier(max_depth=5, random_state=1).fit(x.astype(np.float64), y)
    node = helper.make_node("TreeEnsembleClassifier", ["X"], ["label", "probabilities"], domain="ai.onnx.ml",
                            classlabels_strings=["low", "medium", "high"], **float64_tree(trained, "class", lambda v: v))
    proto = model([node], [("X", TensorProto.DOUBLE, ["n", FEATURES])],
                  [("label", TensorProto.STRING, ["n"]), ("probabilities", TensorProto.FLOAT, ["n", 3])])
    return ask(proto, dtype=np.float64)


def small_tree(modes, aggregate="SUM", post="NONE", base=None, missing=None, targets=1):
    """Two trees of three leaves each, whose inner nodes have the given modes."""
    values = [0.5, 10.0, 0.0, 0.0, 0.0]
    attributes = dict(
        n_targets=targets, aggregate_function=aggregate, post_transform=post,
        nodes_treeids=[0] * 5 + [1] * 5, nodes_nodeids=list(range(5)) * 2, nodes_featureids=[0, 1, 0, 0, 0, 4, 1, 0, 0, 0],
        nodes_values=values + [3.0, -10.0, 0.0, 0.0, 0.0],
        nodes_modes=[modes[0], modes[1], "LEAF", "LEAF", "LEAF", modes[2], modes[3], "LEAF", "LEAF", "LEAF"],
        nodes_truenodeids=[1, 3, 0, 0, 0] * 2, nodes_falsenodeids=[2, 4, 0, 0, 0] * 2,
        nodes_missing_value_tracks_true=missing or [0] * 10,
        target_treeids=[0, 0, 0, 1, 1, 1], target_nodeids=[2, 3, 4] * 2,
        target_ids=[0, 0, targets - 1, 0, targets - 1, 0], target_weights=[0.25, -1.5, 3.0, 2.0, 0.125, -0.75])
    if base:
        attributes["base_values"] = base
    proto = model([helper.make_node("TreeEnsembleRegressor", ["X"], ["Y"], domain="ai.onnx.ml", **attributes)],
                  [("X", TensorProto.FLOAT, ["n", FEATURES])], [("Y", TensorProto.FLOAT, ["n", targets])])
    return ask(proto)


@case("TreeEnsembleRegressor with BRANCH_LT, BRANCH_GTE, BRANCH_GT and BRANCH_EQ, missing values tracking true")
def tree_modes():
    return small_tree(["BRANCH_LT", "BRANCH_GTE", "BRANCH_EQ", "BRANCH_GT"], missing=[1, 0, 0, 0, 0, 1, 1, 0, 0, 0])


@case("TreeEnsembleRegressor with BRANCH_NEQ, aggregated by MIN, two targets and base values")
def tree_min():
    return small_tree(["BRANCH_NEQ", "BRANCH_LEQ", "BRANCH_NEQ", "BRANCH_GT"], aggregate="MIN", base=[0.5, -0.5], targets=2)


@case("TreeEnsembleRegressor aggregated by MAX")
def tree_max():
    return small_tree(["BRANCH_LEQ"] * 4, aggregate="MAX", base=[0.25])


@case("TreeEnsembleRegressor aggregated by AVERAGE with base values, LOGISTIC")
def tree_average():
    return small_tree(["BRANCH_LEQ"] * 4, aggregate="AVERAGE", base=[0.25], post="LOGISTIC")


@case("TreeEnsembleRegressor with two targets, SOFTMAX_ZERO")
def tree_softmax_zero():
    return small_tree(["BRANCH_LEQ"] * 4, post="SOFTMAX_ZERO", targets=2)


@case("TreeEnsembleRegressor, PROBIT")
def tree_probit():
    return small_tree(["BRANCH_LEQ"] * 4, post="PROBIT", base=[0.5])


@case("FeatureVectorizer, Scaler, ArrayFeatureExtractor, Binarizer, Normalizer and LabelEncoder in one graph of three inputs")
def ml_operators():
    n = helper.make_node
    ml = {"domain": "ai.onnx.ml"}
    nodes = [
        n("FeatureVectorizer", ["a", "b"], ["joined"], inputdimensions=[3, 2], **ml),
        n("Scaler", ["joined"], ["scaled"], offset=[1.0, 2.0, 3.0, 4.0, 5.0], scale=[0.5, 2.0, 1.0, -1.0, 0.1], **ml),
        n("ArrayFeatureExtractor", ["scaled", "places"], ["some"], **ml),
        n("Binarizer", ["some"], ["bits"], threshold=0.0, **ml),
        n("Normalizer", ["scaled"], ["unit"], norm="L2", **ml),
        n("LabelEncoder", ["word"], ["code"], keys_strings=["red", "green"], values_int64s=[7, 8], default_int64=-1, **ml),
    ]
    proto = model(nodes, [("a", TensorProto.FLOAT, ["n", 3]), ("b", TensorProto.FLOAT, ["n", 2]), ("word", TensorProto.STRING, ["n", 1])],
                  [("bits", TensorProto.FLOAT, ["n", 2]), ("unit", TensorProto.FLOAT, ["n", 5]), ("code", TensorProto.INT64, ["n", 1])],
                  {"places": np.array([3, 0])})
    rnd = np.random.default_rng(4)
    a, b = rnd.normal(0, 2, (36, 3)).astype(np.float32), rnd.normal(0, 2, (36, 2)).astype(np.float32)
    a[32], a[33, 1], b[34, 0], a[35, 0] = 0, np.nan, np.inf, -np.inf
    word = np.array(["red", "green", "blue", "", "Red", "grün"])[rnd.integers(0, 6, (36, 1))]
    return Case(proto, {"a": a, "b": b, "word": word}, 32)
