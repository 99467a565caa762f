"""The engine: same numbers whichever way they are computed, a killed run goes on, and no test label is ever seen."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from numpy.testing import assert_allclose, assert_array_equal

from fusion.evaluation.result_differences import optimism
from fusion.io.run_checkpoint import UNFINISHED, Checkpoint
from fusion.learning import fit_batches, fits, shared_distances
from tests.builders.comparisons import cells, config, run, scores_with_and_without_scrambled_labels
from tests.builders.images import ROOT

# ---- the same numbers -----------------------------------------------------------------------------------------------


def test_shared_distances_give_the_result_of_plain_fits(tmp_path, monkeypatch):
    table = cells()
    plain = run(table, config(tmp_path / "plain"))
    monkeypatch.setattr(fits, "_WORTH_SHARING", 1)
    calls = []
    of_split = shared_distances.SharedDistances
    monkeypatch.setattr(shared_distances, "SharedDistances", lambda *given: calls.append(1) or of_split(*given))
    shared = run(table, config(tmp_path / "shared"))
    assert len(calls) == 5  # one a fold, for all subsets, of which those of all blocks are asked what they rely on
    for a, b in zip(plain.scores, shared.scores, strict=True):
        assert (a.features, a.classifier) == (b.features, b.classifier)
        assert_allclose(a.proba, b.proba, atol=2e-3)
        assert_array_equal(a.proba.argmax(axis=2), b.proba.argmax(axis=2))


def test_without_room_for_shared_distances_it_says_so_and_fits_plainly(tmp_path, monkeypatch):
    monkeypatch.setattr(fits, "_WORTH_SHARING", 1)
    result = run(cells(), config(tmp_path, memory_gb=1e-6))
    assert any("svm: every feature set is fitted by itself" in note for note in result.notes)
    assert not any("logreg" in note for note in result.notes)
    assert not any("by itself" in note for note in run(cells(), config(tmp_path / "b")).notes)


@pytest.mark.slow
def test_the_number_of_workers_changes_nothing(tmp_path, monkeypatch):
    monkeypatch.setattr(fit_batches, "_WORTH_A_WORKER", 4)
    monkeypatch.setattr(fits, "_WORTH_SHARING", 1)
    one, two = (run(cells(), replace_jobs(config(tmp_path / str(jobs)), jobs)) for jobs in (1, 2))
    for a, b in zip(one.scores, two.scores, strict=True):
        assert_array_equal(a.proba, b.proba)
    assert one.findings["importance"] == two.findings["importance"]


def replace_jobs(settings, jobs):
    return settings.model_copy(update={"jobs": jobs})


def test_repeats_are_scored_in_rounds_and_a_cell_once_a_round(tmp_path):
    result = run(cells(), config(tmp_path, compare=["logreg"], repeats=3, splits=4))
    for scores in result.scores:
        assert scores.proba.shape == (3, 120, 2)
        assert not np.isnan(scores.proba).any()
        assert set(np.unique(scores.fold)) == {0, 1, 2, 3}
    assert result.figures[0]["n_images"] == 120
    assert result.facts["split"]["repeats"] == 3


def test_monte_carlo_leaves_cells_unscored_where_they_were_not_tested(tmp_path):
    result = run(cells(), config(tmp_path, compare=["logreg"], split="monte-carlo", repeats=4))
    scores = result.scores[0]
    assert_array_equal(np.isnan(scores.proba).any(axis=2), scores.fold < 0)
    assert (scores.fold >= 0).sum() < 120 * 2
    assert 0 < result.figures[0]["image"]["auroc"]["value"] <= 1


# ---- what must not be seen ------------------------------------------------------------------------------------------


def test_no_label_and_no_cell_of_the_test_part_changes_a_model(monkeypatch):
    # Thresholds, calibration and scaling are learnt in the training part: scrambling the test part must not be felt.
    monkeypatch.setattr(fits, "_WORTH_SHARING", 1)
    found = scores_with_and_without_scrambled_labels(lambda y: replace(cells(), y=tuple(y)))
    for name, (true, scrambled) in found.items():
        assert_array_equal(true, scrambled, err_msg=name)


def test_a_column_fitted_outside_the_training_part_would_be_caught_by_that(monkeypatch):
    # A target code of each subject, from the labels of all cells: what a scaler or selector fitted outside amounts to.
    monkeypatch.setattr(fits, "_WORTH_SHARING", 1)

    def planted(y):
        table = cells()
        share = np.array([np.mean(y[table.groups == group] == "hem") for group in table.groups])
        X = np.column_stack([table.X, share]).astype(np.float32)
        return replace(table, X=X, columns=(*table.columns, "b.planted"), y=tuple(y))

    for name, (true, scrambled) in scores_with_and_without_scrambled_labels(planted).items():
        assert np.abs(true - scrambled).max() > 0.05, name


def test_a_subjects_name_never_reaches_a_classifier(tmp_path):
    # C-NMC calls healthy subjects 'H..': a name that gives the label away must be of no use.
    message, neutral = (
        run(cells(prefix=prefix), config(tmp_path / str(prefix), compare=["xgb"])) for prefix in (True, False)
    )
    for a, b in zip(message.scores, neutral.scores, strict=True):
        assert_array_equal(a.proba, b.proba)


def test_a_feature_that_gives_subjects_away_helps_a_random_split_and_no_other(tmp_path):
    # A code of its own for every subject: whoever has met the subject knows the label of its cells.
    table = cells(subjects=30, each=8, class_effect=0.3)
    code = np.random.default_rng(9).permutation(30)[np.arange(len(table)) // 8]
    given_away = replace(
        table,
        X=np.column_stack([table.X, code]).astype(np.float32),
        columns=(*table.columns, "c.code"),
    )
    quick = {"xgb": {"n_estimators": 60}}
    gain = {}
    for split in ("grouped", "monte-carlo", "random"):
        more = {"split": split, "repeats": 3 if split == "monte-carlo" else 1, "classifiers": quick}
        done = run(given_away, config(tmp_path / split, compare=["xgb"], **more))
        found = {
            scores.features: figures["image"]["balanced_accuracy"]["value"]
            for scores, figures in zip(done.scores, done.figures, strict=True)
        }
        gain[split] = found["a", "b", "c"] - found["a", "b"]
        assert found["c",] > 0.9 if split == "random" else found["c",] < 0.7, (split, found)
    assert gain["random"] > 0.1
    assert all(gain[split] < 0.05 for split in gain if split != "random"), gain


# ---- the optimism of a random split ---------------------------------------------------------------------------------


def leak(tmp_path, subject_effect, seed=0):
    table = cells(subjects=30, each=10, class_effect=0.3, subject_effect=subject_effect, seed=seed)
    # A narrow kernel: it learns subjects by heart, which is what a leak rewards.
    settings = config(tmp_path, compare=["svm"], classifiers={"svm": {"gamma": "scale"}})
    honest = run(table, settings)
    leaky = run(table, settings.model_copy(update={"split": "random"}))
    assert leaky.stamps[-1].startswith("leaky: images of 30 subjects")
    return optimism(honest, leaky)


def test_a_random_split_flatters_where_subjects_differ_and_does_not_where_they_do_not(tmp_path):
    with_effect = leak(tmp_path / "with", 1.5)["mean"]["balanced_accuracy"]
    without = leak(tmp_path / "without", 0.0)["mean"]["balanced_accuracy"]
    assert with_effect["value"] > 0.1
    assert with_effect["low"] > 0
    assert without["low"] <= 0 <= without["high"]
    assert with_effect["p"] < 0.01 < without["p"]


# ---- findings -------------------------------------------------------------------------------------------------------


def test_the_contributions_of_blocks_adds_up_to_what_all_achieve(tmp_path):
    result = run(cells(), config(tmp_path))
    held = {(s.features, s.classifier): f for s, f in zip(result.scores, result.figures, strict=True)}
    for contributions in result.findings["shapley"]:
        total = sum(row["shapley"]["value"] for row in contributions["blocks"])
        everything = held[("a", "b"), contributions["classifier"]]["image"][contributions["metric"]]["value"]
        assert total == pytest.approx(everything - 0.5)
        for row in contributions["blocks"]:
            assert row["shapley"]["low"] < row["shapley"]["value"] < row["shapley"]["high"]
            alone = held[(row["block"],), contributions["classifier"]]["image"][contributions["metric"]]["value"]
            assert row["alone"]["value"] == pytest.approx(alone - 0.5)


def test_the_best_entry_is_compared_with_every_other(tmp_path):
    result = run(cells(), config(tmp_path))
    rows = result.findings["paired"]
    assert len(rows) == len(result.scores) - 1
    best = result.figures[result.ranked()[0]]["image"]["balanced_accuracy"]["value"]
    for row, at in zip(rows, result.ranked()[1:], strict=True):
        other = result.figures[at]["image"]["balanced_accuracy"]["value"]
        assert row["balanced_accuracy"]["value"] == pytest.approx(best - other)
        assert row["balanced_accuracy"]["low"] <= row["balanced_accuracy"]["value"] <= row["balanced_accuracy"]["high"]
        assert row["balanced_accuracy"]["kind"] == "procedure"
        for p in (row["balanced_accuracy"]["p"], row["p_adjusted"], row["permutation_p"], row["delong_p"]):
            assert 0 < p <= 1
    found = result.findings["best"]
    assert found["value"] == best
    assert found["corrected"] <= best + 0.01
    assert found["low"] < found["corrected"] < found["high"]
    told = [row["second"] for row in rows if row["p_adjusted"] < 0.05]
    assert set(found["not_distinguished"]) == {rows[0]["first"], *(row["second"] for row in rows)} - set(told)


# ---- going on after a kill ------------------------------------------------------------------------------------------


def test_a_run_that_broke_off_goes_on_with_the_same_numbers(tmp_path, monkeypatch):
    monkeypatch.setattr(fits, "_WORTH_SHARING", 1)
    table = cells()
    whole = run(table, config(tmp_path / "whole"))
    kept, keep = [], Checkpoint.keep

    def keep_some(self, name, array):
        if len(kept) == 13:  # in the middle of the subsets of a fold
            raise KeyboardInterrupt
        kept.append(name)
        keep(self, name, array)

    monkeypatch.setattr(Checkpoint, "keep", keep_some)
    with pytest.raises(KeyboardInterrupt):
        run(table, config(tmp_path / "broken"))
    again = []
    monkeypatch.setattr(Checkpoint, "keep", lambda self, name, array: again.append(name))
    result = run(table, config(tmp_path / "broken"))
    # A fit is finished when its scores are kept: what was asked of its model is kept before.
    finished, made = (
        [name for name in names if not name.endswith((".lost", ".contributions"))] for names in (kept, again)
    )
    assert not set(finished) & set(made)
    assert len(finished) + len(made) == 3 * 2 * 5
    for a, b in zip(whole.scores, result.scores, strict=True):
        assert_array_equal(a.proba, b.proba)


def test_other_settings_never_read_what_a_broken_run_has_left(tmp_path):
    table = cells()
    run(table, config(tmp_path, compare=["logreg"]))
    (first,) = (tmp_path / "out" / UNFINISHED).iterdir()
    for change in ({"seed": 1}, {"classifiers": {"logreg": {"C": 1.0}}}, {"layer": {"scale": "robust"}}, {"splits": 4}):
        run(table, config(tmp_path, compare=["logreg"], **change))
    changed = replace(table, X=table.X + 1)
    run(changed, config(tmp_path, compare=["logreg"]))
    assert len(list((tmp_path / "out" / UNFINISHED).iterdir())) == 6
    before = {file: file.stat().st_mtime_ns for file in first.rglob("*.npy")}
    run(table, config(tmp_path, compare=["logreg"], positive="hem"))
    assert {file: file.stat().st_mtime_ns for file in first.rglob("*.npy")} == before


def test_a_damaged_part_is_computed_again(tmp_path):
    place = Checkpoint(tmp_path)
    place.keep("0/svm/a", np.arange(6.0).reshape(3, 2))
    assert_array_equal(place.read("0/svm/a"), np.arange(6.0).reshape(3, 2))
    assert place.read("0/svm/b") is None
    (file,) = tmp_path.rglob("*.npy")
    content = bytearray(file.read_bytes())
    content[-1] ^= 1
    file.write_bytes(content)
    assert place.read("0/svm/a") is None
    file.write_bytes(content[:40])
    assert place.read("0/svm/a") is None


@pytest.mark.slow
def test_a_killed_command_started_again_finishes_with_the_same_numbers(synthetic, tmp_path):
    words = [
        sys.executable,
        "-m",
        "fusion",
        "ablate",
        str(synthetic),
        "--features",
        "morphology,colour",
        "--splits",
        "3",
        "--classifiers",
        "xgb,logreg",
        "--repeats",
        "4",
        "--store",
        str(tmp_path / "store"),
        "--jobs",
        "1",
    ]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    subprocess.run([*words, "-o", str(tmp_path / "whole")], cwd=ROOT, env=environment, check=True, capture_output=True)
    broken = tmp_path / "broken"
    started = subprocess.Popen([*words, "-o", str(broken)], cwd=ROOT, env=environment, start_new_session=True)
    deadline = time.monotonic() + 120
    while len(list((broken / UNFINISHED).rglob("*.npy"))) < 5 and time.monotonic() < deadline:
        time.sleep(0.02)
    os.killpg(started.pid, signal.SIGKILL)
    started.wait()
    assert not (broken / "result.json").exists()
    done = len(list((broken / UNFINISHED).rglob("*.npy")))
    assert 5 <= done < 3 * 2 * 12
    subprocess.run([*words, "-o", str(broken)], cwd=ROOT, env=environment, check=True, capture_output=True)
    assert not (broken / UNFINISHED).exists()
    for name in ("scores.parquet", "table.csv"):
        assert (broken / name).read_bytes() == (tmp_path / "whole" / name).read_bytes()


# ---- the command ----------------------------------------------------------------------------------------------------


def command(*words):
    from click.testing import CliRunner

    import cli

    return CliRunner().invoke(cli.fusion, [str(word) for word in words])


def test_show_leak_and_compare_from_the_command_line(synthetic, synthetic_store, tmp_path):
    given = ("--classifiers", "logreg", "--features", "colour", "--splits", 3, "--store", synthetic_store)
    first = command("ablate", synthetic, *given, "--show-leak", "-o", tmp_path / "a", "--json")
    assert first.exit_code == 0, first.stderr
    leak = json.loads(first.stdout)["findings"]["leak"]
    (row,) = leak["rows"]
    message = row["balanced_accuracy"]
    assert message["random"] - message["grouped"] == pytest.approx(message["value"])
    assert leak["stamp"].startswith("leaky")
    random = pd.read_parquet(tmp_path / "a" / "scores-random.parquet")
    assert set(random["stamp"]) == {leak["stamp"]}
    assert "stamp" not in pd.read_parquet(tmp_path / "a" / "scores.parquet")
    assert "optimistic bias" in (tmp_path / "a" / "report.html").read_text()
    second = command("ablate", synthetic, *given, "--seed", 1, "-o", tmp_path / "b")
    assert second.exit_code == 0, second.stderr
    compared = command("compare", tmp_path / "a", tmp_path / "b", "-o", tmp_path / "c.csv", "--json")
    assert compared.exit_code == 0, compared.stderr
    (difference,) = json.loads(compared.stdout)["differences"]
    figures = [json.loads((tmp_path / at / "result.json").read_text())["results"][0]["image"] for at in "ab"]
    for metric in ("balanced_accuracy", "auroc"):
        gap = figures[0][metric]["value"] - figures[1][metric]["value"]
        assert difference[metric]["value"] == pytest.approx(gap)
    assert 0 < difference["balanced_accuracy"]["p"] <= difference["p_adjusted"] <= 1
    assert len(pd.read_csv(tmp_path / "c.csv")) == 1
    shown = command("compare", tmp_path / "a", tmp_path / "b")
    assert "First minus second on the same 60 cells of 10 subjects" in shown.stdout
    shutil.copytree(tmp_path / "a", tmp_path / "copy")
    same = json.loads(command("compare", tmp_path / "a", tmp_path / "copy", "--json").stdout)["differences"][0]
    assert (same["auroc"]["value"], same["balanced_accuracy"]["p"], same["mcnemar_p"]) == (0, 1, 1)


def test_results_on_other_cells_are_not_compared(synthetic, synthetic_store, tmp_path):
    given = ("--classifiers", "logreg", "--features", "colour", "--splits", 2, "--store", synthetic_store)
    assert command("ablate", synthetic, *given, "-o", tmp_path / "a").exit_code == 0
    assert command("ablate", synthetic, *given, "--folds", "0,1", "-o", tmp_path / "b").exit_code == 0
    refused = command("compare", tmp_path / "a", tmp_path / "b")
    assert refused.exit_code == 2
    assert "not about the same cells" in refused.stderr
    assert command("compare", tmp_path / "a", tmp_path).exit_code == 2
    assert command("compare", tmp_path / "a").exit_code == 2


def test_results_without_a_common_entry_are_compared_by_their_best(synthetic, synthetic_store, tmp_path):
    given = ("--splits", 3, "--store", synthetic_store, "--classifiers", "logreg", "--features")
    assert command("ablate", synthetic, *given, "colour", "-o", tmp_path / "a").exit_code == 0
    assert command("ablate", synthetic, *given, "morphology", "-o", tmp_path / "b").exit_code == 0
    found = json.loads(command("compare", tmp_path / "a", tmp_path / "b", "--json").stdout)
    assert [found["differences"][0][key] for key in ("first", "second")] == ["colour, logreg", "morphology, logreg"]
    assert "share no entry" in found["notes"][0]


@pytest.mark.parametrize("split", ["official", "leave-one-subject-out", "monte-carlo"])
def test_every_kind_of_split_is_a_choice(split, synthetic, synthetic_store, tmp_path):
    done = command(
        "ablate",
        synthetic,
        "--classifiers",
        "logreg",
        "--features",
        "colour",
        "--split",
        split,
        "--repeats",
        2,
        "--store",
        synthetic_store,
        "-o",
        tmp_path / "a",
    )
    assert done.exit_code == 0, done.stderr
    scores = pd.read_parquet(tmp_path / "a" / "scores.parquet")
    if split == "leave-one-subject-out":
        assert (scores.groupby("fold")["subject"].nunique() == 1).all()
    if split == "official":
        assert scores["fold"].nunique() == 3
    refused = command(
        "ablate", synthetic, "--split", split, "--show-leak", "--features", "colour", "-o", tmp_path / "b"
    )
    assert refused.exit_code == 2


def test_an_external_test_set_is_judged_alone(synthetic, synthetic_store, tmp_path):
    from fusion.synthetic.cells import SyntheticDesign, synthesize

    design = SyntheticDesign(subjects=6, cells_per_subject=4, seed=9)
    other = synthesize(tmp_path / "other", design)
    table = tmp_path / "other.csv"
    images = sorted(other.rglob("*.bmp"))
    lines = [f"{path},{path.parent.name},new-{path.name.split('_')[1]}" for path in images]
    table.write_text("\n".join(["path,label,subject", *lines]))
    given = ("--classifiers", "logreg", "--features", "colour", "--store", synthetic_store)
    done = command("ablate", synthetic, *given, "--test", table, "-o", tmp_path / "a", "--json")
    assert done.exit_code == 0, done.stderr
    message = json.loads(done.stdout)
    assert message["facts"]["images"] == 24
    assert message["facts"]["learnt_from"] == {"images": 60, "groups": 10}
    assert message["results"][0]["n_images"] == 24
    assert len(pd.read_parquet(tmp_path / "a" / "scores.parquet")) == 24
    refused = command("ablate", synthetic, *given, "--test", synthetic, "-o", tmp_path / "b")
    assert refused.exit_code == 1
    assert "on both sides" in refused.stderr
    leaky = command("ablate", synthetic, *given, "--test", synthetic, "-o", tmp_path / "c", "--allow-leakage", "--json")
    assert json.loads(leaky.stdout)["stamps"] == ["leaky: images of 10 subjects on both sides"]
