"""The page that shows what goes on, as a person sees it while a kernel floods its tab.

Run by ``nox --session browser``, which installs JupyterLab and Playwright.
"""

from __future__ import annotations

import copy
import json
import os
import re
from typing import TYPE_CHECKING, Any

import pytest
from benches.labpage import chromium
from playwright.sync_api import expect, sync_playwright

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from pathlib import Path

    from benches.labpage import Notebook
    from playwright.sync_api import Browser, Page, Route

    OpenNotebook = Callable[[Sequence[str]], Notebook]

pytestmark = pytest.mark.fails_on_stock("there is no such page")

FLOOD = """
shown = display("begin", display_id=True)
for n in range(10**6):
    shown.update(n)
"""

TAB = {
    "driver": "engine",
    "messages": 7,
    "bytes": 7_000,
    "seconds": 1.5,
    "waits_for": "the rate limits",
    "totals": {"messages": 1_234, "bytes": 99_000, "waited": 9, "merged": 5, "dropped": 0},
}
STATS = {
    "version": "1",
    "time": 100.0,
    "driver": "engine",
    "reason": "it runs on a thread of its own",
    "turns": 12,
    "kernels": {
        "0123456789": {
            "name": "python3",
            "state": "busy",
            "driver": "engine",
            "entries": 3,
            "bytes": 4_000,
            "received": 5_000,
            "received_bytes": 600_000,
            "life": 1,
            "clients": {"0123456789:abcdefghijkl": TAB},
            "away": {},
        }
    },
    "relays": {},
}


@pytest.fixture(scope="module")
def base_url() -> str:
    """As behind a hub."""
    return "/user/someone/"


class Stats:
    """What the page is told, in the server's place: a second and so many messages more each time."""

    def __init__(self) -> None:
        self.is_gone = False
        self._stats: dict[str, Any] = copy.deepcopy(STATS)
        kernel = self._stats["kernels"]["0123456789"]
        self.totals = kernel["clients"]["0123456789:abcdefghijkl"]["totals"]

    def answer(self, route: Route) -> None:
        """Answer a request."""
        if self.is_gone:
            route.abort()
            return
        self._stats["time"] += 1.0
        self.totals["messages"] += 50
        route.fulfill(body=json.dumps(self._stats), content_type="application/json")


@pytest.fixture(scope="module")
def browser(lab: tuple[str, Path]) -> Iterator[Browser]:
    """A browser for all tests but the one with a notebook, which comes first and has its own."""
    del lab  # for each server anew
    with sync_playwright() as playwright:
        options = ["--no-sandbox", "--disable-dev-shm-usage"]
        browser = playwright.chromium.launch(executable_path=chromium(), args=options)
        yield browser
        browser.close()


@pytest.fixture
def page(browser: Browser, lab: tuple[str, Path], token: str) -> Iterator[Page]:
    """A page on which a person is logged in."""
    page = browser.new_page(viewport={"width": 400, "height": 800})
    page.set_default_timeout(20_000)
    page.goto(f"{lab[0]}/api?token={token}")
    yield page
    page.close()


@pytest.fixture
def stats(page: Page, lab: tuple[str, Path]) -> Stats:
    """What the page is told, which is open."""
    stats = Stats()
    page.route("**/kernelwire/api/stats?no_track_activity=1", stats.answer)
    page.goto(f"{lab[0]}/kernelwire/")
    expect(page.locator(".tab")).to_have_count(1)
    return stats


def keep(page: Page, name: str) -> None:
    """Keep what the page shows, if ``SCREENSHOTS`` says where."""
    if folder := os.environ.get("SCREENSHOTS"):
        page.screenshot(path=f"{folder}/{name}.png", full_page=True)


def test_charts_when_a_kernel_floods_then_they_move(
    open_notebook: OpenNotebook, lab: tuple[str, Path], token: str
) -> None:
    """Stops an operator from looking at a page that stands still, or needs the world outside."""
    notebook = open_notebook([FLOOD])
    notebook.start(0)
    other = notebook.page.context.browser
    assert other is not None
    page = other.new_page(viewport={"width": 1280, "height": 800})
    asked: list[str] = []
    wrong: list[str] = []
    page.on("request", lambda request: asked.append(request.url))
    page.on("pageerror", lambda error: wrong.append(str(error)))
    page.on("console", lambda said: wrong.append(said.text) if said.type == "error" else None)
    page.goto(f"{lab[0]}/kernelwire/?token={token}")
    tab, kernel = page.locator(".tab"), page.locator(".kernel")
    for row, state in ((tab, "connected"), (kernel, "busy")):
        cells = row.locator("td")
        expect(cells.nth(0)).to_have_text(state, timeout=20_000)
        expect(cells.nth(1)).to_have_text(re.compile(r"^(\d{2,}.*|[\d.]+K)$"), timeout=20_000)
        expect(cells.nth(2)).to_have_text(re.compile(r"^[\d.]+ [kM]B$"))
        expect(cells.nth(6)).to_have_text("engine")
        chart = row.locator("polyline").first
        points = chart.get_attribute("points") or ""
        expect(chart).not_to_have_attribute("points", points)
    # More than the rate limits allow: updates give way to later ones.
    expect(tab.locator("td").nth(4)).not_to_have_text("0", timeout=20_000)
    keep(page, "live_page_in_a_flood")
    notebook.interrupt()
    notebook.wait_for_number(0)
    expect(kernel.locator("td").nth(0)).to_have_text("idle", timeout=20_000)
    expect(tab.locator("td").nth(1)).to_have_text("0.0", timeout=20_000)
    page.close()
    assert wrong == []
    own = f"{lab[0]}/kernelwire"
    assert [url for url in asked if not url.startswith(own)] == []


