"""Every command with patients: it works, or it says in one line why not."""

import json
import re

import pytest

from tests.builders.command_line import assert_refused, fusion
from tests.builders.images import paint, write_image

#: Patients who are learnt from, and cells of each.
PATIENTS, EACH = 12, 3


def write_patients(folder, first, count, header="path,subject,subject_label"):
    """A table of patients whose cells differ by their size."""
    rows = []
    for patient in range(first, first + count):
        is_ill = patient % 2 == 0
        for cell in range(EACH):
            seed = 1000 * patient + cell
            write_image(folder / f"{seed}.png", paint(seed, radius=24 if is_ill else 14))
            rows.append(f"{seed}.png,P{patient},{'ill' if is_ill else 'well'}")
    (folder / "patients.csv").write_text(header + "\n" + "\n".join(rows) + "\n")
    return folder / "patients.csv"


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    folder = tmp_path_factory.mktemp("patients")
    common = ["--store", folder / "store", "-q"]
    data = write_patients(folder / "data", 0, PATIENTS)
    quick = ["--set", "classifiers.mil.members=2", "--set", "classifiers.mil.steps=40", "--splits", 3]
    done = fusion(
        "train", data, "--features", "colour,morphology", "--classifier", "mil", *quick, "-o", folder / "model", *common
    )
    assert done.exit_code == 0, done.output
    write_patients(folder / "new", 100, 4)
    return folder, common


def test_a_table_of_patients_makes_a_model_of_patients(place):
    folder, _ = place
    manifest = json.loads((folder / "model" / "model.json").read_text())
    assert manifest["unit"] == "subject"
    files = {path.name for path in (folder / "model" / "classifier").iterdir()}
    assert files == {"mil.safetensors", "classifier.json"}


def test_new_patients_are_judged_and_evaluated_one_by_one(place, tmp_path):
    folder, common = place
    told = fusion("predict", folder / "model", folder / "new" / "patients.csv", "--json", *common)
    rows = json.loads(told.stdout)["predictions"]
    assert [row["name"] for row in rows] == ["P100", "P101", "P102", "P103"]
    assert not any(row["in_training"] for row in rows)
    assert [row["cells"] for row in rows] == [EACH] * 4
    shown = fusion("predict", folder / "model", folder / "new" / "patients.csv", *common).output
    assert "patient" in shown.partition("P100")[0]
    met = fusion("predict", folder / "model", folder / "data" / "patients.csv", *common[:2]).output
    assert f"{PATIENTS} of these patients have images among those the model learnt from" in " ".join(met.split())
    assert shown.count("P100") == 1  # judged once, and not as the mean of itself
    done = fusion("evaluate", folder / "model", folder / "new" / "patients.csv", "-o", tmp_path / "result", *common)
    assert done.exit_code == 0, done.output
    result = json.loads((tmp_path / "result" / "result.json").read_text())
    assert result["facts"]["classes"] == {"ill": 2, "well": 2}
    judged = fusion("judge", tmp_path / "result" / "scores.parquet", "-o", tmp_path / "judged", "-q")
    assert judged.exit_code == 0, judged.output
    assert "2 ill and 2 well subjects" in judged.output


def test_the_recipe_for_other_laboratories_runs_for_patients_and_tells_what_it_supposes(place, tmp_path):
    folder, common = place
    steps = ["--features", "colour,morphology", "--splits", 3, "--config", "robust", "--source", "here"]
    data = folder / "data" / "patients.csv"
    done = fusion("train", data, *steps, "--classifier", "logreg", "-o", tmp_path / "model", *common)
    assert done.exit_code == 0, done.output
    assert "harmonise.mix: equal in place of estimated, which needs cells that have labels of their own" in done.output
    elsewhere = ["--source", "elsewhere", *common]
    more = write_patients(tmp_path / "more", 200, 6)
    told = fusion("evaluate", tmp_path / "model", more, "-o", tmp_path / "result", *elsewhere)
    assert told.exit_code == 0, told.output
    assert f"features harmonised by {6 * EACH} cells that are judged here" in told.output
    few = fusion("predict", tmp_path / "model", folder / "new" / "patients.csv", "--json", *elsewhere)
    assert "not harmonised: fewer than 5 patients of elsewhere" in " ".join(json.loads(few.stdout)["notes"])


