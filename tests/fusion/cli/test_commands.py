"""The command line as a new user meets it: the four jobs, and every way of getting them wrong."""

import json
import subprocess
import sys

import numpy as np
import pandas as pd
import pytest

import fusion as package
from tests.builders.command_line import assert_refused, fusion
from tests.builders.images import ROOT, paint, write_image

HEAVY = ("torch", "timm", "sklearn", "xgboost", "skimage", "numba", "pandas", "matplotlib", "scipy")


def test_help_answers_without_the_heavy_libraries():
    code = (
        "import sys, cli\n"
        "sys.argv = ['fusion', *sys.argv[1:]]\n"
        "try: cli.main()\n"
        "except SystemExit: pass\n"
        f"sys.stderr.write(' '.join(m for m in {HEAVY!r} if m in sys.modules))"
    )
    for words in (["--help"], ["ablate", "--help"], ["--version"]):
        done = subprocess.run(
            [sys.executable, "-c", code, *words], cwd=ROOT, capture_output=True, text=True, check=True
        )
        assert done.stderr == ""
        assert "fusion" in done.stdout.lower()


@pytest.mark.parametrize(
    "command",
    ["synthesize", "inspect", "extract", "train", "evaluate", "predict", "explain", "serve", "ablate", "compare"],
)
def test_every_command_tells_its_options(command):
    shown = fusion(command, "--help")
    assert shown.exit_code == 0
    for option in ("--config", "--set", "--json", "--debug", "--quiet"):
        assert option in shown.output


# ---- the four jobs --------------------------------------------------------------------------------------------------


def test_extract_keeps_what_it_measured(synthetic, tmp_path):
    words = ("extract", synthetic, "--features", "morphology,colour", "--json")
    first = json.loads(fusion(*words, "--export", tmp_path / "t.parquet").stdout)
    assert (first["cells"], first["computed"]) == (60, {"morphology": 60, "colour": 60})
    assert len(pd.read_parquet(tmp_path / "t.parquet")) == 60
    assert json.loads(fusion(*words).stdout)["computed"] == {"morphology": 0, "colour": 0}


def test_train_then_predict_then_refuse_to_judge_on_the_same_cells(synthetic, tmp_path):
    trained = fusion(
        "train", synthetic, "--classifier", "xgb", "--features", "colour", "-o", tmp_path / "m", "--splits", 2
    )
    assert trained.exit_code == 0, trained.stderr
    assert "balanced accuracy" in trained.stdout
    image = next(synthetic.rglob("*.bmp"))
    predicted = json.loads(fusion("predict", tmp_path / "m", image, "--json").stdout)
    (row,) = predicted["predictions"]
    assert sum(row["probability"].values()) == pytest.approx(1)
    assert row["class"] == max(row["probability"], key=row["probability"].get)
    refused = fusion("evaluate", tmp_path / "m", synthetic, "-o", tmp_path / "r")
    assert refused.exit_code == 1
    assert "was trained on cells of this data set" in refused.stderr
    assert not (tmp_path / "r").exists()
    stamped = fusion("evaluate", tmp_path / "m", synthetic, "-o", tmp_path / "r", "--allow-leakage")
    assert "leaky" in stamped.stderr
    assert "leaky" in json.loads((tmp_path / "r" / "result.json").read_text())["stamps"][0]


def test_a_training_has_a_page_that_other_commands_read_and_nothing_is_lost_without_force(synthetic, tmp_path):
    given = ("train", synthetic, "--classifier", "logreg", "--features", "colour", "--splits", 2)
    out = ("-o", tmp_path / "m", "--report", tmp_path / "page")
    trained = fusion(*given, *out, "--json")
    assert trained.exit_code == 0, trained.stderr
    result, said = package.Result.load(tmp_path / "page"), json.loads(trained.stdout)
    assert (result.command, result.positive) == ("train", "all")
    assert result.figures[0]["image"]["auroc"] == said["results"][0]["image"]["auroc"]
    page = (tmp_path / "page" / "report.html").read_text()
    for heading in ("Class by class", "Cells right and wrong", "Where the cells lie", "What became of every image"):
        assert f">{heading}</h2>" in page
    assert "One way of building a model (colour, logreg)" in (tmp_path / "page" / "methods.md").read_text()
    assert fusion("plan", tmp_path / "page").exit_code == 0
    assert_refused(fusion(*given, *out), 2, "holds a model already", "--force")
    assert_refused(fusion(*given, "-o", tmp_path / "n", *out[2:]), 2, "holds a result already", "--report", "--force")


