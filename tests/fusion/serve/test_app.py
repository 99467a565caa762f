"""The page's server: answers of the API, and everything that strangers send."""

import asyncio
import json
import re
import socket
import struct
import tempfile
import threading
import time
import zlib
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner
from fastapi.testclient import TestClient
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from numpy.testing import assert_allclose

import cli
from fusion.bundles.model_bundle import load_model
from fusion.serve import _uploads, app
from fusion.serve._uploads import Limits, shown_name
from fusion.serve.app import create_app, example_cell
from fusion.settings.commands import PredictConfig, TrainConfig
from fusion.workflows.predict import predict
from fusion.workflows.train import train
from tests.builders.images import paint
from tests.builders.requests import HOME, png, sent


@pytest.fixture(scope="module")
def bundle(trees):
    return load_model(trees)


@pytest.fixture
def client(bundle):
    with TestClient(create_app(bundle, name="trees"), base_url=HOME) as client:
        yield client


def limited(bundle, **limits):
    return TestClient(create_app(bundle, limits=Limits(**limits)), base_url=HOME)


def cell(seed=0):
    return png(paint(seed, side=96, radius=30))


def claiming(width, height):
    """A PNG of some bytes whose header claims a size."""

    def chunk(kind, data):
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    body = chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(b"\0" * 100)) + chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + body


# ---- answers --------------------------------------------------------------------------------------------------------


def test_the_api_tells_by_which_rule_a_class_is_predicted(bundle):
    costs = np.array([[0.0, 1.0], [50.0, 0.0]])
    plain, ruled = (
        create_app(replace(bundle, model=replace(bundle.model, costs=rule, threshold=None))) for rule in (None, costs)
    )
    answers = [
        TestClient(app, base_url=HOME).post("/api/predict", files=sent(*map(cell, range(4)))).json()
        for app in (plain, ruled)
    ]
    assert answers[0]["costs"] is None
    assert answers[1]["costs"] == costs.tolist()
    for row in answers[1]["predictions"]:
        expected = np.array(list(row["probability"].values())) @ costs
        assert row["class"] == bundle.classes[int(expected.argmin())]


def test_the_api_answers_as_fusion_predict_does(client, trees, fresh):
    images = sorted(fresh.rglob("*.bmp"))[:4]
    expected = predict(PredictConfig(model=trees, images=images, jobs=1))
    answer = client.post("/api/predict", files=sent(*(path.read_bytes() for path in images)))
    assert answer.status_code == 200
    rows = answer.json()["predictions"]
    assert [row["class"] for row in rows] == expected.predicted
    assert_allclose([list(row["probability"].values()) for row in rows], expected.proba, rtol=0)
    assert_allclose([row["distance"] for row in rows], expected.distance, rtol=0)
    assert not any(row["in_training"] for row in rows)


def test_a_training_image_is_recognised(client, population):
    known = next(iter(sorted(population.rglob("*.bmp")))).read_bytes()
    rows = client.post("/api/predict", files=sent(known, cell())).json()["predictions"]
    assert [row["in_training"] for row in rows] == [True, False]


def test_a_bad_file_has_a_message_of_its_own_and_stops_no_other(client):
    bad = {
        "text.png": (b"I am a text", 'not an image that can be decoded; found text, "I am a text"; expected BMP, PNG'),
        "noise.png": (bytes(range(200, 210)), "found bytes C8 C9 CA CB CC CD CE CF"),
        "empty.png": (b"", "the file is empty"),
        "half.png": (cell()[:900], "cut short"),
        "page.html": (b"<script>alert(1)</script>", "not an image"),
        "black.png": (png(np.zeros((64, 64, 3), np.uint8)), "fully black"),
        "white.png": (png(np.full((64, 64, 3), 255, np.uint8)), "no cell found in the image"),
        "huge.png": (claiming(30_000, 30_000), "30000 x 30000 pixels"),
        "moving.gif": (b"GIF89a" + bytes(50), "a GIF file, which is not read"),
    }
    contents = [cell(1), *(content for content, _ in bad.values()), cell(2)]
    answer = client.post("/api/predict", files=sent(*contents, names=["a.png", *bad, "b.png"])).json()
    assert [(row["index"], row["name"]) for row in answer["predictions"]] == [(0, "a.png"), (len(bad) + 1, "b.png")]
    message = {fault["name"]: fault["reason"] for fault in answer["faults"]}
    assert list(message) == list(bad)
    for name, (_, words) in bad.items():
        assert words in message[name], message[name]
        assert "\n" not in message[name]


