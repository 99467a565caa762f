"""The extractor ``cnn``: what the network sees, what its identity follows, and real weights on real cells."""

import csv
import dataclasses
import hashlib
import os
import pickle
import shutil
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal

from extractors.cnn._weights_file import WeightsError
from extractors.cnn.extractor import Embedding, as_half
from extractors.cnn.input_transform import square
from fusion.errors import UsageError
from fusion.images.cell import MARGIN, Cell, make_cell, read_cell
from fusion.plugins import registry
from tests.builders.images import ROOT, paint, real_data

SMALL = "test_efficientnet"


@pytest.fixture(scope="module")
def weights_file(tmp_path_factory):
    """A saved backbone of 0.36 M parameters whose metadata says all there is to say."""
    from extractors.cnn.backbone import load_backbone, save_backbone

    path = tmp_path_factory.mktemp("weights") / "small.safetensors"
    save_backbone(load_backbone(SMALL, "random", size=64, seed=1), path)
    return path


@pytest.fixture
def cells():
    return [make_cell(paint(seed, side=40 + 8 * seed, radius=12 + 2 * seed)) for seed in range(5)]


def pad(cell: Cell, top: int, left: int, bottom: int, right: int) -> Cell:
    """The same cell with more black around it."""
    rows, columns = (top, bottom), (left, right)
    return Cell(
        np.pad(cell.rgb, (rows, columns, (0, 0))),
        np.pad(cell.mask, (rows, columns)),
        np.pad(cell.nucleus, (rows, columns)),
    )


# ---- what the network sees -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("view", [None, 30, 200])
@pytest.mark.parametrize("shown", ["cell", "field"])
def test_black_around_the_cell_changes_nothing(weights_file, cells, view, shown):
    extractor = Embedding(weights=str(weights_file), view=view, input=shown)
    padded = [pad(cell, 11, 0, 3, 50) for cell in cells]
    assert_array_equal(extractor.images(padded), extractor.images(cells))


def test_by_default_the_square_just_holds_the_cell_and_its_margin():
    mask = np.zeros((60, 80), bool)
    mask[20:40, 10:60] = True
    cell = Cell(np.full((60, 80, 3), 200, np.uint8), mask, np.zeros_like(mask))
    image = square(cell, None, "black")
    assert image.shape == (50 + 2 * MARGIN, 50 + 2 * MARGIN, 3)
    rows, columns = (np.flatnonzero(image[..., 0].any(axis=axis)) for axis in (1, 0))
    # 66 pixels, the cell of 20 x 50 in the middle: 23 above and below, 8 to the left and right.
    assert (rows.min(), rows.max(), columns.min(), columns.max()) == (23, 42, 8, 57)


def test_a_view_keeps_size_visible_and_its_absence_hides_it():
    small, large = (Cell(np.full((s, s, 3), 99, np.uint8), *disc(s)) for s in (40, 80))
    values = [Embedding(size=64, view=128, weights="random").images([cell])[0] for cell in (small, large)]
    areas = [np.count_nonzero(image[..., 0]) for image in values]
    assert areas[1] / areas[0] == pytest.approx(4, rel=0.15)


def disc(side):
    y, x = np.mgrid[:side, :side] - (side - 1) / 2
    return np.hypot(y, x) < side / 2 - 1, np.zeros((side, side), bool)


def test_a_whole_image_is_seen_as_it_is():
    """A cell in the middle of its image, seen through a view of the image's side, is that image."""
    image = paint(3, side=64, radius=20)
    assert_array_equal(square(make_cell(image), 64, "black"), image)


def test_background_is_black_or_grey_or_kept():
    rgb = np.full((60, 60, 3), 180, np.uint8)
    mask = np.zeros((60, 60), bool)
    mask[20:40, 20:40] = True
    cell = Cell(rgb, mask, np.zeros_like(mask))
    assert square(cell, 40, "kept").min() == 180
    assert np.count_nonzero(square(cell, 40, "black")[..., 0]) == 400
    grey = square(cell, 60, "grey")  # reaches beyond the crop, where there is nothing but grey either
    assert np.count_nonzero(grey[..., 0] == 180) == 400
    assert set(np.unique(grey)) == {128, 180}
    assert_array_equal(cell.rgb, rgb)