def test_folds_that_were_held_back_can_be_judged(synthetic, tmp_path):
    given = ("--features", "colour,morphology", "--folds")
    assert fusion("train", synthetic, *given, "0,1", "-o", tmp_path / "m", "--splits", 2).exit_code == 0
    judged = fusion("evaluate", tmp_path / "m", synthetic, "--folds", "2", "-o", tmp_path / "r", "--json")
    assert judged.exit_code == 0, judged.stderr
    result = json.loads(judged.stdout)
    assert result["stamps"] == []
    assert 0 <= result["results"][0]["image"]["balanced_accuracy"]["value"] <= 1


def test_ablate_compares_all_subsets_and_leaves_its_files(synthetic, tmp_path):
    words = ("ablate", synthetic, "--classifiers", "logreg,xgb", "--features", "morphology,colour", "--splits", 3)
    words = (*words, "--set", "classifiers.xgb.n_estimators=10")
    done = fusion(*words, "-o", tmp_path / "a")
    assert done.exit_code == 0, done.stderr
    names = {path.name for path in (tmp_path / "a").iterdir()}
    assert names == {
        "scores.parquet",
        "table.csv",
        "table.tex",
        "config.yaml",
        "result.json",
        "report.html",
        "methods.md",
        "comparison.png",
        "figures",
    }
    drawn = ("comparison", "differences", "matrix", "shapley", "roc", "precision", "reliability")
    for name in (*drawn, "selective_prediction"):
        for kind in ("svg", "csv"):
            assert (tmp_path / "a" / "figures" / f"{name}.{kind}").stat().st_size > 100
    result = json.loads((tmp_path / "a" / "result.json").read_text())
    compared = {(tuple(row["features"]), row["classifier"]) for row in result["results"]}
    subsets = [("morphology",), ("colour",), ("morphology", "colour")]
    assert compared == {(blocks, name) for blocks in subsets for name in ("logreg", "xgb")}
    scores = pd.read_parquet(tmp_path / "a" / "scores.parquet")
    assert len(scores) == 60 * 6 * 5  # folds are dealt five times
    assert np.allclose(scores[["p_all", "p_hem"]].sum(axis=1), 1)
    page = (tmp_path / "a" / "report.html").read_text()
    assert "http://" not in page.replace("http://www.w3.org", "")
    assert "https://" not in page
    again = fusion(*words, "-o", tmp_path / "b")
    assert again.exit_code == 0
    first, second = ((tmp_path / at / "scores.parquet").read_bytes() for at in "ab")
    assert first == second
    from_file = fusion("ablate", "--config", tmp_path / "a" / "config.yaml", "-o", tmp_path / "c")
    assert from_file.exit_code == 0, from_file.stderr
    assert (tmp_path / "c" / "scores.parquet").read_bytes() == first


def test_a_result_is_replaced_only_where_one_says_so(synthetic, tmp_path):
    words = (
        "ablate",
        synthetic,
        "--classifiers",
        "logreg",
        "--features",
        "colour",
        "--splits",
        3,
        "-o",
        tmp_path / "a",
    )
    assert fusion(*words).exit_code == 0
    assert_refused(fusion(*words), 2, "holds a result already", "--force")
    assert fusion(*words, "--force").exit_code == 0
    assert "force" not in (tmp_path / "a" / "config.yaml").read_text()


