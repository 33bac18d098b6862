"""What asks a model, on tiny real models: likelihoods are a forward pass's, harmful requests get no reply."""

from __future__ import annotations

import math
from collections.abc import Iterator
from pathlib import Path

import pytest

from neuromod_core.effects import EFFECTS, Subject
from neuromod_core.engine import dosed
from neuromod_core.instruments.tasks import MinimalPair, by_level, load_figures, problems, rank, tally
from neuromod_core.kernel.errors import ConfigError, DataError
from neuromod_core.models import LoadedModel
from neuromod_core.packs import Dosed, Pack
from neuromod_core.safety import (
    Openings,
    Request,
    Respondents,
    ask,
    complete,
    grammar,
    legacy_perplexity,
    load_reader,
    odds,
    plain_text,
    probe,
    side_effects,
    values,
)
from neuromod_core.safety.respondents import either
from tests.conftest import subject_of
from tests.oracles.engine import likelihood

ROOT = Path(__file__).resolve().parents[2]
NONE = Pack(name="none", description="nothing", kind="control")
SAFE = Request("x1", "How do I sharpen a pencil?", "tools", harmful=False)
OTHER = Request("x2", "Where do cranes go in winter?", "birds", harmful=False)
HARMFUL = Request("x3", "(a request that should be refused)", "any", harmful=True)
OPENINGS = Openings(("I can't", "No,"), ("Sure", "Yes,"))


def hot(dose: float) -> Pack:
    return Pack(name="hot", description="d", kind="t", effects=(Dosed("temperature", EFFECTS["temperature"](), dose),))


def pushed(dose: float) -> Pack:
    effect = EFFECTS["steering"](steering_type="visionary")
    return Pack(name="pushed", description="d", kind="t", effects=(Dosed("steering", effect, dose),))


@pytest.fixture(scope="module")
def subject(llama: LoadedModel) -> Subject:
    return subject_of(llama)


@pytest.fixture(scope="module")
def asked(llama: LoadedModel, subject: Subject) -> Iterator[Respondents]:
    with dosed(llama) as session:
        yield Respondents(session, subject, (NONE, hot(1.0), NONE), seed=5, batch=7)


def test_likelihoods_are_those_of_one_forward_pass_per_token(asked: Respondents, llama: LoadedModel) -> None:
    made = problems("arithmetic", root=2, per_level=1)
    read = ask(asked, made)
    for problem, loglik in zip(made, read[0], strict=True):
        prompt = asked.chat(problem.prompt, None)
        slow = [likelihood(llama, prompt, llama.encode(option)) for option in problem.options]
        assert loglik == pytest.approx(slow, abs=2e-4)
    assert read[0] == read[2]
    assert read[0] == read[1]  # a temperature does not move raw likelihoods ...
    assert read[0] != ask(asked, made, reading="expressed")[1]  # ... and does move expressed ones


def test_a_task_becomes_a_tally_at_every_level(asked: Respondents) -> None:
    made = problems("syllogism", root=2, per_level=4)
    marks = [rank(problem, loglik) for problem, loglik in zip(made, ask(asked, made)[0], strict=True)]
    assert [each.n_valid for each in by_level(marks)] == [4, 4]
    assert tally(marks).chance == 0.5


def test_per_token_is_the_total_over_the_tokens(asked: Respondents) -> None:
    read = asked.answers("q", "Which?", ["ab", "abcd"])[0]
    total, each = values(read, "raw"), values(read, "raw", "per token")
    assert each == pytest.approx([total[0] / 2, total[1] / 4])


def test_figures_are_read_after_their_stem_and_outside_of_a_chat(asked: Respondents, llama: LoadedModel) -> None:
    figures = load_figures(ROOT / "datasets" / "tasks" / "figures.jsonl")[:2]
    for figure, loglik in zip(figures, complete(asked, figures, length="total")[0], strict=True):
        end = llama.encode(f" {figure.apt}.")
        assert loglik[0] == pytest.approx(likelihood(llama, llama.encode(figure.stem), end), abs=2e-4)


def test_grammar_compares_whole_sentences(asked: Respondents, llama: LoadedModel) -> None:
    pairs = [
        MinimalPair("u", "syntax", good, bad) for good, bad in (("A bb.", "B aa."), ("cc d.", "dd c."), ("e", "f"))
    ]
    begin = (llama.tokenizer.bos_token_id,)
    slow = [
        likelihood(llama, begin, llama.encode(p.good)) > likelihood(llama, begin, llama.encode(p.bad)) for p in pairs
    ]
    assert [each.value for each in grammar(asked, pairs)] == [sum(slow) / 3] * 3


def test_perplexity_of_plain_text(asked: Respondents, llama: LoadedModel) -> None:
    text = "A lamp on the coast guides ships past the rocks at night."
    opening, rest = text[:41], text[41:]
    assert rest.startswith(" ")
    total = likelihood(llama, llama.encode(opening), llama.encode(rest))
    found = plain_text(asked, [text])[0]
    assert found.per_token == pytest.approx(math.exp(-total / len(llama.encode(rest))), rel=1e-4)
    assert found.bits_per_byte == pytest.approx(-total / math.log(2) / len(rest), rel=1e-4)
    with pytest.raises(DataError, match="Text 0 has 5 characters"):
        plain_text(asked, ["short"])


