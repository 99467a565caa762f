"""A model of patients, served: the images of a request are one patient."""

import io
import zipfile
from dataclasses import replace

import numpy as np
import pytest
from fastapi.testclient import TestClient
from numpy.testing import assert_allclose

from fusion.bundles.model_bundle import load_model
from fusion.serve._uploads import Limits
from fusion.serve.app import create_app
from fusion.settings.commands import PredictConfig, TrainConfig
from fusion.workflows.predict import predict
from fusion.workflows.train import train
from tests.builders.requests import HOME, sent
from tests.fusion.workflows.test_patients import write_patients


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    root = tmp_path_factory.mktemp("served-patients")
    config = TrainConfig(
        data=write_patients(root / "data", 0, 8),
        output=root / "model",
        store=root / "store",
        features=["colour"],
        classifier="mil",
        classifiers={"mil": {"members": 2, "steps": 20}},
        splits=2,
        jobs=1,
    )
    train(config)
    return root, write_patients(root / "new", 100, 1)


@pytest.fixture(scope="module")
def client(place):
    with TestClient(create_app(load_model(place[0] / "model"), name="mil"), base_url=HOME) as client:
        yield client


@pytest.fixture(scope="module")
def cells(place):
    return [path.read_bytes() for path in sorted((place[0] / "new").glob("*.png"))]


def test_costs_of_a_model_of_patients_decide_what_they_are_called(place, cells):
    bundle = load_model(place[0] / "model")
    assert bundle.classes == ["ill", "well"]
    dear = replace(bundle, model=replace(bundle.model, costs=np.array([[0.0, 1e-6], [1.0, 0.0]])))
    for asked, expected in ((bundle, "ill"), (dear, "well")):
        with TestClient(create_app(asked), base_url=HOME) as client:
            answer = client.post("/api/predict", files=sent(*cells)).json()
        assert answer["patient"]["class"] == expected
        assert (answer["costs"] is None) == (asked is bundle)


def zipped(members):
    held = io.BytesIO()
    with zipfile.ZipFile(held, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    return held.getvalue()


def test_a_patient_is_judged_as_fusion_predict_does_and_its_cells_add_up(client, place, cells):
    root, table = place
    expected = predict(PredictConfig(model=root / "model", images=[table], jobs=1))
    answer = client.post("/api/predict?images=true", files=sent(*cells)).json()
    patient = answer["patient"]
    assert_allclose(list(patient["probability"].values()), expected.proba[0], atol=1e-6)
    assert patient["class"] == expected.predicted[0]
    added = sum(cell["adds"] for cell in answer["cells"])
    assert added == pytest.approx(patient["probability"][patient["class"]] - patient["base"], abs=1e-6)
    assert sum(cell["attention"] for cell in answer["cells"]) == pytest.approx(1)
    assert all(cell["image"].startswith("data:image/png") for cell in answer["cells"])
    assert not any(cell["in_training"] for cell in answer["cells"])


def test_a_zip_file_is_its_images_and_a_bad_one_of_them_stops_no_other(client, cells):
    loose = client.post("/api/predict", files=sent(*cells)).json()
    held = {f"P7/{at}.png": content for at, content in enumerate(cells)}
    more = {"P7/broken.png": b"\x89PNG\r\n\x1a\nno more", "__MACOSX/P7/._0.png": b"x", "P7/notes.txt": b"y"}
    answer = client.post("/api/predict", files=sent(zipped(held | more))).json()
    assert answer["patient"] == loose["patient"]
    assert [fault["name"] for fault in answer["faults"]] == ["broken.png"]


def test_the_page_of_a_patient_is_saved_under_its_name(client, cells):
    page = client.post("/api/explain?format=html&name=../<P7>", files=sent(*cells))
    assert page.status_code == 200
    assert "&lt;P7&gt;" in page.text
    assert "<P7>" not in page.text
    assert page.text.count("data:image/png") >= len(cells)
    assert len(client.post("/api/explain", files=sent(*cells)).json()["cells"]) == len(cells)


def test_the_page_tells_from_how_many_patients_the_model_has_learnt(client, place, cells):
    page = client.get("/").text
    assert f"learnt from 8 patients, {8 * len(cells)} images;" in page
    assert "Attention tells" in page
    bundle = load_model(place[0] / "model")
    adapted = replace(bundle, facts={**bundle.facts, "adapted": {"patients": 3}})
    with TestClient(create_app(adapted), base_url=HOME) as other:
        assert "learnt from 11 patients, " in other.get("/").text


def bomb():
    return zipped({"zeros.bmp": bytes(1 << 22)})


def encrypted(content):
    """The flag alone: nobody asks for a password."""
    held = bytearray(zipped({"a.png": content}))
    for head, at in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):
        held[held.index(head) + at] |= 1
    return bytes(held)


@pytest.mark.parametrize(
    ("made", "status", "words"),
    [
        (lambda cells: [zipped({f"{at}.png": b"" for at in range(7)})], 413, "too many images"),
        (lambda cells: [bomb()], 413, "too large"),
        (lambda cells: [zipped({f"{at}/": b"" for at in range(200)})], 413, "too many images"),
        (lambda cells: [zipped({"a.png": cells[0]})[:-30]], 422, "cannot be read"),
        (lambda cells: [encrypted(cells[0])], 422, "cannot be read"),
        (lambda cells: [zipped({"a.txt": b"x"})], 422, "no image in the zip"),
        (lambda cells: [zipped({"P1/a.png": cells[0], "P2/a.png": cells[1]})], 422, "found 2: P1, P2"),
        (lambda cells: [zipped({"a.png": cells[0], "P2/b.png": cells[1]})], 422, "found 2: its top, P2"),
        (lambda cells: [zipped({"c/P1/a.png": cells[0]}), zipped({"c/P2/b.png": cells[1]})], 422, "is one patient"),
        (lambda cells: [b"no image", b"nor this"], 422, "no cell of this patient"),
    ],
)
def test_what_is_no_patient_is_refused_in_one_line(place, cells, made, status, words):
    limits = Limits(files=6, request_bytes=1 << 21)
    app = create_app(load_model(place[0] / "model"), limits=limits)
    with TestClient(app, base_url=HOME) as client:
        answer = client.post("/api/predict", files=sent(*made(cells)))
        assert (answer.status_code, words in answer.json()["detail"]) == (status, True), answer.text
        assert client.post("/api/predict", files=sent(*cells)).status_code == 200


def test_the_page_speaks_of_patients(client):
    page = client.get("/").text
    assert "patients.js" in page
    assert client.get("/static/patients.js").status_code == 200
    assert client.get("/api/model").json()["unit"] == "subject"
