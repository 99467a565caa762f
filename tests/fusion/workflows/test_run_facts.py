"""What a result says of its data and models: what became of every image, and which trees were grown in stages."""

import json
from dataclasses import replace

import numpy as np
import pytest

from fusion.data.dataset import load_dataset
from fusion.data.units import units_of
from fusion.leakage.grouped_splits import Split
from fusion.settings.commands import TrainConfig
from fusion.workflows.run_facts import adapted_stamps, image_flow
from tests.builders import comparisons
from tests.builders.command_line import fusion
from tests.builders.images import paint, write_image
from tests.builders.tables import table_of


def test_every_image_found_is_left_out_skipped_or_used_and_copies_merge_their_subjects(tmp_path):
    rows = ["path,label,subject"]
    for at in range(8):
        write_image(tmp_path / f"{at}.png", paint(at if at != 3 else 0))  # 3 is a copy of 0, of another subject
        rows.append(f"{at}.png,{'' if at == 7 else 'all' if at < 4 else 'hem' if at < 6 else 'other'},s{at}")
    (tmp_path / "broken.png").write_bytes(b"\x89PNG\r\n\x1a\nno more")
    (tmp_path / "cells.csv").write_text("\n".join([*rows, "broken.png,all,s9"]) + "\n")
    read = load_dataset(tmp_path / "cells.csv", store=tmp_path / "store")
    dataset = read.select(classes=["all", "hem"]).labelled()
    flow = image_flow(dataset, units_of(dataset))
    assert flow["found"] == 9
    assert [step["images"] for step in flow["steps"]] == [1, 2]
    assert flow["found"] - sum(step["images"] for step in flow["steps"]) == flow["used"] == 6
    assert (flow["identical"], flow["subjects"], flow["groups"], flow["nameless"]) == (1, 6, 5, 0)
    unlabelled = read.labelled()
    assert [step["reason"] for step in image_flow(unlabelled, units_of(unlabelled))["steps"]] == [
        "could not be read",
        "without a label",
    ]


@pytest.mark.parametrize(
    ("staged_from", "noted"),
    [
        (90, "trees of 96 training cells were grown in 4 stages, each on its own draw"),
        (97, None),
    ],
)
def test_a_comparison_says_which_trees_were_grown_in_stages(staged_from, noted, tmp_path):
    given = {"xgb": {"n_estimators": 4, "staged_from": staged_from}}
    settings = comparisons.config(tmp_path, compare=["xgb", "logreg"], subsets=["a"], splits=5, classifiers=given)
    notes = [note for note in comparisons.run(comparisons.cells(), settings).notes if "stages" in note]
    assert len(notes) == (noted is not None)
    assert noted is None or (noted in notes[0] and "smaller" not in notes[0])


def test_a_model_says_in_its_manifest_that_its_trees_were_grown_in_stages(synthetic, synthetic_store, tmp_path):
    words = ("train", synthetic, "--features", "colour", "--classifier", "xgb", "--splits", "2", "--json")
    cells = len(list(synthetic.rglob("*.bmp")))
    settings = tmp_path / "settings.yaml"
    settings.write_text(f"classifiers: {{xgb: {{n_estimators: 9, staged_from: {cells}}}}}")
    done = fusion(*words, "--config", settings, "--store", synthetic_store, "-o", tmp_path / "model")
    assert done.exit_code == 0, done.stderr
    (note,) = [note for note in json.loads(done.stdout)["notes"] if "stages" in note]
    # The model of all cells alone: both training parts are smaller.
    assert note.startswith(f"xgb: trees of {cells} training cells were grown in 7 stages")
    assert "2 of 3 training parts are smaller" in note
    manifest = json.loads((tmp_path / "model/model.json").read_text())
    assert note in manifest["facts"]["notes"]
    assert json.loads((tmp_path / "model/classifier/classifier.json").read_text())["params"]["staged_from"] == cells


@pytest.mark.parametrize("mix", ["estimated", "equal"])
def test_a_source_that_lacks_a_class_when_it_is_left_out_is_stamped_with_what_to_say(mix):
    """North has both classes, south one of them; of east, which has one too, there are too few to describe it by."""
    sources = ["north"] * 20 + ["south"] * 12 + ["east"] * 4
    y = ["all", "hem"] * 10 + ["hem"] * 16
    table = replace(table_of(subjects=36, cells=1), sources=tuple(sources), y=tuple(y))
    left_out = [np.array(sources) == name for name in ("north", "south", "east")]
    splits = [Split(np.flatnonzero(~rows), np.flatnonzero(rows), table.groups) for rows in left_out]
    harmonise = {"method": "standard", "transductive": True, "mix": mix}
    config = TrainConfig(data="cells", output="m", harmonise=harmonise)
    transductive, *lacking = adapted_stamps(table, splits, config)
    assert transductive.startswith("transductive: ")
    assert [stamp.partition(":")[0] for stamp in lacking] == (["south"] if mix == "estimated" else [])
    assert all(stamp.endswith("--site-classes south=hem") for stamp in lacking)
    everywhere = [Split(np.arange(36), np.arange(36), table.groups)]
    assert adapted_stamps(table, everywhere, config) == []
