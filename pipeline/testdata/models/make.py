"""Writes two.onnx: score = 0.001 * first + 0.1 * second, one float input of two values a row. Needs the PyPI package onnx."""
import onnx
from onnx import TensorProto, helper

graph = helper.make_graph(
    [helper.make_node("LinearRegressor", ["x"], ["score"], domain="ai.onnx.ml", coefficients=[0.001, 0.1], intercepts=[0.0])],
    "two",
    [helper.make_tensor_value_info("x", TensorProto.FLOAT, [None, 2])],
    [helper.make_tensor_value_info("score", TensorProto.FLOAT, [None, 1])],
)
model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17), helper.make_opsetid("ai.onnx.ml", 3)], producer_name="freshet tests")
model.ir_version = 8
helper.set_model_props(model, {"version": "7"})
onnx.checker.check_model(model)
onnx.save(model, "two.onnx")
