"""TFLite's interpreter, started once on the smallest model there is.

It looks at the processor when the first model is loaded, not when it is imported, and picks its
kernels by that. A worker that must not open files by then would run several times slower.
"""

import base64
import importlib

SMALLEST = base64.b64decode(
    "GAAAAFRGTDMAAA4AFAAQAAwACAAAAAQADgAAABAAAAAcAAAA2AAAAAMAAAABAAAACAAAAAQABAAEAAAAAQAAABAAAAAM"
    "ABQAEAAMAAgABAAMAAAAEAAAADwAAABAAAAARAAAAAEAAAAQAAAAAAAKAAwAAAAIAAQACgAAAAgAAAAMAAAAAQAAAAEA"
    "AAABAAAAAAAAAAEAAAABAAAAAQAAAAAAAAACAAAANAAAAAQAAADg////CAAAAAwAAAABAAAAeQAAAAIAAAABAAAAAQAA"
    "AAwADAAIAAAAAAAEAAwAAAAIAAAADAAAAAEAAAB4AAAAAgAAAAEAAAABAAAAAQAAABAAAAAMAAwACwAAAAAABAAMAAAA"
    "EwAAAAAAABM="
)
"""One RELU over one number; a test makes it anew."""


def start(module: str) -> None:
    """Let the interpreter of ``module`` find out what the processor can do."""
    interpreter = importlib.import_module(f"{module}.interpreter")
    interpreter.Interpreter(model_content=SMALLEST, num_threads=1).allocate_tensors()
