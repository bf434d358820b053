"""A model file behind a plain uvicorn service: ``plain_uvicorn.py MODEL PORT``."""

import json
import sys

import numpy as np
import onnxruntime
import uvicorn
from fastapi import FastAPI, Request, Response

HEADER = "inference-header-content-length"
options = onnxruntime.SessionOptions()
options.intra_op_num_threads = 1  # as every server that is measured here
session = onnxruntime.InferenceSession(sys.argv[1], options)
app = FastAPI()


@app.post("/v2/models/dense/infer")
async def infer(request: Request):
    length = request.headers.get(HEADER)
    if length is None:
        entry = (await request.json())["inputs"][0]
        x = np.array(entry["data"], np.float32).reshape(entry["shape"])
        (y,) = session.run(None, {"x": x})
        return {"outputs": [{"name": "probabilities", "data": y.ravel().tolist()}]}
    body = await request.body()
    entry = json.loads(body[: int(length)])["inputs"][0]
    x = np.frombuffer(body, np.float32, offset=int(length)).reshape(entry["shape"])
    (y,) = session.run(None, {"x": x})
    parameters = {"binary_data_size": y.nbytes}
    output = {"name": "probabilities", "datatype": "FP32", "shape": y.shape}
    said = json.dumps({"outputs": [output | {"parameters": parameters}]}).encode()
    return Response(
        said + y.tobytes(), media_type="application/octet-stream", headers={HEADER: str(len(said))}
    )


uvicorn.run(app, host="127.0.0.1", port=int(sys.argv[2]), log_level="error")
