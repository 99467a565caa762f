"""The registers of encoders and of public data sets, and the guard that joins them."""

import os
import re
from pathlib import Path

import pytest
import safetensors.torch
import timm
import torch

from extractors.cnn.extractor import Embedding
from fusion.data.dataset import Dataset, Sample, load_dataset
from fusion.data.registers.public_datasets import _known_images, cards, recognise
from fusion.errors import UsageError
from fusion.leakage.encoders import contamination_stamps, encoder, encoder_of, encoders
from fusion.leakage.provenance import check_unseen
from tests.builders.command_line import assert_refused, fusion

ROOT = Path(__file__).parents[3]
REAL = Path(os.environ.get("FUSION_REAL_DATA", ROOT / "../shared/data"))


def images(names, keys=None, labels=None, **how):
    keys, labels = keys or [f"{at:064x}" for at in range(len(names))], labels or [None] * len(names)
    samples = [
        Sample(Path("/data") / name, key, key, label=label)
        for name, key, label in zip(names, keys, labels, strict=True)
    ]
    return Dataset(Path("/data"), "class folders", samples, **how)


def known(name, count):
    """Keys whose first 64 bits are those of images of a public data set."""
    return [f"{number:016x}" + "0" * 48 for number in sorted(_known_images()[name])[:count]]


# ---- registers ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("one", [each for each in encoders().values() if not each.backbone.startswith("hf-hub:")])
def test_what_timm_publishes_is_as_the_register_says(one):
    from extractors.cnn._published_models import published_config

    known = timm.get_pretrained_cfg(one.backbone)
    assert published_config(one.backbone)["size"] == one.size
    assert known.license in one.licence.lower().replace(" ", "-")


@pytest.mark.parametrize("one", [each for each in encoders().values() if not each.backbone.startswith("hf-hub:")])
def test_parameters_are_counted_as_the_register_says(one):
    """Of what embeds: published counts of convolutional networks have the 1000 classes of ImageNet beside."""
    from extractors.cnn._architecture import create

    with torch.device("meta"):
        network = create(one.backbone, one.size)
    head = 1.001 * network.num_features / 1e3 if one.millions < 60 and "vit" not in one.backbone else 0.0
    count = sum(parameter.numel() for parameter in network.parameters()) / 1e6
    assert abs(count - one.millions) <= 0.5 or abs(count + head - one.millions) <= 0.5


@pytest.mark.parametrize(
    ("name", "backbone"),
    [
        ("dinobloom-s", "vit_small_patch14_dinov2"),
        ("dinobloom-b", "vit_base_patch14_dinov2"),
        ("dinobloom-l", "vit_large_patch14_dinov2"),
        ("dinobloom-g", "vit_giant_patch14_dinov2"),
        ("reddino-s", "vit_small_patch14_dinov2"),
        ("reddino-b", "vit_base_patch14_dinov2"),
        ("reddino-l", "vit_large_patch14_dinov2"),
    ],
)
def test_encoders_of_blood_are_as_large_as_the_architectures_of_their_makers(name, backbone):
    from extractors.cnn._architecture import create

    one = encoder(name)
    with torch.device("meta"):
        network = create(backbone, one.size)
    assert round(sum(parameter.numel() for parameter in network.parameters()) / 1e6) == pytest.approx(
        one.millions, abs=1
    )


def test_every_card_is_whole_and_every_pattern_can_be_read():
    assert {
        "c-nmc",
        "all-idb1",
        "all-idb2",
        "pbc",
        "munich",
        "bccd",
        "aria",
        "raabin",
        "lisc",
        "deepapl",
        "seg-wbc",
    } == set(cards())
    for card in cards().values():
        re.compile(card.names)
        assert card.traps
        assert all(getattr(card, fact) for fact in ("title", "where", "licence", "cite", "layout", "classes", "masks"))
        assert set(card.unverified) <= set(card.to_json()) | {"names"}
    for one in encoders().values():
        assert {*one.met, *one.judged} <= set(cards())
        assert not set(one.met) & set(one.judged)
        assert set(one.unverified) <= set(one.to_json())


def test_a_name_of_the_register_is_a_backbone():
    block = Embedding(backbone="efficientnetv2-b3", weights="random", size=64)
    assert block.backbone == encoder("efficientnetv2-b3").backbone
    assert Embedding(backbone="dinobloom-b").backbone == "hf-hub:1aurent/vit_base_patch14_224.dinobloom"


