"""A model file behind a plain uvicorn service: ``plain_uvicorn.py MODEL PORT``."""

import sys

import numpy as np
import onnxruntime
import uvicorn
from fastapi import FastAPI, Request

options = onnxruntime.SessionOptions()
options.intra_op_num_threads = 1  # as every server that is measured here
session = onnxruntime.InferenceSession(sys.argv[1], options)
app = FastAPI()


@app.post("/v2/models/dense/infer")
async def infer(request: Request):
    entry = (await request.json())["inputs"][0]
    x = np.array(entry["data"], np.float32).reshape(entry["shape"])
    (y,) = session.run(None, {"x": x})
    return {"outputs": [{"name": "probabilities", "data": y.ravel().tolist()}]}


uvicorn.run(app, host="127.0.0.1", port=int(sys.argv[2]), log_level="error")
