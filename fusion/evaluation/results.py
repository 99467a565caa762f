"""Results: held-out scores of every cell, the figures computed from them, and the files that hold both."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from fusion.data.dataset import Fault, fault_row
from fusion.data.feature_table import FeatureTable
from fusion.data.units import Units
from fusion.errors import ConfigError, UsageError, reason_in_a_line
from fusion.evaluation.result_differences import best_row, difference_frame
from fusion.evaluation.result_tables import entry_frame, figure_frame
from fusion.evaluation.score_frames import cells_of, entries_of, score_frame
from fusion.evaluation.scores import Scores, entry_name
from fusion.evaluation.variation import Variation
from fusion.io.csv_text import csv_bytes
from fusion.io.files import is_partial
from fusion.io.json_values import with_nan, without_nan
from fusion.io.notebook_table import notebook_table
from fusion.io.output_files import write_output
from fusion.io.run_checkpoint import UNFINISHED
from fusion.metrics.absent_classes import absent_classes, listed
from fusion.metrics.classification import LEVELS
from fusion.metrics.judgement import judge_scores
from fusion.versions import versions

if TYPE_CHECKING:
    import pandas as pd

#: How figures are called where people read them.
LABELS = {
    "balanced_accuracy": "balanced accuracy",
    "auroc": "AUROC",
    "sensitivity": "sensitivity",
    "specificity": "specificity",
    "f1_weighted": "weighted F1",
    "f1_macro": "macro F1",
    "accuracy": "accuracy",
    "mcc": "MCC",
    "auprc": "AUPRC",
    "ppv": "PPV",
    "npv": "NPV",
    "brier": "Brier score",
    "log_loss": "log loss",
    "calibration_intercept": "calibration intercept",
    "calibration_slope": "calibration slope",
    "ece": "calibration error",
}

#: Levels and metrics of which the influences of groups are kept, for questions about differences.
KEPT = tuple((level, metric) for level in ("image", "subject") for metric in ("balanced_accuracy", "auroc"))

UNKNOWN_SUBJECTS = "subjects unknown: cells are taken as independent"

#: What was given in memory, tables and a model, which a result holds for its configuration to name.
GIVEN = ("data.parquet", "test.parquet", "model")

#: Share of cells without a subject above which this is stamped: a fold in twenty of them would show in a figure.
_NAMELESS = 0.05


def class_stamps(cells: Units, classes: Sequence[str]) -> list[str]:
    """What must be read with figures where some of the model's classes have no cell."""
    absent = absent_classes([cells.y.count(label) for label in classes], classes)
    if not absent:
        return []
    if len(absent) == len(classes) - 1:
        (own,) = set(classes) - set(absent)
        return [f"all judged are of one class, {own}: what compares classes (balanced accuracy, AUROC) is left out"]
    return [f"none judged is of {listed(absent)}: figures are of the other {len(classes) - len(absent)} classes"]


def subject_stamps(cells: Units) -> list[str]:
    """What must be read with figures where subjects are unknown, wholly or for more than a few cells."""
    if cells.unit == "image":
        return [UNKNOWN_SUBJECTS]
    if cells.unit == "group":
        return ["subjects unknown: groups are taken as independent"]
    if cells.nameless > _NAMELESS * len(cells):
        return [
            f"subjects partly unknown: {cells.nameless} of {len(cells)} cells name none, and each counts as its own"
        ]
    return []