def test_page_when_it_is_read_aloud_then_it_is_a_table(page: Page, stats: Stats) -> None:
    """Stops a screen reader from finding nothing but numbers; little is said without being asked."""
    del stats
    table = page.get_by_role("table", name="What goes from each kernel to each of its tabs")
    expect(table).to_be_visible()
    expect(table.get_by_role("columnheader", name="Dropped")).to_be_attached()
    row = table.get_by_role("row", name="tab abcdefgh")
    expect(row.get_by_role("rowheader")).to_have_text("tab abcdefgh")
    expect(row.get_by_role("cell")).to_have_count(7)
    expect(row.get_by_role("cell").nth(1)).to_have_text("50")
    expect(row.get_by_role("cell").nth(3)).to_contain_text("7 messages")
    expect(row.get_by_role("cell").nth(3)).to_contain_text("for the rate limits")
    expect(page.get_by_role("status")).to_have_text("")
    assert page.locator("[aria-live], [role=alert]").count() == 0


def test_news_when_output_is_dropped_or_the_server_goes_then_it_is_told(
    page: Page, stats: Stats
) -> None:
    """Stops a loss from being one number among many, and old numbers from looking new."""
    news = page.get_by_role("status")
    stats.totals["dropped"] += 5
    expect(news).to_have_text("5 messages were dropped for tab abcdefgh.")
    stats.is_gone = True
    expect(news).to_have_text(re.compile("The server does not answer: .* What is shown is old"))
    stats.is_gone = False
    expect(news).to_have_text("")


def test_pause_when_it_is_pressed_by_keyboard_then_nothing_moves(page: Page, stats: Stats) -> None:
    """Stops who cannot read as fast, or has no mouse, from being left out."""
    page.keyboard.press("Tab")
    button = page.get_by_role("button", name="Pause")
    expect(button).to_be_focused()
    assert button.evaluate("e => getComputedStyle(e).outlineStyle") == "solid"
    page.keyboard.press("Space")
    expect(button).to_have_attribute("aria-pressed", "true")
    before = stats.totals["messages"]
    page.wait_for_timeout(1_500)  # a period and a half: nothing is to happen meanwhile
    assert stats.totals["messages"] <= before + 50  # of a request that was under way
    page.keyboard.press("Enter")
    expect(button).to_have_attribute("aria-pressed", "false")
    expect(page.locator(".tab td").nth(1)).to_have_text("50")


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_page_when_it_is_narrow_then_all_can_be_read(page: Page, stats: Stats, scheme: str) -> None:
    """Stops text from running out of a phone's screen, or into its background."""
    stats.totals["dropped"] += 5
    expect(page.locator(".bad").last).to_have_text("5")
    page.emulate_media(color_scheme=scheme)  # type: ignore[arg-type]
    assert page.evaluate("document.documentElement.scrollWidth") <= 400
    dropped = page.locator(".tab td").nth(5)
    assert dropped.evaluate("e => getComputedStyle(e, '::before').content") == '"Dropped"'
    for selector in ("body", ".kernel .id", ".tab .more", "td.bad", "footer", "caption"):
        assert page.locator(selector).first.evaluate(CONTRAST) >= 4.5, selector
    keep(page, f"live_page_{scheme}")


CONTRAST = """element => {
    const channels = color => color.match(/[\\d.]+/g).map(Number);
    const luminance = color => {
        const [r, g, b] = channels(color).map(value => {
            const part = value / 255;
            return part <= 0.03928 ? part / 12.92 : ((part + 0.055) / 1.055) ** 2.4;
        });
        return 0.2126 * r + 0.7152 * g + 0.0722 * b;
    };
    let behind = element;
    while (behind && channels(getComputedStyle(behind).backgroundColor)[3] === 0) {
        behind = behind.parentElement;
    }
    const pair = [getComputedStyle(element).color, getComputedStyle(behind).backgroundColor];
    const [dark, light] = pair.map(luminance).sort((one, other) => one - other);
    return (light + 0.05) / (dark + 0.05);
}"""
"""Of an element's text and what is behind it. Source: WCAG 2.2, relative luminance."""