def test_patients_are_learnt_from_augmented_cells_too_and_none_of_these_is_judged(place, tmp_path):
    folder, common = place
    steps = ["--features", "colour", "--classifiers", "pool", "--set", "augment.per_cell=1", "--set", "repeats=1"]
    done = fusion("ablate", folder / "data" / "patients.csv", *steps, "--splits", 3, "-o", tmp_path / "out", *common)
    assert done.exit_code == 0, done.output
    result = json.loads((tmp_path / "out" / "result.json").read_text())
    assert any("one augmented version of every training cell" in note for note in result["notes"])
    assert sum(result["facts"]["classes"].values()) == PATIENTS


def test_a_patient_none_of_whose_images_can_be_read_is_left_out_and_the_images_are_named(place, tmp_path):
    folder, common = place
    data = folder / "data"
    for name in ("a.png", "b.png"):
        (data / name).write_bytes(b"no image")
    rows = (data / "patients.csv").read_text() + "a.png,P99,ill\nb.png,P99,ill\n"
    (data / "more.csv").write_text(rows)
    steps = ["--features", "colour", "--classifier", "pool", "--splits", 3, *common[:2]]
    done = fusion("train", data / "more.csv", "-o", tmp_path / "model", "--report", tmp_path / "result", *steps)
    assert done.exit_code == 3, done.output
    named = "no image can be used of 1 patient, who is left out (images of each): P99 (2)."
    assert named in done.output
    assert "b.png: not an image" in done.output
    assert f"fitted on all {PATIENTS} subjects" in done.output
    result = json.loads((tmp_path / "result" / "result.json").read_text())
    flow, cells = result["facts"]["flow"], PATIENTS * EACH
    assert (flow["found"], flow["used"], result["facts"]["cells"]) == (cells + 2, cells, cells)
    assert flow["steps"] == [{"reason": "could not be read", "images": 2}]
    methods = (tmp_path / "result" / "methods.md").read_text()
    assert f"{PATIENTS} subjects, each by all of its cells ({cells} together), were judged" in methods
    told = json.loads(fusion("predict", folder / "model", data / "more.csv", "--json", *common).stdout)
    assert named in told["notes"]
    assert "P99" not in {row["subject"] for row in told["predictions"]}


def test_patients_that_the_model_has_learnt_from_are_refused(place, tmp_path):
    folder, common = place
    data = folder / "data" / "patients.csv"
    assert_refused(fusion("evaluate", folder / "model", data, "-o", tmp_path / "r", *common), 1, "was trained on cells")


def test_the_page_of_patients_holds_the_cells_that_their_class_rests_on(place, tmp_path):
    folder, common = place
    done = fusion(
        "explain", folder / "model", folder / "new" / "patients.csv", "-o", tmp_path / "page", "--json", *common
    )
    found = json.loads(done.stdout)["explanations"]
    assert [each["subject"] for each in found] == ["P100", "P101", "P102", "P103"]
    for each in found:
        assert len(each["cells"]) == EACH
        added = sum(cell["adds"] for cell in each["cells"])
        assert added == pytest.approx(each["probability"][each["class"]] - each["base"], abs=1e-6)
        assert sum(cell["attention"] for cell in each["cells"]) == pytest.approx(1)
    page = (tmp_path / "page" / "explanations.html").read_text()
    assert [page.count(f'href="#p{at}"') + page.count(f'id="p{at}"') for at in range(1, 6)] == [2, 2, 2, 2, 0]
    assert page.count("data:image/png") >= 4 * EACH


