"""The page of fusion serve in a real browser, at the widths of a desk and of a phone."""

import csv
import shutil
import threading
import time
from contextlib import contextmanager
from dataclasses import replace

import numpy as np
import pytest

from fusion.bundles.model_bundle import load_model
from fusion.data.dataset import load_dataset
from fusion.serve.app import create_app, example_cell
from fusion.settings.commands import TrainConfig
from fusion.workflows.train import train
from tests.builders.images import paint
from tests.builders.requests import png
from tests.fusion.workflows.test_patients import write_patients

playwright = pytest.importorskip("playwright.sync_api", reason="drives a browser: pip install playwright")
axe = pytest.importorskip("axe_playwright_python.sync_playwright", reason="looks for faults that hide a page from some")

#: Asking a model that shares its cores with other tests takes seconds.
PATIENCE = 60_000


@contextmanager
def served(bundle):
    """Address of the page of a model, served as the command does."""
    import uvicorn

    server = uvicorn.Server(uvicorn.Config(create_app(bundle), port=0, log_level="warning"))
    thread = threading.Thread(target=server.run)
    thread.start()
    while not server.started:
        time.sleep(0.01)
    yield f"http://127.0.0.1:{server.servers[0].sockets[0].getsockname()[1]}/"
    server.should_exit = True
    thread.join()


@pytest.fixture(scope="module")
def address(trees):
    with served(load_model(trees)) as where:
        yield where


@pytest.fixture(scope="module")
def of_patients(tmp_path_factory):
    """Address of the page of a model of patients that goes by costs, and a folder with the cells of two."""
    root = tmp_path_factory.mktemp("patients")
    few = {"members": 2, "steps": 20}
    data = write_patients(root / "data", 0, 8)
    asked = {"store": root / "store", "features": ["colour"], "classifiers": {"mil": few}, "splits": 2, "jobs": 1}
    train(TrainConfig(data=data, output=root / "model", classifier="mil", **asked))
    bundle = load_model(root / "model")
    dear = replace(bundle, model=replace(bundle.model, costs=np.array([[0.0, 1.0], [2.0, 0.0]])))
    images = sorted(write_patients(root / "new", 100, 1).parent.glob("*.png"))
    for at, image in enumerate(images):
        (root / "sent" / f"P{at % 2}").mkdir(parents=True, exist_ok=True)
        shutil.copy(image, root / "sent" / f"P{at % 2}")
    with served(dear) as where:
        yield where, root / "sent"


@pytest.fixture
def folder(tmp_path):
    """Six cells of two subjects in folders of their own, one in colours that no training cell has, and a file
    that is no image."""
    whole = tmp_path / "patients"
    for at in range(6):
        subject = whole / f"P{at % 2}"
        subject.mkdir(parents=True, exist_ok=True)
        (subject / f"cell {at}.png").write_bytes(example_cell(at)[0])
    (whole / "P0" / "green.png").write_bytes(png(np.roll(paint(3, side=96, radius=30), 1, axis=2)))
    (whole / "Thumbs.db").write_bytes(b"no image")
    return whole


@pytest.fixture
def images(tmp_path):
    """Two cells and a broken image between them."""
    contents = [example_cell(0)[0], b"\x89PNG\r\n\x1a\nno more", example_cell(1)[0]]
    for name, content in zip(("first.png", "broken.png", "=second.png"), contents, strict=True):
        (tmp_path / name).write_bytes(content)
    return [tmp_path / name for name in ("first.png", "broken.png", "=second.png")]


def opened(browser, address, **settings):
    page = browser.new_context(**settings).new_page()
    page.faults = []
    page.on("console", lambda message: page.faults.append(message.text) if message.type == "error" else None)
    page.on("pageerror", lambda error: page.faults.append(str(error)))
    page.goto(address)
    return page


def judged(page, text):
    playwright.expect(page.locator("#status")).to_contain_text(text, timeout=PATIENCE)


