"""The benchmarks run and print their tables; how fast anything is stays a matter of the machine."""

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]


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
        "the picture map",
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
def test_the_benchmark_of_linear_models_calls_cells_alike_in_all_three_ways():
    command = [sys.executable, "-m", "benchmarks.linear", "--cells", "400"]
    done = subprocess.run(command, capture_output=True, text=True, check=True, cwd=ROOT)
    lines = done.stdout.splitlines()
    assert [line.partition("fits, ")[2].partition(":")[0] for line in lines] == [
        "loop", "blocks scaled once", "Gram matrices"
    ]  # fmt: skip
    assert ", 0 of " in lines[1]