@dataclass(frozen=True, eq=False)
class Result:
    """What one command found out about one data set.

    Attributes
    ----------
    command : "train", "evaluate" or "ablate".
    cells : who the rows are; its feature columns are not used.
    classes, positive : columns of the probabilities, and the class that sensitivity is about (None beyond two).
    scores : one entry a feature set and classifier, all on the same cells.
    figures : for each of ``scores``, what ``metrics.judge_scores`` says.
    stamps : what must be read with every figure ("leaky: ...").
    notes, faults : what the user should know, and the images that were skipped.
    facts : plain values about split, data and versions.
    config : the configuration as YAML.
    findings : plain values about differences and blocks: "paired", "shapley", "redundancy", "importance", "leak",
        "splits", "chosen", "cross_site" and "selective_prediction", where they were asked for or could be had.
    variations : for each of ``scores``, how its figures vary over groups.

    Examples
    --------
    >>> fusion.ablate("cells", features=["morphology"], compare=["logreg"]).classes  # doctest: +SKIP
    ('all', 'hem')
    """

    command: str
    cells: FeatureTable
    classes: tuple[str, ...]
    positive: str | None
    scores: tuple[Scores, ...]
    figures: tuple[Mapping[str, Any], ...]
    config: str
    stamps: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    faults: tuple[Fault, ...] = ()
    facts: Mapping[str, Any] = field(default_factory=dict)
    findings: Mapping[str, Any] = field(default_factory=dict)
    variations: tuple[Variation, ...] = ()

    def __repr__(self) -> str:
        at = self.ranked()[0]
        said = f"{self.main_label} {interval(self.figures[at]['image'][self.main_metric])}"
        # The best of several was picked by its figure, which flatters it.
        if best := self.findings.get("best"):
            said = (
                f"balanced accuracy {interval({**best, 'value': best['corrected']})}, corrected for being the best of "
                f"{len(self.scores)}"
            )
        stamps = f"; {'; '.join(self.stamps)}" if self.stamps else ""
        judged = self.figures[at]["n_images"]
        return f"Result({self.command}, {judged} {self.judged}s; {entry_name(self.scores[at])}: {said}{stamps})"

    def _repr_html_(self) -> str:
        return notebook_table(repr(self), lambda: entry_frame(self))

    @property
    def kind(self) -> str:
        """What figures and their intervals are about: "models" or "procedure"; see ``metrics.judgement``."""
        return str(self.figures[0]["image"]["accuracy"]["kind"])

    @property
    def only_class(self) -> str | None:
        """The class that all cells are of; None where there are several."""
        present = [name for name in self.classes if name not in self.figures[0].get("absent", ())]
        return present[0] if len(present) == 1 else None

    @property
    def main_metric(self) -> str:
        """The metric that is told first: balanced accuracy; of one class alone the share that is recognised."""
        return "balanced_accuracy" if self.only_class is None else "accuracy"

    @property
    def main_label(self) -> str:
        """How ``main_metric`` is called where people read it."""
        return LABELS["balanced_accuracy"] if self.only_class is None else f"recall of {self.only_class}"

    @property
    def without_subjects(self) -> str:
        """Why there are no figures subject by subject, as a sentence; "" where there are."""
        reason = self.figures[0]["left_out"] if self.figures else ""
        return f"No figures {self.unit} by {self.unit}: {reason}." if reason else ""

    @property
    def judged(self) -> str:
        """What is predicted and judged: "cell", or "subject" where subjects are bags of cells."""
        return str(self.facts.get("judged", "cell"))

    @property
    def unit(self) -> str:
        """What intervals are over: "subject", or "group" or "image" where subjects are unknown."""
        return self.cells.unit

    def ranked(self, level: str = "image", metric: str | None = None) -> list[int]:
        """Positions in ``scores``, best first by a metric, None for ``main_metric``; of equals, those of fewer blocks,
        which are simpler."""
        metric = metric or self.main_metric
        return sorted(
            range(len(self.scores)),
            key=lambda at: (-_or_worst(self.figures[at][level][metric]["value"]), self.scores[at].blocks),
        )

    def to_json(self, root: Path) -> dict[str, Any]:
        """The content of ``result.json``; NaN becomes null."""
        rows = [
            {"features": list(scores.features), "classifier": scores.classifier, **figures}
            for scores, figures in zip(self.scores, self.figures, strict=True)
        ]
        content: dict[str, Any] = without_nan(
            {
                "command": self.command,
                "kind": self.kind,
                "classes": list(self.classes),
                "positive": self.positive,
                "stamps": list(self.stamps),
                "notes": list(self.notes),
                "facts": {**self.facts, "versions": versions()},
                "results": rows,
                **({"findings": self.findings} if self.findings else {}),
                "faults": [fault_row(fault, root) for fault in self.faults],
            }
        )
        return content

    def save(self, folder: Path, root: Path) -> None:
        """Write ``scores.parquet``, ``table.csv``, ``config.yaml`` and, last, ``result.json``.

        Parameters
        ----------
        folder : made if it is not there; see ``check_result_folder``.
        root : images in faults are named relative to it.
        """
        self.save_scores(folder / "scores.parquet")
        write_output(folder / "table.csv", csv_bytes(entry_frame(self)))
        write_output(folder / "config.yaml", self.config.encode())
        write_output(folder / "result.json", json.dumps(self.to_json(root), indent=1).encode())

    def save_scores(self, file: Path) -> None:
        """Write every held-out score as Parquet; stamps travel in a column of their own."""
        sink = BytesIO()
        score_frame(self.cells, self.classes, self.positive, self.scores, self.stamps).to_parquet(sink, index=False)
        write_output(file, sink.getvalue())

    def to_frame(self) -> pd.DataFrame:
        """A row for each entry, level ("cell" or "subject"), metric and kind ("models" or "procedure") of figure.

        Columns: entry, level, metric, value, low, high, kind, subjects, effective_subjects, note; see
        ``result_tables.figure_frame``.

        Examples
        --------
        >>> result.to_frame().query("level == 'cell' and metric == 'auroc'")  # doctest: +SKIP
        """
        return figure_frame(self)

    def differences(self) -> pd.DataFrame:
        """A row for each pair of entries and metric: entry_a minus entry_b, cell by cell.

        Columns: entry_a, entry_b, metric, difference, low, high, p, p_adjusted, test, kind; see
        ``result_differences.difference_frame``.
        """
        return difference_frame(self.with_variations())

    def best(self) -> dict[str, Any]:
        """The entry with the highest balanced accuracy, and what is left of that once it was picked.

        Returns
        -------
        "entry"; "value" as it was measured; "corrected" for having been picked, with "low" and "high"; "kind";
        "not_distinguished", the entries that cannot be told from the best, itself among them; "ties", those whose
        value is the same. See ``best_of_many``.
        """
        return best_row(self.with_variations())

    def with_variations(self) -> Result:
        """The same result, its variations computed where it was loaded without."""
        if self.variations:
            return self
        prevalence = self.figures[0]["prevalence"]
        judged = (
            judge_paired(self.cells, scores, self.classes, self.positive, prevalence=prevalence)
            for scores in self.scores
        )
        return replace(self, variations=tuple(variation for _, variation in judged))

    @classmethod
    def load(cls, folder: str | Path) -> Result:
        """A result that was saved, from its folder.

        Raises
        ------
        UsageError : there is none.

        Examples
        --------
        >>> Result.load("comparison").best()["not_distinguished"]  # doctest: +SKIP
        """
        import pandas as pd

        folder = Path(folder)
        try:
            content = json.loads((folder / "result.json").read_bytes())
            frame = pd.read_parquet(folder / "scores.parquet")
            config = (folder / "config.yaml").read_text(encoding="utf-8")
            classes, rows, faults = (tuple(content[name]) for name in ("classes", "results", "faults"))
            cells = cells_of(frame)
            if content["facts"]["unit"] == "image":  # what shares an image is kept together, and is still nobody's
                cells = replace(cells, group_ids=())
            scores = tuple(entries_of(frame, cells, classes))
        except (OSError, ValueError, KeyError) as error:
            raise UsageError(
                f"{folder} holds no result",
                found=reason_in_a_line(error),
                expected="result.json, scores.parquet and config.yaml",
            ) from error
        return cls(
            command=content["command"],
            cells=cells,
            classes=classes,
            positive=content["positive"],
            scores=scores,
            figures=tuple(
                {name: with_nan(value) if name in LEVELS else value for name, value in row.items()} for row in rows
            ),
            config=config,
            stamps=tuple(content["stamps"]),
            notes=tuple(content["notes"]),
            faults=tuple(Fault(Path(fault["path"]), fault["stage"], fault["reason"]) for fault in faults),
            facts={name: value for name, value in content["facts"].items() if name != "versions"},
            findings=with_nan(content.get("findings", {})),
        )