def test_two_files_of_one_name_are_told_apart(client):
    answer = client.post("/api/predict", files=sent(cell(1), b"no", cell(2), names=["a.png"] * 3)).json()
    assert [row["index"] for row in answer["predictions"]] == [0, 2]
    assert [fault["index"] for fault in answer["faults"]] == [1]


def test_a_request_without_a_single_good_image_is_answered(client):
    answer = client.post("/api/predict", files=sent(b"no")).json()
    assert answer["predictions"] == []
    assert len(answer["faults"]) == 1


def test_images_with_contours_come_if_asked_for(client):
    def asked(**query):
        (row,) = client.post("/api/predict", params=query, files=sent(cell())).json()["predictions"]
        return row

    assert "image" not in asked()
    assert asked(images=True)["image"].startswith("data:image/png;base64,")


def test_an_answer_is_known_by_the_content_of_its_image(client):
    answer = client.post("/api/predict", files=sent(cell(1), cell(2), cell(1))).json()["predictions"]
    first, second, again = (row["key"] for row in answer)
    assert first == again != second


def test_an_explanation_carries_the_image_and_both_contours_apart(client):
    found = client.post("/api/explain", files=sent(cell())).json()
    side = found["side"]
    assert found["image"].startswith("data:image/png;base64,")
    assert 1 <= found["brightening"] <= 4
    lines = {part: np.concatenate(found["contours"][part]) for part in ("cell", "nucleus")}
    assert all(((line >= 0) & (line < side)).all() for line in lines.values())
    middle = lines["cell"].mean(axis=0)
    reach = {part: np.hypot(*(line - middle).T).max() for part, line in lines.items()}
    assert reach["nucleus"] < reach["cell"] < side / 2


def test_an_explanation_is_values_a_page_or_a_figure(client):
    found = client.post("/api/explain", files=sent(cell(), names=["my cell.png"])).json()
    assert sum(found["blocks"].values()) == pytest.approx(found["score"] - found["base"], abs=1e-5)
    first = found["features"][0]
    assert first["sentence"].startswith(first["words"])
    low, high = first["strip"]["ends"]
    spreads = first["strip"]["spreads"]
    assert set(spreads) == set(found["probability"])
    assert all(low < min(each) and max(each) < high and sorted(each) == each for each in spreads.values())
    page = client.post("/api/explain", params={"format": "html"}, files=sent(cell(), names=["my cell.png"]))
    assert page.headers["content-disposition"] == 'attachment; filename="my_cell_png-explained.html"'
    assert found["features"][0]["sentence"] in page.text
    assert 'src="http' not in page.text
    figure = client.post("/api/explain", params={"format": "svg"}, files=sent(cell()))
    assert figure.content.startswith(b"<?xml")


def test_a_network_is_shown_with_where_it_looks(synthetic, synthetic_store, tmp_path):
    small = {
        "backbone": "test_efficientnet",
        "weights": "random",
        "size": 32,
        "drop_path": 0.0,
        "head": [],
        "head_dropout": [0.0],
    }
    network = {"threads": 1, "network": small, "training": {"epochs": 1, "batch_size": 16, "patience": 0}}
    settings = {"data": synthetic, "store": synthetic_store, "features": ["none"], "splits": 2}
    folder = tmp_path / "m"
    train(
        TrainConfig(
            output=folder, classifier="neural", classifiers={"neural": network}, holdout=True, jobs=1, **settings
        )
    )
    with TestClient(create_app(load_model(folder)), base_url=HOME) as client:
        (row,) = client.post("/api/predict", files=sent(cell())).json()["predictions"]
        found = client.post("/api/explain", files=sent(cell())).json()
        assert "on the image alone" in client.get("/").text
    assert row["out_of_distribution"] is None
    assert found["attention"].startswith("data:image/png;base64,")
    assert found["features"] == []


