"""Results in MLflow: settings, figures with their intervals, stamps, and the files that were written.

The comparison of many feature sets is one run that holds the files, and below it one run for each entry.
"""

from __future__ import annotations

import importlib.util
import json
import math
import os
import tempfile
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import BaseModel

from fusion.errors import FusionError, UsageError
from fusion.evaluation.result_tables import METRICS
from fusion.evaluation.results import Result
from fusion.metrics.classification import LEVELS

#: Name of the experiment, unless MLflow's own variable says otherwise.
EXPERIMENT = "fusion"

#: MLflow's limits: characters of a parameter or tag, entries of one request.
_MOST_TEXT, _MOST_ENTRIES = 5000, 100


class TrackingError(FusionError):
    """MLflow cannot be reached, or does not take what it is given."""


@dataclass(frozen=True, eq=False)
class Tracker:
    """An open experiment."""

    uri: str
    client: Any
    experiment: str

    def log(self, result: Result, config: BaseModel, folder: Path) -> None:
        """Write a result with the files in ``folder``.

        Raises
        ------
        TrackingError : MLflow refuses it; the files are in ``folder`` all the same.
        """
        try:
            name = f"{result.command} {folder.name}"
            best = result.ranked()[0]
            parent = self._run(name, _params(config.model_dump(mode="json")), result, best, {})
            with tempfile.TemporaryDirectory() as texts:
                (Path(texts) / "config.yaml").write_text(result.config, encoding="utf-8")
                self.client.log_artifacts(parent, texts)
            self.client.log_artifacts(parent, str(folder), folder.name)
            if len(result.scores) > 1:
                for at, scores in enumerate(result.scores):
                    params = {"features": ",".join(scores.features), "classifier": scores.classifier}
                    label = f"{'+'.join(scores.features)}, {scores.classifier}"
                    self.client.set_terminated(
                        self._run(label, params, result, at, {"mlflow.parentRunId": parent}), "FINISHED"
                    )
            self.client.set_terminated(parent, "FINISHED")
        except _errors() as error:
            raise TrackingError(
                f"MLflow at {self.uri} does not take the result",
                found=_first_line(error),
                do=f"The result itself is whole, in {folder}.",
            ) from error

    def _run(self, name: str, params: Mapping[str, str], result: Result, at: int, tags: Mapping[str, str]) -> str:
        """Begin a run with the figures of one entry; its id."""
        from mlflow.entities import Metric, Param

        stamps = {"fusion.stamps": "; ".join(result.stamps)} if result.stamps else {}
        run = self.client.create_run(self.experiment, run_name=name, tags={**tags, **stamps})
        now = int(1000 * time.time())
        metrics = [Metric(key, value, now, 0) for key, value in _figures(result.figures[at]).items()]
        entries = [Param(key, value[:_MOST_TEXT]) for key, value in params.items()]
        for start in range(0, len(metrics), _MOST_ENTRIES):
            self.client.log_batch(run.info.run_id, metrics=metrics[start : start + _MOST_ENTRIES])
        for start in range(0, len(entries), _MOST_ENTRIES):
            self.client.log_batch(run.info.run_id, params=entries[start : start + _MOST_ENTRIES])
        return str(run.info.run_id)


def open_tracker(uri: str) -> Tracker:
    """The experiment at ``uri``, made if it is not there; call it before the work is done.

    Parameters
    ----------
    uri : as MLflow takes it: ``http://host:5000``, or a folder where MLflow is told to allow that.

    Raises
    ------
    UsageError : the extra ``mlflow`` is not installed.
    TrackingError : nothing answers there, or MLflow refuses the place.
    """
    if importlib.util.find_spec("mlflow") is None:
        raise UsageError("--mlflow needs MLflow", do="pip install 'fusion-cells[mlflow]'")
    # Seven tries, as MLflow would have it, take minutes to say that there is no server.
    os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "2")
    from mlflow.tracking import MlflowClient

    name = os.environ.get("MLFLOW_EXPERIMENT_NAME", EXPERIMENT)
    try:
        client = MlflowClient(tracking_uri=uri)
        known = client.get_experiment_by_name(name)
        return Tracker(uri, client, known.experiment_id if known is not None else client.create_experiment(name))
    except _errors() as error:
        raise TrackingError(
            f"cannot log to MLflow at {uri}",
            found=_first_line(error),
            do="Start a server (mlflow server), or set MLFLOW_ALLOW_FILE_STORE=true for a folder.",
        ) from error


def _errors() -> tuple[type[Exception], ...]:
    from mlflow.exceptions import MlflowException

    return (MlflowException, OSError)


def _first_line(error: Exception) -> str:
    return " ".join(str(error).split())[:200]


def _figures(figures: Mapping[str, Any]) -> dict[str, float]:
    """``image_auroc``, ``image_auroc_low``, ``image_auroc_high`` and so on; what is undefined is left out."""
    found = {}
    for level in LEVELS:
        for metric in METRICS:
            for part, key in (("", "value"), ("_low", "low"), ("_high", "high")):
                value = float(figures[level][metric][key])
                if math.isfinite(value):
                    found[f"{level}_{metric}{part}"] = value
    return found


def _params(settings: Mapping[str, Any], above: str = "") -> dict[str, str]:
    """Nested settings as flat texts: ``classifiers.xgb.max_depth``."""
    found: dict[str, str] = {}
    for key, value in settings.items():
        if isinstance(value, Mapping) and value:
            found |= _params(value, f"{above}{key}.")
        elif value not in (None, [], {}, ""):
            found[f"{above}{key}"] = value if isinstance(value, str) else json.dumps(value)
    return found
