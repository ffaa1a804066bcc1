"""Runtimes for MLServer: an ONNX model, and one that answers what it was asked."""

import asyncio
import os

import numpy as np
from mlserver import MLModel
from mlserver.codecs import NumpyCodec
from mlserver.codecs.string import decode_str
from mlserver.types import InferenceResponse, ResponseOutput


def array(tensor):
    data = getattr(tensor.data, "root", tensor.data)
    if tensor.datatype == "BYTES":
        return np.array([decode_str(x) for x in data], dtype=object).reshape(tensor.shape)
    return NumpyCodec.decode_input(tensor)


class Onnx(MLModel):
    """One ONNX model with dense inputs and outputs."""

    async def load(self):
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = 1
        self.session = onnxruntime.InferenceSession(self.settings.parameters.uri, options)
        self.types = {i.name: i.type for i in self.session.get_inputs()}
        return True

    async def predict(self, payload):
        inputs = {i.name: array(i) for i in payload.inputs}
        names = [o.name for o in payload.outputs or self.settings.outputs]
        answers = self.session.run(names, inputs)
        outputs = []
        for name, a in zip(names, answers):
            datatype = next(o.datatype for o in self.settings.outputs if o.name == name)
            data = [x.encode() for x in a.ravel()] if datatype == "BYTES" else a.ravel().tolist()
            outputs.append(ResponseOutput(name=name, datatype=datatype, shape=list(a.shape), data=data))
        return InferenceResponse(model_name=self.name, model_version=self.version, outputs=outputs)


class Echo(MLModel):
    """Answers every input as the output of the same name with "_out" behind it."""

    async def load(self):
        wait = float(os.environ.get("ECHO_LOADS_FOR", "0"))
        await asyncio.sleep(wait)
        return True

    async def predict(self, payload):
        return InferenceResponse(
            model_name=self.name,
            model_version=self.version,
            outputs=[
                ResponseOutput(
                    name=i.name + "_out",
                    datatype=i.datatype,
                    shape=i.shape,
                    data=[x for x in getattr(i.data, "root", i.data)],
                )
                for i in payload.inputs
            ],
        )
