"""What a hostile model tries, one function an attempt; none does harm when it succeeds.

Each returns when it got its way and raises OSError when it was refused. Where success would do
harm the call is made with arguments that end it early, but only after the question whether it is
allowed at all: an end other than EPERM is then a success.
"""

from onnxruntime import files, kernel, network, processes, service
from onnxruntime.trying import ALL, outcome

__all__ = ["ALL", "files", "kernel", "network", "outcome", "processes", "service"]