def test_both_are_listed_and_shown():
    assert "dinobloom-s" in fusion("encoders").stdout
    assert "13 public collections" in fusion("encoders", "dinobloom-g").stdout
    assert "99 images" in fusion("datasets", "c-nmc").stdout
    assert_refused(fusion("encoders", "dinoblom-s"), 2, "dinobloom-s")
    assert_refused(fusion("datasets", "cnmc"), 2, "c-nmc")


# ---- recognising ----------------------------------------------------------------------------------------------------


def test_a_data_set_is_known_by_what_is_said_by_content_and_by_names():
    def found(dataset):
        return [(each.card.name, each.by) for each in recognise(dataset)]

    plain = [f"{at}.jpg" for at in range(20)]
    assert found(images(plain)) == []
    assert found(images(plain, declared="lisc")) == [("lisc", "declared")]
    assert found(images(plain, [*known("pbc", 5), *(f"{at:064x}" for at in range(15))])) == [("pbc", "content")]
    named = [f"{code}_{at}.jpg" for code in ("BA", "LY") for at in range(100100, 100110)]
    assert found(images(named)) == [("pbc", "names")]
    assert found(images([*named[:10], *plain[:10]])) == []
    mixed = [*known("pbc", 4), *known("seg-wbc", 4), *(f"{at:064x}" for at in range(12))]
    assert found(images(plain, mixed)) == [("pbc", "content"), ("seg-wbc", "content")]


@pytest.mark.parametrize(
    "name",
    [
        "{at}.jpg",
        "{at:03d}.bmp",
        "{at}.bmp",
        "IMG_{at:04d}.jpg",
        "IMG_20260101_{at:06d}.jpg",
        "20260101_{at:06d}.jpg",
        "20260101_{at:06d}_{at}.jpg",
        "2026-01-01 12.00.{at}.jpg",
        "DSC{at:04d}.JPG",
        "Im{at:03d}.jpg",
        "image_{at}.png",
        "cell_{at:05d}.png",
        "P3_cell{at}.png",
        "UID_{at}.bmp",
        "UID_{at}_all.bmp",
        "LY_{at}.jpg",
        "LY_{at:05d}.jpg",
        "MON_{at:04d}.png",
        "blast_{at:04d}.tiff",
        "WBC-{at:03d}.jpg",
        "WBC-Benign-{at}.jpg",
        "BloodImage{at}.jpg",
        "train_{at}.png",
        "slide1_x{at}_y{at}.tif",
        "{at:032x}.png",
        "TCGA-AB-{at:04d}.png",
        "细胞{at}.png",
    ],
)
def test_names_that_anybody_gives_are_of_no_public_data_set(name):
    assert recognise(images([name.format(at=at) for at in range(10, 40)], labels=["blast"] * 30)) == []


def test_c_nmc_is_known_by_its_tree_and_its_names_together():
    names = [f"UID_H{at}_{at}_1_hem.bmp" for at in range(1, 9)] + [f"UID_{at}_{at}_1_all.bmp" for at in range(1, 9)]
    samples = [Sample(Path("/data") / name, f"{at:064x}", f"{at:064x}") for at, name in enumerate(names)]
    (found,) = recognise(Dataset(Path("/data"), "cnmc", samples))
    assert (found.card.name, found.by) == ("c-nmc", "names")
    assert "99 images lie there twice" in found.card.traps[0]
    assert recognise(Dataset(Path("/data"), "class folders", samples)) == []


def test_synthetic_cells_are_no_c_nmc(synthetic):
    assert recognise(load_dataset(synthetic)) == []


def test_a_data_set_that_is_not_in_the_register_is_refused(class_folders):
    assert_refused(fusion("inspect", class_folders, "--set", "dataset=pcb"), 2, "no data set 'pcb'", "pbc")


def test_inspect_names_the_card_and_its_traps(class_folders):
    result = fusion("inspect", class_folders, "--set", "dataset=all-idb2")
    assert "ALL-IDB2: as declared" in result.stdout
    assert "known trap: crops come from the fields of ALL-IDB1 and overlap" in result.stdout