def test_of_a_patient_of_very_many_cells_those_are_left_out_that_tell_most(place, tmp_path, monkeypatch):
    folder, common = place
    told = []
    for most in (500, 2):
        monkeypatch.setattr("fusion.explanation.patient_explanation._EACH_LEFT_OUT", most)
        monkeypatch.setattr("fusion.explanation.patient_explanation._TELLING", 1)
        monkeypatch.setattr("fusion.explanation.patient_explanation._ASKED", most)
        asked = [folder / "model", folder / "new" / "patients.csv", "-o", tmp_path / str(most), "--json", *common]
        told.append(json.loads(fusion("explain", *asked).stdout)["explanations"])
    for every, some in zip(*told, strict=True):
        assert [cell["adds"] for cell in some["cells"]] == pytest.approx([cell["adds"] for cell in every["cells"]])
        pairs = [(cell["without"], own["without"]) for cell, own in zip(every["cells"], some["cells"], strict=True)]
        # Differences of probabilities by networks of float32, which another batch rounds otherwise.
        assert all(own is None or own == pytest.approx(value, abs=1e-7) for value, own in pairs)
        best = max(range(EACH), key=lambda at: every["cells"][at]["adds"])
        assert some["cells"][best]["without"] is not None
    assert any(cell["without"] is None for each in told[1] for cell in each["cells"])


def test_the_onnx_file_is_tried_on_patients_of_ones_own(place, tmp_path):
    folder, common = place
    new, out = folder / "new" / "patients.csv", tmp_path / "model.onnx"
    done = fusion("export", folder / "model", "--onnx", out, "--check", new, "--json", *common)
    trial, own = json.loads(done.stdout)["differences"]
    assert (trial["unit"], own["unit"], own["rows"], own["labels"]) == ("subject", "subject", 4, 0)
    assert max(trial["probability"], own["probability"]) < 1e-5
    assert_refused(fusion("export", folder / "model", "--onnx", out, "--check", folder / "new"), 2, "cells name none")


def test_cells_that_are_read_from_the_store_make_the_same_model_and_are_judged_alike(place, tmp_path, monkeypatch):
    """Of one site, and of cells of another one that are harmonised by all that are judged."""
    folder, common = place
    data, new, told = folder / "data" / "patients.csv", write_patients(tmp_path / "new", 200, 5), []
    by_site = ["--set", "harmonise.method=standard", "--set", "harmonise.transductive=true"]
    steps = ["--features", "morphology", *by_site, "--json", *common]
    monkeypatch.setattr("fusion.reports.html_report.write_result", lambda *_: None)  # pages take seconds
    for held in (10**9, 0):
        monkeypatch.setattr("fusion.learning.study.HELD", held)
        model, out = tmp_path / str(held), tmp_path / f"{held}-result"
        done = fusion("train", data, "--classifier", "pool", "--splits", 2, *steps, "-o", model)
        assert done.exit_code == 0, done.output
        asked = [new, "--source", "elsewhere", "--json", *common]
        told.append([json.loads(fusion("predict", model, *asked).stdout)["predictions"]])
        done = fusion("explain", model, *asked, "-o", tmp_path / f"{held}-page")
        told[-1].append(json.loads(done.stdout)["explanations"])
        done = fusion("evaluate", model, *asked, "-o", out)
        assert done.exit_code == 0, done.output
        result = json.loads(done.stdout)
        assert any(f"harmonised by {5 * EACH} cells" in stamp for stamp in result["stamps"])
        told[-1] += [result["results"], result["facts"]["out_of_distribution"]]
        done = fusion("ablate", data, "--test", new, "--classifiers", "pool", *steps, "-o", out)
        assert done.exit_code == 0, done.output
        told[-1].append(json.loads(done.stdout)["results"])
    assert told[0] == told[1]