def test_a_deep_block_is_shown_with_where_it_has_what_it_adds(synthetic, synthetic_store, tmp_path):
    deep = {"cnn": {"backbone": "test_efficientnet", "weights": "random", "size": 32}}
    settings = {"data": synthetic, "store": synthetic_store, "splits": 2, "jobs": 1, "holdout": True}
    train(TrainConfig(output=tmp_path / "m", classifier="logreg", features=["cnn"], extractors=deep, **settings))
    with TestClient(create_app(load_model(tmp_path / "m")), base_url=HOME) as client:
        found = client.post("/api/explain", files=sent(cell())).json()
        page = client.post("/api/explain?format=html", files=sent(cell())).text
    assert found["attention"].startswith("data:image/png;base64,")
    assert found["map_caption"] == f"where cnn speaks for {found['class']} (blue), and against it (orange)"
    assert np.sum(found["map"]["values"]) == pytest.approx(found["blocks"]["cnn"], abs=1e-5)
    assert f"Where cnn speaks for {found['class']}" in page


def test_an_explanation_of_no_cell_says_why(client):
    answer = client.post("/api/explain", files=sent(b"no", names=["x.png"]))
    assert answer.status_code == 422
    assert "x.png: not an image" in answer.json()["detail"]
    assert client.post("/api/explain", files=sent(cell(), cell())).status_code == 422


def test_an_example_is_a_cell_that_the_model_judges(client):
    example = client.get("/api/example", params={"number": 3})
    assert example.headers["x-drawn-as"] == example_cell(3)[1]
    answer = client.post("/api/predict", files=sent(example.content)).json()
    assert answer["predictions"][0]["out_of_distribution"] is False
    assert {example_cell(at)[1] for at in range(2)} == {"all", "hem"}
    assert client.get("/api/example", params={"number": 36}).status_code == 422


def test_the_api_describes_itself(client):
    described = client.get("/api/openapi.json").json()
    assert set(described["paths"]) == {
        "/api/model",
        "/api/predict",
        "/api/explain",
        "/api/example",
        "/healthz",
        "/metrics",
    }
    body = described["paths"]["/api/predict"]["post"]["requestBody"]["content"]
    assert body["multipart/form-data"]["schema"]["required"] == ["files"]
    assert client.get("/api/model").json()["classes"] == ["all", "hem"]
    assert client.get("/healthz").json() == {"status": "ok"}


def test_metrics_count_requests_and_cells(client):
    client.post("/api/predict", files=sent(cell(), b"no"))
    client.get("/nowhere-1")
    client.get("/nowhere-2")
    text = client.get("/metrics").text
    for line in text.splitlines():
        assert re.fullmatch(r'# (HELP|TYPE) .+|[a-z_]+(\{\w+="[^"]*"(,\w+="[^"]*")*\})? [0-9.e+-]+', line), line
    assert 'fusion_requests_total{method="POST",path="/api/predict",status="200"} 1' in text
    assert 'fusion_requests_total{method="GET",path="other",status="404"} 2' in text
    assert 'fusion_cells_total{outcome="fault"} 1' in text
    assert 'fusion_cells_total{outcome="judged"} 1' in text
    assert "fusion_request_seconds_count 3" in text
    assert 'fusion_request_seconds_bucket{le="+Inf"} 3' in text
    assert "fusion_requests_in_flight 1" in text


# ---- the page -------------------------------------------------------------------------------------------------------


class Elements(HTMLParser):
    """All elements of a page, as (tag, attributes)."""

    def __init__(self, page):
        super().__init__()
        self.found = []
        self.feed(page)

    def handle_starttag(self, tag, attrs):
        self.found.append((tag, dict(attrs)))

    def all(self, *tags):
        return [attributes for tag, attributes in self.found if tag in tags]


