"""The register as a user meets it: published names, head lists, errors that say what is allowed."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from neuromod_core.effects import EFFECTS, Stream, Subject
from neuromod_core.kernel.errors import DataError, MissingVector, NoSuchLayer, NotOnThisModel, UnknownName
from neuromod_core.kernel.rng import key_of, normal_at, philox, uniform_at
from neuromod_core.models import LoadedModel
from neuromod_core.packs import Dosed, Pack, bind
from tests.conftest import subject_of
from tests.laws.families import EXAMPLES

ROOT = Path(__file__).resolve().parents[2]
PUBLISHED = (
    "activation_additions",
    "attention_focus",
    "attention_masking",
    "attention_oscillation",
    "attention_sinks_anchors",
    "color_bias",
    "composition_bias",
    "compute_at_test_scheduling",
    "contrastive_decoding",
    "expert_masking_dropout",
    "expert_mixing",
    "expert_persistence",
    "exponential_decay_kv",
    "frequency_penalty",
    "head_masking_dropout",
    "head_reweighting",
    "kv_compression",
    "kv_decay",
    "layer_wise_gain",
    "lexical_jitter",
    "motion_blur",
    "noise_injection",
    "persona_voice_constraints",
    "positional_bias_tweak",
    "presence_penalty",
    "pulsed_sampler",
    "qk_score_scaling",
    "random_direction",
    "random_orthogonal_steering",
    "retrieval_rate_modulation",
    "risk_preference_steering",
    "router_temperature_bias",
    "segment_gains_kv",
    "soft_projection",
    "steering",
    "stride_compression_kv",
    "structured_prefaces",
    "style_affect_logit_bias",
    "style_transfer",
    "synesthetic_mapping",
    "temperature",
    "token_class_temperature",
    "top_p",
    "truncation_kv",
    "verifier_guided_decoding",
    "visual_entropy",
)


@pytest.fixture
def subject(llama: LoadedModel) -> Subject:
    return subject_of(llama)


def pack(name: str, dose: float, **parameters: object) -> Pack:
    effect = EFFECTS[name](**EXAMPLES.get(name, {}) | parameters)
    return Pack("p", "d", "t", (Dosed(name, effect, dose),))


@pytest.mark.parametrize("name", PUBLISHED)
def test_every_published_name_binds_or_says_why_not(name: str, subject: Subject) -> None:
    dose = 0.5 if EFFECTS[name].doses[1] > 0 else -0.5
    if EFFECTS[name].family in {"router", "visual"}:
        with pytest.raises(NotOnThisModel, match=subject.name):
            bind([pack(name, dose)], [Stream(0, "u")], subject)
    else:
        assert len(bind([pack(name, dose)], [Stream(0, "u")], subject).effects) == 1


def test_forty_six_names_were_published() -> None:
    assert len(set(PUBLISHED)) == 46


def test_at_least_sixty_effects_act_on_language_models_in_nine_families() -> None:
    lawful = [kind for kind in EFFECTS.values() if kind.family != "visual"]
    assert len(lawful) >= 60
    assert len({kind.family for kind in lawful}) >= 9


def test_the_page_of_effects_is_of_this_register() -> None:
    """Written by `neuromod effects --document`; its measurements are made by running, so only its contents are held."""
    page = (ROOT / "docs" / "effects.md").read_text(encoding="utf-8")
    lawful = [name for name, kind in EFFECTS.items() if kind.family != "visual"]
    assert f"**{len(lawful)} effects in {len({EFFECTS[name].family for name in lawful})} families**" in page
    assert [name for name in lawful if page.count(f"| `{name}` |") == 0] == []


def test_heads_may_be_listed(subject: Subject) -> None:
    chosen = subject.head_set("0.1, 1.3")
    assert chosen.nonzero().tolist() == [[0, 1], [1, 3]]
    with pytest.raises(NoSuchLayer, match=r"head 7\.0; tiny-llama has layers 0 to 1 of heads 0 to 3"):
        bind([pack("head_ablation", 0.5, heads="0.1,7.0")], [Stream(0, "u")], subject)
    with pytest.raises(MissingVector, match="head set 'nowhere'"):
        bind([pack("qk_score_scaling", 0.5, heads="nowhere")], [Stream(0, "u")], subject)


def test_an_unknown_token_class_lists_those_there_are(subject: Subject) -> None:
    with pytest.raises(UnknownName, match="token class is called 'verb'"):
        subject.reading().token_class("verb")


def test_attention_out_of_reach_is_refused() -> None:
    from neuromod_core.models import tiny

    falcon = subject_of(tiny("falcon", seed=3))
    with pytest.raises(NotOnThisModel, match="tiny-falcon computes out of reach"):
        bind([pack("exponential_decay_kv", 0.5)], [Stream(0, "u")], falcon)


def test_a_row_has_one_chooser(llama: LoadedModel, subject: Subject) -> None:
    from neuromod_core.engine import Row, dosed, generate

    effects = (*pack("verifier_guided_decoding", 0.5).effects, *pack("compute_at_test_scheduling", 0.5).effects)
    row = Row((40, 41, 42), Pack("two", "d", "t", effects), Stream(0, "u"))
    with dosed(llama) as session, pytest.raises(DataError, match="2 effects that choose among candidates"):
        generate(session, [row], subject, tokens=2)


def test_philox_gives_the_published_known_answers() -> None:
    """Random123, kat_vectors: philox4x32-10."""
    import numpy as np

    zeros = philox(np.zeros(2, np.uint32), np.zeros(4, np.uint32))
    ones = philox(np.full(2, 2**32 - 1, np.uint32), np.full(4, 2**32 - 1, np.uint32))
    assert [f"{word:08x}" for word in zeros] == ["6627e8d5", "e169c58d", "bc57ac4c", "9b00dbd8"]
    assert [f"{word:08x}" for word in ones] == ["408f276d", "41c83b0e", "a20bc7c6", "6d5451fd"]


def test_indexed_draws_depend_on_their_address_alone() -> None:
    import numpy as np

    keys = np.array([key_of(1, "a"), key_of(1, "b")], dtype=np.uint32)
    whole = normal_at(keys, np.arange(-3, 400)[None].repeat(2, 0), 9)
    part = normal_at(keys[1:], np.array([[7, -3]]), 5)
    assert np.array_equal(part[0], whole[1, [10, 0], :5])
    assert abs(whole.mean()) < 0.05
    assert abs(whole.std() - 1) < 0.05
    uniform = uniform_at(keys, np.arange(400)[None].repeat(2, 0), 9)
    assert 0 < uniform.min() < 0.01
    assert 0.99 < uniform.max() < 1
    assert torch.tensor(uniform).unique().numel() > 7000