def test_the_figures_come_from_the_scores(synthetic, tmp_path):
    from sklearn.metrics import balanced_accuracy_score, roc_auc_score

    fusion("ablate", synthetic, "--classifiers", "logreg", "--features", "colour", "--splits", 3, "-o", tmp_path / "a")
    scores = pd.read_parquet(tmp_path / "a" / "scores.parquet")
    (row,) = json.loads((tmp_path / "a" / "result.json").read_text())["results"]
    expected = balanced_accuracy_score(scores["label"], scores["predicted"])
    assert row["image"]["balanced_accuracy"]["value"] == pytest.approx(expected)
    # Pairs of cells that one model has scored: of one fold and repeat.
    pairs = {"image": np.zeros(2), "subject": np.zeros(2)}
    for _, of_model in scores.groupby(["repeat", "fold"]):
        by_subject = of_model.groupby("subject").agg(label=("label", "first"), p_all=("p_all", "mean"))
        for level, rows in (("image", of_model), ("subject", by_subject)):
            is_all = rows["label"] == "all"
            count = is_all.sum() * (~is_all).sum()
            pairs[level] += count * roc_auc_score(is_all, rows["p_all"]), count
    for level, (won, count) in pairs.items():
        assert row[level]["auroc"]["value"] == pytest.approx(won / count)


def test_every_subject_is_tested_in_one_fold_only(synthetic, tmp_path):
    fusion("ablate", synthetic, "--classifiers", "logreg", "--features", "colour", "--splits", 4, "-o", tmp_path / "a")
    scores = pd.read_parquet(tmp_path / "a" / "scores.parquet")
    assert (scores.groupby(["repeat", "subject"])["fold"].nunique() == 1).all()
    assert scores["fold"].nunique() == 4


def test_a_random_split_is_stamped_wherever_it_shows(synthetic, tmp_path):
    words = ("ablate", synthetic, "--classifiers", "logreg", "--features", "colour", "--split", "random")
    done = fusion(*words, "-o", tmp_path / "a")
    stamp = "leaky: images of 10 subjects on both sides"
    assert stamp in done.stderr
    assert stamp in (tmp_path / "a" / "report.html").read_text()
    assert json.loads((tmp_path / "a" / "result.json").read_text())["stamps"] == [stamp]


def test_inspect_tells_what_would_leak(tmp_path):
    for name, seed in (
        ("fold_0/all/UID_1_1_1_all.bmp", 1),
        ("fold_0/all/UID_1_1_2_all.bmp", 5),
        ("fold_1/all/UID_2_1_1_all.bmp", 1),
        ("fold_1/hem/UID_h3_1_1_hem.bmp", 3),
        ("fold_0/hem/UID_H3_1_1_hem.bmp", 4),
    ):
        write_image(tmp_path / name, paint(seed))
    (tmp_path / "fold_0/hem/UID_H4_1_1_hem.bmp").write_bytes(b"BM cut")
    done = fusion("inspect", tmp_path, "--json")
    assert done.exit_code == 3
    found = json.loads(done.stdout)
    assert found["samples"] == 5
    assert found["classes"] == {"all": 3, "hem": 2}
    assert found["subjects"] == {"1": 2, "2": 1, "H3": 1, "h3": 1}
    assert found["folds"] == {"0": 3, "1": 2}
    assert found["identical"] == [["fold_0/all/UID_1_1_1_all.bmp", "fold_1/all/UID_2_1_1_all.bmp"]]
    assert found["identical_across"] == {"subjects": 1, "folds": 1, "labels": 0}
    assert found["merged_subjects"] == [["1", "2"]]
    assert [row["path"] for row in found["unreadable"]] == ["fold_0/hem/UID_H4_1_1_hem.bmp"]
    assert found["random_split"]["subjects"] == 1
    assert "subjects 1, 2 share images" in fusion("inspect", tmp_path).stdout


# ---- getting it wrong -----------------------------------------------------------------------------------------------


def test_a_missing_folder(tmp_path):
    for command in ("inspect", "extract"):
        assert_refused(fusion(command, tmp_path / "nowhere"), 2, "no such file or folder", "nowhere")


def test_an_empty_folder(tmp_path):
    assert_refused(fusion("extract", tmp_path), 2, "no image in", str(tmp_path))


