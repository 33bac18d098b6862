"""Control-vector files: what is written is what another program reads, at the scale that the calibration means."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from neuromod_core.calibrate.causal import Causal
from neuromod_core.calibrate.export import directions, export, write_gguf
from neuromod_core.calibrate.vectors import fit
from neuromod_core.kernel.errors import CalibrationError, NeuromodError, NoSuchLayer, OutOfRange
from neuromod_core.kernel.rng import rng

gguf = pytest.importorskip("gguf", reason="the gguf package reads the files back")
VECTORS = rng(0, "vectors to export").standard_normal((5, 16))


def text(reader: object, key: str) -> str:
    return str(reader.get_field(key).contents())  # type: ignore[attr-defined]


def tensors(reader: object) -> dict[str, np.ndarray]:
    return {tensor.name: np.array(tensor.data) for tensor in reader.tensors}  # type: ignore[attr-defined]


def test_every_block_but_the_first_is_written_as_a_unit_vector(tmp_path: Path) -> None:
    write_gguf(tmp_path / "v.gguf", VECTORS, "llama")
    reader = gguf.GGUFReader(tmp_path / "v.gguf")
    assert text(reader, "general.architecture") == "controlvector"
    assert text(reader, "controlvector.model_hint") == "llama"
    assert text(reader, "controlvector.layer_count") == "4"
    found = tensors(reader)
    assert sorted(found) == [f"direction.{block}" for block in (1, 2, 3, 4)]
    for name, direction in found.items():
        vector = VECTORS[int(name.removeprefix("direction."))]
        assert direction.dtype == np.float32
        assert direction == pytest.approx(vector / np.linalg.norm(vector), abs=1e-7)


def test_only_layers_with_a_shift_are_written_at_its_length(tmp_path: Path) -> None:
    write_gguf(tmp_path / "v.gguf", VECTORS, "qwen2", shifts={3: 7.5, 2: 0.25}, name="calm")
    reader = gguf.GGUFReader(tmp_path / "v.gguf")
    found = tensors(reader)
    assert list(found) == ["direction.2", "direction.3"]
    assert [np.linalg.norm(one) for one in found.values()] == pytest.approx([0.25, 7.5])
    assert text(reader, "controlvector.layer_count") == "2"
    assert text(reader, "general.name") == "calm"


def test_equal_vectors_give_equal_bytes_and_no_scratch_file(tmp_path: Path) -> None:
    for name in ("a", "b"):
        write_gguf(tmp_path / name, VECTORS, "llama", shifts={1: 2.0})
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a", "b"]


@pytest.mark.parametrize(
    ("vectors", "shifts", "error", "message"),
    [
        (VECTORS[0], None, CalibrationError, r"are \(layers, width\) and finite; given shape \(16,\)"),
        (np.full((3, 2), np.nan), None, CalibrationError, "finite"),
        (VECTORS[:1], None, CalibrationError, "no direction to export"),
        (VECTORS, {}, CalibrationError, "no direction to export"),
        (VECTORS, {0: 1.0}, NoSuchLayer, "blocks 1 to 4; asked for block 0"),
        (VECTORS, {5: 1.0}, NoSuchLayer, "blocks 1 to 4; asked for block 5"),
        (VECTORS, {2: 0.0}, OutOfRange, "block 2 is 0.0"),
        (VECTORS, {2: float("inf")}, OutOfRange, "block 2 is inf"),
        (VECTORS * 0, {2: 1.0}, CalibrationError, "block 2 is zero"),
    ],
)
def test_what_has_no_direction_is_refused_before_a_file_exists(
    tmp_path: Path, vectors: np.ndarray, shifts: dict[int, float] | None, error: type[NeuromodError], message: str
) -> None:
    with pytest.raises(error, match=message):
        directions(vectors, shifts)
    with pytest.raises(error, match=message):
        write_gguf(tmp_path / "v.gguf", vectors, "llama", shifts=shifts)
    assert list(tmp_path.iterdir()) == []


def test_a_calibrated_vector_is_written_so_that_scale_one_is_its_unit(tmp_path: Path) -> None:
    states = rng(0, "planted").standard_normal((72, 2, 10, 16))
    states[:, 0, 5] += 3 * np.eye(16)[3]
    card, found = fit("c", {"mean": states}, [f"topic{i // 6:02d}" for i in range(72)])
    causal = Causal(relative=0.4, shift=1.0, topics=(1.0,), random=(0.0,) * 20, shuffled=(0.0,) * 20, pvalue=1 / 41)
    file = tmp_path / "c.gguf"
    with pytest.raises(CalibrationError, match="no measured KL unit"):
        export(file, card, found, 50.0, "llama")
    with pytest.raises(CalibrationError, match="'c' is not exported: "):
        export(file, replace(card, causal=replace(causal, shift=-1.0)), found, 50.0, "llama")
    export(file, replace(card, causal=causal), found, 50.0, "llama")
    (written,) = tensors(gguf.GGUFReader(file)).items()
    assert written[0] == f"direction.{card.layer}"
    assert written[1] == pytest.approx(0.4 * 50 * found.vector, rel=1e-5)
