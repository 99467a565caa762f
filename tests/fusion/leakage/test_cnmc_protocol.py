"""The protocol of ``configs/cnmc.yaml`` on a tree shaped as C-NMC 2019 is, its own leaks among its folds included."""

import json
import shutil

import pytest

from fusion.synthetic.cells import SyntheticDesign, synthesize
from tests.builders.command_line import fusion
from tests.builders.images import ROOT

CONFIG = ROOT / "configs" / "cnmc.yaml"
#: The published weights cannot be had offline: a network of another make stands in. All else is the protocol's.
HERE = (
    *("--set", "extractors.cnn.weights=random", "--set", "extractors.cnn.backbone=test_efficientnet"),
    *("--set", "extractors.cnn.size=32", "--subsets", "alone,leave-one-out"),
    *("--set", "classifiers.xgb.n_estimators=10"),
)


@pytest.fixture(scope="module")
def release(tmp_path_factory):
    """Training folds in which one image lies under two subjects of two folds, and a preliminary test with its CSV."""
    root = tmp_path_factory.mktemp("release")
    tree = synthesize(root / "C-NMC_training_data", SyntheticDesign(subjects=12, cells_per_subject=4, folds=3))
    (tree / "truth.csv").unlink()
    original = next((tree / "fold_0" / "all").glob("*.bmp"))
    other = next((tree / "fold_1" / "all").glob("*.bmp"))
    shutil.copyfile(original, other.with_name(other.name.replace("_1_1_all", "_99_99_all")))
    tested = synthesize(
        root / "made", SyntheticDesign(subjects=8, cells_per_subject=3, class_effect=0.1, folds=1, seed=7)
    )
    folder = root / "validation" / "C-NMC_test_prelim_phase_data"
    folder.mkdir(parents=True)
    lines = ["Patient_ID,new_names,labels"]
    for number, image in enumerate(sorted(tested.rglob("*.bmp")), start=1):
        _, subject, _, _, label = image.stem.split("_")
        shutil.move(image, folder / f"{number}.bmp")
        # Subjects of the test are others than those of the training part.
        other = f"H9{subject[1:]}" if subject.startswith("H") else f"9{subject}"
        lines.append(f"UID_{other}_1_1_{label}.bmp,{number}.bmp,{int(label == 'all')}")
    (root / "validation" / "C-NMC_test_prelim_phase_data_labels.csv").write_text("\n".join(lines) + "\n")
    shutil.rmtree(root / "made")
    return root


def test_folds_are_by_subject_after_merging_those_that_share_an_image(release, tmp_path):
    done = fusion("ablate", release, "--config", CONFIG, *HERE, "--classifiers", "logreg", "-o", tmp_path / "r")
    assert done.exit_code == 0, done.stderr
    found = json.loads((tmp_path / "r" / "result.json").read_text())
    assert found["stamps"] == []
    assert found["facts"]["groups"] == 11  # 12 subjects, two of them one group
    assert found["facts"]["images"] == 49


def test_official_folds_are_mended_and_it_is_said(release, tmp_path):
    words = ("--split", "official", "--classifiers", "logreg", "-o", tmp_path / "r")
    done = fusion("ablate", release, "--config", CONFIG, *HERE, *words)
    assert done.exit_code == 0, done.stderr
    notes = json.loads((tmp_path / "r" / "result.json").read_text())["notes"]
    assert any("tested in another fold than the data set puts them" in note for note in notes)


def test_the_preliminary_test_is_an_external_one(release, tmp_path):
    words = ("--test", release, "--test-part", "preliminary", "-o", tmp_path / "r")
    done = fusion("ablate", release, "--config", CONFIG, *HERE, *words)
    assert done.exit_code == 0, done.stderr
    found = json.loads((tmp_path / "r" / "result.json").read_text())
    assert found["facts"]["split"]["kind"] == "external test"
    assert (found["facts"]["images"], found["facts"]["groups"]) == (24, 8)
    assert found["facts"]["learnt_from"] == {"images": 49, "groups": 11}
    assert {row["classifier"] for row in found["results"]} == {"svm", "xgb", "logreg"}
    assert "data:image/jpeg" in (tmp_path / "r" / "report.html").read_text()  # the hardest of the test's own images
