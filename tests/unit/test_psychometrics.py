"""Instrument cards: what is asked of a model, and that the statistics say what was put in."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from neuromod_core.engine import dosed
from neuromod_core.instruments import Scale
from neuromod_core.instruments.adapters import Task, Written
from neuromod_core.instruments.tasks import Problem
from neuromod_core.kernel.errors import OutOfRange
from neuromod_core.models import LoadedModel
from neuromod_core.packs import Pack, parse_pack
from neuromod_core.report import instruments as pages
from neuromod_core.report.canvas import svg
from neuromod_core.trial.imported import ask
from neuromod_core.trial.library import Library, load_library
from neuromod_core.trial.prompts import Prompter
from neuromod_core.trial.psychometrics import Answers, Desk, Scope, administer_scale, asked
from neuromod_core.trial.scale_card import NEEDED, ScaleCard, card
from tests.conftest import ROOT, subject_of

SCOPE = Scope(units=4, dosed_units=3, option_units=2, batch=16)
VISIONARY = {"steering_type": "visionary"}


def pack(name: str, effect: str, weight: float, parameters: dict[str, str]) -> Pack:
    doses = [{"effect": effect, "weight": weight, "direction": "up", "parameters": parameters}]
    body = {"name": name, "description": "d", "class": "control", "version": 1, "effects": doses}
    return parse_pack(json.dumps(body), name)


@pytest.fixture(scope="module")
def library() -> Library:
    whole = load_library(ROOT)
    short = {name: replace(scale, items=scale.items[:3]) for name, scale in whole.scales.items()}
    return replace(whole, scales=short)


@pytest.fixture(scope="module")
def desk(library: Library, llama: LoadedModel) -> Iterator[Desk]:
    with dosed(llama) as session:
        yield Desk(session, subject_of(llama), Prompter(llama, library), SCOPE)


@pytest.fixture(scope="module")
def answers(desk: Desk, library: Library) -> Answers:
    packs = [
        pack("nothing", "steering", 0.0, VISIONARY),
        pack("push", "steering", 1.0, VISIONARY),
        pack("noise", "value_noise_kv", 1.0, {}),
    ]
    parts: list[str] = []
    found = administer_scale(desk, library.scale("pdq_s"), packs, parts.append)
    assert parts == ["undosed", "again", "state", "packs", "options"]
    return found


def test_a_scale_is_asked_in_every_context_and_wording(answers: Answers) -> None:
    assert answers.undosed.shape == (4, 3, 3, 2)
    assert answers.options.shape == (2, 2, 3, 2, 5)
    assert (answers.undosed < 0).all()
    assert answers.scores == pytest.approx((answers.undosed[..., 0] - answers.undosed[..., 1]).mean(-1))
    assert len(np.unique(answers.scores.round(6))) == 12


def test_a_second_reading_in_another_batch_gives_the_same_again(answers: Answers) -> None:
    assert np.allclose(answers.again, answers.undosed[:3, 0], rtol=0, atol=1e-3)


def test_a_pack_of_no_dose_changes_nothing_a_push_does_and_noise_differs_by_seed(answers: Answers) -> None:
    nothing, push, noise = answers.pack_change
    assert np.abs(nothing).max() < 1e-3
    assert np.abs(push).min() > 1e-3
    assert np.array_equal(answers.packs[1, 0], answers.packs[1, 1])
    assert not np.allclose(noise[0], noise[1], atol=1e-3)


def test_answers_survive_being_kept_and_are_named_by_what_they_depend_on(
    answers: Answers, desk: Desk, library: Library
) -> None:
    again = Answers.of(answers.parts())
    assert all(np.array_equal(getattr(again, name), part) for name, part in answers.parts().items())
    pdq, sdq = library.scale("pdq_s"), library.scale("sdq")
    keys = [asked(desk, pdq, (), ""), asked(desk, sdq, (), ""), asked(replace(desk, scope=Scope()), pdq, (), "")]
    assert len({json.dumps(key) for key in keys}) == 3


def test_contexts_that_a_study_uses_are_read_undosed_only(desk: Desk) -> None:
    whole = replace(desk, scope=Scope(units=30, dosed_units=20))
    assert {context.split for context in whole.contexts[:20]} == {"pilot"}
    with pytest.raises(OutOfRange, match="dosed_units is 21; 20 such vignettes are written"):
        _ = replace(desk, scope=Scope(units=30, dosed_units=21)).contexts
    with pytest.raises(OutOfRange, match="units is 2; allowed is 3 to 150"):
        Scope(units=2)


# ----------------------------------------------------------------------------------------------------------- statistics


def made(seed: int, *, signal: float, items: int = 8, units: int = 40, state: float = 3.0) -> Answers:
    """Answers with one factor: every item and wording is the context's level times `signal`, and noise of SD 1."""
    draw = np.random.default_rng(seed)
    level = draw.normal(size=(units, 1, 1))
    contrast = signal * level + draw.normal(size=(units, 3, items))
    keyed = np.stack([contrast, np.zeros_like(contrast)], axis=-1) - 20.0
    few = keyed[:10, 0]
    change = np.stack([draw.normal(state, 1, size=(10, items)), np.zeros((10, items))], axis=-1)
    packs = np.stack([np.stack([few, few]), few + draw.normal(size=(2, *few.shape))])
    return Answers(keyed, few, few + change, packs, yes_sayer(0.0, items))