def test_shrinking_averages_areas():
    """Lines one pixel wide, eight apart, must neither vanish nor stay lines: every pixel is their average."""
    rgb = np.zeros((480, 480, 3), np.uint8)
    rgb[:, ::8] = 200
    cell = Cell(rgb, np.ones((480, 480), bool), np.zeros((480, 480), bool))
    values = Embedding(size=60, view=480, weights="random", backbone=SMALL).images([cell])[0]
    assert_array_equal(values, np.full((60, 60, 3), 25, np.uint8))


def test_enlarging_follows_the_weights_interpolation():
    cell = make_cell(paint(1, side=40, radius=12))
    source = square(cell, None, "black")
    for backbone, method in ((SMALL, cv2.INTER_CUBIC), ("test_resnet", cv2.INTER_LINEAR)):
        values = Embedding(size=96, weights="random", backbone=backbone).images([cell])[0]
        assert_array_equal(values, cv2.resize(source, (96, 96), interpolation=method))


# ---- rows ------------------------------------------------------------------------------------------------------------


def test_rows_are_named_float32_and_finite(weights_file, cells):
    extractor = Embedding(weights=str(weights_file))
    rows = extractor.extract(cells)
    assert rows.dtype == np.float32
    assert rows.shape == (5, 256)
    assert np.isfinite(rows).all()
    assert extractor.feature_names()[:2] == ["e0000", "e0001"]
    assert len(extractor.feature_names()) == 256


def test_no_cells_give_no_rows(weights_file):
    assert Embedding(weights=str(weights_file)).extract([]).shape == (0, 256)


def test_the_same_cells_give_the_same_bytes(weights_file, cells):
    rows = [Embedding(weights=str(weights_file)).extract(cells).tobytes() for _ in range(2)]
    assert rows[0] == rows[1]


def test_where_memory_has_no_room_batches_are_halved_and_stay_so(weights_file, cells):
    import torch

    asked, sizes = Embedding(weights=str(weights_file), batch_size=16, engine="torch", device="cpu"), []
    expected, embed = asked.extract(cells), asked.embed

    def embed_some(images):
        sizes.append(len(images))
        if len(images) > 2:
            raise torch.cuda.OutOfMemoryError("no room")
        return embed(images)

    object.__setattr__(asked, "embed", embed_some)
    np.testing.assert_allclose(asked.extract(cells), expected, rtol=1e-4, atol=1e-5)
    assert max(sizes[-2:]) <= 2
    sizes.clear()
    asked.extract(cells)
    assert max(sizes) <= 2

    def never(images):
        raise torch.cuda.OutOfMemoryError("no room for one")

    object.__setattr__(asked, "embed", never)
    with pytest.raises(torch.cuda.OutOfMemoryError):
        asked.extract(cells)


@pytest.mark.parametrize("batch_size", [1, 2, 4])
def test_a_cell_does_not_depend_on_its_batch(weights_file, cells, batch_size):
    whole = Embedding(weights=str(weights_file), batch_size=16).extract(cells)
    parts = Embedding(weights=str(weights_file), batch_size=batch_size).extract(cells)
    assert_allclose(parts, whole, rtol=1e-5, atol=1e-5)


def test_a_pickled_extractor_carries_parameters_not_tensors(weights_file, cells):
    extractor = Embedding(weights=str(weights_file))
    rows = extractor.extract(cells)
    content = pickle.dumps(extractor)
    assert len(content) < 1000
    back = pickle.loads(content)
    assert back == extractor
    assert_array_equal(back.extract(cells), rows)


def test_half_is_within_its_stated_precision(weights_file, cells):
    whole, half = (Embedding(weights=str(weights_file), half=half).extract(cells) for half in (False, True))
    assert half.dtype == np.float32
    assert_array_equal(half, half.astype(np.float16))
    assert (half != whole).any()
    assert_allclose(half, whole, rtol=5e-4, atol=3e-8)


