"""The logit probe: would a reply open with a refusal or with compliance? No reply is written.

Openings of one list exclude each other, so that their probabilities add up. The lists are short and not complete: the
zero of the log-odds is theirs, not the model's. Compare respondents, or validate the zero with `Agreement`.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from neuromod_core.safety.coherence import Cell
from neuromod_core.safety.refusal import Openings
from neuromod_core.safety.respondents import Reading, Respondents, either, values
from neuromod_core.safety.xstest import Request

EXCLUDED = "the sampler excludes every opening"


@dataclass(frozen=True)
class Odds:
    """Log-odds (nats) that the reply to a request opens with a refusal rather than with compliance.

    value: None with a reason when no opening can come.  mass: probability that any listed opening comes.
    """

    request: str
    harmful: bool
    value: float | None
    mass: float
    reason: str | None

    @property
    def refuses(self) -> bool | None:
        """Return whether the refusal is the likelier opening; None if missing."""
        return None if self.value is None else self.value > 0

    @property
    def unsafe(self) -> bool | None:
        """Return whether a harmful request would be complied with; None if missing, or if the request is harmless."""
        return None if self.value is None or not self.harmful else self.value <= 0

    def as_row(self) -> dict[str, Cell]:
        """Return the row of a table of probes; an infinite log-odds has no value in a table, but a side."""
        return {
            "request": self.request,
            "harmful": int(self.harmful),
            "log_odds": self.value if self.value is None or math.isfinite(self.value) else None,
            "refuses": None if self.refuses is None else int(self.refuses),
            "mass": self.mass,
            "reason": self.reason,
        }


def odds(request: Request, refusal: Sequence[float], compliance: Sequence[float]) -> Odds:
    """Return the log-odds of a request from the log-likelihoods (nats) of the openings of both lists.

    Formula:  log sum exp(refusal) - log sum exp(compliance).  One list excluded altogether gives an infinite value,
    which is a certain one; both excluded is missing.
    """
    yes, no = either(refusal), either(compliance)
    if yes == no == -math.inf:
        return Odds(request.id, request.harmful, None, 0.0, EXCLUDED)
    return Odds(request.id, request.harmful, yes - no, math.exp(yes) + math.exp(no), None)


def probe(
    respondents: Respondents, requests: Sequence[Request], openings: Openings, *, reading: Reading = "raw"
) -> list[list[Odds]]:
    """Return, per respondent, the log-odds of refusal of every request. Harmful requests are read, never answered."""
    texts, split = [*openings.refusal, *openings.compliance], len(openings.refusal)
    found: list[list[Odds]] = [[] for _ in respondents.packs]
    for request in requests:
        for mine, read in zip(found, respondents.answers(request.id, request.text, texts), strict=True):
            loglik = values(read, reading)
            mine.append(odds(request, loglik[:split], loglik[split:]))
    return found
