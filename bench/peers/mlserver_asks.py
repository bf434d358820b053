"""Asks MLServer in binary: ``mlserver_asks.py PORT CLIENTS SECONDS FILE``, with its Python.

MLServer reads binary tensors by gRPC alone: its HTTP knows JSON only. Closed loop as in
``serving_client.py``: each of CLIENTS channels asks when it is answered. FILE is the input ``x`` as
NumPy wrote it; prints the same JSON.
"""

import asyncio
import json
import sys
import time

import grpc
import numpy as np
from mlserver.grpc import dataplane_pb2 as messages
from mlserver.grpc.dataplane_pb2_grpc import GRPCInferenceServiceStub


def question(file: str) -> messages.ModelInferRequest:
    x = np.load(file)
    tensor = messages.ModelInferRequest.InferInputTensor(name="x", datatype="FP32", shape=x.shape)
    return messages.ModelInferRequest(
        model_name="dense", inputs=[tensor], raw_input_contents=[x.tobytes()]
    )


async def main() -> None:
    port, count, seconds, file = sys.argv[1], int(sys.argv[2]), float(sys.argv[3]), sys.argv[4]
    asked = question(file)
    taken: list[float] = []
    wrong = 0
    begun = time.perf_counter()

    async def client(number: int) -> None:
        nonlocal wrong
        # Else gRPC lets all channels of a process share one connection.
        own = [("grpc.use_local_subchannel_pool", 1), ("grpc.client", number)]
        async with grpc.aio.insecure_channel(f"127.0.0.1:{port}", options=own) as channel:
            infer = GRPCInferenceServiceStub(channel).ModelInfer
            while (since := time.perf_counter()) - begun < seconds:
                try:
                    answer = await infer(asked)
                    wrong += len(answer.raw_output_contents) != 1
                except grpc.aio.AioRpcError:
                    wrong += 1
                taken.append(time.perf_counter() - since)

    await asyncio.gather(*(client(number) for number in range(count)))
    spent = time.perf_counter() - begun
    taken.sort()
    print(
        json.dumps(
            {
                "requests_per_second": len(taken) / spent,
                "p50_ms": taken[len(taken) // 2] * 1e3,
                "p99_ms": taken[min(int(len(taken) * 0.99), len(taken) - 1)] * 1e3,
                "wrong": wrong,
            }
        )
    )


if __name__ == "__main__":
    asyncio.run(main())
