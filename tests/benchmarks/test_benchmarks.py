"""The benchmarks run and print their tables; how fast anything is stays a matter of the machine."""

import csv
import runpy
import subprocess
import sys
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from scipy.special import expit
from scipy.stats import norm

from benchmarks import coverage, simulated_subjects, tour_screens
from benchmarks.laboratories import recipes
from benchmarks.laboratory_networks import networks
from benchmarks.made_laboratories import CHANGES, CUT_OUT, draw
from benchmarks.shards import Plan, simulate
from fusion.evaluation.variation import Variation
from fusion.features.store import FeatureStore
from fusion.features.store_maintenance import tidy
from fusion.images.decoding import decode_image
from fusion.io.files import sha256
from fusion.learning.learnt_blocks import learnt_blocks
from fusion.metrics.jackknife import spread_of
from fusion.metrics.judgement import judge_scores
from fusion.settings.commands import TrainConfig
from tests.builders.images import write_image

ROOT = Path(__file__).parents[2]


def test_the_simulation_of_shards_counts_and_sizes_as_the_store_itself_does(tmp_path):
    cells, features = 600, 200
    plan = Plan(cells=cells, features=features, writers=1, rate=60, run=300, flush=1)
    store, names = FeatureStore(tmp_path), [f"feature_{at:05}" for at in range(features)]
    most = 0
    for at in range(cells):
        store.write("block", "version", names, {sha256(str(at).encode()): np.full(features, at, np.float32)})
        most = max(most, len(store.shards("block", "version")))
        if (at + 1) % plan.run == 0:
            tidy(store, "block", "version")
    found, shards = simulate(plan), store.shards("block", "version")
    assert found.shards == len(shards) == 1
    assert most <= found.most <= most + 1
    assert found.size == pytest.approx(sum(path.stat().st_size for path in shards), rel=0.1)


def test_a_simulated_store_has_the_shards_that_arithmetic_gives_it():
    assert simulate(Plan(51_200, 1000, 1, 1000, 51_200)).shards == 100
    assert simulate(Plan(51_200, 1000, 1, 1, 51_200, is_merged=False)).shards == 51_200 // 30 + 1  # one in 30 seconds
    merged = simulate(Plan(1_000_000, 1000, 10, 50, 100_000))
    assert 1_000_000 * 4000 / (16 << 20) < merged.shards < 2 * 1_000_000 * 4000 / (8 << 20)
    assert merged.written > merged.size


RECIPES = {**recipes(), **networks(Path("random"))}


@pytest.mark.parametrize("name", RECIPES)
def test_every_recipe_across_sites_is_one_that_train_takes(name):
    config = TrainConfig(data="cells", output="model", **RECIPES[name])
    if "neural" in config.classifiers:
        from classifiers.neural.estimator import NeuralClassifier

        network = NeuralClassifier(**config.classifiers["neural"])
        network._settings()
        assert network.network["weights"] == "random"
    if config.cnn_crossfit:
        learnt_blocks(config)


def test_the_steps_that_are_measured_alone_make_up_the_robust_network():
    found = networks(Path("random"))

    def flat(part, at=""):
        inner = part.items() if isinstance(part, dict) else ()
        return {f"{at}: {part}"} if not inner else set().union(*(flat(value, f"{at}.{name}") for name, value in inner))

    plain = flat(found["network"])
    steps = [flat(found[f"network + {step}"]) - plain for step in ("augmentation", "scale", "batch statistics")]
    assert all(steps)
    assert set.union(*steps) == flat(found["robust network"]) - plain


def test_a_laboratory_is_made_of_the_changed_cells_of_one_beside_the_others_as_they_are(tmp_path):
    rgb = np.full((110, 120, 3), (240, 238, 245), np.uint8)
    y, x = np.mgrid[:110, :120]
    rgb[np.hypot(y - 55, x - 60) < 30] = (200, 175, 215)
    rgb[np.hypot(y - 55, x - 60) < 19] = (95, 35, 130)
    rows = [f"{source}{at}.png,a,{source}" for source in ("here", "there") for at in range(4)]
    for row in rows:
        write_image(tmp_path / row.split(",")[0], rgb)
    (tmp_path / "cells.csv").write_text("path,label,source\n" + "\n".join(rows) + "\n")
    table = draw(tmp_path / "cells.csv", "here", list(CHANGES), False, tmp_path, every=2)
    with table.open(newline="") as file:
        sources = Counter(row["source"] for row in csv.DictReader(file))
    assert sources == {"there": 4, **{f"here, {change}": 2 for change in CHANGES}}
    shown = {change: decode_image((tmp_path / change / "0000.png").read_bytes()) for change in CHANGES}
    assert_array_equal(shown["as it is"], rgb)
    assert np.ptp(shown["grey"], axis=2).max() == 0
    assert shown["half"].shape == (55, 60, 3)
    for change, level in (("black", 0), ("white", 255)):
        assert shown[change].shape == (CUT_OUT, CUT_OUT, 3)
        # The cell as it was, and nothing beside it.
        assert (shown[change] != level).any(axis=2).sum() == pytest.approx(np.pi * 30**2, rel=0.05)
    assert 0.48 < shown["vignetting"][0, 0, 1] / rgb[0, 0, 1] < 0.52


