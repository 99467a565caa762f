"""The page and the API of ``fusion serve``: images in, answers out, nothing kept.

One thread asks the model, so that requests take turns and two never share a network or a figure; what waits too long is
told so. Requests carry images and nothing else: no path, no address, no setting of the model.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any, Literal, TypeVar

import numpy as np
from fastapi import FastAPI, Query, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import HTMLResponse, JSONResponse, PlainTextResponse, Response
from starlette.requests import ClientDisconnect
from starlette.routing import Mount, Route

from fusion.bundles.inference import predict_cells
from fusion.bundles.model_bundle import ModelBundle, load_model
from fusion.bundles.new_sites import state_classes
from fusion.explanation.explanation import Explanation, explain_cell
from fusion.images.cell import CellError
from fusion.reports import result_figures
from fusion.reports.explanation_figure import explanation_figure
from fusion.reports.explanation_page import page_text
from fusion.reports.png import encode_png
from fusion.serve._answers import (
    attachment,
    explanation_values,
    format_fault,
    model_facts,
    promised_of,
    rules_of,
    thumbnail,
)
from fusion.serve._model_thread import Abandoned, ModelThread
from fusion.serve._patients import CELLS, SECONDS, judge_patient, patient_explanation, patient_values
from fusion.serve._request_guard import HEADERS, LOOPBACK, Guard, Metrics
from fusion.serve._server import bind, run
from fusion.serve._uploads import (
    FIELD,
    Limits,
    RequestError,
    Upload,
    find_cells,
    format_error,
    read_uploads,
    shown_name,
)
from fusion.settings.commands import ServeConfig
from fusion.synthetic.cells import SyntheticDesign, draw_cell, draw_subjects
from fusion.synthetic.rendering import paint_cell

#: Synthetic cells to try: as many as ``fusion synthesize`` could make of twelve subjects, three each.
_EXAMPLES = SyntheticDesign(subjects=12, cells_per_subject=3, seed=2019)

#: Files of the page: address, name among the templates, media type.
_STATIC = (
    ("/static/serve.css", "serve.css", "text/css"),
    *(
        (f"/static/{name}.js", f"{name}.js", "text/javascript")
        for name in ("serve", "patients", "uploads", "cell", "elements", "labels")
    ),
    ("/static/icon.svg", "icon.svg", "image/svg+xml"),
)

_Answer = TypeVar("_Answer")

#: How a request with images looks, for OpenAPI: they are read by our own parser, which keeps to memory.
_IMAGES: dict[str, Any] = {
    "requestBody": {
        "required": True,
        "content": {
            "multipart/form-data": {
                "schema": {
                    "type": "object",
                    "required": [FIELD],
                    "properties": {FIELD: {"type": "array", "items": {"type": "string", "format": "binary"}}},
                }
            }
        },
    },
    "responses": {
        str(status): {"description": why}
        for status, why in (
            (403, "Asked by another name or from another site."),
            (408, "The images came too slowly."),
            (413, "Too many images, or too large in all."),
            (415, "Not multipart/form-data."),
            (422, "No image, or a request that cannot be read."),
            (503, "The model is busy, or took too long."),
        )
    },
}


class Served:
    """A model that answers one request at a time."""

    def __init__(self, bundle: ModelBundle, limits: Limits, source: str | None, metrics: Metrics) -> None:
        self.bundle, self.limits, self.source, self.metrics = bundle, limits, source, metrics
        self._thread = ModelThread(limits, metrics.model_seconds.inc)
        self._held = 0

    @contextmanager
    def place(self) -> Iterator[None]:
        """Room for the images of one request.

        Raises
        ------
        RequestError : 503, there is none left; before anything of the request is read.
        """
        if self._held >= self.limits.requests:
            raise RequestError(503, "too many requests at a time", do="Try again.")
        self._held += 1
        try:
            yield
        finally:
            self._held -= 1

    async def ask(self, work: Callable[[Callable[[], None]], _Answer], request: Request) -> _Answer:
        """Do ``work`` in the model's thread, as long as somebody waits for it; see ``ModelThread.ask``."""

        async def gone() -> None:
            while (await request.receive())["type"] != "http.disconnect":
                pass  # pieces of a body that was read to its end

        try:
            return await self._thread.ask(work, gone)
        except Abandoned as error:
            raise ClientDisconnect from error

    def stop(self) -> None:
        """Tell those who wait that the server stops."""
        self._thread.stop()

    def close(self) -> None:
        """Take no more work."""
        self._thread.close()

    # ---- in the model's thread --------------------------------------------------------------------------------------

    @property
    def _needs_red_cells(self) -> bool:
        return self.bundle.normaliser is not None and self.bundle.normaliser.scale == "red-cells"

    def judge(self, uploads: Sequence[Upload], check: Callable[[], None], *, images: bool) -> dict[str, Any]:
        """What the model says of every upload, as plain values; ``check`` is called between the steps."""
        found = find_cells(uploads, self.limits, check, red_cells=self._needs_red_cells)
        places = [at for at, one in enumerate(found) if one.cell is not None]
        cells = [cell for one in found if (cell := one.cell) is not None]
        # By their places: two files of one request may have one name.
        predicted = predict_cells(self.bundle, cells, [str(at) for at in places], self.source)
        faults = [format_fault(at, one.name, one.stage, one.reason) for at, one in enumerate(found) if one.cell is None]
        for fault in predicted.faults:
            at = int(fault.path.name)
            faults.append(format_fault(at, found[at].name, fault.stage, fault.reason))
        told, rows = predicted.to_json(), []
        for row in told["predictions"]:
            at = int(row["name"])
            one = found[at]
            rows.append(
                {
                    "index": at,
                    "name": one.name,
                    "class": row["class"],
                    "probability": row["probability"],
                    "out_of_distribution": row["out_of_distribution"],
                    "distance": row["distance"],
                    **promised_of(row),
                    "in_training": self.bundle.provenance.has_image(*one.keys),
                    "key": one.keys[0],
                    **({"image": thumbnail(one.cell)} if images and one.cell is not None else {}),
                }
            )
        self.metrics.cells.labels("judged").inc(len(rows))
        self.metrics.cells.labels("fault").inc(len(faults))
        return {
            **rules_of(told),
            "predictions": rows,
            "faults": sorted(faults, key=lambda fault: fault["index"]),
            "notes": predicted.notes if rows else [],
        }

    def judge_patient(
        self, uploads: Sequence[Upload], check: Callable[[], None], *, images: bool, name: str = "patient"
    ) -> dict[str, Any]:
        """What the model says of the patient whose cells all uploads show, as plain values."""
        judged = judge_patient(self.bundle, uploads, self.limits, self.source, check, name)
        answer = patient_values(judged, self.bundle, images=images)
        self.metrics.cells.labels("judged").inc(len(answer["cells"]))
        self.metrics.cells.labels("fault").inc(len(answer["faults"]))
        return answer

    def patient_explanation(
        self, uploads: Sequence[Upload], check: Callable[[], None], form: str, name: str
    ) -> Response:
        """What each cell of the patient adds, as JSON or as a page of its own."""
        return patient_explanation(judge_patient(self.bundle, uploads, self.limits, self.source, check, name), form)

    def warm_up(self) -> None:
        """Compile kernels and fill networks before anybody waits for them."""
        uploads = [Upload("example.png", example_cell(0)[0])]
        if self.bundle.unit == "subject":
            self.judge_patient(uploads, lambda: None, images=True)
        else:
            self.explanation(uploads[0], "json")

    def explain(self, upload: Upload) -> tuple[Explanation, bool]:
        """Why the model says what it says of one upload, and whether it learnt from it.

        Raises
        ------
        RequestError : 422, no cell that can be measured.
        """
        (one,) = find_cells([upload], self.limits, lambda: None, red_cells=self._needs_red_cells)
        if one.cell is None:
            raise RequestError(422, f"{one.name}: {one.reason}")
        try:
            found = explain_cell(self.bundle, one.cell, one.name, self.source)
        except CellError as error:
            raise RequestError(422, f"{one.name}: {format_error(error)}") from error
        return found, self.bundle.provenance.has_image(*one.keys)

    def explanation(self, upload: Upload, form: str) -> Response:
        """The explanation as JSON, as a page of its own, or as a figure."""
        found, known = self.explain(upload)
        if form == "json":
            return JSONResponse(explanation_values(found) | {"in_training": known})
        if form == "svg":
            return attachment(
                result_figures.render(explanation_figure(found), "svg"), "image/svg+xml", found.name, "svg"
            )
        return attachment(page_text([(found, "", ())]).encode(), "text/html; charset=utf-8", found.name, "html")


