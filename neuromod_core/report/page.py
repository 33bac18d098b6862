"""From data to one self-contained HTML page, and to pictures in a folder."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from neuromod_core.kernel.errors import ConfigError
from neuromod_core.report import robustness, safety, tables, telemetry
from neuromod_core.report.canvas import svg
from neuromod_core.report.canvas import write_png as write_one
from neuromod_core.report.data import ROLES, STATES, ReportData
from neuromod_core.report.findings import findings
from neuromod_core.report.plots import plots
from neuromod_core.report.stories import samples
from neuromod_core.report.wording import reading_name, reading_unit

TEMPLATE = "report.html.j2"


def figures(data: ReportData) -> Mapping[str, str]:
    """Return name -> SVG for every picture that `data` can fill; equal data give equal text."""
    return {plot.name: svg(plot) for plot in plots(data)}


def write_png(data: ReportData, folder: Path) -> tuple[Path, ...]:
    """Write every picture as `<name>.png`, 1600 pixels wide, into `folder` (made if absent); return the paths."""
    folder.mkdir(parents=True, exist_ok=True)
    return tuple(write_one(plot, folder) for plot in plots(data))


def render(data: ReportData, template_dir: Path) -> str:
    """Return the report as one HTML page that asks nothing of the network and needs no script.

    Raises:
        ConfigError: if `template_dir` does not hold the template.
    """
    if not (template_dir / TEMPLATE).is_file():
        raise ConfigError(f"No report template: {template_dir} must hold {TEMPLATE}.")
    environment = Environment(
        loader=FileSystemLoader(template_dir),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    return environment.get_template(TEMPLATE).render(_context(data))


def _context(data: ReportData) -> dict[str, object]:
    """Return everything the template names."""
    return {
        "data": data,
        "study": data.study,
        "findings": findings(data),
        "figures": {name: _inline(text) for name, text in figures(data).items()},
        "facts": tables.facts(data),
        "arms": tables.arms(data),
        "gates": tables.gates(data),
        "primary": tables.primary(data),
        "secondary": tables.secondary(data),
        "sensitivity": robustness.sensitivity(data),
        "agreement": robustness.agreement(data),
        "consort": robustness.consort(data),
        "leaks": tables.leaks(data),
        "shifts": {reading: tables.shifts(data, reading) for reading in data.study.readings},
        "side_effects": tables.side_effects(data),
        "margins": safety.margins(data),
        "measures": safety.measures(data),
        "halts": safety.halts(data),
        "absences": safety.absences(data),
        "telemetry": telemetry.table(data),
        "stops": tables.stops(data) if len(data.generations) else None,
        "validity": tables.validity(data),
        "provenance": tables.provenance(data),
        "samples": samples(data),
        "reading_name": reading_name,
        "reading_unit": reading_unit,
        "roles": ROLES,
        "states": STATES,
    }


def _inline(text: str) -> Markup:
    """Return an SVG without its namespace addresses, which HTML does not need; its text was escaped as it was drawn."""
    return Markup(re.sub(r' xmlns(?::xlink)?="[^"]*"', "", text))