def test_a_table_without_path(tmp_path):
    (tmp_path / "cells.csv").write_text("file,label\na.png,x\n")
    assert_refused(fusion("extract", tmp_path / "cells.csv"), 2, "no column 'path'", "file, label", "cells.csv")


def test_no_data_at_all():
    assert_refused(fusion("extract"), 2, "no 'data' given")


def test_an_unknown_feature(class_folders):
    refused = fusion("extract", class_folders, "--features", "morphology,smell")
    assert_refused(refused, 2, "smell", "cnn, colour, control, morphology, own, texture")


def test_an_unknown_classifier_before_anything_is_measured(class_folders, own_store, tmp_path):
    for words in (("train", "--classifier", "oracle"), ("ablate", "--classifiers", "svm,oracle")):
        assert_refused(
            fusion(words[0], class_folders, *words[1:], "-o", tmp_path / "o"),
            2,
            "oracle",
            "logreg, mil, neural, pool, svm, xgb",
        )
    assert not (own_store / "features").exists()


def test_unknown_and_wrong_parameters(class_folders, tmp_path):
    out = ("-o", tmp_path / "o")
    assert_refused(fusion("extract", class_folders, "--set", "extractors.texture.colour=1"), 2, "texture", "levels")
    assert_refused(fusion("extract", class_folders, "--set", "extractors.texture.levels=many"), 2, "levels")
    assert_refused(fusion("train", class_folders, "--set", "classifiers.svm.D=1", *out), 2, "svm", "gamma")
    refused = fusion("train", class_folders, "--set", "classifiers.svm.C=-1", "--features", "colour", *out)
    assert_refused(refused, 2, "svm", "C")


def test_settings_for_a_block_that_is_not_chosen(class_folders):
    refused = fusion("extract", class_folders, "--features", "colour", "--weights", "w.safetensors")
    assert_refused(refused, 2, "--weights is of a network behind a block, and there is none", "Add cnn to --features")
    asked = (
        "--classifier",
        "neural",
        "--set",
        "features=none",
        "--weights",
        "w.safetensors",
        "-o",
        class_folders / "o",
    )
    refused = fusion("train", class_folders, *asked)
    assert_refused(refused, 2, "Add cnn to --features", "--set classifiers.neural.network.weights=w.safetensors")


def test_no_features_for_a_classifier_of_features(class_folders, tmp_path):
    refused = fusion("train", class_folders, "--features", "none", "--classifier", "svm", "-o", tmp_path / "model")
    assert_refused(refused, 2, "classifier 'svm' learns from features, and there are none", "neural")


def test_a_class_with_one_subject(tmp_path):
    for subject in ("1", "2", "3"):
        for at in range(3):
            write_image(tmp_path / f"fold_0/all/UID_{subject}_1_{at}_all.bmp", paint(10 * int(subject) + at))
    for at in range(3):
        write_image(tmp_path / f"fold_0/hem/UID_H6_1_{at}_hem.bmp", paint(90 + at))
    for command in ("train", "ablate"):
        refused = fusion(command, tmp_path, "-o", tmp_path / "o", "--features", "colour")
        assert_refused(refused, 2, "one-sided", "'hem'", "H6", "--classes")
        assert not (tmp_path / "o").exists()