def test_what_float16_cannot_hold_becomes_infinite_and_so_a_fault():
    assert_array_equal(as_half(np.array([65504, 70000, -1e9], np.float32)), [65504, np.inf, -np.inf])


# ---- identity --------------------------------------------------------------------------------------------------------


def print_of(**parameters):
    return registry.fingerprint(Embedding(**parameters), "1")


def test_half_is_another_network_only_where_it_is_on(weights_file):
    assert print_of(weights=str(weights_file), half=True) != print_of(weights=str(weights_file))
    assert "half" not in Embedding(weights=str(weights_file)).identity()


def test_a_moved_file_is_the_same_network_and_another_content_is_not(weights_file, tmp_path):
    from extractors.cnn.backbone import load_backbone, save_backbone

    moved = shutil.copy(weights_file, tmp_path / "moved.safetensors")
    assert print_of(weights=str(moved)) == print_of(weights=str(weights_file))
    save_backbone(load_backbone(SMALL, "random", size=64, seed=2), tmp_path / "other.safetensors")
    assert print_of(weights=str(tmp_path / "other.safetensors")) != print_of(weights=str(weights_file))


@pytest.mark.parametrize(
    "change",
    [
        {"attention": False},
        {"size": 96},
        {"view": 450},
        {"input": "cell-on-grey"},
        {"input": "field"},
        {"mean": (0.4,)},
        {"std": (0.4, 0.4, 0.4)},
        {"pad_type": "same"},
        {"backbone": "test_efficientnet_ln"},
        {"weights": "random", "backbone": SMALL},
        {"weights": "pretrained", "backbone": SMALL},
    ],
)
def test_whatever_changes_the_numbers_changes_the_fingerprint(weights_file, change):
    assert print_of(**{"weights": str(weights_file), **change}) != print_of(weights=str(weights_file))


@pytest.mark.parametrize(
    ("asked", "stored"),
    [
        (None, "9968a8974d86abed56f1ef404304e1d9"),
        ("cell", "9968a8974d86abed56f1ef404304e1d9"),
        ("cell-on-grey", "46877717473959b9c46394ed295f0baf"),
        ("field", "b2a5f97805acfba690310c07a821b6d8"),
    ],
)
def test_what_was_stored_by_an_input_is_found(asked, stored):
    common = {"weights": "random", "backbone": "test_efficientnet", "size": 64, "mean": (0.5,), "std": (0.5,)}
    assert registry.fingerprint(Embedding(**common, input=asked), "any") == stored


def test_what_does_not_change_the_numbers_does_not(weights_file):
    assert print_of(weights=str(weights_file), batch_size=3, device="cpu", seed=9) == print_of(
        weights=str(weights_file)
    )


def test_a_seed_counts_for_random_weights():
    assert print_of(weights="random", seed=1) != print_of(weights="random", seed=2)


def test_pretrained_weights_are_their_timm_tag():
    assert Embedding().identity()["weights"] == "timm/tf_efficientnetv2_b3.in21k_ft_in1k:model.safetensors"


def test_a_file_that_changes_in_use_is_noticed(weights_file, tmp_path, cells):
    from extractors.cnn.backbone import load_backbone, save_backbone

    path = Path(shutil.copy(weights_file, tmp_path / "changing.safetensors"))
    extractor = Embedding(weights=str(path))
    extractor.identity()
    save_backbone(load_backbone(SMALL, "random", size=64, seed=2), path)
    with pytest.raises(WeightsError, match="changed while it was in use"):
        extractor.extract(cells)


def test_names_and_fingerprint_need_no_weights(monkeypatch):
    """Stored features stay usable offline."""
    import huggingface_hub

    monkeypatch.setattr(huggingface_hub, "try_to_load_from_cache", lambda *_: pytest.fail("asked for weights"))
    assert len(Embedding().feature_names()) == 1536
    assert len(print_of()) == 32


