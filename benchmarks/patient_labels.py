"""Wrong labels planted among patients put together of real cells: how many of them the audit finds, and what it says.

    python -m benchmarks.patient_labels CELLS --witness erythroblast --rate 0.3 [--deals 10] [--seed 0]

``CELLS`` is a table that ``fusion extract --export`` has written. Patients are put together of its cells
(``fusion.synthetic.constructed_patients``), the labels of a share of them, drawn by lot, exchanged; the contestants
judge them in folds by patient, and their held-out scores are audited as ``fusion inspect --labels`` does. Lines are
means over deals that share nothing but the cells, with the least and the most: how many labels were planted, and are
among those that every entry contradicts, and among all suspects; how many of each there are; what the audit foretells;
and in how many deals its interval of the share of wrong labels holds the truth: from 0, as it is told of patients, and
that of the counts alone.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import tempfile
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from benchmarks.patients import CONTESTANTS, judged, real
from fusion.analysis.label_audit import LabelAudit, audit_labels
from fusion.data.feature_table import FeatureTable
from fusion.synthetic.cells import SyntheticDesign

#: By the names of entries, as ``benchmarks.patients`` has them.
_MORE = {"logreg": ("logreg", {}), "svm": ("svm", {}), "xgb": ("xgb", {})}


@dataclass(frozen=True, eq=False)
class Planted:
    """One deal: the audit, the names whose labels were exchanged, and the entries' balanced accuracies by them."""

    audit: LabelAudit
    wrong: frozenset[str]
    balanced: tuple[float, ...]

    @property
    def row(self) -> dict[str, float]:
        """What a line is made of."""
        audit, suspects = self.audit, [one.name for one in self.audit.suspects]
        every, share = set(suspects[: audit.always_wrong]), len(self.wrong) / audit.judged
        return {
            "planted": len(self.wrong),
            "found by every entry": len(every & self.wrong),
            "wrong by every entry": audit.always_wrong,
            "found among suspects": len(self.wrong.intersection(suspects)),
            "suspects": len(suspects),
            "first": len(self.wrong.intersection(suspects[: len(self.wrong)])),
            "seen, foretold": audit.always_right["value"],
            "lift": audit.lift,
            "at most": audit.confident.rate,
            "high": audit.confident.high,
            "0 to high holds": share <= audit.confident.high,
            "low to high holds": audit.confident.low <= share <= audit.confident.high,
            "balanced accuracy": float(np.mean(self.balanced)),
        }


def exchanged(table: FeatureTable, share: float, seed: int) -> tuple[FeatureTable, frozenset[str]]:
    """The same patients, so many of them with the other label, and who these are."""
    y, classes = np.array(table.y, object), sorted({str(label) for label in table.y})
    at = np.random.default_rng(seed + 1).choice(len(y), round(share * len(y)), replace=False)
    y[at] = [classes[1] if label == classes[0] else classes[0] for label in y[at]]
    return replace(table, y=tuple(y.tolist())), frozenset(table.names[row] for row in at)


def plant(table: FeatureTable, share: float, asked: list[str], repeats: int, seed: int) -> Planted:
    """One deal of wrong labels, judged and audited."""
    lied, wrong = exchanged(table, share, seed)
    with tempfile.TemporaryDirectory() as folder, contextlib.redirect_stdout(io.StringIO()):
        result = judged(lied, asked, Path(folder), repeats, seed)
    result = replace(result, facts={**result.facts, "judged": "subject"})
    balanced = tuple(figures["image"]["balanced_accuracy"]["value"] for figures in result.figures)
    return Planted(audit_labels(result), wrong, balanced)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("cells", type=Path)
    parser.add_argument("--witness", required=True)
    parser.add_argument("--normal", default="", help="classes of the other cells; default all others")
    parser.add_argument("--rate", type=float, required=True)
    parser.add_argument("--patients", type=int, default=50)
    parser.add_argument("--each", type=int, default=30, help="cells of a patient")
    parser.add_argument("--shares", default="0,0.04,0.1")
    parser.add_argument("--entries", default="logreg,pool")
    parser.add_argument("--features", default="morphology,texture,colour")
    parser.add_argument("--repeats", type=int, default=2)
    parser.add_argument("--deals", type=int, default=10)
    parser.add_argument("--seed", type=int, default=0, help="of the first deal")
    given = parser.parse_args()
    CONTESTANTS.update(_MORE)
    for share in map(float, given.shares.split(",")):
        rows = []
        for seed in range(given.seed, given.seed + given.deals):
            design = SyntheticDesign(
                subjects=given.patients, cells_per_subject=given.each, witness_rate=given.rate, seed=seed
            )
            others = [name for name in given.normal.split(",") if name]
            table = real(given.cells, given.witness, others, design, given.features.split(","))
            rows.append(plant(table, share, given.entries.split(","), given.repeats, seed).row)
        told = {name: np.array([row[name] for row in rows], float) for name in rows[0]}
        print(f"{given.witness} {given.rate:.0%}, {given.patients} patients, {share:.0%} wrong, {len(rows)} deals")
        for name, values in told.items():
            known = values[np.isfinite(values)]
            print(f"  {name:22} {known.mean():.3f} ({known.min():.3f} to {known.max():.3f})", flush=True)


if __name__ == "__main__":
    main()