def test_bad_images_are_counted_and_the_rest_is_measured(class_folders):
    whole = (class_folders / "blast" / "0.png").read_bytes()
    bitmap = write_image(class_folders / "blast" / "cut.bmp", paint(3))
    bitmap.write_bytes(bitmap.read_bytes()[:2000])
    (class_folders / "blast" / "text.png").write_text("I am a text")
    (class_folders / "normal" / "half.png").write_bytes(whole[: len(whole) // 2])
    write_image(class_folders / "normal" / "black.png", np.zeros((64, 64, 3), np.uint8))
    done = fusion("extract", class_folders, "--features", "colour")
    assert done.exit_code == 3
    assert "6 cells, 4 skipped" in done.stdout
    assert "4 images skipped" in done.stderr
    for words in (
        "cut.bmp: the image is cut short",
        "text.png: not an image",
        "half.png",
        "black.png: the image is",
    ):
        assert words in done.stderr
    message = json.loads(fusion("extract", class_folders, "--features", "colour", "--json").stdout)
    assert {row["stage"] for row in message["faults"]} == {"read", "cell"}


def test_results_and_models_are_not_written_over_other_things(class_folders, tmp_path):
    (tmp_path / "thesis").mkdir()
    (tmp_path / "thesis" / "chapter1.txt").write_text("irreplaceable")
    assert_refused(fusion("ablate", class_folders, "-o", tmp_path / "thesis"), 2, "thesis", "holds no result")
    assert_refused(fusion("train", class_folders, "-o", tmp_path / "thesis"), 2, "thesis", "not a model")
    assert_refused(fusion("extract", class_folders, "--export", tmp_path / "t.xlsx"), 2, ".parquet or .csv or .h5ad")


def test_labels_the_model_does_not_know(synthetic, class_folders, tmp_path):
    fusion("train", synthetic, "--features", "colour", "-o", tmp_path / "m", "--splits", 2)
    refused = fusion("evaluate", tmp_path / "m", class_folders, "-o", tmp_path / "r")
    assert_refused(refused, 2, "blast, normal", "all, hem")


def test_a_model_that_is_none(tmp_path, class_folders):
    assert_refused(fusion("predict", tmp_path, class_folders), 2, "is not a model", str(tmp_path))


def test_a_store_that_cannot_be_written(class_folders, tmp_path):
    (tmp_path / "file").write_text("in the way")
    assert_refused(fusion("extract", class_folders, "--store", tmp_path / "file"), 1, "store", "--store")


def test_a_bug_is_called_a_bug(class_folders, monkeypatch):
    def broken(*_, **__):
        raise RuntimeError("gremlin")

    monkeypatch.setattr("fusion.workflows.inspect.inspect", broken)
    refused = fusion("inspect", class_folders)
    assert_refused(refused, 1, "gremlin", "bug", "--debug")
    assert isinstance(fusion("inspect", class_folders, "--debug").exception, RuntimeError)


def test_an_interrupt_says_that_nothing_is_lost(class_folders, monkeypatch):
    def interrupted(*_, **__):
        raise KeyboardInterrupt

    monkeypatch.setattr("fusion.workflows.inspect.inspect", interrupted)
    assert_refused(fusion("inspect", class_folders), 130, "goes on from there")


def test_plugins_and_cache_tell_what_is_there(class_folders):
    rows = json.loads(fusion("plugins", "--json").stdout)
    kinds = {(row["kind"], row["name"]) for row in rows}
    assert kinds >= {("extractor", n) for n in ("morphology", "texture", "colour", "cnn")}
    assert kinds >= {("classifier", n) for n in ("svm", "xgb", "logreg")}
    fusion("extract", class_folders, "--features", "colour")
    (held,) = json.loads(fusion("cache", "ls", "--json").stdout)
    assert (held["extractor"], held["shards"]) == ("colour", 1)
    assert fusion("cache", "verify").exit_code == 0


def test_a_damaged_shard_is_set_aside_and_its_cells_are_measured_again(class_folders, own_store):
    fusion("extract", class_folders, "--features", "colour")
    (shard,) = own_store.rglob("*/colour/*/*.arrow")
    content = bytearray(shard.read_bytes())
    content[-50] ^= 1
    shard.write_bytes(content)
    assert_refused_verify = fusion("cache", "verify")
    assert assert_refused_verify.exit_code == 1
    assert shard.name in assert_refused_verify.stderr
    again = fusion("extract", class_folders, "--features", "colour", "--json")
    assert json.loads(again.stdout)["computed"] == {"colour": 6}
    assert fusion("cache", "verify").exit_code == 0
    assert "quarantined" in fusion("cache", "gc").stdout


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (("train", "cells"), ("no 'output' given", "-o FOLDER")),
        (("compare", "one"), ("too few values of 'results'", "found: one", "2 or more")),
        (("compare", "one", "two"), ("one holds no result", "no such file or directory: one/result.json")),
    ],
)
def test_a_refusal_is_in_the_words_of_whoever_typed_it(words, told):
    assert_refused(fusion(*words), 2, *told)
