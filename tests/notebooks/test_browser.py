"""The report in a browser: whole, quiet, readable on a phone and on paper."""

from __future__ import annotations

import base64
import json
import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import pytest
from selenium import webdriver
from selenium.webdriver.chrome.service import Service

from analytics.report.extract import Plot, Section, Sentence
from analytics.report.page import page
from tests.conftest import World
from tests.notebooks import pages
from tests.unit.test_report_page import FRESH, HOSTILE, NOTHING, PERIOD, SVG

_OPTIONS: Final = (
    "--headless=new",
    "--no-sandbox",
    "--disable-dev-shm-usage",
    "--disable-gpu",
    "--hide-scrollbars",
    "--window-size=1280,900",
)
_ALIVE: Final = "window.alert = (...said) => { (window.said ??= []).push(said); };"


@pytest.fixture(scope="module")
def browser() -> Iterator[webdriver.Chrome]:
    """Chromium, without a window."""
    chromium, driver = shutil.which("chromium"), shutil.which("chromedriver")
    if chromium is None or driver is None:
        why = "there is no Chromium with its driver: apt install chromium chromium-driver"
        assert not os.environ.get("CI"), why
        pytest.skip(why)
    options = webdriver.ChromeOptions()
    options.binary_location = chromium
    for option in _OPTIONS:
        options.add_argument(option)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    found = webdriver.Chrome(options=options, service=Service(driver))
    # Whatever a page says by itself is noted, before anything else of it runs.
    found.execute_cdp_cmd("Page.addScriptToEvaluateOnNewDocument", {"source": _ALIVE})
    yield found
    found.quit()


@pytest.fixture(scope="module")
def report(planted_world: World, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """That of the planted week."""
    return pages.made(planted_world, tmp_path_factory.mktemp("reports")).path


def opened(browser: webdriver.Chrome, path: Path) -> list[str]:
    """Open it; what it asked for beside itself, from anywhere."""
    for log in ("browser", "performance"):
        browser.get_log(log)  # type: ignore[no-untyped-call]
    browser.get(path.as_uri())
    asked = []
    for line in browser.get_log("performance"):  # type: ignore[no-untyped-call]
        told = json.loads(line["message"])["message"]
        if told["method"] == "Network.requestWillBeSent":
            asked.append(told["params"]["request"]["url"])
    return [url for url in asked if not url.startswith(("data:", path.as_uri()))]


def complaints(browser: webdriver.Chrome) -> list[Any]:
    """What the browser's console says."""
    return list(browser.get_log("browser"))  # type: ignore[no-untyped-call]


def resized(browser: webdriver.Chrome, width: int) -> None:
    """As wide as this, as a phone where it is narrow."""
    browser.execute_cdp_cmd(
        "Emulation.setDeviceMetricsOverride",
        {"width": width, "height": 800, "deviceScaleFactor": 1, "mobile": width < 600},
    )


def broken(browser: webdriver.Chrome) -> list[str]:
    """Names of the pictures that are not there."""
    return list(
        browser.execute_script(
            "return [...document.images].filter(i => !i.complete || !i.naturalWidth).map(i => i.alt)"
        )
    )


def test_the_page_is_whole_and_asks_for_nothing(browser: webdriver.Chrome, report: Path) -> None:
    """All pictures are there, the console is silent, and nothing was loaded from anywhere."""
    assert opened(browser, report) == []
    assert complaints(browser) == []
    assert browser.execute_script("return document.images.length") > 0
    assert broken(browser) == []
    assert "Game report" in browser.title
    assert browser.execute_script("return document.scripts.length") == 0


@pytest.mark.parametrize("width", [360, 768, 1280])
def test_it_is_no_wider_than_the_screen(
    browser: webdriver.Chrome, report: Path, width: int
) -> None:
    """Nobody pushes a page aside to read its lines; on a phone a plot is, by itself, and is legible."""
    resized(browser, width)
    opened(browser, report)
    assert browser.execute_script("return innerWidth") == width
    assert browser.execute_script("return document.documentElement.scrollWidth") <= width
    # What is cut off beside its box; a plot on a phone is scrolled within.
    wide = browser.execute_script(
        "return [...document.querySelectorAll('main *, header *, footer *')]"
        ".filter(e => !e.closest('.picture') && e.getBoundingClientRect().right > innerWidth + 1)"
        ".map(e => e.outerHTML.slice(0, 80))"
    )
    assert wide == []
    widths = browser.execute_script("return [...document.images].map(i => i.clientWidth)")
    assert min(widths) > 500


def test_it_prints(browser: webdriver.Chrome, report: Path) -> None:
    """On A4, page by page, and the plots with it."""
    opened(browser, report)
    printed = browser.execute_cdp_cmd("Page.printToPDF", {"preferCSSPageSize": True})
    pdf = base64.b64decode(printed["data"])
    assert pdf.startswith(b"%PDF-")
    assert b"/MediaBox [0 0 594.95996 841.91998]" in pdf or b"841.9" in pdf
    assert len(pdf) > 20_000
    assert complaints(browser) == []


def test_nothing_that_somebody_is_called_comes_alive(
    browser: webdriver.Chrome, tmp_path: Path
) -> None:
    """Names made to run a script or to load a picture, in every place that takes text, and within a plot."""
    alive = SVG.replace(
        "/>",
        "><script>alert(1)</script><image href='https://evil.example/x.png' onerror='alert(1)'/></svg>",
    )
    sections = [
        Section(name, name, name, (name,), (Plot(alive, name), Sentence(name)), name)
        for name in HOSTILE
    ]
    path = tmp_path / "hostile.html"
    path.write_text(page(PERIOD, FRESH, NOTHING, sections), encoding="utf-8")
    assert opened(browser, path) == []
    assert complaints(browser) == []
    assert broken(browser) == []
    assert browser.execute_script("return window.said ?? []") == []
    resized(browser, 360)
    assert browser.execute_script("return document.documentElement.scrollWidth") <= 360
