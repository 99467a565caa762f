"""fusion judge: scores of anybody's models get the figures that fusion ablate gives its own."""

import json
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from pandas.testing import assert_frame_equal

import fusion as package
from fusion.evaluation.results import Result, judge_paired
from fusion.io.json_values import without_nan
from tests.builders import comparisons
from tests.builders.command_line import assert_refused, fusion


def ablated(folder, table=None, **given):
    settings = comparisons.config(folder, **{"subsets": ["a", "a+b"], "splits": 4, "repeats": 2, **given})
    found = comparisons.run(comparisons.cells() if table is None else table, settings)
    found.save(folder / "ablated", folder)
    return found


@pytest.fixture(scope="module")
def own(tmp_path_factory):
    folder = tmp_path_factory.mktemp("own")
    return folder, ablated(folder)


def plain(frame):
    """The columns that the documentation of ``fusion judge`` names, and none of Fusion's own."""
    named = frame.assign(
        entry=frame["features"].str.replace("+", " + ") + ", " + frame["classifier"], cell=frame["name"]
    )
    kept = [name for name in named if name.startswith("p_")]
    return named[["entry", "cell", "subject", "label", "fold", "repeat", *kept]]


def assert_same_figures(judged, ablated):
    assert_frame_equal(judged.to_frame(), ablated.to_frame(), check_exact=True)
    assert_frame_equal(judged.differences(), ablated.differences(), check_exact=True)
    assert judged.best() == ablated.best()


@pytest.mark.parametrize(
    "change",
    [
        lambda frame: frame,
        plain,
        lambda frame: plain(frame).drop(columns="cell"),
        lambda frame: plain(frame).sort_values("fold", kind="stable"),
        lambda frame: plain(frame).assign(fold=lambda t: "fold " + t["fold"].astype(str)),
    ],
    ids=["as they are", "plain", "without names", "by fold", "folds in words"],
)
def test_the_scores_of_an_ablation_get_its_figures_to_the_last_bit(own, change):
    folder, found = own
    frame = pd.read_parquet(folder / "ablated" / "scores.parquet")
    assert_same_figures(package.judge(change(frame), positive="all"), found)


def test_figures_do_not_depend_on_the_order_of_rows(own):
    folder, found = own
    frame = plain(pd.read_parquet(folder / "ablated" / "scores.parquet"))
    shuffled = package.judge(frame.sample(frac=1, random_state=0), positive="all").to_frame()
    by_entry = [one.sort_values("entry", kind="stable", ignore_index=True) for one in (shuffled, found.to_frame())]
    assert_frame_equal(*by_entry, check_exact=True)


@pytest.mark.parametrize("ending", ["csv", "parquet"])
def test_a_file_is_judged_as_the_table_is(own, tmp_path, ending):
    folder, found = own
    frame = plain(pd.read_parquet(folder / "ablated" / "scores.parquet"))
    file = tmp_path / f"scores.{ending}"
    frame.to_csv(file, index=False) if ending == "csv" else frame.to_parquet(file, index=False)
    assert_same_figures(package.judge(file, positive="all"), found)


def test_thresholds_of_training_parts_are_followed(tmp_path):
    found = ablated(tmp_path, threshold="sensitivity:0.9")
    frame = pd.read_parquet(tmp_path / "ablated" / "scores.parquet")
    assert_same_figures(package.judge(frame, positive="all"), found)
    without = package.judge(frame.drop(columns="threshold"), positive="all")
    assert not without.to_frame().equals(found.to_frame())


def test_one_threshold_for_all_rows_is_a_setting(own):
    folder, _ = own
    frame = plain(pd.read_parquet(folder / "ablated" / "scores.parquet"))
    by_setting = package.judge(frame, positive="all", threshold=0.3)
    by_column = package.judge(frame.assign(threshold=0.3), positive="all")
    assert_frame_equal(by_setting.to_frame(), by_column.to_frame(), check_exact=True)


