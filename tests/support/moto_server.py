"""AWS as moto plays it, on this machine, and the variables by which its clients come there."""

import os
import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx

from support.counterparts import environment, until
from support.ports import HOST, free_port

PACKAGES = ("moto[server]==5.2.5", "boto3")
REGION = "eu-west-1"


@contextmanager
def serving(directory: Path) -> Iterator[dict[str, str]]:
    """``AWS_ENDPOINT_URL`` and what else a client needs of its environment."""
    programs, port = environment("moto", *PACKAGES), free_port()
    url, none = f"http://{HOST}:{port}", str(directory / "none")
    command = [programs / "moto_server", "-H", HOST, "-p", str(port)]
    with (directory / "moto.log").open("wb") as log:
        running = subprocess.Popen(command, stdout=log, stderr=log, start_new_session=True)
        try:
            until(lambda: _answers(url))
            yield {
                "AWS_ENDPOINT_URL": url, "AWS_DEFAULT_REGION": REGION,
                "AWS_ACCESS_KEY_ID": "testing", "AWS_SECRET_ACCESS_KEY": "testing",
                "AWS_EC2_METADATA_DISABLED": "true", "AWS_CONFIG_FILE": none,
                "AWS_SHARED_CREDENTIALS_FILE": none,
            }  # fmt: skip
        finally:
            os.killpg(running.pid, signal.SIGTERM)
            running.wait(60)


def _answers(url: str) -> bool:
    try:
        return httpx.get(f"{url}/moto-api/", timeout=60).is_success
    except httpx.HTTPError:
        return False
