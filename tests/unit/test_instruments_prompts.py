from __future__ import annotations

import pytest

from neuromod_core import instruments
from neuromod_core.instruments import (
    Frames,
    Labels,
    LabelSet,
    Message,
    Order,
    Prompt,
    State,
    legend,
    option_prefix,
    option_tail,
    statement_messages,
)
from neuromod_core.kernel.errors import UnknownName

FRAMES = Frames(
    system="You answer.",
    question="How is it?",
    labels=("none", "some", "all"),
    lead_in="Sentence:",
    label_sets=(
        LabelSet("digits", "Rate the sentence.", "One digit."),
        LabelSet("letters", "Rate it.", "One letter."),
        LabelSet("words", "Say it.", "One word."),
    ),
    content_free=("N/A",),
    states=(State("wet", "mini", "Be wet."),),
    persona="Speak as rain.",
)


def test_the_statement_reading_asks_the_question_after_the_context() -> None:
    assert statement_messages(FRAMES, "You wait.") == (
        Message("system", "You answer."),
        Message("user", "You wait.\n\nHow is it?"),
    )


def test_another_system_text_changes_the_system_turn_alone() -> None:
    neutral, wet = (statement_messages(FRAMES, "You wait.", system=system) for system in (None, "Be wet."))
    assert wet == (Message("system", "Be wet."), neutral[1])
    assert option_prefix(FRAMES, "You wait.", order="ascending", system="Be wet.").system == "Be wet."


@pytest.mark.parametrize(
    ("order", "key"), [("ascending", "0 = none\n1 = some\n2 = all"), ("descending", "0 = all\n1 = some\n2 = none")]
)
def test_the_option_reading_states_its_key_before_the_sentence(order: Order, key: str) -> None:
    assert legend(FRAMES, order) == key
    user = f"You wait.\n\nRate the sentence.\n{key}\nSentence:\n"
    assert option_prefix(FRAMES, "You wait.", order=order) == Prompt("You answer.", user)


@pytest.mark.parametrize(
    ("labels", "key", "asked"),
    [
        ("digits", "0 = all\n1 = some\n2 = none", ("Rate the sentence.", "One digit.")),
        ("letters", "A = all\nB = some\nC = none", ("Rate it.", "One letter.")),
        ("words", "all\nsome\nnone", ("Say it.", "One word.")),
    ],
)
def test_every_label_set_has_its_own_key_and_asks_for_its_own_marks(
    labels: Labels, key: str, asked: tuple[str, str]
) -> None:
    assert legend(FRAMES, "descending", labels) == key
    prefix = option_prefix(FRAMES, "You wait.", order="descending", labels=labels)
    assert prefix.user == f"You wait.\n\n{asked[0]}\n{key}\nSentence:\n"
    assert option_tail(FRAMES, "It rains.", labels) == f"It rains.\n{asked[1]}"


def test_a_tail_completes_the_user_turn() -> None:
    prefix = option_prefix(FRAMES, "You wait.", order="ascending")
    tail = option_tail(FRAMES, "It rains.")
    assert tail == "It rains.\nOne digit."
    assert prefix.messages(tail) == (Message("system", "You answer."), Message("user", prefix.user + tail))
    assert prefix.messages()[1].content == prefix.user


def test_an_unknown_order_is_refused() -> None:
    with pytest.raises(UnknownName, match=r"No option order is called 'up'\. Known: ascending, descending\."):
        legend(FRAMES, "up")  # type: ignore[arg-type]


def test_the_public_names_are_real_and_named_once() -> None:
    assert len(instruments.__all__) == len(set(instruments.__all__))
    assert [name for name in instruments.__all__ if not hasattr(instruments, name)] == []