def create_app(
    bundle: ModelBundle,
    *,
    name: str = "model",
    source: str | None = None,
    limits: Limits | None = None,
    hosts: Sequence[str] = tuple(LOOPBACK),
) -> FastAPI:
    """The page and the API of a model, as an ASGI application.

    Parameters
    ----------
    name : of the model, to be shown.
    source : the site that all cells are from, None where it is unknown.
    hosts : names by which it may be asked, empty for any; see ``_request_guard``.
    """
    from importlib.metadata import version

    limits = limits or Limits()
    metrics = Metrics()
    served = Served(bundle, limits, source, metrics)

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> Any:
        yield
        served.close()

    app = FastAPI(
        title="Fusion",
        summary="What a model says of single-cell images. For research: not a medical device, and no diagnosis.",
        version=version("fusion-cells"),
        docs_url=None,  # their pages come from elsewhere
        redoc_url=None,
        openapi_url="/api/openapi.json",
        lifespan=lifespan,
    )
    _add_page(app, _page(bundle, name, limits))
    facts = model_facts(bundle, name) | {"limits": vars(limits)}
    (_add_questions_of_patients if bundle.unit == "subject" else _add_questions)(app, served)
    _add_facts(app, facts)
    _add_health(app, metrics)
    _add_refusals(app)
    paths = [route.path for route in app.routes if isinstance(route, Route | Mount)]
    app.add_middleware(Guard, hosts=hosts, paths=paths, metrics=metrics)
    app.state.served = served
    return app


