"""A runtime whose models do what a signed model would if it broke out of a real one.

It stands in a worker where ONNX Runtime stands and offers what the agent uses of it. In its model
file is JSON between two marks: what to aim at (see ``attempts``). While it loads it makes each
attempt once; when it is asked for attempt k it makes it again, from inside the request.
"""

import json
from typing import Any

import numpy as np

from onnxruntime import attempts

ASKED_OF_LOADING = 1000
"""Input k + this asks for what attempt k came to while loading."""
MARK = b"-targets-"
NOTHING = -1
"""The input that makes no attempt; golden vectors use it."""


class SessionOptions:
    def __init__(self) -> None:
        self.intra_op_num_threads = self.inter_op_num_threads = self.log_severity_level = 0

    def add_session_config_entry(self, _key: str, _value: str) -> None:
        pass

    def add_external_initializers_from_files_in_memory(self, *_: Any) -> None:
        pass


class RunOptions:
    def add_run_config_entry(self, _key: str, _value: str) -> None:
        pass


class _Node:
    type = "tensor(float)"

    def __init__(self, name: str, width: int) -> None:
        self.name, self.shape = name, ["batch", width]


class InferenceSession:
    def __init__(self, source: str | bytes, _options: SessionOptions, **_: Any) -> None:
        if isinstance(source, bytes):
            data = source
        else:
            with open(source, "rb") as file:
                data = file.read()
        self._targets = json.loads(data.split(MARK)[1])
        self._loading = (
            [attempts.outcome(each, self._targets) for each in attempts.ALL]
            if self._targets["while_loading"]
            else []
        )

    def get_providers(self) -> list[str]:
        return ["CPUExecutionProvider"]

    def get_inputs(self) -> list[_Node]:
        return [_Node("x", 1)]

    def get_outputs(self) -> list[_Node]:
        return [_Node("probabilities", 3)]

    def run(self, _names: list[str], inputs: Any, _options: RunOptions | None = None) -> list[Any]:
        answer = np.zeros((len(inputs["x"]), 3), np.float32)
        asked = int(inputs["x"][0, 0])
        if asked == NOTHING:
            return [answer]
        if asked >= ASKED_OF_LOADING:
            answer[0, 0] = self._loading[asked - ASKED_OF_LOADING]
        else:
            answer[0, 0] = attempts.outcome(attempts.ALL[asked], self._targets)
        return [answer]
