"""The documentation site in a real browser: no page is too wide for a phone, and none hides anything from anybody."""

import subprocess
import sys

import pytest

from tests.builders.images import ROOT

pytest.importorskip("playwright.sync_api", reason="drives a browser: pip install playwright")
axe = pytest.importorskip("axe_playwright_python.sync_playwright", reason="looks for faults that hide a page from some")
pytest.importorskip("sphinx", reason="builds the site: pip install -e '.[docs]'")


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    folder = tmp_path_factory.mktemp("site")
    words = ["-q", "-c", "docs/site", "docs", str(folder)]
    subprocess.run([sys.executable, "-m", "sphinx", *words], cwd=ROOT, check=True, capture_output=True)
    return folder


@pytest.mark.slow
@pytest.mark.parametrize(("width", "scheme"), [(390, "dark"), (1280, "light"), (390, "light"), (1280, "dark")])
def test_no_page_is_cut_or_hides_anything_from_anybody(browser, site, width, scheme):
    pages = sorted(file for file in site.rglob("*.html") if "_static" not in file.parts)
    assert len(pages) > 80
    page = browser.new_context(viewport={"width": width, "height": 900}, color_scheme=scheme).new_page()
    wrong = {}
    for file in pages:
        page.goto(file.as_uri())
        found = [(each["id"], each["nodes"][0]["html"][:120]) for each in axe.Axe().run(page).response["violations"]]
        if (needed := page.evaluate("document.documentElement.scrollWidth")) != width:
            found.append((f"{needed} pixels wide", ""))
        if found:
            wrong[str(file.relative_to(site))] = found
    assert wrong == {}