def test_the_page_needs_nothing_from_elsewhere_and_nothing_inline(client):
    page = client.get("/")
    assert page.headers["content-type"] == "text/html; charset=utf-8"
    elements = Elements(page.text)
    for tag, attributes in elements.found:
        assert not any(name == "style" or name.startswith("on") for name in attributes), tag
    assert elements.all("style") == []
    files = [each["src"] for each in elements.all("script")] + [each["href"] for each in elements.all("link")]
    assert len(files) == 3
    for address in files:
        assert address.startswith("/static/")
        answer = client.get(address)
        assert answer.status_code == 200
        assert not re.search(r"https?://(?!www\.w3\.org/2000/svg)", answer.text)
    for file in Path(app.__file__).with_name("templates").glob("*.js"):
        answer = client.get(f"/static/{file.name}")
        assert answer.text == file.read_text()
        assert "innerHTML" not in answer.text  # a file's name must never become markup


def test_whoever_hears_the_page_knows_what_each_thing_is(client):
    elements = Elements(client.get("/").text)
    assert elements.found[0] == ("html", {"lang": "en"})
    ids = {attributes["id"] for _, attributes in elements.found if "id" in attributes}
    for _, attributes in elements.found:
        for name in ("aria-labelledby", "aria-describedby", "for"):
            assert attributes.get(name) in {None, *ids}
    for attributes in elements.all("th"):
        assert attributes["scope"] == "col"
    assert len(elements.all("caption")) == len(elements.all("table")) == 2
    assert {"role": "status", "aria-live": "polite", "id": "status"} in elements.all("p")


def test_the_page_knows_the_limits_and_takes_a_name_for_a_name(bundle):
    with TestClient(
        create_app(bundle, name="<img src=x onerror=alert(1)>", limits=Limits(files=5)), base_url=HOME
    ) as c:
        elements = Elements(c.get("/").text)
    (body,) = elements.all("body")
    known = json.loads(body["data-settings"])
    assert (known["files"], known["classes"]) == (5, ["all", "hem"])
    assert elements.all("img") == []


# ---- strangers ------------------------------------------------------------------------------------------------------


def test_every_answer_carries_the_security_headers(client):
    for answer in (client.get("/healthz"), client.get("/nowhere"), client.post("/api/predict"), client.get("/metrics")):
        policy = answer.headers["content-security-policy"]
        assert "default-src 'none'" in policy
        assert "unsafe" not in policy
        assert answer.headers["x-content-type-options"] == "nosniff"
        assert answer.headers["cache-control"] == "no-store"


@pytest.mark.parametrize("name", ["../../etc/passwd", "/etc/passwd", "C:\\windows\\system.ini", "folder/a.png"])
def test_a_name_that_looks_like_a_path_leads_nowhere(client, name):
    answer = client.post("/api/predict", files=sent(b"no", names=[name])).json()
    assert answer["faults"][0]["name"] == re.split(r"[/\\]", name)[-1]
    assert "not an image" in answer["faults"][0]["reason"]


def test_names_are_shown_without_control_characters_and_not_endlessly():
    assert shown_name("a\x1b[31m\n.png") == "a\\x1b[31m\\n.png"
    assert len(shown_name("x" * 5000 + ".png")) <= 120
    assert shown_name("x" * 5000 + ".png").endswith(".png")
    assert shown_name("") == shown_name("///") == "without a name"
    assert shown_name("a\udc80.png") == "a?.png"


def test_too_many_files_are_refused_by_number(bundle):
    with limited(bundle, files=3) as client:
        assert client.post("/api/predict", files=sent(*[cell()] * 3)).status_code == 200
        for count in (4, 50):
            answer = client.post("/api/predict", files=sent(*[cell()] * count))
            assert answer.status_code == 413
            assert answer.json()["detail"] == "too many images in one request; expected at most 3"