def test_trees_of_patients_grow_the_same_by_external_memory(place, tmp_path):
    folder, common = place
    data, told = folder / "data" / "patients.csv", []
    for outside in ("true", "false"):
        asked = ["--classifier", "xgb", "--set", f"classifiers.xgb.external_memory={outside}", "--splits", 3]
        done = fusion("train", data, "--features", "colour", *asked, "-o", tmp_path / outside, "--json", *common)
        assert done.exit_code == 0, done.output
        told.append(json.loads(done.stdout)["results"])
    assert told[0] == told[1]


def test_a_patient_is_as_strange_wherever_its_cells_stand_in_the_table(place, tmp_path):
    """Cells of several patients in turn, as a table of images by date has them."""
    folder, common = place
    head, *lines = (folder / "new" / "patients.csv").read_text().splitlines()
    rows = [line.replace(line.partition(",")[0], str(folder / "new" / line.partition(",")[0])) for line in lines]
    in_turn = [row for at in range(EACH) for row in rows[at::EACH]]
    (tmp_path / "mixed.csv").write_text("\n".join([head, *in_turn]) + "\n")
    found = []
    for table in (folder / "new" / "patients.csv", tmp_path / "mixed.csv"):
        told = json.loads(fusion("predict", folder / "model", table, "--json", *common).stdout)["predictions"]
        found.append({row["name"]: (row["distance"], row["class"]) for row in told})
    assert found[0].keys() == found[1].keys()
    assert len({distance for distance, _ in found[0].values()}) == 4
    for name, (distance, label) in found[0].items():
        assert found[1][name] == (pytest.approx(distance), label)


def test_what_a_table_of_patients_says_of_them_makes_subgroups(place, tmp_path):
    folder, common = place
    rows = "".join(f"P{at},{'ill' if at % 2 == 0 else 'well'},{'fm'[at % 3 == 0]}\n" for at in range(PATIENTS))
    (tmp_path / "people.csv").write_text("id,diagnosis,sex\n" + rows)
    lines = (folder / "data" / "patients.csv").read_text().splitlines()[1:]
    cells = [f"{folder / 'data' / line.rpartition(',')[0]}" for line in lines]
    (tmp_path / "cells.csv").write_text("\n".join(["path,subject", *cells]) + "\n")
    whose = ["--patients", tmp_path / "people.csv", "--patient-columns", "subject=id,label=diagnosis", *common[:2]]
    steps = ["--features", "colour", "--classifier", "pool", "--splits", 3, "--set", "by=sex", "-o", tmp_path / "model"]
    done = fusion("train", tmp_path / "cells.csv", *whose, *steps, "--report", tmp_path / "result")
    assert done.exit_code == 0, done.output
    assert f"fitted on all {PATIENTS} subjects" in done.output
    (found,) = json.loads((tmp_path / "result" / "result.json").read_text())["findings"]["subgroups"]
    assert {row["subgroup"]: row["subjects"] for row in found["rows"]} == {"f": 8, "m": 4}


def test_cells_of_patients_are_shown_beside_training_cells_of_others(place, tmp_path):
    folder, common = place
    data = folder / "data" / "patients.csv"
    done = fusion("explain", folder / "model", data, "--data", data, "-o", tmp_path / "page", *common)
    assert done.exit_code == 0, done.output
    page = (tmp_path / "page" / "explanations.html").read_text()
    by_patient = page.split('<section id="p')[1:]
    likes = [re.findall(r"most like it: (\w+), (P\d+)<", part) for part in by_patient]
    assert len(likes) == PATIENTS
    for at, found in enumerate(likes):
        own = re.search(r"<h2>(P\d+)</h2>", by_patient[at])[1]
        assert len(found) >= EACH  # of every cell that is shown
        assert own not in {subject for _, subject in found}
        assert all(label == ("ill" if int(subject[1:]) % 2 == 0 else "well") for label, subject in found)


