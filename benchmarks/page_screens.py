"""Screens of a report and of a page of explanations, as docs/report.md shows them.

    python benchmarks/page_screens.py RESULT/report.html WHY/explanations.html

writes docs/screens/NAME-WIDTH-SCHEME.png: the top of each page on a phone and a desk, in light and dark, the parts of
the report with figures of cells, and the first sheet of each as it is printed on A4. Needs Chromium and playwright.
"""

from __future__ import annotations

import argparse
import io
import shutil
from pathlib import Path
from typing import Any

import numpy as np

SCREENS = Path(__file__).parents[1] / "docs" / "screens"

#: Width -> height of what is kept.
SIZES = {390: 1100, 1280: 1000}

#: Headings of the report from which on a further screen is kept.
PARTS = {"confusion": "where-the-best-goes-wrong", "cells": "cells-right-and-wrong", "map": "where-the-cells-lie"}

#: A4 without its margins, at 96 dots an inch.
PAPER = (718, 1016)


def write_screen(page: Any, name: str, top: int, width: int, height: int) -> None:
    """A part of a page as PNG of 64 colours, which text and figures need no more of."""
    from PIL import Image

    image = Image.open(io.BytesIO(page.screenshot(full_page=True)))
    part = np.asarray(image.crop((0, top, width, min(top + height, image.height))).convert("RGB"))
    small = Image.fromarray(part).quantize(128, dither=Image.Dither.NONE)
    small.save(SCREENS / f"{name}.png", optimize=True)


def shoot(browser: Any, file: Path, name: str) -> None:
    """Every screen of one page."""
    for scheme in ("light", "dark"):
        for width, height in SIZES.items():
            page = browser.new_context(viewport={"width": width, "height": 900}, color_scheme=scheme).new_page()
            page.goto(file.resolve().as_uri())
            page.wait_for_timeout(300)
            write_screen(page, f"{name}-{width}-{scheme}", 0, width, height)
            for part, heading in PARTS.items():
                place = page.locator(f"h2#{heading}")
                if scheme == "light" and width == max(SIZES) and place.count():
                    top = round(place.evaluate("place => place.getBoundingClientRect().top + scrollY")) - 10
                    write_screen(page, f"{name}-{part}", top, width, 820)
    page = browser.new_context(viewport={"width": PAPER[0], "height": PAPER[1]}).new_page()
    page.goto(file.resolve().as_uri())
    page.emulate_media(media="print")
    write_screen(page, f"{name}-print", 0, *PAPER)


def main() -> None:
    """Make the screens of the two pages that are named."""
    from playwright.sync_api import sync_playwright

    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("report", type=Path)
    parser.add_argument("explanations", type=Path)
    asked = parser.parse_args()
    SCREENS.mkdir(exist_ok=True)
    found = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))))
    with sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=found, args=["--no-sandbox"])
        shoot(browser, asked.report, "report")
        shoot(browser, asked.explanations, "explanations")
        browser.close()


if __name__ == "__main__":
    main()