# ---- the guard ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "dataset",
    [
        images([f"{at}.jpg" for at in range(20)], declared="pbc"),
        images([f"{at}.jpg" for at in range(20)], [*known("pbc", 5), *(f"{at:064x}" for at in range(15))]),
    ],
    ids=["declared", "content"],
)
def test_pbc_is_stamped_under_dinobloom_and_not_under_efficientnet(dataset, tmp_path):
    (stamp,) = contamination_stamps("cnn", "dinobloom-b", dataset)
    assert stamp.startswith("contamination possible: block 'cnn' is dinobloom")
    assert "pbc" in stamp
    assert contamination_stamps("cnn", "efficientnetv2-b3", dataset) == []
    safetensors.torch.save_file({"cls_token": torch.zeros(1, 1, 768)}, tmp_path / "DinoBloom-B.safetensors")
    bloom = Embedding(weights=str(tmp_path / "DinoBloom-B.safetensors"))
    net = Embedding(backbone="efficientnetv2-b3")
    assert check_unseen([("cnn.bloom", bloom), ("cnn.net", net)], dataset, allow=False) == [
        stamp.replace("'cnn'", "'cnn.bloom'")
    ]


@pytest.mark.parametrize(
    ("name", "how"),
    [
        ("pbc", "on which its makers judged it as they made it"),
        ("seg-wbc", "which its makers name"),
        ("c-nmc", "which may be among them"),
    ],
)
def test_a_stamp_says_how_an_encoder_may_have_met_the_cells(name, how):
    (stamp,) = contamination_stamps("cnn", "dinobloom-l", images([f"{at}.jpg" for at in range(20)], declared=name))
    assert f"these cells are of {name} (as declared), {how} [" in stamp


def test_cells_of_two_public_data_sets_are_stamped_for_each():
    mixed = images([f"{at}.jpg" for at in range(20)], [*known("pbc", 10), *known("seg-wbc", 10)])
    stamps = contamination_stamps("cnn", "dinobloom-s", mixed)
    assert sorted("pbc" in stamp for stamp in stamps) == [False, True]
    assert contamination_stamps("cnn", "efficientnetv2-b3", mixed) == []


def test_cells_of_which_nothing_is_known_are_stamped_as_unknown_under_an_encoder_of_blood():
    dataset = images([f"{at}.jpg" for at in range(20)])
    assert contamination_stamps("cnn", "dinobloom-s", dataset)[0].startswith("contamination unknown")
    assert contamination_stamps("cnn", "dinov2-s", dataset) == []


def test_an_encoder_is_known_by_its_name_its_repository_and_what_its_file_is_called():
    assert encoder_of("hf-hub:1aurent/vit_base_patch14_224.dinobloom") == "dinobloom-b"
    assert encoder_of("tf_efficientnetv2_b3.in21k_ft_in1k") == "efficientnetv2-b3"
    assert (
        encoder_of(None, "/weights/DinoBloom-B.safetensors") == "dinobloom-s"
    )  # of the family, whose sizes met the same
    assert encoder_of("/weights/own.safetensors") is None
    assert Embedding(weights="own.safetensors", pretrained="reddino-s").encoder() == "reddino-s"
    assert Embedding(backbone="dinobloom-s", weights="random").encoder() is None
    with pytest.raises(UsageError, match="no encoder 'dino'"):
        Embedding(pretrained="dino")


@pytest.mark.skipif(not REAL.is_dir(), reason="no real cells: $FUSION_REAL_DATA or ../shared/data")
def test_real_cells_of_two_laboratories_are_known_by_content():
    found = recognise(load_dataset(REAL / "four-types.csv"))
    assert {each.card.name for each in found if each.by == "content"} == {"pbc", "seg-wbc"}


@pytest.mark.skipif(not REAL.is_dir(), reason="no real cells: $FUSION_REAL_DATA or ../shared/data")
@pytest.mark.parametrize(
    ("folder", "name", "by"),
    [
        ("seg-wbc-1", "seg-wbc", "content"),
        ("pbc-barcelona", "pbc", "content"),
        ("munich", "munich", "names"),
        ("bccd", "bccd", "names"),
        ("all-aria", "aria", "content"),
    ],
)
def test_real_collections_are_known(folder, name, by):
    assert [(each.card.name, each.by) for each in recognise(load_dataset(REAL / folder / "labels.csv"))] == [(name, by)]