@pytest.mark.slow
def test_the_benchmark_of_the_handcrafted_features_prints_a_table_without_peers_to_install():
    command = [sys.executable, ROOT / "benchmarks" / "handcrafted.py", "--quick", "--parts", "peers", "--peers", "none"]
    done = subprocess.run([*command, "--sizes", "120"], capture_output=True, text=True, check=True, cwd=ROOT)
    rows = {line.split("|")[1].strip(): line.split("|")[2:] for line in done.stdout.splitlines() if line[:1] == "|"}
    for name in ("fusion", "fusion colour", "scikit-image + mahotas"):
        milliseconds, values = rows[name][:2]
        assert float(milliseconds) > 0
        assert int(values) > 50


@pytest.mark.slow
def test_the_benchmark_of_the_network_prints_a_table_a_part():
    command = [sys.executable, ROOT / "benchmarks" / "neural.py", "--backbone", "test_efficientnet", "--size", "32"]
    done = subprocess.run([*command, "--turns", "1"], capture_output=True, text=True, check=True, cwd=ROOT)
    rows = {line.split("|")[1].strip(): line.split("|")[2:] for line in done.stdout.splitlines() if line[:1] == "|"}
    for name in (
        "fusion",
        "timm in a plain loop",
        "the image cache",
        "forward pass alone",
        "fusion, torch",
        "fusion, onnx",
    ):
        assert float(rows[name][0]) > 0


@pytest.mark.slow
def test_the_benchmark_of_prediction_tells_each_stages_share():
    command = [sys.executable, ROOT / "benchmarks" / "prediction.py", "--cells", "40"]
    done = subprocess.run(command, capture_output=True, text=True, check=True, cwd=ROOT)
    rows = [[part.strip() for part in line.split("|")[1:]] for line in done.stdout.splitlines() if line[:1] == "|"]
    stages = {row[0]: float(row[1]) for row in rows[2:-1]}
    assert {"extractor texture", "decoding and segmentation", "fusion layer and classifier"} <= stages.keys()
    assert rows[-1][3].startswith("inside extractors")
    assert sum(stages.values()) == pytest.approx(float(rows[-1][1]), abs=0.1)


@pytest.mark.slow
def test_to_hash_what_is_measured_costs_less_than_a_twentieth_of_extract():
    command = [sys.executable, ROOT / "benchmarks" / "hashing.py", "--cells", "40", "--repeats", "3"]
    done = subprocess.run(command, capture_output=True, text=True, check=True, cwd=ROOT)
    rows = [[part.strip() for part in line.split("|")[1:-1]] for line in done.stdout.splitlines() if line[:1] == "|"]
    for features, milliseconds, measured, hashes, checks in rows[2:]:
        assert float(milliseconds) > 0, features
        assert 0 < float(measured[:-1]) < 5, features
        assert float(measured[:-1]) < float(hashes[:-1]) < float(checks[:-1]) < 100, features


@pytest.mark.slow
def test_the_benchmark_of_linear_models_calls_cells_alike_in_all_three_ways():
    command = [sys.executable, "-m", "benchmarks.linear", "--cells", "400"]
    done = subprocess.run(command, capture_output=True, text=True, check=True, cwd=ROOT)
    lines = done.stdout.splitlines()
    assert [line.partition("fits, ")[2].partition(":")[0] for line in lines] == [
        "loop",
        "blocks scaled once",
        "Gram matrices",
    ]
    assert ", 0 of " in lines[1]


@pytest.mark.slow
def test_the_benchmark_of_the_page_finds_it_serving_after_everything():
    command = [
        sys.executable,
        ROOT / "benchmarks" / "serving.py",
        "--clients",
        "2",
        "--seconds",
        "6",
        "--damaged",
        "50",
    ]
    done = subprocess.run(command, capture_output=True, text=True, check=True, cwd=ROOT)
    figures = next(line for line in done.stdout.splitlines() if line.startswith("| 2 |")).split("|")
    assert int(figures[2]) > 2
    assert int(figures[3]) == 0
    assert "status 5" not in done.stdout
    assert "/healthz 200, /api/predict 200" in done.stdout


