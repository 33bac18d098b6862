"""Packs as respondents, side by side under one model: what they would say, and what they write."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, TypeAlias

from neuromod_core.effects import Stream, Subject
from neuromod_core.engine import Generation, Likelihood, Row, Session, generate, score
from neuromod_core.kernel.errors import ConfigError, DataError, ModelError
from neuromod_core.packs import Pack
from neuromod_core.safety.xstest import Request

Reading: TypeAlias = Literal["raw", "expressed"]
Length: TypeAlias = Literal["total", "per token"]


@dataclass(frozen=True, eq=False)
class Respondents:
    """Packs under one session. Respondents share the randomness of a question, so that luck is no difference.

    batch: texts in one forward pass.
    """

    session: Session
    subject: Subject
    packs: tuple[Pack, ...]
    seed: int
    batch: int = 192

    def __post_init__(self) -> None:
        if not self.packs:
            raise DataError("There is no respondent; at least one pack is needed.")

    def chat(self, user: str, system: str | None) -> tuple[int, ...]:
        """Return the tokens of a user's turn, with a system text if there is one, up to where the model writes."""
        turns = [{"role": "system", "content": system}] if system else []
        turns.append({"role": "user", "content": user})
        model = self.session.model
        text: str = model.tokenizer.apply_chat_template(turns, add_generation_prompt=True, tokenize=False)
        return model.encode(text)

    def answers(self, name: str, question: str, texts: Sequence[str]) -> list[list[Likelihood]]:
        """Return, per respondent, the likelihood of each text as the beginning of the answer to a question.

        name: that of the question, which names its random stream.
        """
        rows = [Row(self.chat(question, pack.system), pack, Stream(self.seed, name)) for pack in self.packs]
        return self._score(rows, texts)

    def continuations(self, name: str, opening: str, texts: Sequence[str]) -> list[list[Likelihood]]:
        """Return, per respondent, the likelihood of each text right after a plain opening, outside of any chat.

        An empty opening is the token that begins a text. System texts of packs have no place here.

        Raises:
            ModelError: if the opening is empty and the tokenizer has no such token.
        """
        prompt = self.session.model.encode(opening) if opening else self._begin()
        return self._score([Row(prompt, pack, Stream(self.seed, name)) for pack in self.packs], texts)

    def _score(self, rows: Sequence[Row], texts: Sequence[str]) -> list[list[Likelihood]]:
        tokens = [self.session.model.encode(text) for text in texts]
        return score(self.session, rows, tokens, self.subject, batch=self.batch)

    def _begin(self) -> tuple[int, ...]:
        tokenizer = self.session.model.tokenizer
        for token in (tokenizer.bos_token_id, tokenizer.eos_token_id):
            if isinstance(token, int):
                return (token,)
        raise ModelError(f"{self.session.model.name} has no token that begins or ends a text.")

    def replies(self, requests: Sequence[Request], *, tokens: int) -> list[list[str]]:
        """Return, per respondent, the reply to every request, at most `tokens` tokens long.

        Raises:
            ConfigError: for a harmful request: nothing is generated after one.
        """
        harmful = [request.id for request in requests if request.harmful]
        if harmful:
            raise ConfigError(f"Request {harmful[0]} is harmful: openings after it may be scored, nothing is written.")
        rows = [
            Row(self.chat(request.text, pack.system), pack, Stream(self.seed, request.id))
            for pack in self.packs
            for request in requests
        ]
        written = [self._text(each) for each in generate(self.session, rows, self.subject, tokens=tokens)]
        each = len(requests)
        return [written[start : start + each] for start in range(0, len(written), each)]

    def _text(self, written: Generation) -> str:
        text: str = self.session.model.tokenizer.decode(written.tokens, skip_special_tokens=True)
        return text


def values(read: Sequence[Likelihood], reading: Reading, length: Length = "total") -> tuple[float, ...]:
    """Return log-likelihoods in nats: raw or expressed, of the whole text or per token."""
    found = [each.raw if reading == "raw" else each.expressed for each in read]
    return tuple(value if length == "total" else value / each.tokens for value, each in zip(found, read, strict=True))


def either(loglik: Sequence[float]) -> float:
    """Return the log-probability (nats) that one of several exclusive texts comes:  log sum exp;  -inf if none can."""
    best = max(loglik)
    return best if math.isinf(best) else best + math.log(math.fsum(math.exp(value - best) for value in loglik))
