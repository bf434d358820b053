"""Free ports that stay free until the process they are meant for listens on them."""

import random
import socket

HOST = "127.0.0.1"
# Below Linux's range for outgoing connections: nothing else takes one between asking and listening.
LOWEST, HIGHEST = 12_000, 32_000
_random = random.SystemRandom()


def free_port() -> int:
    while True:
        port = _random.randint(LOWEST, HIGHEST)
        with socket.socket() as probe:
            try:
                probe.bind((HOST, port))
            except OSError:
                continue
            return port