def test_every_recipe_of_the_sites_is_one_that_train_takes():
    from benchmarks.laboratories import recipes
    from fusion.settings.commands import TrainConfig

    found = recipes()
    assert {"plain", "scale + harmonisation", "plain + augmentation", "plain + wide augmentation"} <= set(found)
    for settings in found.values():
        TrainConfig(data="cells", output="model", **settings)
    assert found["plain"] == {}
    assert len({str(settings) for settings in found.values()}) == len(found)


def test_the_simulations_are_not_taken_for_the_package_coverage_where_a_benchmark_is_run_by_its_path():
    with pytest.raises(ImportError, match="not the package"):
        runpy.run_path(str(ROOT / "benchmarks" / "coverage.py"), run_name="coverage")


def test_the_simulations_judge_as_judge_scores_does_to_the_last_bit():
    sizes = coverage.designs()["preliminary"]
    is_positive, score, groups = coverage.fixed_scores(np.random.default_rng(0), sizes, 1.2)

    labels, proba = np.where(is_positive, "b", "a"), np.stack([1 - score, score], axis=1)
    expected = judge_scores(labels, proba, ["a", "b"], groups, positive="b").figures
    even = tuple([1] * len(of) for of in sizes)
    for level, seen, strata in (
        ("image", coverage.Seen.of(score, is_positive, groups), coverage.strata_of(sizes)),
        ("subject", coverage.by_subject(score, sizes), coverage.strata_of(even)),
    ):
        seen = coverage.Seen.all_of([seen])
        ends = coverage.bounds(seen, spread_of(seen.influences(strata), strata), strata)
        told = [[expected[level][name][part] for name in coverage.FIGURES] for part in ("value", "low", "high")]
        assert_array_equal([seen.values[0], *(end[0] for end in ends)], told)


def test_the_simulations_judge_trained_models_as_judge_scores_does(monkeypatch):
    scored, subjects, make = [], (9, 8), simulated_subjects.held_out

    def recorded(*given):
        scored.append(make(*given))
        return scored[-1]

    monkeypatch.setattr(simulated_subjects, "held_out", recorded)
    compared = coverage.Compared.of(
        [coverage.train_anew(np.random.default_rng(3), subjects, coverage.Features())], subjects
    )
    groups = np.repeat(np.arange(17), coverage.CELLS)
    y, judged = np.where(groups < 9, "b", "a"), []
    for score, fold, _ in scored:
        p = expit(score)
        judged.append(judge_scores(y, np.stack([1 - p, p], axis=2), ["a", "b"], groups, positive="b", folds=fold))
    ends = coverage.bounds(compared.first, compared.spread, compared.strata)
    for at, name in enumerate(coverage.FIGURES):
        figure = judged[0].figures["image"][name]
        assert_allclose([end[0, at] for end in ends], [figure["low"], figure["high"]], rtol=1e-12)
    first, second = (Variation.of(one, [coverage.KEY], np.arange(17), np.arange(17)) for one in judged)
    told = first.combined([second], (1.0, -1.0), coverage.KEY).difference(float(compared.apart[0]))
    assert compared.p()[0] == pytest.approx(told["p"], rel=1e-9)


@pytest.mark.slow
def test_intervals_cover_what_they_claim_and_are_no_wider_than_they_must_be():
    rows = list(coverage.models(60, gaps=(0.8,)))
    assert {row["design"] for row in rows} == set(coverage.designs())
    share, width = (np.array([row[part] for row in rows]) for part in ("coverage", "width"))
    assert 0.93 <= share.mean() <= 0.985, share.mean()
    assert (share >= 0.85).all(), rows  # 0.92 is missed by more in less than 1 of 100 sets of 60
    assert width.mean() <= 1.3, width.mean()


@pytest.mark.slow
def test_procedures_are_covered_and_told_apart_at_their_level():
    rows = [row for row in coverage.procedure(12) if row["figure"] in ("balanced_accuracy", "difference")]
    assert np.mean([row["coverage"] for row in rows]) >= 0.9, rows
    assert np.mean([row["type I"] for row in rows if "type I" in row]) <= 0.11, rows


@pytest.mark.slow
def test_the_best_of_many_equals_is_corrected_and_seldom_called_better():
    equal, ahead = coverage.best(25, [coverage.MANY[at] for at in (2, 4)])
    assert equal["family-wise error"] <= 0.2  # of 25 at 5%, six in 1 of 1,000 cases
    assert abs(equal["bias, corrected"]) < 0.012 < equal["bias"]
    assert ahead["stands alone"] >= ahead["oracle"] - 0.2
    assert ahead["anybody"] > ahead["oracle"]