@pytest.mark.parametrize(
    ("command", "words"),
    [
        (
            ["explain", "MODEL", "NEW", "-o", "OUT/page", "--data", "NEW"],
            ["has none of the cells that the model learnt"],
        ),
        (["predict", "MODEL", "FOLDER"], ["12 of 12 cells without a subject"]),
        (["adapt", "MODEL", "OTHER", "-o", "OUT/adapted"], ["labels that the model was not trained on"]),
        (
            ["evaluate", "MODEL", "OTHER", "-o", "OUT/result"],
            ["labels that the model was not trained on", "found: other"],
        ),
    ],
)
def test_what_does_not_go_with_patients_is_said_in_one_line(place, tmp_path, command, words):
    folder, _ = place
    other = (folder / "new" / "patients.csv").read_text().replace("P102,ill", "P102,other")
    (folder / "new" / "other.csv").write_text(other)
    known = {
        "OTHER": folder / "new" / "other.csv",
        "MODEL": folder / "model",
        "NEW": folder / "new" / "patients.csv",
        "DATA": folder / "data" / "patients.csv",
        "FOLDER": folder / "new",
    }
    typed = [known.get(word, word.replace("OUT", str(tmp_path))) for word in command]
    assert_refused(fusion(*typed, "-q"), 2, *words)


def test_a_late_fusion_of_patients_is_read_back_and_asked(place, tmp_path):
    folder, common = place
    data, new = folder / "data" / "patients.csv", folder / "new" / "patients.csv"
    steps = ["--features", "colour,morphology", "--classifier", "pool", "--fuse", "late", "--splits", 3]
    done = fusion("train", data, *steps, "-o", tmp_path / "model", *common)
    assert done.exit_code == 0, done.output
    told = fusion("predict", tmp_path / "model", new, "--json", *common)
    assert [row["class"] for row in json.loads(told.stdout)["predictions"]] == ["ill", "well", "ill", "well"]
    page = fusion("explain", tmp_path / "model", new, "-o", tmp_path / "page", "--json", *common)
    for each in json.loads(page.stdout)["explanations"]:
        added = sum(cell["adds"] for cell in each["cells"])
        assert added == pytest.approx(each["probability"][each["class"]] - each["base"], abs=1e-6)


@pytest.mark.parametrize(
    ("more", "words"),
    [
        (["--unit", "cell", "--classifier", "mil"], ["classifier 'mil' learns from patients"]),
        (["--classifier", "neural"], ["learns from images of cells"]),
    ],
)
def test_recipes_that_do_not_go_with_patients_are_refused_before_anything_is_read(place, tmp_path, more, words):
    folder, common = place
    data = folder / "data" / "patients.csv"
    typed = ["train", data, "--features", "colour", *more, "-o", tmp_path / "model", *common]
    assert_refused(fusion(*typed), 2, *words)


def test_blocks_are_ablated_by_patients_and_what_is_judged_are_patients(place, tmp_path):
    folder, common = place
    data = folder / "data" / "patients.csv"
    done = fusion(
        "ablate",
        data,
        *("--features", "colour,morphology", "--classifiers", "pool,logreg", "--splits", 3, "--repeats", 2),
        *("-o", tmp_path / "result", *common),
    )
    assert done.exit_code == 0, done.output
    result = json.loads((tmp_path / "result" / "result.json").read_text())
    assert result["facts"]["classes"] == {"ill": PATIENTS // 2, "well": PATIENTS // 2}
    assert len(result["results"]) == 6
    assert {row["block"] for row in result["findings"]["importance"][0]["blocks"]} == {"colour", "morphology"}
    best = max(row["image"]["balanced_accuracy"]["value"] for row in result["results"])
    assert best > 0.9
    page = (tmp_path / "result" / "report.html").read_text()
    for text in (done.output, page):
        assert "eld-out subjects" in text
        assert "cell by cell" not in text.lower()
        assert "eld-out cells" not in text
    assert f"{PATIENTS} subjects, each judged by all of its cells" in page
    assert "majority of" not in page
