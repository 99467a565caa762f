"""What a page of the documentation takes as given: small synthetic cells and random weights under the names it uses.

Run as a program, ``python stand_ins.py FOLDER PAGE``, it needs nothing but an installed Fusion.
"""

from __future__ import annotations

import importlib.util
import re
import shutil
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]
sys.path.append(str(ROOT))  # after what is installed: it is the wheel's cells that stand in

from tests.documentation import commands  # noqa: E402

#: Folder and table of the preliminary test, as C-NMC 2019 is unpacked.
PRELIMINARY = "C-NMC_test_prelim_phase_data"

#: A recipe whose network starts from published weights, which stand in here as if they had been fetched before.
NEEDS_WEIGHTS = "--config cnmc"


def stand_in(folder: Path, page: str) -> None:
    """Make in ``folder`` whatever the text of a page names."""
    from fusion.synthetic.cells import SyntheticDesign, synthesize

    shutil.copytree(ROOT / "examples", folder / "examples")
    if re.search(r"C-NMC_training_data|\bcells\.csv", page):
        synthesize(folder / "C-NMC_training_data", SyntheticDesign(subjects=8, cells_per_subject=4), jobs=1)
        rows = [
            f"{path.relative_to(folder)},{path.stem.split('_')[4]},{path.stem.split('_')[1]}"
            for path in sorted(folder.rglob("*.bmp"))
        ]
        (folder / "cells.csv").write_text("path,label,subject\n" + "\n".join(rows) + "\n")
    if "--part preliminary" in page:
        _preliminary_test(folder / "C-NMC")
    if "seg-wbc-1" in page:
        _white_blood_cells(folder / "seg-wbc-1")
    if "mobilenetv2_100.safetensors" in page:
        _random_weights(folder / "mobilenetv2_100.safetensors", "mobilenetv2_100")
    if any(NEEDS_WEIGHTS in step.text for step in commands.steps(page)) and importlib.util.find_spec("torch"):
        _published_weights(folder.parent / commands.HUB_CACHE, "tf_efficientnetv2_b3")


def shorten_recipes(folder: Path) -> None:
    """Recipes of two epochs and one deal of the folds, which a command finds before those of the package.

    Whether a recipe trains is asked elsewhere; that a command takes it is seen after two epochs.
    """
    (folder / "configs").mkdir()
    for config in (ROOT / "configs").glob("*.yaml"):
        short = re.sub(r"^( +epochs:) \d+", r"\1 2", config.read_text(), flags=re.MULTILINE)
        short = re.sub(r"^repeats: \d+", "repeats: 1", short, flags=re.MULTILINE)
        (folder / "configs" / config.name).write_text(short)
        (folder / config.stem).write_text(short)


def _preliminary_test(folder: Path) -> None:
    """Cells of other subjects than the training part's, with the names and the table that the release has for them."""
    from fusion.synthetic.cells import SyntheticDesign, synthesize

    images = folder / PRELIMINARY
    synthesize(folder / "drawn", SyntheticDesign(subjects=6, cells_per_subject=4, seed=1), jobs=1)
    images.mkdir()
    rows = ["Patient_ID,new_names,labels"]
    for at, path in enumerate(sorted((folder / "drawn").rglob("*.bmp")), 1):
        _, subject, image, cell, label = path.stem.split("_")
        # Other people than those of the training part have other numbers.
        name = f"UID_{re.sub('[0-9]+', lambda number: str(100 + int(number[0])), subject)}_{image}_{cell}_{label}.bmp"
        path.rename(images / f"{at}.bmp")
        rows.append(f"{name},{at}.bmp,{1 if label == 'all' else 0}")
    shutil.rmtree(folder / "drawn")
    (folder / f"{PRELIMINARY}_labels.csv").write_text("\n".join(rows) + "\n")


def _white_blood_cells(folder: Path) -> None:
    from tests.builders.images import paint, write_image

    names = ["neutrophil", "lymphocyte", "monocyte", "eosinophil"]
    rows = ["images/000.bmp,basophil"]
    write_image(folder / "images" / "000.bmp", paint(0))
    for at in range(1, 41):
        write_image(folder / "images" / f"{at:03d}.bmp", paint(at, radius=14 + 3 * (at % 4)))
        rows.append(f"images/{at:03d}.bmp,{names[at % 4]}")
    (folder / "labels.csv").write_text("path,label\n" + "\n".join(rows) + "\n")


def _random_weights(file: Path, backbone: str) -> None:
    import safetensors.torch
    import timm
    import torch

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        network = timm.create_model(backbone)
    safetensors.torch.save_file(network.state_dict(), file, {"architecture": backbone})


def _published_weights(cache: Path, backbone: str) -> None:
    """Random weights where those that timm publishes lie once they have been fetched."""
    import timm

    repository = timm.get_pretrained_cfg(backbone).hf_hub_id.replace("/", "--")
    revision = "0" * 40
    model = cache / f"models--{repository}"
    (model / "refs").mkdir(parents=True)
    (model / "refs" / "main").write_text(revision)
    (model / "snapshots" / revision).mkdir(parents=True)
    _random_weights(model / "snapshots" / revision / "model.safetensors", backbone)


if __name__ == "__main__":
    stand_in(Path(sys.argv[1]), Path(sys.argv[2]).read_text())
