"""A real S3 server on loopback: SeaweedFS from its Python package, killed and started again as tests wish."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import sys
import time
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import botocore.session
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError

BUCKET, KEY, SECRET = "lab", "tester", "not-a-secret-of-anyone"
PARTS = ("master", "volume", "filer", "s3", "admin")


def program() -> str | None:
    """Return the server's program, None where its package is not installed."""
    return shutil.which("weed", path=f"{Path(sys.prefix) / 'bin'}{os.pathsep}{os.environ.get('PATH', '')}")


def free_block() -> int:
    """Return a port below the ephemeral ones such that it, its four successors and all of them + 10000 are free."""
    for base in range(15_000 + os.getpid() % 500 * 10, 22_000, 10):
        with ExitStack() as stack:
            try:
                for port in (base + part + far for part in range(len(PARTS)) for far in (0, 10_000)):
                    stack.enter_context(socket.create_server(("127.0.0.1", port)))
            except OSError:
                continue
            return base
    raise OSError("no block of free ports")


class Server:
    """One server process over one folder. `start` returns when a write succeeds."""

    def __init__(self, folder: Path) -> None:
        base = free_block()
        self.ports = {part: base + number for number, part in enumerate(PARTS)}
        self.address = f"http://127.0.0.1:{self.ports['s3']}"
        self.folder, self.log = folder, folder / "log.txt"
        (folder / "data").mkdir(parents=True)
        self.process: subprocess.Popen[bytes] | None = None

    def start(self, *, wait: bool = True) -> None:
        words = [
            str(program()), "mini", f"-dir={self.folder / 'data'}", "-ip=127.0.0.1", "-ip.bind=127.0.0.1",
            *(f"-{part}.port={port}" for part, port in self.ports.items()), f"-bucket={BUCKET}", "-webdav=false",
            "-s3.port.iceberg=0", "-s3.port.lance=0", "-s3.autoCreateBucket=false", "-master.telemetry=false",
        ]  # fmt: skip
        keys = {"AWS_ACCESS_KEY_ID": KEY, "AWS_SECRET_ACCESS_KEY": SECRET}
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(words, stdout=log, stderr=log, env={**os.environ, **keys}, cwd=self.folder)
        if wait:
            self._answers()

    def kill(self) -> None:
        """Kill the server as a power cut would: nothing is said good-bye to."""
        if self.process is not None:
            self.process.kill()
            self.process.wait()

    def _answers(self) -> None:
        for _ in range(300):
            try:
                client(self.address).put_object(Bucket=BUCKET, Key="probe", Body=b"")
            except (BotoCoreError, ClientError):
                time.sleep(0.1)
            else:
                return
        raise TimeoutError(f"the S3 server does not start: {self.log.read_text('utf-8', 'replace')[-2000:]}")


def client(address: str) -> Any:
    """Return a plain client, which overwrites and deletes as it is told."""
    chosen = Config(connect_timeout=1, read_timeout=5, retries={"total_max_attempts": 1})
    return botocore.session.get_session().create_client(
        "s3",
        endpoint_url=address,
        region_name="us-east-1",
        aws_access_key_id=KEY,
        aws_secret_access_key=SECRET,
        config=chosen,
    )