def judge(
    cells: FeatureTable, scores: Scores, classes: Sequence[str], positive: str | None, *, prevalence: float = 0.5
) -> dict[str, Any]:
    """The figures of one entry with their intervals; see ``metrics.judge_scores``."""
    return judge_paired(cells, scores, classes, positive, prevalence=prevalence)[0]


def judge_paired(
    cells: FeatureTable, scores: Scores, classes: Sequence[str], positive: str | None, *, prevalence: float = 0.5
) -> tuple[dict[str, Any], Variation]:
    """The figures of one entry, and how they vary over groups, numbered as in ``Units.in_order``.

    The same to the last bit in whatever order the cells come.
    """
    order, groups = cells.in_order
    labels = [cells.subject_labels[at] for at in order.tolist()] if cells.subject_labels else None
    judged = judge_scores(
        np.array(cells.y, object)[order],
        scores.proba[:, order],
        classes,
        groups,
        positive=positive,
        prevalence=prevalence,
        threshold=None if scores.threshold is None else scores.threshold[:, order],
        costs=None if scores.costs is None else scores.costs[:, order],
        folds=scores.fold[:, order],
        subjects=cells.subject_numbers[order],
        subject_labels=labels,
    )
    known = np.unique(groups[(scores.fold[:, order] >= 0).any(axis=0)])
    return judged.figures, Variation.of(judged, KEPT, known, np.unique(groups))


