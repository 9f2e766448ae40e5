"""The page in a real browser: quiet, shut off, equal to `tree.replay`, safe against markup, usable by keyboard."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from bild.config import MethodConfig, ThresholdConfig
from bild.decoding import setting, thresholds_of
from bild.report.figure import Missing
from bild.report.format import label
from bild.report.page import write_page
from bild.report.page.points import grids_of
from bild.report.predictions import Sweeps
from bild.report.sections import make_section
from bild.report.table import Table
from bild.results.codec import write_json
from bild.results.prices import PRICES, PassPrice, PriceError, Prices
from bild.tree import Tree, open_tree
from tests.records import make_sweep
from tests.report.page.browser import WHY, Browser, browse, chromium
from tests.report.page.trees import usual_points, walkers, write_tree
from tests.report.sweeps import recorded

EVIL = "<script>document.title = 'broken'</script>"
EXAMPLES = 12
OTHERS = [
    setting("cascade", fb=0.3, alpha=0.1),
    setting("cascade", alpha=0.1),
    setting("lenience", alpha=0.3),
    setting("speculative", max_draft=4),
    setting("speculative", fb=0.4),
    setting("dynamic", fb=0.5),
    setting("relaxed", max_draft=5),
    setting("bild", keep="top", top=3, fb=0.5),
    setting("heuristic", max_draft=3),
    setting("oracle", rb=2.0),
]
POINTS = "JSON.parse(document.getElementById('data').textContent).sections[0].points"


def a_price(one: float) -> PassPrice:
    return PassPrice({1: one, 2: 1.3 * one, 8: 2.1 * one, 12: 2.6 * one}, 9.0, 10.0, 1e-6, 2e-6)


PRICE_LIST = Prices(
    schema=1, identity={}, created="2026-01-01T00:00:00+00:00", large=a_price(3e-3), small=a_price(4e-4),
    large_alone=a_price(2.9e-3), small_alone=a_price(3.9e-4), encode_large={8: 2e-3, 12: 3e-3},
    encode_small={8: 5e-4, 12: 6e-4}, round=3e-5, example=1e-4, error=PriceError(0.05, 0.04, 0), texts=20,
)  # fmt: skip


@dataclass(frozen=True)
class Made:
    """A page and the tree that it was made from."""

    path: Path
    tree: Tree


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Made:
    root = tmp_path_factory.mktemp("results")
    pair = root / "random" / "pair"
    records = make_sweep()
    points = usual_points(MethodConfig("bild"), fbs=(0.1, 0.3, 0.5, 0.7, 0.9), rbs=(1.0, 2.0, 4.0, 8.0, math.inf))
    points += OTHERS
    folder = write_tree(pair / "tree", walkers(EXAMPLES, points, seed=5), records[0].task.data["hash"])
    predicted = tuple(recorded(*point) for point in points)
    write_json(folder / PRICES, PRICE_LIST)
    section = make_section(records, {record.hash: pair / record.label for record in records})
    table = Table("odd", f"A table with {EVIL}", ("a", "b"), ((EVIL, "1 & 2"),), (EVIL,))
    part = SimpleNamespace(
        section=section,
        slug="",
        sweeps=Sweeps(predicted, {folder: predicted}),
        sheets=(),
        tables=(table,),
        missing=(Missing("A figure", EVIL, "make x"),),
    )
    contents: Any = SimpleNamespace(parts=(part,), tables=(), left_out=(f"some/{EVIL}: unfinished",))
    return Made(write_page(contents, tmp_path_factory.mktemp("report")), open_tree(folder))


@pytest.fixture(scope="module")
def browser(made: Made, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    if chromium() is None:
        pytest.skip(WHY)
    with browse(tmp_path_factory.mktemp("profile")) as found:
        found.open(made.path)
        found.until(lambda: found.js("document.documentElement.dataset.replayed") == "all", "the grid is replayed")
        yield found


def turn(browser: Browser, name: str, place: int) -> None:
    browser.js(
        f"(() => {{ const s = document.getElementById('{name}'); s.value = {place}; "
        "s.dispatchEvent(new Event('input', {bubbles: true})); })()"
    )


def shown(browser: Browser) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(browser.js("document.getElementById('tiles').dataset.exact"))
    found["words"] = {
        key: browser.js(f"document.querySelector('[data-value={key}]').textContent") for key in ("quality", "speedup")
    }
    return found


def test_it_is_one_small_file_that_can_fetch_nothing(made: Made) -> None:
    text = made.path.read_text(encoding="utf-8")
    assert made.path.stat().st_size < 5_000_000
    assert [each.name for each in made.path.parent.iterdir()] == ["index.html"]
    assert "default-src 'none'" in text
    assert "connect-src 'none'" in text
    assert 'src="' not in text
    assert "sourceMappingURL" not in text
    assert "@import" not in text
    assert EVIL not in text


def test_the_same_results_give_the_same_bytes(made: Made, tmp_path: Path) -> None:
    from bild.report.page import document

    assert document("a", {"b": [1, "</script>"]}) == document("a", {"b": [1, "</script>"]})


def test_it_loads_without_an_error_or_a_request(browser: Browser, made: Made) -> None:
    browser.listen(0.3)
    assert browser.errors == []
    assert browser.requests == [made.path.as_uri()]


def test_the_sliders_show_what_the_tree_replays(browser: Browser, made: Made) -> None:
    sample = browser.js("(() => { const s = bild.explorer.sample; return [s.grids[0].fbs, s.grids[0].values]; })()")
    fbs, rbs = sample[0], [math.inf if rb == "inf" else rb for rb in sample[1]]
    vanilla = made.tree.replay(method="vanilla")
    seen = set()
    for i, j in ((0, 0), (1, 3), (2, 1), (len(fbs) - 1, len(rbs) - 1), (0, len(rbs) - 1)):
        turn(browser, "fb", i)
        turn(browser, "value", j)
        replay, page = made.tree.replay(fbs[i], rbs[j]), shown(browser)
        assert page["score"] == pytest.approx(replay.quality.value, rel=1e-9, abs=1e-9)
        assert replay.seconds is not None
        assert vanilla.seconds is not None
        assert page["seconds"] == pytest.approx(float(replay.seconds.sum()), rel=1e-9)
        assert page["speedup"] == pytest.approx(float(vanilla.seconds.sum() / replay.seconds.sum()), rel=1e-9)
        for name in page["counts"]:
            assert page["counts"][name] == pytest.approx(getattr(replay.counts, name), rel=1e-12), name
        assert page["words"]["quality"] == f"{replay.quality.value:.2f}"
        assert browser.js("document.getElementById('fb-value').textContent") == f"{fbs[i]:g}"
        assert browser.js("bild.examples.found.outputs.map((o) => o.text)") == replay.text
        seen.add(page["words"]["quality"])
    assert len(seen) > 2
    assert browser.errors == []


def test_every_setting_that_the_tree_was_grown_for_is_replayed(browser: Browser) -> None:
    cells = browser.js("bild.explorer.cells().filter((cell) => cell.found).map((cell) => [cell.fb, cell.value])")
    assert len(cells) >= 25
    for fb in (0.1, 0.3, 0.5, 0.7, 0.9):
        assert all([fb, rb] in cells for rb in (1, 2, 4, 8, "inf"))


def test_every_method_of_a_sweep_replays_with_the_sliders_that_its_rules_heed(browser: Browser, made: Made) -> None:
    names = browser.js("[...document.querySelectorAll('#rules label')].map((label) => label.textContent)")
    assert names == [grid.told()["name"] for grid in grids_of([(MethodConfig("bild"), ThresholdConfig()), *OTHERS])]
    for method, threshold in OTHERS:
        point = next(each for each in browser.js(POINTS) if each["name"] == label(recorded(method, threshold)))
        browser.js(f"bild.explorer.goTo({json.dumps(point['at'])})")
        browser.until(lambda: browser.js("document.documentElement.dataset.replayed") == "all", "it is replayed")
        replay, page, heeded = (
            made.tree.replay_grid([(method, threshold)])[0],
            shown(browser),
            thresholds_of(method, threshold),
        )
        assert page["score"] == pytest.approx(replay.quality.value, rel=1e-9, abs=1e-9)
        assert page["counts"]["tokens_per_large_pass"] == pytest.approx(replay.counts.tokens_per_large_pass, rel=1e-12)
        assert browser.js("document.getElementById('fb-slider').hidden") == ("fb" not in heeded)
        assert browser.js("document.getElementById('value-slider').hidden") == (not heeded.keys() - {"fb"})
        for name, id_ in (("fb", "fb"), ("alpha", "value"), ("top", "value")):
            if name in heeded and not (name == "top" and "alpha" in heeded):
                assert browser.js(f"document.getElementById('{id_}-value').textContent") == f"{heeded[name]:g}"
                assert name in browser.js(f"document.getElementById('{id_}-slider').textContent")
        assert browser.js("bild.examples.found.outputs.map((o) => o.text)") == replay.text
        assert browser.js("document.getElementById('explore-charts').hidden")  # of a single setting there is no chart
    browser.js("bild.explorer.goTo({grid: 0, fb: 0, value: 0})")
    browser.until(lambda: browser.js("document.documentElement.dataset.replayed") == "all", "it is replayed")
    assert browser.errors == []


def test_a_link_holds_the_sliders(browser: Browser, made: Made) -> None:
    browser.js("bild.explorer.goTo({grid: 0, fb: 0, value: 0})")
    fb, rb = browser.js("[bild.explorer.grid.fbs.indexOf(0.3), bild.explorer.grid.values.indexOf('inf')]")
    browser.js(f"bild.explorer.goTo({{grid: 0, fb: {fb}, value: {rb}}})")
    browser.until(lambda: "rb=inf" in browser.js("location.hash"), "the address has the setting")
    link, words = browser.js("location.href"), browser.js("document.getElementById('here').textContent")
    assert "0.3/∞" in words
    assert "threshold.rb=inf" in words
    place = "[bild.explorer.sample.grids.indexOf(bild.explorer.grid), bild.explorer.fb, bild.explorer.value]"
    browser.js("bild.explorer.goTo({grid: 0, fb: 0, value: 0})")
    browser.until(lambda: "rb=inf" not in browser.js("location.hash"), "the address follows")
    browser.js(f"location.hash = {json.dumps(link.partition('#')[2])}")
    browser.until(lambda: browser.js(place) == [0, fb, rb], "an opened link turns the sliders")
    browser.js("location.hash = 'rules=nothing&fb=0.3'")
    browser.until(lambda: "not in it" in browser.js("document.getElementById('explore-lead').textContent"), "told")
    browser.js("bild.explorer.goTo({grid: 0, fb: 0, value: 0})")


def test_commands_are_copied_and_tables_downloaded(browser: Browser) -> None:
    browser.js("navigator.clipboard.writeText = async (text) => { window.copied = text; }")
    browser.js("document.querySelector('#figures .note button').click()")
    assert browser.js("window.copied") == "make x"
    browser.js("URL.createObjectURL = (blob) => { window.file = blob; return '#'; }")
    browser.js("HTMLAnchorElement.prototype.click = function () { window.named = this.download; }")
    browser.js("document.querySelector('.table-block button').click()")
    assert browser.js("window.named") == "odd.csv"
    assert browser.js("window.file.text()") == f"a,b\n{EVIL},1 & 2\n"
    browser.js("document.querySelector('#front-csv button').click()")
    names, first = browser.js("window.file.text()").splitlines()[:2]
    point = browser.js(POINTS)[0]
    assert dict(zip(names.split(","), first.split(","), strict=False))["speedup"] == f"{point['speedup']:g}"


def test_markup_in_a_text_is_shown_as_text(browser: Browser) -> None:
    assert browser.js("document.title").startswith("BiLD on")
    assert browser.js("document.getElementById('example').textContent.includes('<script>')")
    assert browser.js("document.getElementById('example').querySelectorAll('script').length") == 0
    assert browser.js("document.getElementById('tables').textContent.includes('<script>')")
    assert browser.js("document.getElementById('about').textContent.includes('<script>')")


def test_tokens_are_coloured_by_who_wrote_them(browser: Browser, made: Made) -> None:
    for name, value in (("fb", 0.5), ("value", 1)):
        turn(browser, name, browser.js(f"bild.explorer.grid.{name}s.indexOf({value})"))
    wanted = [o for decoded in made.tree.replay(0.5, 1.0).decoded for o in decoded.origins[1:]]
    script = """(() => {
      const found = [];
      for (let i = 0; i < COUNT; i += 1) {
        bild.examples.choose(i);
        for (const tok of document.querySelectorAll(".written .tok")) found.push(tok.classList[1]);
      }
      return found;
    })()""".replace("COUNT", str(EXAMPLES))
    found = browser.js(script)
    assert [fate for fate in found if fate not in ("taken", "dropped")] == wanted
    assert {"taken", "dropped"} <= set(found)


def test_a_token_tells_its_probabilities_on_focus(browser: Browser) -> None:
    browser.js("document.querySelector('.rounds .tok.small').focus()")
    told = browser.js("document.querySelector('.told').textContent")
    assert "p small" in told
    assert "−ln p large" in told
    assert "round" in told


def test_search_and_order(browser: Browser) -> None:
    script = "(() => {{ const s = document.getElementById('search'); s.value = '{}'; s.oninput(); }})()"
    browser.js(script.format("e3"))
    assert browser.js("document.getElementById('found').textContent") == f"1 of {EXAMPLES} examples"
    browser.js(script.format(""))
    gains = "[...document.querySelectorAll('#list .score')].map((s) => Number(s.textContent.replace('−', '-')))"
    browser.js("(() => { const s = document.getElementById('sort'); s.value = 'loss'; s.onchange(); })()")
    losses = browser.js(gains)
    assert losses == sorted(losses)
    browser.js("(() => { const s = document.getElementById('sort'); s.value = 'gain'; s.onchange(); })()")
    assert browser.js(gains) == sorted(losses, reverse=True)


def test_points_sliders_and_tokens_answer_the_keyboard(browser: Browser) -> None:
    browser.js("document.querySelector('#front-chart [tabindex=\"0\"]').focus()")
    before = browser.js("document.querySelector('#front-card h3').textContent")
    browser.press("ArrowRight")
    after = browser.js("document.querySelector('#front-card h3').textContent")
    assert before != after
    browser.press("Enter")
    browser.js("document.activeElement.blur()")
    assert browser.js("document.querySelector('#front-card h3').textContent") == after
    turn(browser, "fb", 2)
    browser.js("document.getElementById('fb').focus()")
    was = browser.js("bild.explorer.fb")
    browser.press("ArrowLeft")
    assert browser.js("bild.explorer.fb") == was - 1
    browser.js("document.querySelector('.written .tok[tabindex=\"0\"]').focus()")
    browser.press("ArrowRight")
    assert browser.js("[...document.querySelectorAll('.written .tok')].indexOf(document.activeElement)") == 1
    assert browser.errors == []


@pytest.mark.parametrize("dark", [False, True])
def test_nothing_overflows_on_a_phone_and_the_theme_follows(browser: Browser, dark: bool) -> None:
    scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
    browser.call("Emulation.setEmulatedMedia", features=[scheme])
    browser.call("Emulation.setDeviceMetricsOverride", width=360, height=800, deviceScaleFactor=1, mobile=True)
    try:
        browser.listen(0.3)
        assert browser.js("document.documentElement.scrollWidth") <= 360
        assert browser.js("document.documentElement.dataset.theme") == scheme["value"]
        browser.js("document.getElementById('theme').click()")
        assert browser.js("document.documentElement.dataset.theme") == ("light" if dark else "dark")
        browser.js("document.getElementById('theme').click()")
    finally:
        browser.call("Emulation.clearDeviceMetricsOverride")
    assert browser.errors == []


def test_it_prints_in_light_whatever_the_theme(browser: Browser) -> None:
    dark = [{"name": "prefers-color-scheme", "value": "dark"}]
    tint = "getComputedStyle(document.documentElement).getPropertyValue('--large-tint').trim()"
    browser.call("Emulation.setEmulatedMedia", media="screen", features=dark)
    on_screen = browser.js(tint)
    browser.call("Emulation.setEmulatedMedia", media="print", features=dark)
    assert browser.js("getComputedStyle(document.body).backgroundColor") == "rgb(255, 255, 255)"
    assert browser.js(tint) != on_screen
    browser.call("Emulation.setEmulatedMedia", media="")
    assert len(browser.call("Page.printToPDF", printBackground=True)["data"]) > 10_000