@pytest.mark.parametrize("width", [1280, 390])
def test_three_images_of_which_one_is_broken(browser, address, images, width):
    page = opened(browser, address, viewport={"width": width, "height": 800})
    page.set_input_files("#files", images)
    judged(page, "2 cells judged, 1 image not")
    assert page.locator("#cells tbody tr").count() == 2
    (fault,) = page.locator("#faults li").all_inner_texts()
    assert fault == "broken.png: the image is cut short"
    for narrower in (width, 718):  # a tablet on end, A4
        page.set_viewport_size({"width": narrower, "height": 800})
        assert page.evaluate("document.documentElement.scrollWidth") == narrower
    page.emulate_media(media="print")
    assert page.evaluate("document.documentElement.scrollWidth") == 718
    assert not page.locator("#drop").is_visible()
    page.emulate_media(media="screen")
    page.set_viewport_size({"width": width, "height": 800})

    with page.expect_download() as download:
        page.click("#csv")
    with download.value.path().open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["name"] for row in rows] == ["first.png", "'=second.png"]
    assert sum(float(rows[0][f"p_{label}"]) for label in ("all", "hem")) == pytest.approx(1)

    page.locator("#cells .why button").first.click()
    playwright.expect(page.locator("#reasons table").first).to_be_visible(timeout=PATIENCE)
    assert page.locator("#about").inner_text() == "first.png"
    assert page.locator("#reasons .track").count() > 3
    strip = page.locator("#reasons svg.spreads").first
    assert "of 'all'" in strip.get_attribute("aria-label")
    assert strip.locator("text").all_text_contents() == ["all", "hem"]
    with page.expect_download(timeout=PATIENCE) as download:
        page.click("text=Download as HTML")
    assert download.value.suggested_filename == "first_png-explained.html"
    page.keyboard.press("Escape")
    assert not page.locator("#why").is_visible()
    assert page.faults == []  # nor anything that the policy forbids


def test_images_can_be_dropped_and_the_table_sorted_and_filtered(browser, address):
    page = opened(browser, address, bypass_csp=True)  # the drop is made by a script of the test
    for turn in range(3):
        page.click("#example")
        playwright.expect(page.locator("#cells tbody tr")).to_have_count(turn + 1, timeout=PATIENCE)
    page.evaluate(
        """async () => {
            const held = new DataTransfer();
            const content = await (await fetch("/api/example?number=5")).blob();
            held.items.add(new File([content], "dropped <b>.png"));
            dispatchEvent(new DragEvent("drop", { dataTransfer: held, cancelable: true }));
        }"""
    )
    names = page.locator("#cells tbody th")
    playwright.expect(names).to_have_count(4, timeout=PATIENCE)
    assert names.all_inner_texts()[-1] == "dropped <b>.png"
    for way, order in (("ascending", sorted), ("descending", lambda values: sorted(values, reverse=True))):
        page.click("th[data-sort=distance] button")
        assert page.locator("th[data-sort=distance]").get_attribute("aria-sort") == way
        shown = [float(text.split()[0]) for text in page.locator("#cells .distance").all_inner_texts()]
        assert shown == order(shown)
    page.fill("#name", "DROPPED")
    assert names.all_inner_texts() == ["dropped <b>.png"]
    assert page.locator("#shown").inner_text().startswith("1 of 4 cells")
    page.click("#clear")
    assert not page.locator("#results").is_visible()
    assert page.faults == []


def test_a_keyboard_is_enough(browser, address):
    page = opened(browser, address)
    for _ in range(4):  # the link to the images, choosing them or a folder, the example
        page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.id") == "example"
    page.keyboard.press("Enter")
    judged(page, "1 cell judged")
    page.locator("#cells .why button").focus()
    page.keyboard.press("Enter")
    playwright.expect(page.locator("#reasons table").first).to_be_visible(timeout=PATIENCE)
    page.keyboard.press("Escape")
    assert page.evaluate("document.activeElement.textContent") == "Why?"


def label(page, name, value):
    page.get_by_label(f"Your label of {name}", exact=True).first.select_option(value)


