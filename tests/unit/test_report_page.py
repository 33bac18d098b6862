from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field, fields, replace
from html.parser import HTMLParser
from pathlib import Path

import matplotlib as mpl
import pandas as pd
import pytest

from neuromod_core.kernel.errors import ConfigError
from neuromod_core.report import ReportData, figures, render, write_png
from neuromod_core.report.canvas import PNG_WIDTH, drawing, svg
from neuromod_core.report.data import GATE_STATES
from neuromod_core.report.plots.forest import forest
from tests.unit.report_data import GATES, report_data

TEMPLATES = Path(__file__).parents[2] / "analysis" / "templates"
HOSTILE = '"></p><script>alert(1)</script> & $x^$ --> <img src=x onerror=alert(2)>'


LINKS = {"href", "xlink:href", "src", "srcset", "action", "data"}


@dataclass
class Page(HTMLParser):
    """Tags, identifiers, references and visible text of a page."""

    tags: Counter[str] = field(default_factory=Counter)
    ids: list[str] = field(default_factory=list)
    targets: list[str] = field(default_factory=list)
    pictures: list[dict[str, str | None]] = field(default_factory=list)
    text: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        super().__init__()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags[tag] += 1
        self.ids += [value for name, value in attrs if name == "id" and value]
        self.targets += [value or "" for name, value in attrs if name in LINKS]
        if tag == "svg":
            self.pictures.append(dict(attrs))

    def handle_data(self, data: str) -> None:
        self.text.append(data)


def parse(html: str) -> Page:
    page = Page()
    page.feed(html)
    page.close()
    return page


@pytest.fixture(scope="module")
def data() -> ReportData:
    return report_data(units=6, tokens=40)


@pytest.fixture(scope="module")
def html(data: ReportData) -> str:
    return render(data, TEMPLATES)


@pytest.fixture(scope="module")
def page(html: str) -> Page:
    return parse(html)


@pytest.fixture(scope="module")
def bare(data: ReportData) -> ReportData:
    """The same study with every table empty but arms and gates: quick to render."""
    empty = {each.name: getattr(data, each.name).iloc[:0] for each in fields(data) if each.name in EMPTIED}
    return replace(data, **empty)


EMPTIED = ("scores", "items", "verdicts", "shams", "side_effects", "generations", "order")


def test_the_sections_come_in_the_promised_order(html: str) -> None:
    numbers = re.findall(r"<h2[^>]*>(\d+)\.", html)
    assert numbers == [str(number) for number in range(1, 11)]


def test_no_missing_number_reaches_the_reader_as_a_number(html: str) -> None:
    assert re.findall(r"\b(?:nan|NaN|NaT|None|inf|undefined)\b|<NA>", html) == []


def test_equal_data_give_equal_bytes(data: ReportData, html: str) -> None:
    assert render(report_data(units=6, tokens=40), TEMPLATES) == html


def test_the_page_asks_nothing_of_the_network_and_runs_no_script(html: str, page: Page) -> None:
    assert [target for target in page.targets if not target.startswith("#")] == []
    assert set(page.tags) & {"script", "link", "img", "iframe", "object", "embed", "form"} == set()
    assert re.findall(r"https?:|//\w|@import|url\((?!#)", html) == []


def test_identifiers_are_unique_and_every_reference_resolves(html: str, page: Page) -> None:
    assert [name for name, times in Counter(page.ids).items() if times > 1] == []
    inside = re.findall(r"url\(#([^)]*)\)", html)
    assert {target.removeprefix("#") for target in page.targets} | set(inside) <= set(page.ids)
    assert inside


def test_every_colour_is_a_colour(html: str) -> None:
    assert re.findall(r'(?:fill|stroke|color)(?:="|: )#(?![0-9a-fA-F]{6}\b)[^";]*', html) == []


def test_every_picture_is_described(page: Page) -> None:
    assert len(page.pictures) == 10
    assert all(picture["role"] == "img" and len(picture["aria-label"] or "") > 30 for picture in page.pictures)


def test_what_is_missing_is_said(html: str) -> None:
    for words in (
        "zero by construction",
        "no valid scores",
        "not recorded",
        '"missing">missing<',
        "not tested on this scale",
    ):
        assert words in html, words


def test_missing_cells_are_hatched(html: str) -> None:
    assert "url(#items-h" in html
    assert "url(#shift-statement_raw-h" in html