def interval(figure: Mapping[str, float]) -> str:
    """``0.812 [0.771, 0.850]``, ``0.812 (no interval)`` or ``undefined``."""
    if math.isnan(figure["value"]):
        return "undefined"
    if math.isnan(figure["low"]):
        return f"{figure['value']:.3f} (no interval)"
    return f"{figure['value']:.3f} [{figure['low']:.3f}, {figure['high']:.3f}]"


def p_text(value: float) -> str:
    """``0.012``, ``<0.001``, or ``-`` where the test does not apply."""
    if math.isnan(value):
        return "-"
    return "<0.001" if value < 0.001 else f"{value:.3f}"


def describe_split(facts: Mapping[str, Any]) -> str:
    """How the cells were held out, in words: "5 folds by subject, 3 times over", "one fold by subject" of a holdout."""
    kind, folds, repeats = facts["split"]["kind"], facts["split"]["folds"], facts["split"].get("repeats", 1)
    over = f", {repeats} times over" if repeats > 1 else ""
    some = "one fold" if folds == 1 else f"{folds} folds"
    if kind == "scores":
        return f"{folds} folds, as the table has them{over}" if folds > 1 else f"scores of one model an entry{over}"
    if kind == "external":
        return "scored by a trained model"
    if kind == "external test":
        return f"an external test set, learnt from {facts['learnt_from']['images']} other cells"
    if kind == "official":
        which = "one of the folds" if folds == 1 else f"the {folds} folds"
        return f"{which} of the data set, whole subjects together"
    if kind == "leave-one-source-out":
        return "each source left out in turn"
    if kind == "leave-one-subject-out":
        return "each subject left out in turn"
    if kind == "random":
        return f"{some} by image at random{over}"
    is_named = facts["unit"] != "image"
    who = f"by {facts['unit']}" if is_named else "identical images together"
    if kind == "monte-carlo":
        return f"{repeats} random test parts, {who}"
    who += ", every source in each as far as it goes" if kind == "source-stratified" else ""
    return f"{some}{'' if is_named else ','} {who}{over}"


def check_result_folder(folder: Path, *, force: bool = False, option: str = "-o") -> None:
    """Refuse to write a result over another one, or among files that are something else; call it before the work is
    done.

    Parameters
    ----------
    force : replace a result that is there.
    option : by which the folder was named, for the message.

    Raises
    ------
    ConfigError : ``folder`` is a file, holds a finished result, or is not empty and holds neither a result nor an
        unfinished run.
    """
    if not folder.exists():
        return
    names = {path.name for path in folder.iterdir()} if folder.is_dir() else None
    if names is not None and "result.json" in names:
        if not force:
            raise ConfigError(
                f"{folder} holds a result already",
                do=f"Choose another folder with {option}, or replace it with --force.",
            )
    elif names is None or not _is_unfinished(names):
        raise ConfigError(f"{folder} exists and holds no result", do=f"Choose another folder with {option}.")


def _is_unfinished(names: set[str]) -> bool:
    """Whether a folder is empty, or holds what ``Result.save`` had written when it was stopped: scores first."""
    names = {name for name in names if name not in (UNFINISHED, *GIVEN) and not is_partial(name)}
    return not names or ("scores.parquet" in names and names <= {"scores.parquet", "table.csv", "config.yaml"})


def _or_worst(value: float) -> float:
    return -1.0 if math.isnan(value) else value