def test_too_many_bytes_are_refused_whatever_is_announced(bundle):
    with limited(bundle, request_bytes=200_000) as client:
        big = bytes(400_000)
        assert client.post("/api/predict", files=sent(big)).status_code == 413

        def drops():
            yield b'--x\r\nContent-Disposition: form-data; name="files"; filename="a.png"\r\n\r\n'
            for _ in range(40):
                yield bytes(10_000)
            pytest.fail("read on after the limit")

        headers = {"Content-Type": "multipart/form-data; boundary=x", "Transfer-Encoding": "chunked"}
        asgi = drops()
        scope = {
            "type": "http",
            "method": "POST",
            "path": "/api/predict",
            "query_string": b"",
            "http_version": "1.1",
            "headers": [(b"host", b"127.0.0.1"), *((k.lower().encode(), v.encode()) for k, v in headers.items())],
        }
        answered = []

        async def receive():
            return {"type": "http.request", "body": next(asgi), "more_body": True}

        async def send(message):
            answered.append(message)

        asyncio.run(create_app(bundle, limits=Limits(request_bytes=200_000))(scope, receive, send))
        assert answered[0]["status"] == 413


def test_one_file_too_large_is_a_fault_of_its_own(bundle):
    with limited(bundle, file_bytes=50_000) as client:
        answer = client.post("/api/predict", files=sent(cell(), bytes(60_000))).json()
        assert len(answer["predictions"]) == 1
        assert "the file is too large" in answer["faults"][0]["reason"]


def test_pixels_are_limited_for_an_image_and_for_all_of_a_request(bundle):
    with limited(bundle, pixels=10_000, request_pixels=20_000) as client:
        answer = client.post("/api/predict", files=sent(*map(cell, range(3)), claiming(101, 100))).json()
        assert [row["index"] for row in answer["predictions"]] == [0, 1]
        assert "too many pixels in one request" in answer["faults"][0]["reason"]
        assert "101 x 100" in answer["faults"][1]["reason"]


def test_a_request_that_is_no_upload_is_refused(client):
    boundary = {"Content-Type": "multipart/form-data; boundary=x"}
    for code, words, asked in (
        (415, "multipart/form-data", {"json": {"files": ["/etc/passwd"]}}),
        (415, "multipart/form-data", {"content": b"files=a", "headers": {"Content-Type": "text/plain"}}),
        (415, "no content type", {"content": b"x"}),
        (422, "no image in the request", {"content": b"--x--\r\n", "headers": boundary}),
        (422, "cannot be read", {"content": b"not multipart", "headers": boundary}),
        (422, "cannot be read", {"content": b"x", "headers": {"Content-Type": "multipart/form-data"}}),
        (422, "cannot be read", {"data": {"path": "/etc/passwd"}, "files": sent(cell())}),
        (422, "unknown field", {"files": [("other", ("a.png", cell()))]}),
        (422, "boolean", {"params": {"images": "perhaps"}, "files": sent(cell())}),
    ):
        answer = client.post("/api/predict", **asked)
        assert answer.status_code == code, asked
        assert words in answer.json()["detail"]
    assert client.get("/api/predict").status_code == 405
    assert client.post("/api/predict", files=sent(cell())).status_code == 200


def test_other_names_and_other_sites_may_not_ask(client, bundle):
    assert client.get("/healthz", headers={"Host": "evil.example"}).status_code == 403
    assert client.get("/healthz", headers={"Host": "localhost:8000"}).status_code == 200
    assert client.get("/healthz", headers={"Host": "[::1]:8000"}).status_code == 200
    for crossing in (
        {"Sec-Fetch-Site": "cross-site"},
        {"Sec-Fetch-Site": "same-site"},
        {"Origin": "http://evil.example"},
        {"Origin": "null"},
        {"Origin": "http://127.0.0.1:9"},
    ):
        assert client.post("/api/predict", files=sent(cell()), headers=crossing).status_code == 403, crossing
    for own in ({"Origin": HOME}, {"Origin": "https://proxy.example", "Sec-Fetch-Site": "same-origin"}, {}):
        assert client.post("/api/predict", files=sent(cell()), headers=own).status_code == 200, own
    with TestClient(create_app(bundle, hosts=()), base_url="http://laboratory.example") as open_to_all:
        assert open_to_all.get("/healthz").status_code == 200


