"""A model file served by MLServer: ``mlserver_onnx.py MODEL PORT``; the tensors are the bench's."""

import asyncio
import sys

import numpy as np
import onnxruntime
from mlserver import MLModel, MLServer, ModelSettings, Settings
from mlserver.settings import ModelParameters
from mlserver.types import InferenceRequest, InferenceResponse, ResponseOutput


class OnnxModel(MLModel):
    async def load(self) -> bool:
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = 1  # as every server that is measured here
        self._session = onnxruntime.InferenceSession(self.settings.parameters.uri, options)
        return True

    async def predict(self, payload: InferenceRequest) -> InferenceResponse:
        entry = payload.inputs[0]
        x = np.array(entry.data.root, np.float32).reshape(entry.shape)
        (y,) = self._session.run(None, {"x": x})
        output = ResponseOutput(
            name="probabilities", shape=list(y.shape), datatype="FP32", data=y.ravel().tolist()
        )
        return InferenceResponse(model_name=self.name, outputs=[output])


async def main() -> None:
    model, port = sys.argv[1:]
    settings = Settings(
        host="127.0.0.1", http_port=int(port), grpc_port=int(port) + 1, metrics_port=int(port) + 2,
        parallel_workers=0, debug=False, metrics_endpoint=None,
    )  # fmt: skip
    server = MLServer(settings)
    named = ModelSettings(
        name="dense", implementation=OnnxModel, parameters=ModelParameters(uri=model)
    )
    await server.start([named])


if __name__ == "__main__":
    asyncio.run(main())
