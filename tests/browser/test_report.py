"""The page of a comparison in a real browser: nothing is cut, nothing is out of reach, tables are sorted and saved."""

import pytest

import fusion
from fusion.settings.commands import ExplainConfig
from fusion.workflows.explain import explain
from tests.builders.images import paint, write_image

playwright = pytest.importorskip("playwright.sync_api", reason="drives a browser: pip install playwright")
axe = pytest.importorskip("axe_playwright_python.sync_playwright", reason="looks for faults that hide a page from some")


@pytest.fixture(scope="module")
def page_file(synthetic, synthetic_store, tmp_path_factory):
    """The report of nine entries."""
    folder = tmp_path_factory.mktemp("report") / "result"
    fusion.ablate(
        synthetic, features=["morphology", "colour"], repeats=1, splits=3, output=folder, store=synthetic_store, jobs=1
    )
    return folder / "report.html"


def opened(browser, file, width, scheme="light"):
    page = browser.new_context(viewport={"width": width, "height": 900}, color_scheme=scheme).new_page()
    page.faults = []
    page.on("pageerror", lambda error: page.faults.append(str(error)))
    page.goto(file.as_uri())
    return page


@pytest.fixture(scope="module")
def explanations(synthetic, trees, tmp_path_factory):
    """Explanations of three cells, one of which is out of distribution."""
    folder = tmp_path_factory.mktemp("why")
    strange = write_image(folder / "disc.png", paint(1))
    cells = sorted(synthetic.rglob("*.bmp"))[:2]
    settings = {"model": trees, "images": [*cells, strange], "output": folder / "out", "jobs": 1}
    explain(ExplainConfig(**settings))
    return folder / "out" / "explanations.html"


@pytest.fixture(params=["page_file", "explanations"])
def any_page(request):
    return request.getfixturevalue(request.param)


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [390, 992, 1280])
def test_nothing_is_cut_and_nothing_is_hidden_from_anybody(browser, any_page, width, scheme):
    page = opened(browser, any_page, width, scheme)
    assert page.evaluate("document.documentElement.scrollWidth") == width
    found = axe.Axe().run(page)
    assert found.violations_count == 0, found.generate_report()
    assert page.faults == []


def test_contents_lead_to_their_parts(browser, page_file):
    page = opened(browser, page_file, 1280)
    links = page.locator("nav a")
    assert links.count() >= 4
    for at in range(links.count()):
        assert page.locator(links.nth(at).get_attribute("href")).count() == 1


def test_a_table_is_sorted_filtered_and_saved(browser, page_file):
    page = opened(browser, page_file, 1280)
    table = page.locator("table[data-shown]").first
    head = table.locator("th").nth(2)
    head.locator("button").click()
    values = [float(text.split()[0]) for text in table.locator("tbody td:nth-child(3)").all_inner_texts()]
    assert values == sorted(values, reverse=True)
    assert head.get_attribute("aria-sort") == "descending"
    tools = table.locator("xpath=preceding-sibling::div")
    tools.locator("input[type=search]").fill("xgb")
    shown = table.locator("tbody tr:visible")
    assert shown.count() == 3
    with page.expect_download() as download:
        tools.get_by_role("button", name="CSV").click()
    lines = download.value.path().read_text().splitlines()
    assert len(lines) == 10
    assert lines[0].startswith('"features"')


def test_a_figure_is_saved_as_svg(browser, page_file):
    page = opened(browser, page_file, 1280, "dark")
    with page.expect_download() as download:
        page.locator("figure.comparison").get_by_role("button", name="SVG").click()
    svg = download.value.path().read_text()
    assert svg.startswith("<svg")
    assert "var(--" not in svg


def test_a_gallery_is_paged(browser, page_file):
    page = opened(browser, page_file, 1280)
    gallery = page.locator("details.gallery", has=page.locator(".pages")).first
    gallery.evaluate("gallery => { gallery.open = true; }")
    tiles = gallery.locator(".cells > figure")
    names = tiles.locator("small").all_text_contents()
    before = gallery.locator(".cells > figure:visible small").all_inner_texts()
    assert before == names[:12]
    assert gallery.get_by_role("button", name="earlier").is_disabled()
    gallery.get_by_role("button", name="later").click()
    assert gallery.locator(".cells > figure:visible small").all_inner_texts() == names[12:24]


def test_a_figure_s_numbers_are_saved(browser, page_file):
    page = opened(browser, page_file, 1280)
    with page.expect_download() as download:
        page.locator("figure.confusion").get_by_role("button", name="CSV").click()
    assert download.value.path().read_text() == (page_file.parent / "figures" / "confusion.csv").read_text()


@pytest.mark.parametrize("name", ["page_file", "explanations"])
def test_on_paper_nothing_is_cut(browser, request, name):
    """At the width of A4 without its margins, everything lies within the page."""
    page = opened(browser, request.getfixturevalue(name), 718)
    page.emulate_media(media="print")
    wide = page.evaluate(
        """() => [...document.querySelectorAll("body *")]
            .filter((each) => each.getBoundingClientRect().right > innerWidth + 1)
            .map((each) => each.outerHTML.slice(0, 120))"""
    )
    assert wide == []