def test_nothing_that_is_sent_reaches_a_disk(client, monkeypatch, own_store):
    def refused(*_, **__):
        pytest.fail("a temporary file was made")

    monkeypatch.setattr(tempfile, "TemporaryFile", refused)
    noise = np.random.default_rng(0).integers(0, 256, (900, 900, 3), np.uint8)
    noise[:, :100] = noise[:, -100:] = 0
    content = png(noise)
    assert len(content) > 1 << 20  # Starlette's own parser would spool it
    client.post("/api/predict", files=sent(content))
    client.post("/api/explain", files=sent(cell()))
    assert not own_store.exists()


def test_work_that_takes_too_long_is_given_up_and_the_next_is_answered(bundle, monkeypatch):
    import fusion.serve.app

    judge = fusion.serve.app.predict_cells

    def slow(*given):
        time.sleep(0.5)
        return judge(*given)

    monkeypatch.setattr(fusion.serve.app, "predict_cells", slow)
    with limited(bundle, seconds=0.2) as client:
        answer = client.post("/api/predict", files=sent(cell()))
        assert answer.status_code == 503
        assert "in time" in answer.json()["detail"]
        assert client.get("/healthz").status_code == 200
    monkeypatch.setattr(fusion.serve.app, "predict_cells", judge)
    with limited(bundle, seconds=30) as client:
        assert client.post("/api/predict", files=sent(cell())).status_code == 200


def test_more_requests_than_there_is_room_for_are_told_so_at_once(bundle, monkeypatch):
    import fusion.serve.app

    judge, begun, go = fusion.serve.app.predict_cells, threading.Event(), threading.Event()

    def held(*given):
        begun.set()
        assert go.wait(30)
        return judge(*given)

    monkeypatch.setattr(fusion.serve.app, "predict_cells", held)
    with limited(bundle, requests=1) as client, ThreadPoolExecutor(1) as other:
        first = other.submit(client.post, "/api/predict", files=sent(cell()))
        assert begun.wait(30)
        second = client.post("/api/predict", files=sent(cell()))
        assert (second.status_code, second.json()["detail"]) == (503, "too many requests at a time. Try again.")
        go.set()
        assert first.result().status_code == 200
        assert client.post("/api/predict", files=sent(cell())).status_code == 200


def test_a_bug_is_called_a_bug_and_leaves_the_server_answering(bundle, monkeypatch):
    import fusion.serve.app

    def broken(*_):
        raise RuntimeError("gremlin")

    with TestClient(create_app(bundle), base_url=HOME, raise_server_exceptions=False) as client:
        with monkeypatch.context() as patched:
            patched.setattr(fusion.serve.app, "predict_cells", broken)
            answer = client.post("/api/predict", files=sent(cell()))
        assert answer.status_code == 500
        assert "bug" in answer.json()["detail"]
        assert "gremlin" not in answer.text
        assert "content-security-policy" in answer.headers
        assert client.post("/api/predict", files=sent(cell())).status_code == 200
        assert 'path="/api/predict",status="500"} 1' in client.get("/metrics").text


def trickled(bundle, limits, pieces):
    """The status of a request whose body comes in pieces, one every 20 ms; the last one again and again."""

    async def trickle():
        scope = {
            "type": "http",
            "method": "POST",
            "path": "/api/predict",
            "query_string": b"",
            "http_version": "1.1",
            "headers": [(b"host", b"localhost"), (b"content-type", b"multipart/form-data; boundary=x")],
        }
        answered, left = [], list(pieces)

        async def receive():
            await asyncio.sleep(0.02)
            body, is_last = (left.pop(0), not left) if left else (b"", True)
            return {"type": "http.request", "body": body, "more_body": not is_last or pieces[-1] == b"a"}

        async def send(message):
            answered.append(message)

        await create_app(bundle, limits=limits)(scope, receive, send)
        return answered[0]["status"]

    return asyncio.run(trickle())


