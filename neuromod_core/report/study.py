"""The part of a registered design that a report shows, parsed once from a plain mapping."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields

from neuromod_core.kernel.errors import DataError


@dataclass(frozen=True)
class Study:
    """What was registered, in the words of the registration.

    Attributes:
        title, question: heading and the one paragraph below it.
        model: name of the model as the reader knows it.
        baseline: name of the arm without intervention; shifts are against it.
        units, periods: numbers of contexts, and of arms that each receives.
        alpha: error rate of the primary family.
        readings: reading codes in the order in which they are shown.
        families: family code -> what it tests and how p-values are adjusted.
        primary_family: the family that carries the claims; a key of `families`.
        specificity_families: further families whose estimates are specificity contrasts too.
        foils: the scales whose mean shift is subtracted from the primary scale's.
        gated_out: reading code -> why it was gated out.
        details: further lines of the design table, label -> text.
        limits: sentences about what this study cannot say.
    """

    title: str
    question: str
    model: str
    baseline: str
    units: int
    periods: int
    alpha: float
    readings: tuple[str, ...]
    families: Mapping[str, str]
    primary_family: str
    specificity_families: tuple[str, ...]
    foils: tuple[str, ...]
    gated_out: Mapping[str, str]
    details: Mapping[str, str]
    limits: tuple[str, ...]

    @classmethod
    def parse(cls, design: Mapping[str, object]) -> Study:
        """Return the study in `design`; every attribute is a required key.

        Raises:
            DataError: for a missing or unknown key, or a value of the wrong kind.
        """
        names = [field.name for field in fields(cls)]
        if set(design) != set(names):
            odd = sorted(set(design) ^ set(names))
            raise DataError(f"Report design: {', '.join(odd)} missing or unknown; needed are {', '.join(names)}.")
        study = cls(
            title=_text(design, "title"),
            question=_text(design, "question"),
            model=_text(design, "model"),
            baseline=_text(design, "baseline"),
            units=int(_number(design, "units")),
            periods=int(_number(design, "periods")),
            alpha=_number(design, "alpha"),
            readings=_texts(design, "readings"),
            families=_mapping(design, "families"),
            primary_family=_text(design, "primary_family"),
            specificity_families=_texts(design, "specificity_families"),
            foils=_texts(design, "foils"),
            gated_out=_mapping(design, "gated_out"),
            details=_mapping(design, "details"),
            limits=_texts(design, "limits"),
        )
        if study.primary_family not in study.families:
            known = ", ".join(study.families)
            raise DataError(f"Report design: primary_family {study.primary_family!r} is not a family; given: {known}.")
        return study

    @property
    def open_readings(self) -> tuple[str, ...]:
        """The readings that were not gated out."""
        return tuple(reading for reading in self.readings if reading not in self.gated_out)


def _wrong(key: str, given: object, wanted: str) -> DataError:
    return DataError(f"Report design: {key} is {given!r}; it must be {wanted}.")


def _text(design: Mapping[str, object], key: str) -> str:
    value = design[key]
    if not isinstance(value, str):
        raise _wrong(key, value, "text")
    return value


def _number(design: Mapping[str, object], key: str) -> float:
    value = design[key]
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise _wrong(key, value, "a number")
    return float(value)


def _texts(design: Mapping[str, object], key: str) -> tuple[str, ...]:
    value = design[key]
    if isinstance(value, str) or not isinstance(value, Sequence):
        raise _wrong(key, value, "a list of texts")
    return tuple(str(item) for item in value)


def _mapping(design: Mapping[str, object], key: str) -> Mapping[str, str]:
    value = design[key]
    if not isinstance(value, Mapping):
        raise _wrong(key, value, "a mapping of texts")
    return {str(name): str(item) for name, item in value.items()}
