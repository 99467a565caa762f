"""Screens of Fusion's pages, as docs/report.md and docs/serve.md show them.

    fusion ablate four-types.csv --split leave-one-source-out --features morphology,texture,colour \\
        --classifiers svm,logreg -o result
    fusion train four-types.csv --features morphology,texture,colour --classifier svm --set sets=0.9 -o model
    fusion explain model NEW -o why
    make docs
    python -m benchmarks.page_screens --report result/report.html --explanations why/explanations.html \\
        --serve model --images NEW --site build/site

writes docs/screens/NAME-WIDTH-SCHEME.png of what is named: the top of each page on a phone and a desk, light and dark,
the parts of the report with figures of cells, one cell's explanation on the page of serve, and the first sheet of each
as it is printed on A4. ``NEW`` is a folder of images. Needs Chromium and playwright.
"""

from __future__ import annotations

import argparse
import io
import shutil
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

SCREENS = Path(__file__).parents[1] / "docs" / "screens"

#: Width -> height of what is kept.
SIZES = {390: 1100, 1280: 1000}

#: Headings of the report from which on a further screen is kept.
PARTS = {"confusion": "where-the-best-goes-wrong", "cells": "cells-right-and-wrong", "map": "where-the-cells-lie"}

#: A4 without its margins, at 96 dots an inch.
PAPER = (718, 1016)

#: Milliseconds that a model, asked on the page, has to judge and to explain.
_PATIENCE = 120_000


def write_screen(page: Any, name: str, top: int, width: int, height: int) -> None:
    """A part of a page, from this height on."""
    write_image(page.screenshot(full_page=True), name, (0, top, width, top + height))


def write_image(screen: bytes, name: str, part: tuple[int, int, int, int] | None = None) -> None:
    """A screen, or a part of it, as PNG of 128 colours, which text and figures need no more of."""
    from PIL import Image

    image = Image.open(io.BytesIO(screen))
    if part is not None:
        left, top, right, bottom = part
        image = image.crop((left, top, right, min(bottom, image.height)))
    image.convert("RGB").quantize(128, dither=Image.Dither.NONE).save(SCREENS / f"{name}.png", optimize=True)


def shoot(browser: Any, address: str, name: str, act: Callable[[Any], None] = lambda page: None) -> None:
    """Every screen of one page.

    Parameters
    ----------
    act : does what a reader does before there is something to see.
    """
    for scheme in ("light", "dark"):
        for width, height in SIZES.items():
            page = browser.new_context(viewport={"width": width, "height": 900}, color_scheme=scheme).new_page()
            page.goto(address)
            act(page)
            page.wait_for_timeout(300)
            write_screen(page, f"{name}-{width}-{scheme}", 0, width, height)
            for part, heading in PARTS.items():
                place = page.locator(f"h2#{heading}")
                if scheme == "light" and width == max(SIZES) and place.count():
                    top = round(place.evaluate("place => place.getBoundingClientRect().top + scrollY")) - 10
                    write_screen(page, f"{name}-{part}", top, width, 820)
    page = browser.new_context(viewport={"width": PAPER[0], "height": PAPER[1]}).new_page()
    page.goto(address)
    act(page)
    page.emulate_media(media="print")
    write_screen(page, f"{name}-print", 0, *PAPER)


def shoot_serve(browser: Any, model: Path, images: Path) -> None:
    """The page of ``fusion serve`` with a folder of images, and why one of them is what it is called."""

    def drop(page: Any) -> None:
        page.set_input_files("#folder", images)
        page.locator("#status", has_text="judged").wait_for(timeout=_PATIENCE)
        page.select_option("#order", "unsure")

    with served(model) as address:
        shoot(browser, address, "serve", drop)
        page = browser.new_context(viewport={"width": 1280, "height": 1000}).new_page()
        page.goto(address)
        drop(page)
        page.locator("#cells .why button").first.click()
        page.locator("#reasons table").first.wait_for(timeout=_PATIENCE)
        page.wait_for_timeout(300)
        write_image(page.screenshot(), "serve-why")


@contextmanager
def served(model: Path) -> Iterator[str]:
    """Address of the page of a model, served as the command does."""
    import uvicorn

    from fusion.bundles.model_bundle import load_model
    from fusion.serve.app import create_app

    app = create_app(load_model(model), name=model.name)
    server = uvicorn.Server(uvicorn.Config(app, port=0, log_level="warning"))
    thread = threading.Thread(target=server.run)
    thread.start()
    while not server.started:
        time.sleep(0.01)
    try:
        yield f"http://127.0.0.1:{server.servers[0].sockets[0].getsockname()[1]}/"
    finally:
        server.should_exit = True
        thread.join()


def main() -> None:
    """Make the screens of the pages that are named."""
    from playwright.sync_api import sync_playwright

    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--report", type=Path, help="a report.html")
    parser.add_argument("--explanations", type=Path, help="an explanations.html")
    parser.add_argument("--serve", type=Path, help="folder of a model")
    parser.add_argument("--images", type=Path, help="folder of images that it is asked about")
    parser.add_argument("--site", type=Path, help="folder of the built site")
    asked = parser.parse_args()
    if (asked.serve is None) != (asked.images is None):
        parser.error("--serve and --images go together")
    SCREENS.mkdir(exist_ok=True)
    found = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))))
    with sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=found, args=["--no-sandbox"])
        for name in ("report", "explanations"):
            if (file := getattr(asked, name)) is not None:
                shoot(browser, file.resolve().as_uri(), name)
        if asked.site is not None:
            shoot(browser, (asked.site / "index.html").resolve().as_uri(), "site")
        if asked.serve is not None:
            shoot_serve(browser, asked.serve, asked.images)
        browser.close()


if __name__ == "__main__":
    main()
