"""A server of the kserve package with a model that answers what it was asked."""

import sys

from kserve import Model, ModelServer
from kserve.protocol.infer_type import InferOutput, InferResponse

TENSORS = [("x", "FP32", [3]), ("d", "FP64", []), ("n", "INT64", [1]), ("ok", "BOOL", []), ("i", "INT32", [2, 2])]


class Echo(Model):
    def __init__(self, name):
        super().__init__(name)
        self.ready = True

    async def get_input_types(self):
        return [{"name": n, "datatype": d, "shape": [-1, *s]} for n, d, s in TENSORS]

    async def get_output_types(self):
        return [{"name": n + "_out", "datatype": d, "shape": [-1, *s]} for n, d, s in TENSORS]

    def predict(self, payload, headers=None, response_headers=None):
        outputs = []
        for i in payload.inputs:
            o = InferOutput(name=i.name + "_out", shape=i.shape, datatype=i.datatype)
            wanted = next((r.binary_data for r in payload.request_outputs or [] if r.name == o.name), False)
            o.set_data_from_numpy(i.as_numpy(), binary_data=payload.from_grpc or bool(wanted))
            outputs.append(o)
        return InferResponse(
            response_id=payload.id,
            model_name=self.name,
            infer_outputs=outputs,
            from_grpc=payload.from_grpc,
            requested_outputs=payload.request_outputs,
            use_binary_outputs=payload.use_binary_outputs,
        )


ModelServer(http_port=int(sys.argv[1]), grpc_port=int(sys.argv[2]), workers=1, enable_docs_url=False).start([Echo("echo")])