@pytest.mark.parametrize("width", [1280, 390])
def test_labels_of_a_folder_are_kept_by_the_browser_and_trained_on(browser, address, folder, tmp_path, width):
    page = opened(browser, address, viewport={"width": width, "height": 800})
    page.set_input_files("#folder", folder)
    judged(page, "7 cells judged.")
    assert page.locator("#faults li").all_inner_texts() == ["1 file: left out, not named like an image (Thumbs.db)"]
    assert page.evaluate("document.documentElement.scrollWidth") == width

    # What the model was never shown the like of comes first, then the least sure; what is labelled comes last.
    page.select_option("#order", "unsure")
    rows = page.locator("#cells tbody tr")
    assert "not judged" in rows.first.locator(".class").inner_text()
    sure = [float(text.split()[0]) for text in page.locator("#cells tr:not(.outside) .p").all_inner_texts()]
    assert len(sure) == 6
    assert sure == sorted(sure)

    page.select_option("#subject", "folder")
    assert page.locator("#by-subject tbody th").all_inner_texts() == ["P0", "P1"]
    page.get_by_role("button", name="Only cells of subject P1").click()
    assert page.locator("#shown").inner_text().startswith("3 of 7 cells (subject P1)")
    page.get_by_role("button", name="Only cells of subject P1").click()

    for at in range(6):
        label(page, f"cell {at}.png", ("all", "hem")[at // 2 % 2])
    page.fill("#new-class", "smudge")
    page.click("#add button[type=submit]")
    label(page, "cell 5.png", "smudge")
    label(page, "cell 5.png", "all")
    label(page, "green.png", "?")
    assert page.locator("#kept").inner_text() == "6 cells labelled, 1 unsure."
    page.reload()
    assert page.locator("#kept").inner_text() == "6 cells labelled, 1 unsure."

    table = tmp_path / "labels.csv"
    with page.expect_download() as download:
        page.click("#labels-csv")
    shutil.copy(download.value.path(), table)
    read = load_dataset(table)
    found = {sample.path.relative_to(tmp_path).as_posix(): (sample.label, sample.subject) for sample in read.samples}
    assert found == {
        f"patients/P{at % 2}/cell {at}.png": (("all", "hem")[at // 2 % 2], f"P{at % 2}") for at in range(6)
    }
    settings = {"features": ["morphology"], "classifier": "logreg", "splits": 2, "jobs": 1, "store": tmp_path / "store"}
    assert train(TrainConfig(data=table, output=tmp_path / "model", **settings)).bundle.classes == ["all", "hem"]
    assert page.faults == []


def test_a_cell_is_looked_at_closely_one_after_the_other(browser, address, folder):
    page = opened(browser, address)
    page.set_input_files("#folder", folder)
    judged(page, "7 cells judged")
    page.select_option("#order", "unsure")
    names = page.locator("#cells tbody th").all_inner_texts()
    page.locator("#cells .why button").first.click()
    reasons = page.locator("#reasons")
    playwright.expect(reasons.locator("table").first).to_be_visible(timeout=PATIENCE)
    assert reasons.locator("p").first.inner_text().startswith("not judged: out of distribution.")
    width = page.locator(".stack").bounding_box()["width"]
    page.get_by_label("Zoom").fill("4")
    assert page.locator(".stack").bounding_box()["width"] == pytest.approx(4 * width, rel=0.02)
    assert page.locator(".viewer").bounding_box()["width"] == pytest.approx(width, rel=0.02)
    page.get_by_label("Contours", exact=True).uncheck()
    assert not page.locator(".stack svg").is_visible()
    page.locator("#reasons select").select_option("?")
    page.click("#next")
    playwright.expect(page.locator("#about")).to_have_text(names[1])
    playwright.expect(reasons.locator("table").first).to_be_visible(timeout=PATIENCE)
    page.click("#close")
    assert page.locator("#cells tbody select").first.input_value() == "?"
    assert page.faults == []


@pytest.mark.parametrize("width", [1280, 390])
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_nothing_hides_the_page_from_some(browser, address, images, folder, scheme, width):
    page = opened(
        browser, address, color_scheme=scheme, viewport={"width": width, "height": 800}, bypass_csp=True
    )  # what looks for faults is a script of the test
    page.set_input_files("#files", images)
    judged(page, "2 cells judged")
    page.set_input_files("#folder", folder)
    judged(page, "7 cells judged.")
    page.select_option("#subject", "folder")
    page.select_option("#order", "unsure")
    found = axe.Axe().run(page).response["violations"]
    page.locator("#cells .why button").first.click()
    playwright.expect(page.locator("#reasons table").first).to_be_visible(timeout=PATIENCE)
    found += axe.Axe().run(page).response["violations"]
    assert [(fault["id"], fault["nodes"][0]["html"]) for fault in found] == []


@pytest.mark.parametrize(("width", "scheme"), [(1280, "light"), (390, "dark")])
def test_each_folder_is_a_patient_that_is_called_by_the_costs_of_mistakes(browser, of_patients, width, scheme):
    address, folder = of_patients
    page = opened(
        browser, address, color_scheme=scheme, viewport={"width": width, "height": 800}, bypass_csp=True
    )  # as above
    page.set_input_files("#folder", folder)
    judged(page, "2 patients judged.")
    assert page.locator("#patients h3").all_inner_texts() == ["sent/P0", "sent/P1"]
    notes = page.locator("#notes li").all_inner_texts()
    assert [note for note in notes if "cost" in note] == [
        "A patient is predicted as the class of the least expected cost."
    ]
    page.locator("#patients summary").first.click()
    assert page.locator("#patients .strip figure").count() > 1
    assert axe.Axe().run(page).response["violations"] == []
    assert page.evaluate("document.documentElement.scrollWidth") == width
    page.click("#clear")
    assert page.locator("#status").inner_text() == "Cleared."
    page.click("#example")
    judged(page, "1 patient judged.")
    assert page.faults == []
