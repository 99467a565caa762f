"""The columns of a table of scores, each checked by itself and told by its row."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from fusion.data.score_table import LINE
from fusion.data.subjects import check_spelling
from fusion.errors import UsageError, did_you_mean
from fusion.metrics.classification import default_positive

if TYPE_CHECKING:
    import pandas as pd

#: What stands for nothing in a text, as in tables of cells.
_MISSING = {"", "NA", "N/A", "nan", "NaN", "None", "null", "NULL", "-"}

#: 12.0 is 12, as programs write whole numbers of a column with gaps.
_WHOLE = re.compile(r"-?\d+\.0+", re.ASCII)

#: Columns that are read; of a table that Fusion has written, what it calls them.
_KNOWN = ("subject", "label", "score", "entry", "fold", "repeat", "source", "group", "threshold", "cell")
_OWN = {"name": "cell", "key": "key", "features": "features", "classifier": "classifier", "stamp": "stamp"}
_SILENT = {"predicted", LINE, "subject_label"}

#: Columns of a table that a message lists.
_SHOWN = 12

#: How far probabilities of a row may add up to something else than 1: three decimals of ten classes.
_ROUNDING = 0.01


def choose_positive(classes: Sequence[str], positive: str | None, is_of_one: bool, where: str) -> str | None:
    if positive is not None and positive not in classes:
        raise UsageError("--positive names no class", found=positive, expected=", ".join(classes))
    if len(classes) != 2:
        return None
    if positive is None and is_of_one and set(classes) not in ({"0", "1"}, {"all", "hem"}, {"False", "True"}):
        raise UsageError(
            f"{where} does not say which class 'score' is the probability of",
            found=f"classes {' and '.join(classes)}",
            do=f"Name it: --positive {classes[1]} (or positive= in Python).",
        )
    return positive or default_positive(classes)


class ScoreColumns:
    """A table of scores on its way to be checked: columns as they stand, and what is said of them."""

    def __init__(self, frame: pd.DataFrame, where: str) -> None:
        renamed = frame.rename(columns={name: str(name).strip() for name in frame.columns})
        own = {"name": "cell"} if "name" in renamed and "cell" not in renamed else {}
        self.frame, self.where, self.notes = renamed.rename(columns=own).reset_index(drop=True), where, list[str]()
        self.columns = [str(name) for name in self.frame.columns]

    def row(self, at: int) -> str:
        """``row 3 of scores.csv``, counted as a reader of the table counts."""
        if LINE in self.columns:
            return f"line {self.frame[LINE].iloc[at]} of {self.where}"
        return f"row {at + 1} of {self.where}"

    def rows(self, wrong: NDArray[np.bool_]) -> str:
        """Where the first of the wrong rows stands, and how many there are."""
        first, count = int(np.argmax(wrong)), int(wrong.sum())
        return self.row(first) + (f", and {count - 1} more" if count > 1 else "")

    def check_columns(self, by: Sequence[str] = ()) -> None:
        """Refuse what lacks a column or has one twice; ``by`` are columns that tell subgroups."""
        if not len(self.frame):
            raise UsageError(f"{self.where} holds no scores", found="no row", expected="a row for each scored cell")
        if twice := sorted({name for name in self.columns if self.columns.count(name) > 1}):
            raise UsageError(f"{self.where} has columns of one name", found=", ".join(twice), expected="each name once")
        shares = [name for name in self.columns if name.startswith("p_")]
        for name in ("subject", "label"):
            if name not in self.columns:
                self._missing_column(name)
        if not shares and "score" not in self.columns:
            self._missing_column("score", "score (of the positive class), or p_<class> for every class")
        if shares and "score" in self.columns:
            raise UsageError(
                f"{self.where} has scores in two ways", found=f"score, {', '.join(shares)}", do="Leave one of them out."
            )
        if "entry" in self.columns and "features" in self.columns:
            raise UsageError(
                f"{self.where} names entries in two ways", found="entry, features", do="Leave one of them out."
            )
        for name in by:
            if name not in self.columns:
                shown = [column for column in self.columns if column != LINE]
                raise UsageError(
                    f"--by names no column of {self.where}",
                    found=name,
                    expected=", ".join(shown),
                    do=did_you_mean(name, shown),
                )
        costs = {name for name in self.columns if name.startswith("cost_") and name.removeprefix("cost_")}
        known = {*by, *costs, *_KNOWN, *_OWN.values(), *_OWN, *_SILENT, *shares}
        if unused := [name for name in self.columns if name not in known]:
            self.notes.append(f"Columns of {self.where} that are not used: {', '.join(unused)}.")

    def _missing_column(self, name: str, expected: str = "") -> None:
        shown = [column for column in self.columns if column != LINE]
        raise UsageError(
            f"{self.where} has no column '{name}'",
            found=", ".join(shown[:_SHOWN]) + (f" and {len(shown) - _SHOWN} more" if len(shown) > _SHOWN else ""),
            expected=expected or f"a column {name}",
            do=did_you_mean(name, shown) or "Rename the column that holds it.",
        )

    def texts(self, column: str) -> list[str]:
        """A column of texts without gaps."""
        found = self.known_texts(column)
        if (missing := np.array([value is None for value in found])).any():
            raise UsageError(f"no {column} in {self.rows(missing)}", expected=f"a {column} in every row")
        return [str(value) for value in found]

    def known_texts(self, column: str) -> list[str | None]:
        """A column of texts, None where nothing stands."""
        import pandas as pd

        # Each value once: a comparison of 45 entries has millions of rows, of few subjects, labels and names.
        of, values = pd.factorize(self.frame[column], use_na_sentinel=False)
        texts: NDArray[np.object_] = np.empty(len(values), object)
        texts[:] = [_as_text(value) for value in values.tolist()]
        return list(texts[of])

    def numbers(self, column: str) -> NDArray[np.float64]:
        """A column of finite numbers."""
        values = self.frame[column]
        if values.dtype.kind in "iuf":
            found = values.to_numpy(np.float64)
        else:
            found = np.array([_as_number(value) for value in values.tolist()], np.float64)
        if (wrong := ~np.isfinite(found)).any():
            first = values.tolist()[int(np.argmax(wrong))]
            raise UsageError(
                f"{self.rows(wrong)}: '{column}' is no finite number", found=_as_text(first) or "nothing (NaN)"
            )
        return found

    def between(self, column: str, what: str) -> NDArray[np.float64]:
        """A column of numbers from 0 to 1."""
        found = self.numbers(column)
        if (wrong := (found < 0) | (found > 1)).any():
            raise UsageError(
                f"{self.rows(wrong)}: '{column}' is no {what}",
                found=f"{found[wrong][0]:g}; the column goes from {found.min():g} to {found.max():g}",
                expected="0 to 1",
                do="Bring decision values to probabilities first: a sigmoid keeps their order."
                if what == "probability"
                else "",
            )
        return found

    def probabilities(self, label: Sequence[str], positive: str | None) -> tuple[tuple[str, ...], NDArray[np.float64]]:
        """Sorted classes, and float64 (n, classes)."""
        labels = sorted(set(label))
        _check_twins(labels, self.where)
        shares = {name[2:]: name for name in self.columns if name.startswith("p_")}
        if not shares:
            return self._from_one_score(labels, positive)
        if unknown := [name for name in labels if name not in shares]:
            wrong = np.isin(np.array(label, object), unknown)
            raise UsageError(
                f"{self.rows(wrong)}: a label that no column of probabilities is of",
                found=", ".join(unknown),
                expected=", ".join(shares),
                do="Give a column p_<class> for every class.",
            )
        classes = tuple(sorted(shares))
        if len(classes) < 2:
            raise UsageError(
                f"{self.where} has probabilities of one class", found=f"p_{classes[0]}", expected="p_<class> for each"
            )
        proba = np.column_stack([self.between(shares[name], "probability") for name in classes])
        total = proba.sum(axis=1)
        if (wrong := np.abs(total - 1) > _ROUNDING).any():
            raise UsageError(
                f"{self.rows(wrong)}: probabilities do not add up to 1",
                found=f"{total[wrong][0]:g} over {', '.join(shares.values())}",
                expected="1",
            )
        return classes, proba

    def _from_one_score(
        self, labels: Sequence[str], positive: str | None
    ) -> tuple[tuple[str, ...], NDArray[np.float64]]:
        if len(labels) != 2:
            raise UsageError(
                f"{self.where} has one score for {len(labels)} class{'es' if len(labels) != 1 else ''}",
                found=f"labels {', '.join(labels)}",
                expected="two classes",
                do="Give a column p_<class> for every class.",
            )
        score = self.between("score", "probability")
        column = labels.index(choose_positive(labels, positive, True, self.where) or labels[1])
        proba = np.column_stack([1 - score, score])
        return tuple(labels), proba if column == 1 else proba[:, ::-1]

    def entries(self) -> dict[str, list[str]]:
        """What was compared: features and classifier, or a name alone."""
        if "features" in self.columns:
            features = self.texts("features")
            known = self.known_texts("classifier") if "classifier" in self.columns else [None] * len(features)
            return {"features": features, "classifier": [one or "" for one in known]}
        names = self.texts("entry") if "entry" in self.columns else ["scores"] * len(self.frame)
        return {"features": names, "classifier": [""] * len(names)}

    def rounds(self) -> dict[str, NDArray[np.intp]]:
        """Repeat and fold of each row, numbered in ascending order."""
        return {name: self._numbered(name) for name in ("repeat", "fold")}

    def _numbered(self, column: str) -> NDArray[np.intp]:
        if column not in self.columns:
            return np.zeros(len(self.frame), np.intp)
        values = self.texts(column)
        as_numbers = [_as_number(value) for value in values]
        plain: Sequence[Any] = values if any(math.isnan(value) for value in as_numbers) else as_numbers
        return np.unique(np.array(plain), return_inverse=True)[1].astype(np.intp)

    def places(self, columns: dict[str, Any]) -> list[str]:
        """A name for each cell by its place within entry and repeat."""
        seen: dict[tuple[Any, ...], int] = {}
        found = []
        for key in zip(columns["features"], columns["classifier"], columns["repeat"].tolist(), strict=True):
            seen[key] = seen.get(key, -1) + 1
            found.append(f"cell {seen[key]:09d}")
        if len(set(seen.values())) > 1:
            fewest, most = min(seen.values()) + 1, max(seen.values()) + 1
            raise UsageError(
                f"entries and repeats of {self.where} are not about the same cells",
                found=f"{fewest} to {most} rows each",
                expected="as many rows for each, or a column 'cell'",
                do="Add a column 'cell' that names them.",
            )
        return found

    def people(self) -> dict[str, list[str | None]]:
        """Subject, source and group of each row; a row without a subject needs a group."""
        nothing: list[str | None] = [None] * len(self.frame)
        subject, source, group = (
            self.known_texts(name) if name in self.columns else nothing for name in ("subject", "source", "group")
        )
        unknown = np.array([who is None and where is None for who, where in zip(subject, group, strict=True)])
        if unknown.any():
            raise UsageError(
                f"no subject in {self.rows(unknown)}",
                expected="a subject in every row",
                do="Cells of unknown subjects need a column 'group', in which each has a value.",
            )
        check_spelling("subject", subject, source, self.where)
        check_spelling("source", source, [None] * len(source), self.where)
        return {"subject": subject, "source": source, "group": group}

    def costs(self, classes: Sequence[str]) -> dict[str, NDArray[np.float64]]:
        """By column, the expected cost of predicting each class; NaN for entries that have none.

        Raises
        ------
        UsageError : two classes, which have a threshold; a class without a column; or a gap in an entry.
        """
        given = [name for name in self.columns if name.startswith("cost_")]
        if not given:
            return {}
        wanted = [f"cost_{name}" for name in classes]
        if len(classes) == 2 or sorted(given) != sorted(wanted):
            raise UsageError(
                f"{self.where} has expected costs of other classes",
                found=", ".join(given),
                expected="a column 'threshold', of two classes" if len(classes) == 2 else ", ".join(wanted),
                do="Leave them out, or give one for each class.",
            )
        found = {name: self._of_whole_entries(name, partial(ScoreColumns.costs_of, column=name)) for name in wanted}
        if len({tuple(np.isnan(column)) for column in found.values()}) > 1:
            raise UsageError(f"{self.where} has expected costs of some classes only", expected="of each, or of none")
        return found

    def costs_of(self, column: str) -> NDArray[np.float64]:
        """A column of numbers from 0 on."""
        found = self.numbers(column)
        if (wrong := found < 0).any():
            raise UsageError(
                f"{self.rows(wrong)}: '{column}' is no cost", found=f"{found[wrong][0]:g}", expected="0 or more"
            )
        return found

    def thresholds(self, classes: Sequence[str]) -> NDArray[np.float64]:
        """The threshold of each row; NaN for entries that have none."""
        if len(classes) != 2:
            raise UsageError(
                f"{self.where} has thresholds for {len(classes)} classes",
                expected="two classes",
                do="Leave them out; of more classes the columns cost_<class> say which is predicted.",
            )
        if "features" in self.columns or "entry" in self.columns:
            return self._of_whole_entries("threshold", lambda part: part.between("threshold", "threshold"))
        return self.between("threshold", "threshold")

    def _of_whole_entries(
        self, column: str, read: Callable[[ScoreColumns], NDArray[np.float64]]
    ) -> NDArray[np.float64]:
        """A column that entries have in every row or in none, NaN for these."""
        given = np.array([value is not None for value in self.known_texts(column)])
        names = np.array([" ".join(pair) for pair in zip(*self.entries().values(), strict=True)], object)
        for name in dict.fromkeys(names.tolist()):
            own = names == name
            if given[own].any() and not given[own].all():
                raise UsageError(
                    f"no {column} in {self.rows(own & ~given)}", expected="one in every row of an entry, or in none"
                )
        found = np.full(len(given), np.nan)
        found[given] = read(ScoreColumns(self.frame[given], self.where))
        return found

    def frame_of(self, columns: dict[str, Any]) -> pd.DataFrame:
        """The checked columns side by side."""
        import pandas as pd

        return pd.DataFrame({name: pd.Series(values) for name, values in columns.items()})

    def subject_labels(self, classes: Sequence[str]) -> list[str]:
        """What each cell's subject is."""
        own = self.texts("subject_label")
        if unknown := sorted(set(own) - set(classes)):
            wrong = np.isin(np.array(own, object), unknown)
            raise UsageError(
                f"{self.rows(wrong)}: a label of a subject that is no class",
                found=", ".join(unknown),
                expected=", ".join(classes),
            )
        return own

    def own_stamps(self) -> list[str]:
        """Stamps that the table carries."""
        if "stamp" not in self.columns:
            return []
        return [stamp for text in dict.fromkeys(self.known_texts("stamp")) if text for stamp in text.split("; ")]


def _check_twins(labels: Sequence[str], where: str) -> None:
    spelt: dict[str, list[str]] = {}
    for name in labels:
        spelt.setdefault(name.casefold(), []).append(name)
    if twins := [" and ".join(names) for names in spelt.values() if len(names) > 1]:
        raise UsageError(
            f"labels of {where} differ only in upper and lower case",
            found="; ".join(twins),
            do="Spell each class one way.",
        )


def _as_text(value: Any) -> str | None:
    """A value as text, 12.0 as 12; None where nothing stands."""
    if value is None or value != value:
        return None
    if isinstance(value, float | np.floating) and float(value).is_integer():
        return str(int(value))
    text = str(value).strip()
    if _WHOLE.fullmatch(text):
        text = text.partition(".")[0]
    return None if text in _MISSING else text


def _as_number(value: Any) -> float:
    """A value as a number, NaN where it is none."""
    try:
        return float(value)
    except (TypeError, ValueError):
        return math.nan
