"""Heads: planted copying is found with its sign, maps are the model's own, ablation is exact and leaves no trace."""

from __future__ import annotations

import copy
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from neuromod_core.calibrate.acts import Weights
from neuromod_core.calibrate.circuits import circuits, copying, tapped
from neuromod_core.calibrate.heads import (
    DISTANCES,
    LENGTH,
    Findings,
    Naive,
    ablation,
    attention_patterns,
    comparable,
    findings,
    like,
    looks_back,
    middle_heads,
    naive,
    ordinary_tokens,
    repeated_tokens,
    shuffled_copy,
    split_half,
)
from neuromod_core.effects import Stream
from neuromod_core.engine import dosed
from neuromod_core.engine.session import UNWRITTEN
from neuromod_core.kernel.errors import CalibrationError, NotOnThisModel
from neuromod_core.kernel.rng import rng
from neuromod_core.models import LoadedModel, ModelSpec, tiny
from neuromod_core.models.loading import load
from neuromod_core.packs import Dosed, Pack, bind
from neuromod_core.report.heads import page, write
from tests.conftest import subject_of

Hidden = Tensor | tuple[Tensor, ...]


def random(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def gains(width: int, seed: int) -> Tensor:
    """Gains of a norm, of either sign."""
    drawn = random(width, seed=seed)
    return drawn.sign() * (drawn.abs() + 0.5)


def planted(signs: tuple[int, ...]) -> LoadedModel:
    """A tiny model whose heads read the embedding through orthonormal axes and write it back, times a sign each.

    The gains of both norms are random and taken back by the weights next to them, so that only maps that fold the gains
    in are copies.
    """
    found = tiny("llama", seed=3)
    model = replace(found, network=copy.deepcopy(found.network))
    words = nn.functional.normalize(random(260, 32), dim=-1)
    model.network.model.embed_tokens.weight.copy_(words)
    model.network.model.norm.weight.copy_(gains(32, seed=1))
    model.network.lm_head.weight.copy_(words / model.network.model.norm.weight)
    for block in model.blocks:
        block.input_layernorm.weight.copy_(gains(32, seed=2))  # type: ignore[union-attr,operator]
        axes = torch.linalg.qr(random(32, 32, seed=4)).Q[:16]
        block.self_attn.v_proj.weight.copy_(axes / block.input_layernorm.weight)  # type: ignore[union-attr,operator]
        shared = axes.view(2, 8, 32).repeat_interleave(2, dim=0)  # two query heads per shared value
        back = shared * torch.tensor(signs)[:, None, None]
        block.self_attn.o_proj.weight.copy_(back.reshape(32, 32).T)  # type: ignore[union-attr,operator]
    return model


def attention_of(model: LoadedModel) -> list[nn.Module]:
    """The attention module of every block, in order."""
    found: list[nn.Module] = []
    tokens = torch.tensor([[1]])

    def tap(module: nn.Module, _value: Tensor, output: Tensor) -> Tensor:
        found.append(module)
        return output

    with tapped(model, tap), torch.inference_mode():
        model.hidden(tokens, torch.ones_like(tokens), torch.zeros_like(tokens), None)
    return found


# -------------------------------------------------------------------------------------------------------------- copying


def test_heads_that_write_what_they_read_copy_and_negated_ones_anticopy() -> None:
    model = planted((1, -1, 1, -1))
    words = ordinary_tokens(model)
    found = copying(model, words, words)
    expected = torch.tensor([1.0, -1.0, 1.0, -1.0]).expand(2, 4)
    assert found.eigen.numpy() == pytest.approx(expected.numpy(), abs=1e-4)
    assert bool((found.logit * expected > 0.95).all())


def test_copying_is_the_eigenvalues_of_the_whole_table_spelled_out(llama: LoadedModel) -> None:
    """The full (tokens, tokens) table of a head, from the weights: eigenvalues and diagonal."""
    words = ordinary_tokens(llama)
    network, block, size = llama.network, llama.blocks[1], 8
    reads = (block.self_attn.v_proj.weight * block.input_layernorm.weight).double()  # type: ignore[union-attr,operator]
    writes = block.self_attn.o_proj.weight.double()  # type: ignore[union-attr,operator]
    embedding = network.model.embed_tokens.weight[words].double()
    unembedding = (network.lm_head.weight[words] * network.model.norm.weight).double()
    found = copying(llama, words, words[:40])
    for head in range(4):
        value = reads.view(2, size, 32)[head // 2]
        table = embedding @ value.T @ writes[:, head * size : (head + 1) * size].T @ unembedding.T
        table = table - table.mean(1, keepdim=True)
        roots, own = torch.linalg.eigvals(table), table.diagonal()[:40]
        assert float(found.eigen[1, head]) == pytest.approx(float(roots.sum().real / roots.abs().sum()), abs=1e-4)
        assert float(found.logit[1, head]) == pytest.approx(float(own.sum() / own.abs().sum()), abs=1e-4)


def written(model: LoadedModel, layer: int, states: Tensor) -> Tensor:
    """What the attention of a block writes when the block is given single-token rows `states` (rows, width)."""
    caught: list[Tensor] = []

    def enter(_module: nn.Module, inputs: tuple[Tensor, ...], named: dict[str, Tensor]) -> tuple[object, object]:
        return (
            ((states[:, None], *inputs[1:]), named) if inputs else (inputs, named | {"hidden_states": states[:, None]})
        )

    def leave(_module: nn.Module, _inputs: object, output: Hidden) -> None:
        caught.append((output[0] if isinstance(output, tuple) else output)[:, 0])

    hooks = [model.blocks[layer].register_forward_pre_hook(enter, with_kwargs=True)]  # type: ignore[arg-type]
    hooks.append(attention_of(model)[layer].register_forward_hook(leave))
    tokens = torch.zeros(len(states), 1, dtype=torch.long)
    with torch.inference_mode():
        model.hidden(tokens, torch.ones_like(tokens), tokens, None)
    for hook in hooks:
        hook.remove()
    post = getattr(model.blocks[layer], "post_attention_layernorm", None)
    return post(caught[0]) if model.network.config.model_type.startswith("gemma") else caught[0]


def traces(model: LoadedModel) -> tuple[object, ...]:
    """Everything that a probe might leave behind."""
    hooks = [(len(one._forward_hooks), len(one._forward_pre_hooks)) for one in model.network.modules()]
    return model.network.config._attn_implementation, hooks, model.network.training


def test_the_maps_are_what_the_model_does_whatever_its_architecture(model: LoadedModel) -> None:
    """A token alone attends to itself, so what is written at +x less that at -x is the sum of the heads' maps of x."""
    if not model.anatomy.attention:
        with pytest.raises(NotOnThisModel, match="'falcon' models do not use the attention interface"):
            circuits(model)
        return
    model = replace(model, network=copy.deepcopy(model.network))
    for name, weight in model.network.named_parameters():
        if weight.dim() == 1 and ("norm.weight" in name or "ln_" in name):
            weight.copy_(gains(len(weight), seed=len(name)))
    kind, before = model.network.config.model_type, traces(model)
    weights = {name: value.clone() for name, value in model.network.state_dict().items()}
    maps = circuits(model)
    assert traces(model) == before
    assert all(torch.equal(value, weights[name]) for name, value in model.network.state_dict().items())
    if kind == "gpt_oss":
        for module in attention_of(model):
            module.sinks.fill_(-1e9)  # type: ignore[operator,union-attr]
    states = random(5, model.width)
    states = states - states.mean(-1, keepdim=True)
    states = states / states.pow(2).mean(-1, keepdim=True).sqrt()
    for layer in range(model.depth):
        reads, writes = maps.of(layer)
        expected = (states @ reads @ writes).sum(0)
        actual = (written(model, layer, states) - written(model, layer, -states)) / 2
        if kind.startswith("gemma"):  # the norm of what is written scales every token by a factor of its own
            actual = actual * (expected.norm(dim=-1) / actual.norm(dim=-1))[:, None]
        assert actual.numpy() == pytest.approx(expected.numpy(), abs=2e-3 * float(expected.abs().max()))


def test_a_sample_of_the_vocabulary_changes_only_the_logit_score(llama: LoadedModel) -> None:
    words = ordinary_tokens(llama)
    few, all_of_them = copying(llama, words, words[:7]), copying(llama, words, words)
    assert torch.equal(few.eigen, all_of_them.eigen)
    assert not torch.equal(few.logit, all_of_them.logit)


# ------------------------------------------------------------------------------------------------------------- patterns


def test_the_engine_and_the_library_agree_on_what_heads_look_at(model: LoadedModel) -> None:
    """Weights that the engine computes in the open equal the eager ones: shared keys, windows, query norms, sinks."""
    if not model.anatomy.attention:
        pytest.skip("attention scores of this architecture are out of reach")
    tokens, probe = repeated_tokens(model)[:2], Weights()
    pack = Pack("probe", "a probe", "control", (Dosed("probe", probe, 1.0),))
    streams = [Stream(0, "a"), Stream(0, "b")]
    none = torch.zeros(2, dtype=torch.long)
    with dosed(model) as session, torch.inference_mode():
        binding = bind([pack, pack], streams, subject_of(model))
        start = torch.full((2,), UNWRITTEN)
        session.forward(tokens, torch.ones_like(tokens), pad=none, binding=binding, start=start, cache=None)
    assert len(probe.seen) == model.depth
    expected = attention_patterns(model, tokens)
    assert torch.stack(probe.seen).numpy() == pytest.approx(expected.numpy(), abs=2e-5)


def test_a_shuffled_copy_has_the_same_tokens_and_nothing_to_find() -> None:
    tokens = torch.cat([torch.zeros(40, 1, dtype=torch.long), torch.arange(1, 51).repeat(40, 2)], dim=1)
    shuffled = shuffled_copy(tokens, seed=0)
    assert torch.equal(shuffled[:, :51], tokens[:, :51])
    assert torch.equal(shuffled[:, 51:].sort(-1).values, tokens[:, 51:].sort(-1).values)
    same = (shuffled[:, 51:] == tokens[:, 51:]).double().mean()
    assert float(same) < 0.05, "one in fifty by chance"
    assert not torch.equal(shuffled, shuffled_copy(tokens, seed=1))


def test_a_perfect_induction_head_scores_one_and_finds_nothing_without_a_copy() -> None:
    """A head that looks at what followed the current token's first occurrence, made from tokens by its definition."""

    def pattern(tokens: Tensor) -> Tensor:
        made = torch.zeros(1, len(tokens), 1, tokens.shape[1], tokens.shape[1])
        for row, text in enumerate(tokens.tolist()):
            for query, token in enumerate(text):
                key = text.index(token) + 1 if token in text[:query] else 0
                made[0, row, 0, query, key] = 1.0
        return made

    tokens = torch.cat([torch.zeros(12, 1, dtype=torch.long), torch.arange(1, 51).repeat(12, 2)], dim=1)
    assert looks_back(pattern(tokens), LENGTH - 1).unique().tolist() == [1.0]
    assert float(looks_back(pattern(shuffled_copy(tokens, 0)), LENGTH - 1).mean()) < 0.1


def test_split_half_is_one_for_stable_heads_and_none_for_noise() -> None:
    stable = random(2, 50)[..., None].expand(2, 50, 12)
    assert split_half(stable) == pytest.approx(1.0)
    assert abs(split_half(random(2, 50, 12))) < 0.3


# ------------------------------------------------------------------------------------------------------------- ablation


def losses_by_hand(model: LoadedModel, tokens: Tensor, layer: int, head: int) -> float:
    """Mean-ablate a head of a tiny llama before its output projection, with hooks of our own: second-copy loss."""
    projection, size, means = model.blocks[layer].self_attn.o_proj, 8, []  # type: ignore[union-attr]
    part = slice(head * size, (head + 1) * size)

    def watch(_module: nn.Module, inputs: tuple[Tensor]) -> None:
        means.append(inputs[0][:, 1:, part].mean((0, 1)))

    def put(_module: nn.Module, inputs: tuple[Tensor]) -> tuple[Tensor]:
        states = inputs[0].clone()
        states[:, 1:, part] = means[0]
        return (states,)

    with torch.inference_mode():
        for hook in (watch, put):
            handle = projection.register_forward_pre_hook(hook)  # type: ignore[operator,union-attr]
            logits = model.network(tokens).logits
            handle.remove()
    second = slice(LENGTH + 1, 2 * LENGTH)
    picked = logits.log_softmax(-1)[:, second].gather(-1, tokens[:, second.start + 1 :, None])
    return -float(picked.mean())


def test_ablation_is_the_mean_put_in_place_and_leaves_no_trace(llama: LoadedModel) -> None:
    before = traces(llama)
    found = ablation(llama, [(1, 2)], draws=3)
    assert traces(llama) == before
    assert found.ablated[1] == pytest.approx(losses_by_hand(llama, repeated_tokens(llama, 1)[:6], 1, 2), rel=1e-5)
    assert found.ablated != found.undosed
    assert len(found.random) == 3
    assert found.alone == (found.ablated,)
    assert 1 / 4 <= found.pvalue <= 1


def test_a_head_that_is_not_listened_to_may_be_ablated() -> None:
    found = tiny("llama", seed=3)
    model = replace(found, network=copy.deepcopy(found.network))
    model.blocks[0].self_attn.o_proj.weight[:, 8:16] = 0  # type: ignore[union-attr,index,operator]
    deaf = ablation(model, [(0, 1)], draws=5)
    assert deaf.rise == pytest.approx(0, abs=1e-6)
    assert max(map(abs, deaf.random_rises)) > 1e-3


def test_random_heads_are_of_the_same_layers_and_others() -> None:
    heads = [(2, 1), (2, 3), (5, 0)]
    for seed in range(20):
        drawn = like(heads, 6, rng(seed, "test"))
        assert sorted(layer for layer, _ in drawn) == [2, 2, 5]
        assert len(set(drawn)) == 3
        assert not set(drawn) & set(heads)
    message = "Layer 2 has 2 of the heads found and 1 others; as many others are needed"
    with pytest.raises(CalibrationError, match=message):
        like([(2, 0), (2, 1)], 3, rng(0, "test"))
    assert comparable(heads, 4)
    assert not comparable(heads, 3)
    with pytest.raises(CalibrationError, match="no head of tiny-llama to ablate"):
        ablation(tiny("llama", seed=3), [])


def test_ablation_is_refused_where_heads_are_out_of_reach() -> None:
    with pytest.raises(NotOnThisModel, match="out of reach"):
        ablation(tiny("falcon", seed=3), [(0, 0)])


# ------------------------------------------------------------------------------------------------- the published recipe


def test_the_recipe_fills_its_quota_in_every_layer(llama: LoadedModel) -> None:
    found = naive(llama)
    assert found.chosen.sum(-1).tolist() == [2, 2]
    tokens = llama.encode(" A B C D E F A")
    weights = attention_patterns(llama, torch.tensor([tokens]))[:, 0, :, -1, tokens.index(tokens[-1]) + 1]
    assert found.scores is not None
    assert torch.equal(found.scores, weights)
    assert bool(
        (weights[found.chosen].view(2, 2).min(-1).values >= weights[~found.chosen].view(2, 2).max(-1).values).all()
    )


def test_the_recipe_falls_back_on_middle_heads(llama: LoadedModel, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("neuromod_core.calibrate.heads.PROMPT", "ABCDEF")
    found = naive(llama)
    assert found.scores is None
    assert torch.equal(found.chosen, middle_heads(2, 4))
    assert middle_heads(1, 9).nonzero()[:, 1].tolist() == [3, 4]
    assert middle_heads(1, 1).nonzero()[:, 1].tolist() == [0]


# ------------------------------------------------------------------------------------------------------------- the page


@pytest.fixture(scope="module")
def found(llama: LoadedModel) -> Findings:
    return findings(llama)


def with_heads(found: Findings) -> Findings:
    """The findings as they would be if heads 0.1 and 1.2 were induction heads and the recipe had chosen one of them."""
    scores = {name: values.clone() for name, values in found.scores.items()}
    scores["induction"][0, 1], scores["induction"][1, 2] = 0.9, 0.4
    chosen = torch.zeros(2, 4, dtype=torch.bool)
    chosen[0, 1] = chosen[1, 0] = True
    return replace(found, scores=scores, naive=Naive(chosen, torch.zeros(2, 4)))


def test_findings_hold_every_score(found: Findings) -> None:
    assert set(found.scores) == set(found.shuffled) == set(DISTANCES)
    assert found.copying is not None
    assert found.copying.eigen.shape == (2, 4)
    assert found.members("induction") == ()
    assert found.ablation is None
    assert with_heads(found).members("induction") == ((0, 1), (1, 2))
    assert 0 < found.limit("induction") < 0.3


def test_the_page_says_what_was_found(found: Findings) -> None:
    text = page("a model", with_heads(found))
    assert "| 0.1 | 0.90" in text
    assert "| 1.2 | 0.40" in text
    assert "2 of 8 heads" in text
    assert "1 of 2" in text
    assert "too few other heads" in text
    assert "No head reaches" in page("a model", found)


def test_the_page_says_what_is_out_of_reach() -> None:
    text = page("a falcon", findings(tiny("falcon", seed=3)))
    assert "out of reach" in text


def test_the_page_and_its_pictures_are_written(llama: LoadedModel, tmp_path: Path) -> None:
    write(tmp_path, llama)
    assert (tmp_path / "heads.md").read_text("utf-8").startswith("# Heads")
    for name in ("heads.png", "heads-evidence.png"):
        assert (tmp_path / "pictures" / name).read_bytes()[:4] == b"\x89PNG"
        assert f"pictures/{name}" in (tmp_path / "heads.md").read_text("utf-8")


@pytest.mark.slow
def test_the_embedded_model_has_the_heads_it_is_known_for(embedded: LoadedModel) -> None:
    known = {(17, 3), (17, 4), (17, 5), (18, 6), (18, 7), (20, 6), (23, 2), (23, 7)}
    evidence = findings(embedded)
    assert known <= set(evidence.members("induction")) <= known | {(24, 4)}, "24.4 is on the threshold"
    assert evidence.ablation is not None
    assert evidence.ablation.pvalue <= 0.05
    assert split_half(evidence.scores["induction"]) > 0.99


@pytest.fixture(scope="module")
def embedded() -> LoadedModel:
    return load(ModelSpec("smollm2-135m", "embedded"), Path.home() / ".cache" / "neuromod")