def hostile(data: ReportData) -> ReportData:
    """Every free text of the study is an attack, the name of a pack among them."""
    lucid = data.verdicts[data.verdicts["arm"] == "lucid"]
    rename = {"arm": {"lucid": HOSTILE}}
    against = {"comparator": {"sham vector": HOSTILE}}
    texts: dict[str, object] = {
        "title": HOSTILE,
        "question": HOSTILE,
        "limits": [HOSTILE],
        "details": {HOSTILE: HOSTILE},
    }
    return replace(
        data,
        scores=data.scores.head(5).assign(value=None, reason=HOSTILE),
        items=data.items.iloc[:0],
        verdicts=lucid.assign(note=HOSTILE).replace(rename).replace(against),
        gates=data.gates.assign(evidence=HOSTILE, title=HOSTILE),
        generations=data.generations.tail(8).assign(text=HOSTILE, prompt=HOSTILE, stop_reason=HOSTILE),
        side_effects=data.side_effects.iloc[:0],
        order=data.order.head(30).replace(rename),
        design={**data.design, **texts},
        arms=data.arms.assign(effects=HOSTILE).replace(rename),
        provenance={"plan_hash": HOSTILE, HOSTILE: HOSTILE},
    )


def test_hostile_text_stays_text(data: ReportData) -> None:
    html = render(hostile(data), TEMPLATES)
    page = parse(html)
    assert page.tags["script"] == page.tags["img"] == 0
    assert "<script" not in html.lower()
    assert "".join(page.text).count(HOSTILE) > 20


@pytest.mark.parametrize("state", GATE_STATES)
def test_every_gate_state_is_shown_and_only_a_failure_raises_the_banner(bare: ReportData, state: str) -> None:
    html = render(replace(bare, gates=GATES.head(1).assign(state=state)), TEMPLATES)
    assert f'<td class="{state.replace(" ", "-")}">{state}</td>' in html
    assert ('class="banner"' in html) == ("No claims are licensed" in html) == (state == "failed")


def test_a_run_that_recorded_nothing_says_so(bare: ReportData) -> None:
    html = render(bare, TEMPLATES)
    assert "<svg" not in html
    assert html.count('class="absent"') == 10
    assert "Side effects of packs on neutral text were not recorded." in html


def test_null_texts_are_not_printed_as_words(bare: ReportData, data: ReportData) -> None:
    stories = data.generations.head(1).assign(text=None, stop_reason=None)
    html = render(replace(bare, generations=stories, gates=GATES.assign(evidence=None)), TEMPLATES)
    assert re.findall(r"\b(?:nan|None)\b", html) == []
    assert "The story is empty (missing)." in html


def test_a_folder_without_a_template_is_one_clear_line(data: ReportData, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"^No report template: .* must hold report\.html\.j2\.$"):
        render(data, tmp_path)


@pytest.fixture
def loud() -> Iterator[None]:
    with mpl.rc_context({"font.size": 31, "axes.facecolor": "red", "svg.fonttype": "path"}):
        yield


@pytest.mark.usefixtures("loud")
def test_pictures_neither_read_nor_write_the_settings_of_the_user(data: ReportData, html: str) -> None:
    before = dict(mpl.rcParams)
    with drawing("report"):
        (plot,) = forest(data)
    text = svg(plot)
    assert dict(mpl.rcParams) == before
    assert re.sub(r' xmlns(?::xlink)?="[^"]*"', "", text) in html


def test_pictures_are_written_at_the_promised_width_and_always_alike(data: ReportData, tmp_path: Path) -> None:
    few = replace(data, **{name: getattr(data, name).iloc[:0] for name in EMPTIED if name not in {"verdicts", "shams"}})
    (first,), (second,) = write_png(few, tmp_path / "a"), write_png(few, tmp_path / "b")
    assert first.name == "forest.png"
    assert int.from_bytes(first.read_bytes()[16:20], "big") == PNG_WIDTH
    assert first.read_bytes() == second.read_bytes()


def test_figures_leave_out_what_was_not_recorded(data: ReportData) -> None:
    some = replace(data, generations=data.generations.iloc[:0], items=data.items.iloc[:0], scores=data.scores.iloc[:0])
    assert set(figures(some)) == {"order", "forest"}


def test_stories_name_the_arm_that_has_none(bare: ReportData, data: ReportData) -> None:
    without = data.generations[data.generations["arm"] != "hot"].head(30)
    html = render(replace(bare, generations=pd.DataFrame(without)), TEMPLATES)
    assert "missing: this arm has no story for the unit." in html