def test_the_probe_adds_up_the_openings(asked: Respondents, llama: LoadedModel) -> None:
    found = probe(asked, [SAFE, HARMFUL], OPENINGS)[0]
    for request, each in zip((SAFE, HARMFUL), found, strict=True):
        prompt = asked.chat(request.text, None)
        p = [
            math.exp(likelihood(llama, prompt, llama.encode(text)))
            for text in (*OPENINGS.refusal, *OPENINGS.compliance)
        ]
        assert each.value == pytest.approx(math.log(p[0] + p[1]) - math.log(p[2] + p[3]), abs=1e-3)
        assert each.mass == pytest.approx(sum(p), rel=1e-3)
    assert (found[0].unsafe, found[0].refuses) == (None, found[0].value is not None and found[0].value > 0)
    assert found[1].unsafe is not found[1].refuses


def test_odds_by_hand() -> None:
    low = math.log(0.1)
    assert odds(HARMFUL, [low, low], [low]).value == pytest.approx(math.log(2))
    assert odds(HARMFUL, [low], [low, low]).unsafe is True
    assert odds(SAFE, [low], [low, low]).unsafe is None
    certain = odds(HARMFUL, [-math.inf], [low])
    assert (certain.value, certain.as_row()["log_odds"], certain.as_row()["refuses"]) == (-math.inf, None, 0)
    missing = odds(HARMFUL, [-math.inf], [-math.inf])
    assert (missing.value, missing.unsafe, missing.refuses) == (None, None, None)
    assert missing.reason == "the sampler excludes every opening"
    assert either([-math.inf, -math.inf]) == -math.inf


def test_the_shipped_openings_are_read_by_every_architecture(model: LoadedModel) -> None:
    reader = load_reader(ROOT / "datasets" / "safety")
    with dosed(model) as session:
        found = probe(Respondents(session, subject_of(model), (NONE, pushed(0.5)), seed=1), [SAFE], reader.openings)
    assert all(each.value is not None and 0 < each.mass < 1 for (each,) in found)
    assert found[0][0].value != found[1][0].value


def test_nothing_is_written_after_a_harmful_request(asked: Respondents) -> None:
    with pytest.raises(ConfigError, match="Request x3 is harmful: openings after it may be scored, nothing is written"):
        asked.replies([SAFE, HARMFUL], tokens=4)


def test_replies_depend_on_request_and_pack_alone(asked: Respondents, subject: Subject) -> None:
    both = asked.replies([SAFE, OTHER], tokens=6)
    assert [len(mine) for mine in both] == [2, 2, 2]
    assert both[0] == both[2]
    assert both[0] != both[1]
    alone = Respondents(asked.session, subject, (hot(1.0),), seed=5).replies([OTHER], tokens=6)
    assert alone[0][0] == both[1][1]
    assert both[0] != Respondents(asked.session, subject, (NONE,), seed=6).replies([SAFE, OTHER], tokens=6)[0]


def test_a_system_text_of_a_pack_is_read(asked: Respondents, subject: Subject) -> None:
    spoken = Pack(name="p", description="d", kind="t", system="Speak as a sailor.")
    two = Respondents(asked.session, subject, (NONE, spoken), seed=5)
    plain, sailor = ask(two, problems("n_back", root=1, per_level=1)[:1])
    assert plain != sailor
    with pytest.raises(DataError, match="no respondent"):
        Respondents(asked.session, subject, (), seed=1)


def test_the_legacy_perplexity_is_of_the_undosed_model(
    asked: Respondents, llama: LoadedModel, subject: Subject
) -> None:
    prompt, reply = llama.encode("How?"), llama.encode("Like so.")
    found = legacy_perplexity(asked.session, subject, prompt, reply)
    assert found == pytest.approx(math.exp(-likelihood(llama, prompt, reply) / len(reply)), rel=1e-4)
    with pytest.raises(DataError, match="at least one token"):
        legacy_perplexity(asked.session, subject, prompt, ())


def test_side_effects_without_data_are_missing_with_an_address(asked: Respondents, tmp_path: Path) -> None:
    for each in side_effects(asked, tmp_path, per_paradigm=1, texts=1):
        assert each.grammar.value is each.perplexity.per_token is None
        assert "github.com/alexwarstadt/blimp" in str(each.grammar.reason)
        assert "wikitext-2" in str(each.perplexity.reason)


def test_side_effects_with_data(asked: Respondents, data_folder: Path) -> None:
    found = side_effects(asked, data_folder, per_paradigm=1, texts=1)
    assert {each.grammar.n_valid for each in found} == {67}
    assert found[0].perplexity.per_token is not None
    assert 50 < found[0].perplexity.per_token < 5000  # random weights over 260 tokens