HEAD = b'--x\r\nContent-Disposition: form-data; name="files"; filename="a.png"\r\n\r\n'


def test_images_that_trickle_in_are_given_up(bundle, monkeypatch):
    assert trickled(bundle, Limits(seconds=0.2), [HEAD, b"a"]) == 408
    monkeypatch.setattr(_uploads, "PATIENCE", 0.1)
    assert trickled(bundle, Limits(), [HEAD, *[b"a"] * 5000]) == 408


def test_images_that_come_slowly_but_steadily_are_taken(bundle, monkeypatch):
    monkeypatch.setattr(_uploads, "PATIENCE", 0.5)
    monkeypatch.setattr(_uploads, "SLOWEST", 100)
    content = cell()
    pieces = [content[at : at + 60] for at in range(0, len(content), 60)]
    assert len(pieces) > 50
    assert trickled(bundle, Limits(), [HEAD, *pieces, b"\r\n--x--\r\n"]) == 200


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    cuts=st.lists(st.tuples(st.floats(0, 1), st.binary(max_size=12)), max_size=4),
    length=st.floats(0, 1),
    boundary=st.sampled_from(["x", '"x', "", "x; charset=utf-99", "\x80"]),
    address=st.sampled_from(["/api/predict", "/api/predict?pictures=1", "/api/explain", "/api/explain?format=svg"]),
)
def test_no_damaged_request_is_an_error_of_the_server(client, cuts, length, boundary, address):
    body = b'--x\r\nContent-Disposition: form-data; name="files"; filename="a.png"\r\n\r\n' + cell() + b"\r\n--x--\r\n"
    for place, piece in cuts:
        at = int(place * 100)  # the head, where a parser can be hurt
        body = body[:at] + piece + body[at + len(piece) :]
    body = body[: int(len(body) * (1 - length**4))]
    headers = {"Content-Type": f"multipart/form-data; boundary={boundary}".encode("latin-1")}
    answer = client.post(address, content=body, headers=headers)
    assert answer.status_code in (200, 413, 415, 422), answer.text


# ---- the command ----------------------------------------------------------------------------------------------------


def serve(*words):
    return CliRunner().invoke(cli.fusion, ["serve", *map(str, words)])


def test_the_command_tells_what_is_wrong(trees, tmp_path, monkeypatch):
    assert "is not a model" in serve(tmp_path, "--port", 0).stderr
    assert serve(trees, "--port", 70_000).exit_code == 2
    refused = serve(trees, "--host", "203.0.113.1")  # an address of documentation, RFC 5737
    assert refused.exit_code == 2
    assert "cannot listen on 203.0.113.1:8000" in refused.stderr
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        refused = serve(trees, "--port", port)
    assert refused.exit_code == 2
    assert refused.stderr.splitlines()[:2] == [
        f"fusion serve: cannot listen on 127.0.0.1:{port}",
        "  found: another program listens there",
    ]
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    assert "pip install 'fusion-cells[serve]'" in serve(trees).stderr


def test_the_command_answers_on_loopback_once_it_says_so(trees, monkeypatch):
    import urllib.request

    import uvicorn

    run, seen = uvicorn.Server.run, {}

    def asked(self, sockets):
        def ask():
            host, port = sockets[0].getsockname()[:2]
            seen["host"] = host
            while not self.started:
                time.sleep(0.01)
            with urllib.request.urlopen(f"http://127.0.0.1:{port}/healthz") as answer:
                seen["answer"] = json.load(answer)
            self.should_exit = True

        threading.Thread(target=ask).start()
        run(self, sockets)

    monkeypatch.setattr(uvicorn.Server, "run", asked)
    done = serve(trees, "--port", 0)
    assert done.exit_code == 0, done.output
    assert re.search(r"http://127\.0\.0\.1:\d+/", done.stdout)
    assert seen == {"host": "127.0.0.1", "answer": {"status": "ok"}}