def yes_sayer(lean: float, items: int) -> np.ndarray:
    """Log-probabilities of five digits of someone whose level is 2 + `lean` for both sides of every pair."""
    levels = np.arange(5)
    up = -np.square(levels - 2 - lean)
    both = np.stack([up, up[::-1]])  # digits ascending, and descending
    table = np.broadcast_to(both[None, :, None, None, :], (6, 2, items, 2, 5)) + 0.0
    noise = np.random.default_rng(4).normal(scale=0.05, size=table.shape)
    table = table + noise
    return np.asarray(table - np.log(np.exp(table).sum(-1, keepdims=True)))


def scale_of(library: Library, items: int) -> Scale:
    return replace(load_library(ROOT).scale("pdq_s"), items=load_library(ROOT).scale("pdq_s").items[:items])


@pytest.fixture(scope="module")
def good(library: Library) -> ScaleCard:
    others = {"sdq": made(2, signal=1.0), "ddq": made(3, signal=1.0)}
    return card(scale_of(library, 8), made(1, signal=1.0), others, ["still", "noisy"], ("a model", "f" * 64))


def test_a_scale_of_one_factor_is_reliable_valid_and_its_own(good: ScaleCard) -> None:
    expected = 8 * 1.0 / (8 * 1.0 + 1)  # k rho / (1 + (k - 1) rho) with rho = 1/2
    for name in ("alpha", "omega", "split half"):
        assert good.value(name) == pytest.approx(expected, abs=0.08)
    assert (good.value("wordings") or 0) > NEEDED
    assert (good.value("mean of wordings") or 0) > (good.value("wordings") or 1)
    assert good.value("known groups") == pytest.approx(3.0, abs=0.5)
    assert pages.discriminates(good)
    assert all(item.r is not None and item.r > 0 for item in good.items)


def test_items_of_noise_alone_are_not(library: Library) -> None:
    found = card(scale_of(library, 8), made(1, signal=0.0, state=0.0), {"sdq": made(2, signal=0.0)}, [], ("m", "f"))
    assert (found.value("alpha") or 0) < NEEDED
    assert abs(found.value("wordings") or 0) < 0.4
    assert abs(found.value("known groups") or 0) < 0.6


def test_seeds_are_compared_where_a_pack_draws_and_else_the_reason_is_given(good: ScaleCard) -> None:
    assert good.fact("seeds, still").reason == "this reading of the pack draws nothing: all seeds give one number"
    assert good.value("seeds, noisy") is not None


@pytest.mark.parametrize("lean", [-1.0, 0.0, 1.0])
def test_acquiescence_is_what_both_sides_are_affirmed_by(library: Library, lean: float) -> None:
    answers = replace(made(1, signal=1.0), options=yes_sayer(lean, 8))
    found = card(scale_of(library, 8), answers, {}, [], ("m", "f"))
    index = found.value("acquiescence")
    assert index is not None
    assert np.sign(round(index, 2)) == np.sign(lean)
    assert found.value("option mass") == pytest.approx(1.0)
    assert found.fact("discriminant r").reason == "no other scale was asked"


def test_a_model_that_does_not_answer_by_options_has_no_acquiescence(library: Library) -> None:
    answers = replace(made(1, signal=1.0), options=yes_sayer(0.0, 8) - 3.0)
    found = card(scale_of(library, 8), answers, {}, [], ("m", "f"))
    for name in ("acquiescence", "antonym r", "option orders"):
        assert found.fact(name).found is None
        assert found.fact(name).reason == "option mass 0.05 < 0.50: this model does not answer by options"


def test_a_card_is_json_a_picture_and_a_page_that_say_what_is_missing(good: ScaleCard) -> None:
    body = json.loads(json.dumps(good.as_json()))
    assert {line["name"] for line in body["facts"]} == {fact.name for fact in good.facts}
    assert all((line["estimate"] is None) == (line["reason"] is not None) for line in body["facts"])
    named = [replace(good, scale=name, others={"b" if name == "a" else "a": 0.1}) for name in ("a", "b")]
    text = pages.page(named, "a model")
    assert "all seeds give one number" in text
    assert "That\nholds for `a`, `b`." in text
    for plot in (pages.card_plot(good), pages.overview(named), pages.matrix(named)):
        assert "<svg" in svg(plot)


# ------------------------------------------------------------------------------------------------------- imported tasks


def test_an_imported_task_is_asked(desk: Desk) -> None:
    options = ("the sea", "a long way up the hill")
    problems = tuple(Problem(str(n), "t", 1, f"Question {n}?", options, n % 2) for n in range(6))
    found = ask(Task("t", "here", problems, ()), desk.session, desk.subject, desk.prompter)
    assert found.accuracy is not None
    assert found.accuracy.ci is not None
    assert found.accuracy.ci.low < found.accuracy.estimate < found.accuracy.ci.high
    assert (found.n_items, found.n_valid, found.chance) == (6, 6, 0.5)
    assert found.margin is not None
    written = Task("w", "here", (), tuple(Written(str(n), f"Say {n}.", (str(n),)) for n in range(3)))
    told = ask(written, desk.session, desk.subject, desk.prompter)
    assert told.n_items == 3
    assert told.chance is None
    assert json.loads(json.dumps(told.as_json()))["task"] == "w"


def test_every_part_of_a_kept_scale_is_there(tmp_path: Path, answers: Answers) -> None:
    assert set(answers.parts()) == {"undosed", "again", "state", "packs", "options"}
    assert "state" not in replace(answers, state=None).parts()
