"""The self-test of a place: a good folder passes and is left as it was, a broken place is refused in one line."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import pytest

from neuromod_core.kernel.errors import ConfigError, StorageError
from neuromod_core.store import LocalStore, schemes
from neuromod_core.store.selftest import selftest


def test_a_folder_keeps_every_promise(tmp_path: Path) -> None:
    LocalStore(tmp_path).put_new("study/plan.json", b"{}")
    kept = [one.promise for one in selftest(str(tmp_path), "t")]
    assert kept == [
        "a key is created once",
        "what is written is read and listed at once",
        "a file comes back whole",
        "of 8 threads one creates a key",
        "of 8 processes one creates a key",
    ]
    assert [path.name for path in tmp_path.rglob("*") if path.is_file()] == ["plan.json"]


@dataclass(frozen=True)
class Broken(LocalStore):
    """A folder with one fault."""

    fault: str = ""

    def __str__(self) -> str:
        return f"broken:{self.fault}:{self.root}"

    def put_new(self, key: str, data: bytes) -> bool:
        mine = super().put_new(key, data)
        match self.fault:
            case "overwrites":
                (self.root / key).write_bytes(data)
                return True
            case "is believed late":
                (self.root / key).write_bytes(data)
                return mine
            case "tells everybody yes" if "threads" in key:
                return True
            case "tells nobody yes" if "threads" in key:
                return False
            case "cuts" if mine:
                (self.root / key).write_bytes(data[: 1 << 20])
        return mine

    def keys(self, prefix: str) -> tuple[str, ...]:
        return () if self.fault == "lists late" else super().keys(prefix)

    def holds(self, key: str) -> bool:
        return self.fault != "reads late" and super().holds(key)


@pytest.mark.parametrize(
    ("fault", "says"),
    [
        ("overwrites", "it ignores the condition that a key must be new, and the second of two writers is told that"),
        (
            "is believed late",
            "it ignores the condition that a key must be new, and the second of two writers is believed",
        ),
        ("tells everybody yes", "of 8 threads that created one key at once, 8 were told that they had"),
        ("tells nobody yes", "of 8 threads that created one key at once, 0 were told that they had"),
        ("lists late", "was written, but is not listed"),
        ("reads late", "was written, but is not read back"),
        ("cuts", "a file of 8 MiB came back changed"),
    ],
)
def test_a_broken_promise_is_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fault: str, says: str) -> None:
    def opened(rest: str) -> Broken:
        name, _, path = rest.partition(":")
        return Broken(Path(path), name)

    monkeypatch.setitem(schemes.SCHEMES, "broken", opened)  # type: ignore[arg-type]
    with pytest.raises(ConfigError) as caught:
        selftest(f"broken:{fault}:{tmp_path}", "t")
    assert str(caught.value).startswith(f"The store broken:{fault}:{tmp_path} cannot keep a study: ")
    assert says in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_place_that_refuses_says_so_itself(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(StorageError, match="A file stands where a folder is needed"):
        selftest(str(tmp_path / "file"), "t")