def _add_page(app: FastAPI, page: str) -> None:
    """The page and its files."""

    @app.get("/", include_in_schema=False)
    async def index() -> HTMLResponse:
        return HTMLResponse(page)

    for address, file, media_type in _STATIC:
        app.get(address, include_in_schema=False)(_static(file, media_type))


def _add_facts(app: FastAPI, facts: dict[str, Any]) -> None:
    """What is known of the model, and cells to try it on."""

    @app.get("/api/model")
    async def model() -> dict[str, Any]:
        """What the model is, and what a request may hold."""
        return facts

    @app.get("/api/example", response_class=Response)
    async def example(number: int = Query(0, ge=0, lt=_EXAMPLES.subjects * _EXAMPLES.cells_per_subject)) -> Response:
        """A synthetic cell as PNG, to try; which class it was drawn as is in the header X-Drawn-As."""
        content, label = example_cell(number)
        return Response(content, media_type="image/png", headers={"X-Drawn-As": label})


def _add_questions_of_patients(app: FastAPI, served: Served) -> None:
    """What can be asked of a model of patients: each request is one."""
    named = Query("patient", max_length=120, description="what the patient is called in the answer")

    @app.post("/api/predict", openapi_extra=_IMAGES)
    async def predict(request: Request, images: bool = Query(False, description="with contours")) -> dict[str, Any]:
        """The class of the patient whose cells all images of the request show, and what each cell adds to it."""
        with served.place():
            uploads = await read_uploads(request, served.limits)
            return await served.ask(lambda check: served.judge_patient(uploads, check, images=images), request)

    @app.post("/api/explain", openapi_extra=_IMAGES)
    async def explain(request: Request, format: Literal["json", "html"] = "json", name: str = named) -> Response:
        """What each cell of the patient adds: as JSON, or as a page of its own."""
        with served.place():
            uploads = await read_uploads(request, served.limits)
            return await served.ask(
                lambda check: served.patient_explanation(uploads, check, format, shown_name(name)), request
            )


def _add_questions(app: FastAPI, served: Served) -> None:
    """What can be asked of a model of cells."""

    @app.post("/api/predict", openapi_extra=_IMAGES)
    async def predict(request: Request, images: bool = Query(False, description="with contours")) -> dict[str, Any]:
        """Class and probability of every image; a bad one is a fault, and stops no other."""
        with served.place():
            uploads = await read_uploads(request, served.limits)
            return await served.ask(lambda check: served.judge(uploads, check, images=images), request)

    @app.post("/api/explain", openapi_extra=_IMAGES)
    async def explain(request: Request, format: Literal["json", "html", "svg"] = "json") -> Response:
        """Why the model says what it says of one image: as JSON, as a page of its own, or as a figure."""
        with served.place():
            uploads = await read_uploads(request, served.limits)
            if len(uploads) > 1:
                raise RequestError(422, "one image at a time is explained", found=str(len(uploads)))
            return await served.ask(lambda _: served.explanation(uploads[0], format), request)