def test_nobody_lets_one_of_two_stand_alone_more_often_than_a_test_of_the_two_finds_it():
    assert coverage.most_alone(2, 2.8, 20_000) == pytest.approx(norm.cdf(2.8 - 1.96), abs=0.02)
    assert coverage.most_alone(20, 2.8, 20_000) < coverage.most_alone(5, 2.8, 20_000) < 0.75


@pytest.mark.slow
def test_a_difference_is_found_nearly_as_often_as_an_oracle_finds_it():
    apart, together = coverage.power(40)
    assert apart["found"] >= apart["oracle"] - 0.2  # of 40, twice the standard deviation
    assert together["found"] >= 0.85


@pytest.mark.slow
def test_equivalence_holds_its_level_at_the_margin():
    rows = list(coverage.equivalence(60))
    at_margin = [row["called equivalent"] for row in rows if row["true difference"] > 0.04]
    assert np.mean(at_margin) <= 0.11, rows


def test_every_step_of_the_real_laboratories_is_one_that_ablate_takes():
    from benchmarks.real_laboratories import network_steps, steps
    from fusion.settings.commands import AblateConfig

    networks = network_steps(Path("weights.safetensors"))
    for settings in (*steps().values(), *networks.values()):
        AblateConfig(data="cells", output="result", **settings)


@pytest.mark.slow
def test_real_laboratories_are_judged_by_all_others_by_each_and_by_their_own_folds(tmp_path, capsys):
    """Synthetic cells of three sites stand in for them."""
    from benchmarks.real_laboratories import main
    from fusion.synthetic.cells import SyntheticDesign, synthesize

    out = synthesize(
        tmp_path / "sites", SyntheticDesign(subjects=6, cells_per_subject=4, laboratories=3, seed=2), jobs=1
    )
    main([str(out / "truth.csv"), "--steps", "robust", "--classifiers", "logreg", "--store", str(tmp_path / "store")])
    shown = capsys.readouterr().out
    for asked in ("left out, all", "left out: lab_1", "lab_1 to lab_2", "lab_3 to lab_1", "own folds: lab_2"):
        assert asked in shown


def run_module(*words):
    return subprocess.run([sys.executable, "-m", *words], cwd=ROOT, capture_output=True, text=True, check=False)


def test_the_ladder_of_a_gpu_says_that_there_is_none():
    import torch

    if torch.cuda.is_available():
        pytest.skip("a GPU is at hand")
    made = run_module("benchmarks.gpu")
    assert made.returncode == 2
    assert "no GPU is at hand; --dry checks the script on a CPU" in made.stderr


@pytest.mark.slow
def test_the_ladder_of_a_gpu_runs_dry():
    made = run_module("benchmarks.gpu", "--dry")
    assert made.returncode == 0, made.stderr
    known = ("| fp32", "| bf16, channels_last, DDP on one")
    assert len([line for line in made.stdout.splitlines() if line.startswith(known)]) == 6  # DDP in training alone


@pytest.mark.slow
def test_a_transformer_is_held_against_the_bound_of_its_products():
    words = ["--backbone=test_vit", "--size=160", "--images=4", "--batch=2", "--batches=1,2", "--turns=1"]
    made = run_module("benchmarks.encoders", *words)
    assert made.returncode == 0, made.stderr
    assert "| the products of matrices alone (the bound) |" in made.stdout
    assert "| timm eager |" in made.stdout


@pytest.mark.slow
@pytest.mark.skipif(sys.platform == "win32", reason="resource is of Unix alone")
def test_bags_of_5000_cells_are_learnt_from_in_memory_that_does_not_grow_with_their_number():
    """Beside the cells themselves: a copy of 20,000 for components, and a batch or two."""
    beyond = []
    for patients in (6, 12):
        made = run_module("benchmarks.patients", "memory", "--patients", str(patients))
        assert made.returncode == 0, made.stderr
        assert f"{patients} bags of 5000 cells x 2699: {patients * 5000 * 2699 * 4 / 1e6:.0f} MB" in made.stdout
        beyond.append(int(made.stdout.partition("MB: ")[2].partition(" MB")[0]))
    assert max(beyond) < 800
    assert beyond[1] < beyond[0] + 100


@pytest.mark.parametrize(
    "line",
    [
        "measuring cells: 300 in 8 s",
        "fitting models: 1,002 of 1,200, 1.56/s, 2 min 7 s left",
        "measuring 300 cells: about 40 s on 2 processes",
        "fitting models: under a minute on 2 processes",
    ],
)
def test_a_screen_of_the_tour_tells_no_progress(line):
    assert tour_screens.tells_progress(line)
    assert not tour_screens.tells_progress("299 cells, none skipped; store ~/.cache/fusion-cells")
