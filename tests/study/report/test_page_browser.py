"""The report in a real browser: no errors, every picture shown, no sideways scroll, on desk and phone.

Needs selenium, chromium and chromedriver; about 40 s.
"""

from __future__ import annotations

import shutil
from typing import TYPE_CHECKING, Any

import pytest

from pyhbt.study.report import write_report
from tests.study.synthetic_study import HOSTILE, HOSTILE_ARM, Study, write_study

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

pytestmark = pytest.mark.slow

FLAGS = (
    "--headless=new",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)
TINY = Study(
    ratios=(0, HOSTILE_ARM),
    seeds=(0,),
    languages=(HOSTILE, "en", "x" * 80),
    tiers=("seen", "zero-shot"),
    units=5,
    steps=(0, 10),
    metrics=("recall@10",),
    config={
        "command": ["pyhbt", HOSTILE, "y" * 300],
        "environment": {"z" * 200: "w" * 500},
        HOSTILE: [1, [HOSTILE]],
    },
)


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    webdriver = pytest.importorskip("selenium.webdriver", reason="selenium is not installed")
    chromium, driver = shutil.which("chromium"), shutil.which("chromedriver")
    if chromium is None or driver is None:
        pytest.skip("chromium and chromedriver are not both on PATH")
    options = webdriver.ChromeOptions()
    options.binary_location = chromium
    for flag in (*FLAGS, f"--user-data-dir={tmp_path_factory.mktemp('profile')}"):
        options.add_argument(flag)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    opened = webdriver.Chrome(options=options, service=webdriver.ChromeService(driver))
    yield opened
    opened.quit()


@pytest.fixture(scope="module", params=[Study(), TINY], ids=["large", "tiny and hostile"])
def page(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_report(write_study(tmp_path_factory.mktemp("study"), request.param))


@pytest.mark.parametrize("width", [390, 1280])
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_page_shows_whole(browser: Any, page: Path, scheme: str, width: int) -> None:
    feature = {"name": "prefers-color-scheme", "value": scheme}
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": [feature]})
    screen = {"width": width, "height": 844, "deviceScaleFactor": 1, "mobile": False}
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", screen)
    browser.get(page.as_uri())

    # Closed parts must fit as well.
    browser.execute_script("document.querySelectorAll('details').forEach(part => part.open = true)")
    images = browser.execute_async_script(
        "const done = arguments[0], images = [...document.images];"
        "Promise.all(images.map(image => image.decode())).then("
        "  () => done(images.map(image => [image.complete, image.naturalWidth, image.currentSrc.slice(0, 14)])),"
        "  error => done(String(error)))"
    )
    assert images
    assert all(complete and pixels > 0 and kind == "data:image/png" for complete, pixels, kind in images), (
        images
    )

    shown_dark = browser.execute_script(
        "const image = document.querySelector('picture img');"
        "return image.currentSrc === image.parentNode.querySelector('source').srcset"
    )
    assert shown_dark == (scheme == "dark")
    inner, content = browser.execute_script(
        "return [window.innerWidth, document.documentElement.scrollWidth]"
    )
    assert inner == width
    assert content <= width
    past_edge = browser.execute_script(
        "return [...document.querySelectorAll('main > *')]"
        ".filter(part => part.getBoundingClientRect().right > document.documentElement.clientWidth)"
        ".map(part => part.outerHTML.slice(0, 200))"
    )
    assert past_edge == []
    assert browser.execute_script("return document.scripts.length") == 0
    assert browser.get_log("browser") == []