def _add_health(app: FastAPI, metrics: Metrics) -> None:
    """What an operator asks."""

    @app.get("/healthz")
    async def healthz() -> dict[str, str]:
        """Whether it answers."""
        return {"status": "ok"}

    @app.get("/metrics", response_class=PlainTextResponse)
    async def measured() -> PlainTextResponse:
        """Counts and times since the start, for Prometheus."""
        return PlainTextResponse(metrics.text(), media_type="text/plain; version=0.0.4; charset=utf-8")


def _add_refusals(app: FastAPI) -> None:
    """Answers to what cannot be answered."""

    @app.exception_handler(RequestError)
    async def refused(_: Request, error: RequestError) -> JSONResponse:
        # What is left of the body is not read: the connection ends with the answer.
        return JSONResponse({"detail": format_error(error)}, error.status, {"Connection": "close"})

    @app.exception_handler(ClientDisconnect)
    async def left(_: Request, error: ClientDisconnect) -> Response:
        return Response(status_code=400)  # for the metrics: whoever asked is gone

    @app.exception_handler(Exception)
    async def broken(_: Request, error: Exception) -> JSONResponse:
        # Answered outside of the guard, which it passes as an exception; the log has the traceback.
        return JSONResponse({"detail": "a bug in Fusion: see what the server printed, and report it"}, 500, HEADERS)

    @app.exception_handler(RequestValidationError)
    async def misasked(_: Request, error: RequestValidationError) -> JSONResponse:
        first = error.errors()[0]
        return JSONResponse({"detail": f"{'.'.join(map(str, first['loc']))}: {first['msg']}"}, 422)


def serve(config: ServeConfig, say: Callable[[str], None]) -> None:
    """Answer until interrupted.

    Parameters
    ----------
    say : told the page's address once the model has judged its first cell.

    Raises
    ------
    BundleError : the model cannot be read.
    UsageError : the address cannot be listened on.
    """
    listening = bind(config.host, config.port)
    bundle = load_model(config.model)
    of_patients = bundle.unit == "subject"
    limits = Limits(
        files=max(config.files, CELLS) if of_patients else config.files,
        file_bytes=config.file_mb << 20,
        request_bytes=config.request_mb << 20,
        pixels=config.megapixels * 1_000_000,
        request_pixels=(16 if of_patients else 4) * config.megapixels * 1_000_000,
        seconds=max(config.timeout, SECONDS) if of_patients else config.timeout,
    )
    bundle = state_classes(bundle, config.site_classes, [config.source])
    hosts = tuple(LOOPBACK) if config.host in LOOPBACK else ()
    name = config.model.resolve().name
    app = create_app(bundle, name=name, source=config.source, limits=limits, hosts=hosts)
    app.state.served.warm_up()
    run(app, listening, config.host, say, app.state.served.stop)


def example_cell(number: int) -> tuple[bytes, str]:
    """A synthetic cell as PNG and the class it was drawn as; classes take turns."""
    subjects = draw_subjects(_EXAMPLES)
    half = len(subjects) // 2
    # Malignant subjects come first; turn by turn, then the next cell of each.
    at, cell = number % len(subjects), number // len(subjects)
    subject = subjects[at // 2 + half * (at % 2)]
    rng = np.random.default_rng(np.random.SeedSequence(_EXAMPLES.seed, spawn_key=(subject.index, cell)))
    return encode_png(paint_cell(draw_cell(_EXAMPLES, subject, rng), rng).rgb), subject.label


def _static(file: str, media_type: str) -> Callable[[], Any]:
    content = (Path(__file__).parent / "templates" / file).read_bytes()

    async def static() -> Response:
        return Response(content, media_type=media_type)

    return static


def _page(bundle: ModelBundle, name: str, limits: Limits) -> str:
    from jinja2 import Environment, PackageLoader, StrictUndefined

    environment = Environment(
        loader=PackageLoader("fusion.serve"), autoescape=True, undefined=StrictUndefined, trim_blocks=True
    )
    template = "serve-patients.html" if bundle.unit == "subject" else "serve.html"
    return environment.get_template(template).render(
        model=model_facts(bundle, name),
        limits=limits,
        settings=json.dumps(
            vars(limits) | {"examples": _EXAMPLES.subjects * _EXAMPLES.cells_per_subject, "classes": bundle.classes}
        ),
    )
