"""Spoilt images and models: a listed fault or the right numbers, never a crash, a hang or a stranger's code."""

import json
import os
import random
import subprocess
import sys
from pathlib import Path

import pytest

from fusion.images.decoding import ImageError, decode_image, decode_mask
from fusion.images.file_headers import read_header
from tests.builders.images import ROOT
from tests.builders.mutants import images, spoil


@pytest.mark.skipif(os.name == "nt", reason="has no alarm")
@pytest.mark.parametrize("count", [400, pytest.param(10_000, marks=pytest.mark.slow)])
def test_every_spoilt_image_ends_as_features_or_as_a_fault(count, tmp_path):
    script = Path(__file__).with_name("fuzzed.py")
    done = subprocess.run(
        [sys.executable, "-X", "faulthandler", str(script), str(tmp_path), str(count), "7"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )
    assert done.returncode == 0, done.stderr[-2000:]
    message = json.loads(done.stdout.splitlines()[-1])
    assert sum(message["outcomes"].values()) == count
    assert message["outcomes"]["features"] > count / 20  # the test would say nothing if all were refused
    assert message["outcomes"]["fault: read"] > count / 5
    assert message["extract"] == {}


@pytest.mark.parametrize("name", sorted(images()))
def test_no_header_crashes_its_reader(name):
    content, rng = images()[name], random.Random(name)
    assert read_header(content).damage == ""
    for _ in range(300):
        read_header(spoil(content, rng))
    for end in range(len(content) if len(content) < 2000 else 300):
        read_header(content[:end])


@pytest.mark.parametrize("name", [name for name in images() if name.startswith("png")])
def test_a_png_with_a_flipped_bit_is_never_decoded(name):
    content, rng = images()[name], random.Random(name)
    for _ in range(200):
        spoilt = bytearray(content)
        spoilt[rng.randrange(len(content))] ^= 1 << rng.randrange(8)
        for decode in (decode_image, decode_mask):
            with pytest.raises(ImageError):
                decode(bytes(spoilt))


@pytest.mark.skipif(os.name == "nt", reason="has no alarm")
@pytest.mark.parametrize(
    ("kind", "count"),
    [
        ("features", 120),
        pytest.param("features", 20_000, marks=pytest.mark.slow),
        pytest.param("networks", 2_000, marks=pytest.mark.slow),
        pytest.param("patients", 4_000, marks=pytest.mark.slow),
    ],
)
def test_no_forged_model_ends_the_process_opens_other_files_or_says_more_than_a_line(kind, count, tmp_path):
    script = Path(__file__).with_name("fuzzed_models.py")
    done = subprocess.run(
        [sys.executable, "-X", "faulthandler", str(script), str(tmp_path), str(count), "3", kind],
        cwd=ROOT,
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONPATH": str(ROOT), "FUSION_CACHE": str(tmp_path / "store")},
    )
    assert done.returncode == 0, done.stderr[-2000:]
    message = json.loads(done.stdout.splitlines()[-1])
    outcomes = message["outcomes"]
    assert message["forbidden"] == []
    assert message["steering"] == []
    assert message["lines"] == 1
    # PyTorch and ONNX Runtime take a gigabyte by themselves.
    assert message["gigabytes"] - (0 if kind == "features" else message["gigabytes_as_saved"]) < 1
    assert sum(outcomes.values()) == count
    for part in ("json", "safetensors", "manifest", "files"):
        assert outcomes[f"{part}: refused"] > 0
    assert "unchanged: another model" not in outcomes
    assert not {"files: the same", "files: another model"} & outcomes.keys()


@pytest.mark.skipif(os.name == "nt", reason="has no alarm")
@pytest.mark.parametrize("count", [1500, pytest.param(40_000, marks=pytest.mark.slow)])
def test_no_spoilt_image_ends_the_process_or_takes_a_gigabyte(count):
    script = Path(__file__).with_name("fuzzed_pixels.py")
    done = subprocess.run(
        [sys.executable, "-X", "faulthandler", str(script), str(count), "5"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )
    assert done.returncode == 0, done.stderr[-2000:]
    message = json.loads(done.stdout.splitlines()[-1])
    assert message["megabytes"] < 1000
    assert message["reasons"] > 10
    for name, each in message["outcomes"].items():
        # A fuzzer whose images are all refused at the door would say nothing of the decoders behind it.
        assert each["decoded"] > sum(each.values()) / 3, (name, each)
        assert each["refused"] > sum(each.values()) / 20, (name, each)
