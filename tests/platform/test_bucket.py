"""A study of the command line in a bucket: its root hash is that of a folder, and every command finds it there."""

from __future__ import annotations

import io
import json
from collections.abc import Iterator
from contextlib import redirect_stdout
from pathlib import Path

import pytest

from flows import cli
from neuromod_core.store import LocalStore, open_store, s3
from tasks.lab import read_registration
from tests.platform.server import BUCKET, KEY, SECRET, Server
from tests.platform.studies import SHARDS, Tiny, commanded

ROOT = f"s3://{BUCKET}/bucket-runs"
TOKEN = "hf_" + "notatokenofanyone"  # what a user might have in the environment, and nobody may find in a file


@pytest.fixture(scope="module")
def desk(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The working folder of this machine."""
    return tmp_path_factory.mktemp("desk")


@pytest.fixture(scope="module")
def ran(server: Server, tiny: Tiny, desk: Path) -> Iterator[str]:
    """The address of a study that `neuromod run ... storage.root=s3://...` brought to its end, in its environment."""
    here = {"AWS_ENDPOINT_URL": server.address, "AWS_ACCESS_KEY_ID": KEY, "AWS_SECRET_ACCESS_KEY": SECRET}
    here |= {"AWS_DEFAULT_REGION": "us-east-1", "AWS_CONFIG_FILE": "absent", "AWS_SHARED_CREDENTIALS_FILE": "absent"}
    with pytest.MonkeyPatch.context() as patch, redirect_stdout(io.StringIO()) as said:
        for name, value in {**here, "NEUROMOD_CACHE": str(tiny.cache), "HF_TOKEN": TOKEN}.items():
            patch.setenv(name, value)
        patch.chdir(desk)
        s3._session.cache_clear()
        words = commanded(tiny, ROOT)
        assert words.split()[0] in {"0", "3"}, words
        at = tiny.run(ROOT).folder()
        assert f"report     {at}/report.html" in said.getvalue()
        yield at
    s3._session.cache_clear()


def told(capsys: pytest.CaptureFixture[str], *words: str) -> str:
    assert cli.main(list(words)) == 0, capsys.readouterr().err
    return capsys.readouterr().out


def test_the_root_hash_is_that_of_a_folder_and_latest_names_the_address(
    ran: str, alone: str, capsys: pytest.CaptureFixture[str], desk: Path
) -> None:
    assert told(capsys, "verify", ran).strip() == alone
    assert told(capsys, "verify", "latest").strip() == alone
    assert Path("runs/latest").read_text("utf-8").strip() == ran
    assert sorted(path.name for path in desk.iterdir()) == ["runs"], "nothing else is left on this machine"
    store = open_store(ran)
    assert store.holds("report.html")
    assert store.holds("figures/forest.png")


def test_every_command_takes_the_address(
    ran: str, alone: str, tiny: Tiny, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    (about,) = json.loads(told(capsys, "query", ROOT, "from runs", "--json"))
    assert (about["done"], about["root"]) == (SHARDS, alone)
    plan = json.loads(told(capsys, "plan", f"registration={tiny.file}", f"storage.root={ROOT}", "--json"))
    assert {"what": "shards done", "value": SHARDS} in plan
    assert "creative_plus" in told(capsys, "unblind", ran)
    assert "0 unreferenced files" in told(capsys, "gc", ran)
    assert alone in told(capsys, "compact", ran)
    assert told(capsys, "report", ran, "--to", str(tmp_path)).split() == [
        f"{ran}/report.html",
        f"{tmp_path}/report.html",
    ]
    assert (tmp_path / "report.html").read_bytes() == open_store(ran).get("report.html")
    assert told(capsys, "verify", ran).strip() == alone, "the report made again follows from the records"


def test_an_amendment_is_kept_in_the_bucket(ran: str, capsys: pytest.CaptureFixture[str]) -> None:
    told(capsys, "amend", ran, "--exploratory", "--reason", "a stricter look", "alpha=0.01")
    ledger = open_store(ran).keys("ledger/")
    assert b"a stricter look" in open_store(ran).get(ledger[-1])


def test_no_secret_of_this_machine_is_in_any_record(ran: str, tiny: Tiny, tmp_path: Path) -> None:
    """Access keys and tokens nowhere; the registration's key only in what unblinding opened."""
    key = read_registration(str(tiny.file)).key.hex()
    stores = {"bucket": open_store(ran), "before the first cell": LocalStore(tiny.records)}
    for place, store in stores.items():
        for name in store.keys(""):
            data = store.get(name)
            assert SECRET.encode() not in data, (place, name)
            assert TOKEN.encode() not in data, (place, name)
            assert name.endswith("opened/allocation.json") or key.encode() not in data, (place, name)
    marker = json.loads(open_store(ran).get(open_store(ran).keys("commits/")[0]))
    assert marker["provenance"]["environment"]["HF_HUB_OFFLINE"] == "1"
    assert not {"HF_TOKEN", "AWS_SECRET_ACCESS_KEY"} & set(marker["provenance"]["environment"])
