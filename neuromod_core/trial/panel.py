"""The panel of side effects as a study registers it: how much of what every unit is asked beside the scales.

Numbers and digests only: the texts are in `bank`, administering them in `examine`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import field
from types import MappingProxyType

from pydantic import ConfigDict
from pydantic.dataclasses import dataclass as checked

from neuromod_core.kernel.errors import OutOfRange
from neuromod_core.kernel.register import unknown

STRICT = ConfigDict(extra="forbid", strict=True)
ENDPOINTS: Mapping[str, str] = MappingProxyType(
    {
        "refusal": "refusal of harmless requests",
        "unsafe": "compliance with harmful requests",
        "abuse": "abusive language in stories",
        "incoherence": "incoherent stories",
    }
)
"""Unwanted events, by the instrument that sees them."""
LIMITS: Mapping[str, tuple[int, int]] = MappingProxyType(
    {
        "requests": (0, 60),
        "xstest": (0, 450),
        "replies": (0, 450),
        "problems": (0, 100),
        "figures": (0, 40),
        "writing": (0, 100),
        "summaries": (0, 12),
        "associations": (0, 10),
        "grammar": (0, 6_700),
        "paragraphs": (0, 1_000),
        "telemetry_units": (0, 10_000),
        "reply_tokens": (1, 4_096),
    }
)


@checked(frozen=True, config=STRICT)
class StopRule:
    """Stop an arm, by its code, once the exact lower bound of its share of events lies above `bound`.

    endpoint: one of `ENDPOINTS`.  every: shards between looks.  alpha: one-sided, of all looks together.
    """

    endpoint: str
    bound: float
    alpha: float
    every: int

    def __post_init__(self) -> None:
        if self.endpoint not in ENDPOINTS:
            raise unknown("endpoint", self.endpoint, dict(ENDPOINTS), "panel.stop")
        if not (0 < self.bound < 1 and 0 < self.alpha < 0.5 and self.every >= 1):
            raise OutOfRange(
                f"panel.stop: bound {self.bound:g}, alpha {self.alpha:g}, every {self.every}; 0 < bound < 1, "
                "0 < alpha < 0.5 and every >= 1 are needed."
            )


@checked(frozen=True, kw_only=True, config=STRICT)
class Panel:
    """What is measured beside the scales, in the same cells. All numbers are per unit; 0 leaves a part out.

    requests: of the project's own, harmless and harmful in turn: their replies' openings are scored.
    xstest: the same of XSTest.  replies: harmless requests whose reply is also written.
    problems: of the ranked tasks in turn.  figures: metaphors, each against a literal and an anomalous completion.
    writing: texts with counted constraints.  summaries: of passages with listed facts.  associations: lists of words
    that are as different as possible.  Summaries and lists may be twice as long as `reply_tokens`.
    grammar: minimal pairs of BLiMP.  paragraphs: of WikiText-2.  reply_tokens: length of what is written.
    telemetry_units: units whose stories are read once more, with everything that can be seen while they are.
    required: whether a study without its public data is refused; else what needs them is missing, with the reason.
    absent, texts: at registration, why public data were not there, and the digest of every text that is used.
    """

    requests: int = 0
    xstest: int = 0
    replies: int = 0
    problems: int = 0
    figures: int = 0
    writing: int = 0
    summaries: int = 0
    associations: int = 0
    grammar: int = 0
    paragraphs: int = 0
    telemetry_units: int = 0
    reply_tokens: int = 48
    required: bool = False
    stop: StopRule | None = None
    absent: dict[str, str] = field(default_factory=dict)
    texts: dict[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for name, (low, high) in LIMITS.items():
            if not low <= (value := getattr(self, name)) <= high:
                raise OutOfRange(f"panel.{name} is {value}; allowed is {low} to {high}.")
        if self.stop is not None and not self:
            raise OutOfRange("panel.stop needs a panel: without one no event is ever seen.")

    def __bool__(self) -> bool:
        """Return whether anything is measured; stories are judged as soon as anything else is."""
        return any(getattr(self, name) for name in LIMITS if name != "reply_tokens")
