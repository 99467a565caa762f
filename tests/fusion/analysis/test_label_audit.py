"""Wrong labels are found by what every entry says, and a table to correct them by is read back."""

import csv
from dataclasses import replace

import numpy as np
import pytest

from fusion.analysis.label_audit import audit_labels, confident_counts
from fusion.data.dataset import load_dataset
from fusion.errors import UsageError
from fusion.settings.commands import AblateConfig, InspectConfig
from fusion.workflows.ablate import ablate
from fusion.workflows.inspect import inspect
from tests.builders.images import paint, write_image
from tests.builders.results import result


def test_counts_and_rate_of_a_worked_example():
    # Northcutt's rule by hand: means of own classes are .8 and .7. Cells 0 to 2 are labelled a, 3 to 5 b.
    proba = np.array([[0.9, 0.1], [0.85, 0.15], [0.1, 0.9], [0.15, 0.85], [0.1, 0.9], [0.65, 0.35]])
    found = confident_counts(np.array([0, 0, 0, 1, 1, 1]), proba, np.arange(6), ["a", "b"])
    # Mean of a among a: .617, of b among b: .7. The last cell has .65 for a: confident a, labelled b.
    assert found.other.tolist() == [0, 0, 1, 1, 1, 0]
    assert found.counts.tolist() == [[2, 1], [1, 2]]
    assert found.rate == pytest.approx(1 / 3)


def test_the_rate_of_planted_errors_is_estimated_with_an_interval_that_holds_it():
    rng = np.random.default_rng(0)
    held = []
    for _ in range(20):
        true = rng.integers(0, 3, 300)
        given = np.where(rng.random(300) < 0.1, (true + 1) % 3, true)
        proba = rng.dirichlet([0.3] * 3, 300) * 0.2 + np.eye(3)[true] * 0.8
        found = confident_counts(given, proba, np.arange(300), ["a", "b", "c"])
        held.append(found.low <= np.mean(given != true) <= found.high)
    assert np.mean(held) > 0.9


def test_a_cell_is_suspected_where_every_entry_says_otherwise_in_every_repeat():
    drawn = result()
    y = np.array(drawn.cells.y)
    sure = np.where((y == "all")[:, None], [[0.9, 0.1]], [[0.1, 0.9]])
    sure[[3, 5]] = 1 - sure[[3, 5]]
    doubted = sure.copy()
    doubted[5] = 1 - doubted[5]
    scores = tuple(replace(entry, proba=(doubted if at == 2 else sure)[None]) for at, entry in enumerate(drawn.scores))
    found = audit_labels(replace(drawn, scores=scores))
    assert [one.name for one in found.suspects] == [drawn.cells.names[3]]
    assert found.suspects[0].suggestion == "hem"
    assert found.always_wrong == 1


def test_a_cell_that_most_entries_are_sure_is_of_another_class_comes_after_those_of_all():
    drawn = result()
    y = np.array(drawn.cells.y)
    likely = np.where((y == "all")[:, None], [[0.6, 0.4]], [[0.4, 0.6]])
    likely[3] = 1 - likely[3]
    doubted = likely.copy()
    doubted[5] = [0.01, 0.99] if y[5] == "all" else [0.99, 0.01]
    last = len(drawn.scores) - 1
    scores = tuple(
        replace(each, proba=(likely if at == last else doubted)[None]) for at, each in enumerate(drawn.scores)
    )
    found = audit_labels(replace(drawn, scores=scores))
    assert [one.name for one in found.suspects] == [drawn.cells.names[3], drawn.cells.names[5]]
    assert found.suspects[1].reasons[0].startswith(f"{last} of {last + 1} entries say otherwise")
    assert (found.always_wrong, found.confidently_wrong) == (1, 1)


@pytest.fixture
def labelled(tmp_path):
    """24 small and 24 large cells; two labels are wrong, and one image lies there twice with both labels."""
    rows = []
    for at in range(48):
        write_image(tmp_path / "cells" / f"{at:02d}.png", paint(at, side=80, radius=14 + 12 * (at % 2) + at % 3))
        label = "ab"[at % 2]
        rows.append((f"cells/{at:02d}.png", {7: "a", 20: "b"}.get(at, label)))
    (tmp_path / "cells" / "twin.png").write_bytes((tmp_path / "cells" / "30.png").read_bytes())
    rows.append(("cells/twin.png", "b"))
    (tmp_path / "cells.csv").write_text("path,label\n" + "".join(f"{path},{label}\n" for path, label in rows))
    return tmp_path


def test_the_way_from_a_result_to_a_corrected_table(labelled):
    common = {"data": labelled / "cells.csv", "store": labelled / "store", "jobs": 1}
    ablate(
        AblateConfig(
            features=["morphology"],
            compare=["logreg", "svm"],
            repeats=1,
            splits=3,
            output=labelled / "result",
            audit=True,
            **common,
        )
    )
    # What else was asked of the comparison stands on its page: probes, and that sizes of images tell nothing here.
    page = (labelled / "result" / "report.html").read_text()
    assert ">Shortcuts</h2>" in page
    assert "<td>image size</td><td>-</td><td>-</td><td>alike in all images</td>" in page
    found = inspect(InspectConfig(labels=labelled / "result", output=labelled / "audit", **common))
    audit = found.labels.audit
    assert {one.name for one in audit.suspects} >= {"cells/07.png", "cells/20.png", "cells/30.png", "cells/twin.png"}
    assert len(audit.suspects) <= 6
    assert {one.name for one in audit.suspects[:2]} == {"cells/30.png", "cells/twin.png"}
    assert "identical to cells/30.png, which is a" in " ".join(
        why for one in audit.suspects for why in one.reasons if one.name == "cells/twin.png"
    )
    assert audit.confident.low <= 3 / 49 <= audit.confident.high
    assert [path.name for path in found.labels.sheets] == ["overlays-001.png"]
    table = labelled / "audit" / "labels.csv"
    with table.open() as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 49
    for row in rows:  # corrected by hand
        if row["path"].endswith("07.png"):
            assert row["suggestion"] == "b"
            row["label"] = row["suggestion"]
    with table.open("w") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    corrected = load_dataset(table, store=labelled / "store")
    assert len(corrected) == 49
    assert {s.path.name: s.label for s in corrected.samples}["07.png"] == "b"
    assert {s.path.name: s.label for s in corrected.samples}["20.png"] == "b"
    # What was corrected is not written over; the corrected table itself may be asked about anew.
    with pytest.raises(UsageError, match=r"found: 1 rows whose label(.*\n)*.*give it as DATA"):
        inspect(InspectConfig(labels=labelled / "result", output=labelled / "audit", **common))