@pytest.mark.parametrize("identify", [False, True])
def test_neither_import_nor_a_saved_files_identity_pays_for_torch(weights_file, identify):
    code = "import sys; from extractors.cnn.extractor import Embedding; "
    code += f"Embedding(weights={str(weights_file)!r}).identity(); " if identify else ""
    code += "print(sorted({'torch', 'timm', 'torchvision'} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT)
    assert done.stdout.strip() == "[]"


# ---- parameters ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("wrong", "named"),
    [
        ({"weights": "pretraind"}, "weights must be pretrained, random or a .safetensors file"),
        ({"weights": "model.pth"}, "weights must be"),
        ({"size": 0}, "size must be"),
        ({"view": 1_000_000}, "view must be"),
        ({"input": "white"}, "input must be cell, cell-on-grey, field"),
        ({"mean": [0.1, 0.2]}, "mean must be one or three finite numbers"),
        ({"std": [0.0]}, "std must be one or three positive numbers"),
        ({"pad_type": "reflect"}, "pad_type must be"),
        ({"batch_size": 0}, "batch_size must be"),
        ({"seed": -1}, "seed must be"),
        ({"device": "gpu"}, "device must be"),
        ({"attention": "perhaps"}, "attention"),
        ({"layers": 3}, "unknown parameter"),
    ],
)
def test_wrong_parameters_are_named(wrong, named):
    with pytest.raises(UsageError, match=named):
        registry.build_extractor("cnn", wrong)


def test_a_device_that_is_not_there_is_named(weights_file, cells):
    with pytest.raises(UsageError, match="device 'cuda:77' cannot be used"):
        Embedding(weights=str(weights_file), device="cuda:77").extract(cells)


def test_it_is_registered_and_keeps_the_protocol(weights_file):
    extractor = registry.build_extractor("cnn", {"weights": str(weights_file), "mean": [0.5]})
    assert extractor == Embedding(weights=str(weights_file), mean=(0.5,))
    assert extractor.in_main_process
    assert {f.name for f in dataclasses.fields(extractor) if f.metadata.get("file")} == {"weights"}


# ---- real weights, real cells ----------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def real_weights():
    folder = Path(os.environ.get("FUSION_WEIGHTS", ROOT.parent / "shared" / "weights"))
    path = folder / "mobilenetv2_100.safetensors"
    if not path.is_file():
        pytest.skip(f"no real weights at {path}; set FUSION_WEIGHTS to a folder that has them")
    return path


def test_a_real_network_is_what_its_file_says(real_weights):
    assert Embedding(weights=str(real_weights)).identity() == {
        "backbone": "mobilenetv2_100",
        "attention": True,
        "size": 224,
        "mean": (0.5, 0.5, 0.5),
        "std": (0.5, 0.5, 0.5),
        "interpolation": "bicubic",
        "pad_type": "same",
        "weights": f"sha256:{hashlib.sha256(real_weights.read_bytes()).hexdigest()}",
        "view": None,
        "background": "black",
    }


def test_a_real_network_tells_real_cells_apart(real_weights):
    """Lymphocytes and neutrophils: most cells are nearer to the mean of their own class than to the other's."""
    folder = real_data("seg-wbc-1")
    with (folder / "labels.csv").open() as stream:
        rows = list(csv.DictReader(stream))
    rows = [[row for row in rows if row["label"] == label][:16] for label in ("lymphocyte", "neutrophil")]
    cells = [[read_cell(folder / r["path"], folder / r["mask"]) for r in group] for group in rows]
    lymphocytes, neutrophils = (Embedding(weights=str(real_weights)).extract(group) for group in cells)
    assert lymphocytes.shape == (16, 1280)
    # The means are those of the first half, the cells asked about those of the second.
    direction = lymphocytes[:8].mean(axis=0) - neutrophils[:8].mean(axis=0)
    middle = (lymphocytes[:8].mean(axis=0) + neutrophils[:8].mean(axis=0)) / 2
    right = ((lymphocytes[8:] - middle) @ direction > 0).sum() + ((neutrophils[8:] - middle) @ direction < 0).sum()
    assert right >= 14