def test_two_subjects_of_one_name_from_two_sources_are_two(tmp_path):
    table = comparisons.cells(subjects=12)
    frame = pd.DataFrame(
        {
            "subject": [f"{name}"[1:] for name in table.subjects],
            "source": ["east" if at % 2 else "west" for at in table.groups],
            "label": table.y,
            "score": np.linspace(0, 1, len(table)),
        }
    )
    frame["subject"] = [str(int(name) // 2) for name in frame["subject"]]
    assert package.judge(frame).figures[0]["n_subjects"] == 12
    merged = package.judge(frame.drop(columns="source"))
    assert merged.figures[0]["n_subjects"] == 6
    assert merged.without_subjects


def test_a_label_of_the_subject_is_what_figures_of_subjects_are_about():
    cells = pd.DataFrame({"subject": np.repeat(list("abcdefgh"), 10)})
    cells["label"] = np.where((cells["subject"] < "e") & (cells.index % 2 == 0), "all", "hem")
    cells["score"] = np.where(cells["label"] == "all", 0.9, 0.2)
    mixed = package.judge(cells)
    assert mixed.without_subjects == "No figures subject by subject: 4 of 8 subjects hold cells of several classes."
    assert mixed.to_frame().query("level == 'subject'")["value"].isna().all()
    named = package.judge(cells.assign(subject_label=np.where(cells["subject"] < "e", "all", "hem")))
    assert not named.without_subjects
    value = named.to_frame().query("level == 'subject' and metric == 'auroc'")["value"].iloc[0]
    assert value == 1.0


def test_where_each_row_is_of_a_subject_of_its_own_patients_are_judged(tmp_path):
    rows = [(f"P{at}", "ill" if at % 2 else "well", 0.3 + 0.05 * (at % 9)) for at in range(24)]
    frame = pd.DataFrame(rows, columns=["subject", "label", "p_ill"]).assign(p_well=lambda each: 1 - each["p_ill"])
    frame.to_csv(tmp_path / "scores.csv", index=False)
    done = fusion("judge", tmp_path / "scores.csv", "-o", tmp_path / "result")
    assert "Held-out subjects" in done.output
    assert "cell by cell" not in done.output
    page = (tmp_path / "result" / "report.html").read_text()
    assert '<p class="soft">24 subjects;' in page
    assert "24 subjects were judged" in (tmp_path / "result" / "methods.md").read_text()
    again = pd.concat([frame, frame.assign(p_ill=0.5, p_well=0.5)])
    assert package.judge(again, positive="ill").judged == "cell"


def test_a_result_is_what_it_was_when_it_is_loaded(own, tmp_path):
    folder, found = own
    again = Result.load(folder / "ablated")
    assert_same_figures(again, found)
    assert (again.stamps, again.notes, again.classes, again.unit) == (
        found.stamps,
        found.notes,
        found.classes,
        found.unit,
    )
    assert again.to_json(folder)["results"] == found.to_json(folder)["results"]
    with pytest.raises(package.FusionError, match="holds no result"):
        Result.load(tmp_path)


def test_tables_have_the_columns_that_are_promised(own):
    _, found = own
    frame = found.to_frame()
    columns = ["entry", "level", "metric", "value", "low", "high", "kind", "subjects", "effective_subjects", "note"]
    assert list(frame.columns) == columns
    assert set(frame["level"]) == {"cell", "subject"}
    assert set(frame["kind"]) == {"models", "procedure"}
    assert {"balanced_accuracy", "auroc", "sensitivity", "specificity"} <= set(frame["metric"])
    differences = found.differences()
    columns = ["entry_a", "entry_b", "metric", "difference", "low", "high", "p", "p_adjusted", "test", "kind"]
    assert list(differences.columns) == columns
    names = set(frame["entry"])
    pairs = {frozenset(pair) for pair in zip(differences["entry_a"], differences["entry_b"], strict=True)}
    assert len(pairs) == len(names) * (len(names) - 1) / 2
    pairs = differences[differences["test"] == "pair"]
    assert len(pairs)
    assert (pairs["p_adjusted"] >= pairs["p"] - 1e-9).all()
    best = found.best()
    assert {"entry", "value", "corrected", "low", "high", "not_distinguished"} <= set(best)
    assert best["entry"] in best["not_distinguished"]
    assert best["value"] == frame.query("level == 'cell' and metric == 'balanced_accuracy'")["value"].max()


def test_scores_of_one_model_are_about_these_models():
    rng = np.random.default_rng(0)
    frame = pd.DataFrame({"subject": np.repeat(np.arange(20), 5), "score": rng.random(100)})
    frame["label"] = frame["subject"] % 2
    found = package.judge(frame)
    assert set(found.to_frame()["kind"]) == {"models"}
    assert set(package.judge(frame.assign(fold=frame["subject"] // 5)).to_frame()["kind"]) == {"models", "procedure"}


def test_whatever_compares_ways_of_building_a_model_is_about_the_procedure(own):
    folder, found = own
    assert found.findings["best"]["kind"] == "procedure"
    assert {row["balanced_accuracy"]["kind"] for row in found.findings["paired"]} == {"procedure"}
    assert set(found.differences()["kind"]) == {"procedure"}
    frame = plain(pd.read_parquet(folder / "ablated" / "scores.parquet"))
    of_one_model = package.judge(frame[frame["repeat"] == 0].drop(columns=["fold", "repeat"]), positive="all")
    assert of_one_model.findings["best"]["kind"] == "models"
    assert set(of_one_model.differences()["kind"]) == {"models"}


def test_the_prevalence_is_the_same_setting_in_ablate_and_judge(tmp_path):
    found = ablated(tmp_path, prevalence=0.2, subsets=["a"], compare=["logreg"], repeats=1, splits=2)
    frame = plain(pd.read_parquet(tmp_path / "ablated" / "scores.parquet"))
    assert_same_figures(package.judge(frame, positive="all", prevalence=0.2), found)
    cells = found.to_frame().query("level == 'cell'").drop_duplicates("metric").set_index("metric")["value"]
    hits, alarms = 0.2 * cells["sensitivity"], 0.8 * (1 - cells["specificity"])
    assert cells["ppv"] == pytest.approx(hits / (hits + alarms))


def test_of_equals_the_one_with_fewer_blocks_is_the_best(own):
    folder, _ = own
    frame = plain(pd.read_parquet(folder / "ablated" / "scores.parquet"))
    one = frame[frame["entry"] == frame["entry"].iloc[0]]
    tied = pd.concat([one.assign(entry=name) for name in ("texture+colour+cnn", "texture+colour", "texture")])
    best = package.judge(tied, positive="all").best()
    assert best["entry"] == "texture"
    assert set(best["ties"]) == set(tied["entry"])


# ---- a comparison that is named beforehand ---------------------------------------------------------------------------


def test_the_primary_comparison_stands_for_itself_and_a_margin_tests_equivalence(own):
    folder, _ = own
    frame = plain(pd.read_parquet(folder / "ablated" / "scores.parquet"))
    found = package.judge(frame, positive="all", primary=["a + b, svm", "a, svm"], margin=0.1)
    row = found.findings["primary"]
    assert (row["first"], row["second"]) == ("a + b, svm", "a, svm")
    assert {"equivalence_p", "non_inferiority_p"} <= set(row["balanced_accuracy"])
    listed = found.differences().query("test == 'primary' and metric == 'balanced_accuracy'").iloc[0]
    assert (listed["entry_a"], listed["p_adjusted"]) == ("a + b, svm", listed["p"])
    assert listed["difference"] == row["balanced_accuracy"]["value"]
    # That of the procedure, by the same distribution as its interval; the one of fixed models stands beside it.
    assert row["balanced_accuracy"]["p"] == listed["p"] != row["permutation_p"]
    assert (listed["p"] < 0.05) == (listed["low"] > 0 or listed["high"] < 0)


@pytest.mark.parametrize("words", ["a+b,svm,a,svm", "a + b , svm,a,svm"])
def test_entries_are_named_without_minding_blanks(words, tmp_path):
    found = ablated(tmp_path, primary=words)
    assert found.findings["primary"]["first"] == "a + b, svm"


@pytest.mark.parametrize("words", ["a,svm", "a,svm,a,svm", "a+c,svm,a,svm", "svm,logreg"])
def test_what_names_no_two_entries_is_refused(words, tmp_path):
    with pytest.raises(package.FusionError, match="--primary does not name two"):
        ablated(tmp_path, primary=words)


def test_a_margin_needs_a_comparison(own, tmp_path):
    with pytest.raises(package.FusionError, match="--margin is about one comparison"):
        ablated(tmp_path, margin=0.05)


# ---- the command -----------------------------------------------------------------------------------------------------


def test_the_command_writes_what_ablate_writes(own, tmp_path):
    folder, found = own
    plain(pd.read_parquet(folder / "ablated" / "scores.parquet")).to_csv(tmp_path / "scores.csv", index=False)
    done = fusion(
        "judge", tmp_path / "scores.csv", "--positive", "all", "-o", tmp_path / "out", "--primary", "a+b,svm,a,svm"
    )
    assert done.exit_code == 0, done.output
    for name in ("result.json", "report.html", "methods.md", "table.csv", "table.tex", "scores.parquet", "config.yaml"):
        assert (tmp_path / "out" / name).is_file(), name
    again = Result.load(tmp_path / "out")
    assert_frame_equal(again.to_frame(), found.to_frame(), check_exact=True)
    as_json = fusion("judge", tmp_path / "scores.csv", "--positive", "all", "-o", tmp_path / "out", "--force", "--json")
    assert json.loads(as_json.stdout)["command"] == "judge"


def test_wrong_tables_and_options_are_one_message_and_exit_2(own, tmp_path):
    folder, _ = own
    frame = plain(pd.read_parquet(folder / "ablated" / "scores.parquet"))
    frame.drop(columns="subject").to_csv(tmp_path / "scores.csv", index=False)
    assert_refused(fusion("judge", tmp_path / "scores.csv", "-o", tmp_path / "out"), 2, "no column 'subject'", "label")
    assert_refused(fusion("judge", tmp_path / "none.csv", "-o", tmp_path / "out"), 2, "holds no scores")
    assert_refused(fusion("judge", folder / "ablated", "-o", tmp_path / "out"), 2, "scores.parquet")
    frame.to_csv(tmp_path / "scores.csv", index=False)
    refused = fusion("judge", tmp_path / "scores.csv", "-o", tmp_path / "out", "--threshold", "balanced-accuracy")
    assert_refused(refused, 2, "threshold")
    assert not (tmp_path / "out").exists()


def test_cells_in_another_order_have_the_same_figures(own):
    _, found = own
    order = np.random.default_rng(0).permutation(len(found.cells))
    cells = found.cells.take(order)
    cells = replace(cells, groups=cells.groups * 7 + 3)
    for scores, figures in zip(found.scores, found.figures, strict=True):
        moved = replace(scores, proba=scores.proba[:, order], fold=scores.fold[:, order])
        assert without_nan(judge_paired(cells, moved, found.classes, found.positive)[0]) == without_nan(figures)


def three_classes(n=60, seed=0):
    draw = np.random.default_rng(seed)
    proba = draw.dirichlet(np.ones(3), n)
    codes = (draw.random(n)[:, None] > proba.cumsum(axis=1)).sum(axis=1)
    frame = pd.DataFrame(proba, columns=["p_a", "p_b", "p_c"])
    return frame.assign(subject=[f"P{at // 2}" for at in range(n)], label=[*np.array(["a", "b", "c"])[codes]])


def test_costs_of_mistakes_choose_the_class_and_are_told():
    frame = three_classes()
    result = package.judge(frame, costs={"a": {"b": 5, "c": 5}})
    costs = np.array([[0, 5, 5], [1, 0, 1], [1, 1, 0]])
    predicted = (frame[["p_a", "p_b", "p_c"]].to_numpy() @ costs).argmin(axis=1)
    codes = np.searchsorted(["a", "b", "c"], frame["label"])
    (row,) = result.findings["costs"]["rows"]
    assert row["value"] == pytest.approx(costs[codes, predicted].mean())
    assert row["most_probable"] == pytest.approx(
        costs[codes, frame[["p_a", "p_b", "p_c"]].to_numpy().argmax(axis=1)].mean()
    )
    assert result.figures[0]["image"]["accuracy"]["value"] == pytest.approx((predicted == codes).mean())


def test_two_classes_have_the_threshold_of_their_costs(own):
    frame = plain(pd.read_parquet(own[0] / "ablated" / "scores.parquet"))
    by_costs = package.judge(frame, positive="all", costs={"all": {"hem": 4}})
    by_number = package.judge(frame, positive="all", threshold=0.2)
    assert_frame_equal(by_costs.to_frame(), by_number.to_frame(), check_exact=True)


def test_a_threshold_for_each_class_is_a_setting():
    frame = three_classes()
    result = package.judge(frame, threshold="a:0.6,b:0.2,c:0.3")
    expected = (frame[["p_a", "p_b", "p_c"]].to_numpy() / [0.6, 0.2, 0.3]).argmax(axis=1)
    assert (result.scores[0].predicted(None)[0] == expected).all()


def test_subgroups_by_a_column_are_told_and_the_worst_is_named(tmp_path):
    rows = [
        {"subject": f"{label}{at}", "label": label, "score": score, "scanner": scanner, "note": "x"}
        for scanner, right in (("good", 0.9), ("bad", 0.55))
        for label in "01"
        for at in range(6)
        for score in [right if label == "1" else 1 - right if at else 0.9]
    ]
    frame = pd.DataFrame(rows).assign(subject=lambda t: t["scanner"] + t["subject"])
    frame.loc[(frame["scanner"] == "bad") & (frame.index % 3 == 0), "score"] = 0.5
    frame.to_csv(tmp_path / "scores.csv", index=False)
    done = fusion("judge", tmp_path / "scores.csv", "--by", "scanner", "--json", "-o", tmp_path / "out")
    assert done.exit_code == 0, done.stderr
    found = json.loads(done.stdout)
    (told,) = found["findings"]["subgroups"]
    assert told["by"] == "scanner"
    assert told["worst"] == "bad"
    assert {row["subgroup"]: row["cells"] for row in told["rows"]} == {"good": 12, "bad": 12}
    (note,) = [note for note in found["notes"] if "not used" in note]
    assert note.endswith("not used: note.")
    assert "Subgroups by scanner" in (tmp_path / "out" / "report.html").read_text()


def test_a_column_of_subgroups_that_is_not_there_or_changes_is_refused(own):
    frame = plain(pd.read_parquet(own[0] / "ablated" / "scores.parquet"))
    with pytest.raises(package.FusionError, match="--by names no column"):
        package.judge(frame, positive="all", by=["scanner"])
    with pytest.raises(package.FusionError, match="another value of 'scanner'"):
        package.judge(frame.assign(scanner=range(len(frame))), positive="all", by=["scanner"])


def test_expected_costs_of_some_classes_are_refused():
    frame = three_classes().assign(cost_a=1.0)
    with pytest.raises(package.FusionError, match="expected costs of other classes"):
        package.judge(frame)
