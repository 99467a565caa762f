"""From one site to others: what is left of a model where stain, light, scale and compression are others, and
which step brings what.

    python -m benchmarks.laboratories synthetic --seeds 0,1,2
    python -m benchmarks.laboratories perturbed --data ../shared/data/seg-wbc-1
    python -m benchmarks.laboratories perturbed --data ../shared/data/seg-wbc-1 --networks mobilenetv2_100.safetensors

``synthetic`` trains on the first of four synthetic sites and judges the other three. ``perturbed`` takes real
cells: one half of them as they are to learn from, the other half drawn as three other sites would show it, and
then the other way round; no cell is ever on both sides. Every line goes through ``fusion train`` and
``fusion evaluate`` as anyone would call them.
"""

from __future__ import annotations

import argparse
import csv
import shutil
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from benchmarks.laboratory_networks import networks
from benchmarks.laboratory_networks import together as _together
from fusion.metrics.judgement import judge_scores
from fusion.settings.commands import EvaluateConfig, TrainConfig
from fusion.synthetic.cells import SyntheticDesign, synthesize
from fusion.synthetic.laboratories import red_cells
from fusion.workflows.evaluate import evaluate
from fusion.workflows.train import train

#: What a recipe for other sites was made of before real ones were at hand; ``configs/robust.yaml`` is chosen by
#: ``benchmarks/real_laboratories.py``.
SCALE: dict[str, Any] = {"normalise": {"scale": "median-size", "diameter": 64}}
HARMONISE: dict[str, Any] = {"harmonise": {"method": "standard", "transductive": True}}

Image = NDArray[np.uint8]

#: Augmented cells that differ by about twice what they do by default; the only other strengths that were tried.
WIDE = {
    "per_cell": 4,
    "stain": 0.4,
    "brightness": 0.2,
    "scale": 0.4,
    "blur": 2.0,
    "noise": 6.0,
    "jpeg": 50,
    "contour": 0.1,
}


#: Even light, and the stain of every cell as that of the median cell of seg-wbc-1, rounded.
LIGHT = {"white_balance": True, "reinhard": {"mean": [46.0, 34.0, -22.0], "spread": [18.0, 14.0, 16.0]}}


# ---- the recipes ----------------------------------------------------------------------------------------------------


def recipes() -> dict[str, dict[str, Any]]:
    """The plain pipeline, scale and harmonisation alone and together, and what was tried beside them."""
    robust = _together([SCALE, HARMONISE])
    scale = SCALE
    found: dict[str, dict[str, Any]] = {
        "plain": {},
        "plain + scale": scale,
        "plain + stain and light": {"normalise": LIGHT},
        "plain + harmonisation (standard)": HARMONISE,
        "scale + harmonisation": robust,
        "scale + harmonisation + stain and light": _together([robust, {"normalise": LIGHT}]),
        "scale + stain and light, no harmonisation": _together([scale, {"normalise": LIGHT}]),
    }
    found["plain + harmonisation (quantile)"] = {"harmonise": {**HARMONISE["harmonise"], "method": "quantile"}}
    found["scale + harmonisation, quantile instead"] = _together([robust, {"harmonise": {"method": "quantile"}}])
    found["scale + harmonisation, inductive"] = _together([robust, {"harmonise": {"transductive": False}}])
    augmentation, wide = {"augment": {"per_cell": 4}}, {"augment": WIDE}
    for name, steps in (("plain", {}), ("scale + harmonisation", robust), ("scale, no harmonisation", scale)):
        found[f"{name} + augmentation"] = {**steps, **augmentation}
        found[f"{name} + wide augmentation"] = {**steps, **wide}
    for name, steps in (("plain", {}), ("scale + harmonisation", robust)):
        found[f"{name} + augmentation + stability"] = {**steps, **augmentation, "stability": 0.7}
    return found


# ---- judging --------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, eq=False)
class Judged:
    """Scores of cells with what they truly are, in rows."""

    y: tuple[str, ...]
    proba: NDArray[np.float64]
    groups: tuple[str, ...]
    sources: tuple[str, ...]
    classes: tuple[str, ...]

    def only(self, sources: set[str]) -> Judged:
        """The rows of these sources."""
        at = [row for row, source in enumerate(self.sources) if source in sources]
        y, groups, of = (tuple(part[row] for row in at) for part in (self.y, self.groups, self.sources))
        return Judged(y, self.proba[at], groups, of, self.classes)

    def of(self, source: str | None = None) -> str:
        """``0.812 [0.771, 0.850]``: balanced accuracy, with an interval by subject."""
        rows = np.array([source is None or name == source for name in self.sources])
        labels = np.array(self.y, object)[rows]
        ids = np.unique(np.array(self.groups, object)[rows].astype(str), return_inverse=True)[1]
        judged = judge_scores(labels, self.proba[rows], self.classes, ids)
        figure = judged.figures["image"]["balanced_accuracy"]
        return f"{figure['value']:.2f} [{figure['low']:.2f}, {figure['high']:.2f}]"


def _joined(parts: Sequence[Judged]) -> Judged:
    return Judged(
        y=tuple(label for part in parts for label in part.y),
        proba=np.vstack([part.proba for part in parts]),
        groups=tuple(group for part in parts for group in part.groups),
        sources=tuple(source for part in parts for source in part.sources),
        classes=parts[0].classes,
    )


def _scored(result: Any, prefix: str) -> Judged:
    cells, proba = result.cells, result.scores[0].proba[0]
    rows = np.flatnonzero(~np.isnan(proba).any(axis=1))
    return Judged(
        y=tuple(str(cells.y[row]) for row in rows),
        proba=proba[rows],
        groups=tuple(f"{prefix} {cells.groups[row]}" for row in rows),
        sources=tuple(str(cells.sources[row]) for row in rows),
        classes=tuple(result.classes),
    )


def judge(
    train_data: Path, tested: Path, settings: Mapping[str, Any], work: Path, prefix: str, **common: Any
) -> tuple[Judged, Judged]:
    """(held-out cells of the training site, cells of the others) of one recipe."""
    model = work / "model"
    shutil.rmtree(model, ignore_errors=True)
    trained = train(TrainConfig(data=train_data, output=model, **{**common, **settings}))
    result = evaluate(
        EvaluateConfig(model=model, data=tested, output=work / "result", store=common["store"], jobs=common["jobs"])
    )
    shutil.rmtree(work / "result")
    return _scored(trained.result, prefix), _scored(result, prefix)


def _table(
    pairs: Sequence[tuple[Path, Path]],
    sources: Sequence[str],
    work: Path,
    wanted: Mapping[str, dict[str, Any]],
    **common: Any,
) -> None:
    print("| recipe | in the training site | in the others | " + " | ".join(sources) + " |")
    print("| --- |" + " --- |" * (2 + len(sources)))
    for name, settings in wanted.items():
        inside, outside = [], []
        for at, (train_data, tested) in enumerate(pairs):
            one, other = judge(train_data, tested, settings, work, str(at), **common)
            inside.append(one)
            outside.append(other)
        within, across = _joined(inside), _joined(outside)
        if "original" in across.sources:
            within = across.only({"original"})
        across = across.only(set(sources))
        each = " | ".join(across.of(source) for source in sources)
        print(f"| {name} | {within.of()} | {across.of()} | {each} |", flush=True)


# ---- synthetic sites -----------------------------------------------------------------------------------------


def synthetic(seeds: Sequence[int], work: Path, wanted: Mapping[str, dict[str, Any]], **common: Any) -> None:
    """Train on the first of four sites, judge the other three; several draws of sites."""
    pairs = []
    for seed in seeds:
        tree = work / f"sites-{seed}"
        if not tree.exists():
            design = SyntheticDesign(subjects=24, cells_per_subject=8, laboratories=4, seed=seed)
            synthesize(tree, design, jobs=common["jobs"])
        with (tree / "truth.csv").open(newline="", encoding="utf-8") as file:
            rows = list(csv.DictReader(file))
        pairs.append(_split_by_source(rows, tree, "lab_1"))
    _table(pairs, ["lab_2", "lab_3", "lab_4"], work, wanted, **common)


def _split_by_source(rows: Sequence[Mapping[str, str]], folder: Path, train_data: str) -> tuple[Path, Path]:
    columns = ["path", "label", "subject", "source", "mask"]
    paths = folder / "learnt.csv", folder / "tested.csv"
    for path, is_learnt in zip(paths, (True, False), strict=True):
        _write(path, columns, [row for row in rows if (row["source"] == train_data) == is_learnt])
    return paths


def _write(path: Path, columns: Sequence[str], rows: Sequence[Mapping[str, Any]]) -> None:
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, columns, extrasaction="ignore")
        writer.writeheader()
        writer.writerows(rows)


# ---- real cells, drawn as other sites would show them --------------------------------------------------------


@dataclass(frozen=True)
class Domain:
    """Another site: OD of each channel as a mix of the original three, glass (R, G, B), and the camera."""

    mix: tuple[tuple[float, float, float], ...]
    glass: tuple[float, float, float]
    scale: float
    blur: float
    noise: float
    jpeg: int
    gamma: float


#: Fixed before any recipe was tried on them.
DOMAINS = {
    "purple on white": Domain(
        ((0.85, 0.25, 0.0), (0.1, 1.15, 0.1), (0.1, 0.25, 0.35)), (238, 234, 240), 2.5, 1.6, 2, 85, 1.0
    ),
    "pink and dim": Domain(
        ((0.55, 0.05, 0.0), (0.2, 0.9, 0.2), (0.2, 0.3, 0.3)), (205, 190, 196), 1.4, 1.2, 4, 75, 1.2
    ),
    "blue and small": Domain(
        ((1.2, 0.2, 0.0), (0.15, 0.9, 0.1), (0.0, 0.15, 0.4)), (225, 236, 244), 0.7, 0.6, 2, 65, 0.85
    ),
}


def drawn(rgb: Image, mask: Image, domain: Domain, rng: np.random.Generator) -> tuple[Image, Image]:
    """The image as this site would show it, and its mask at that scale."""
    outside = rgb[mask < 64].reshape(-1, 3).astype(np.float64)
    light = outside.sum(axis=1)
    glass = np.median(outside[light >= np.median(light)], axis=0)
    od = np.maximum(np.log(np.maximum(glass, 1) / np.maximum(rgb.astype(np.float64), 1)), -0.1)
    # Cell by cell the stain takes a little more or less, as it does on any slide.
    od = (od @ np.array(domain.mix).T) * np.exp(rng.normal(0, 0.08, 3))
    around = cv2.dilate((mask >= 64).astype(np.uint8), np.ones((3, 3), np.uint8)) > 0
    pasted = red_cells(around, 0.16, rng).astype(np.float64)  # 0.16 micrometres: a white cell of 75 pixels has 12
    od = np.where(around[..., None], od, np.maximum(od, pasted))
    size = tuple(round(side * domain.scale) for side in mask.shape[::-1])
    how = cv2.INTER_AREA if domain.scale < 1 else cv2.INTER_CUBIC
    shown = cv2.resize(np.array(domain.glass) * np.exp(-od * domain.gamma), size, interpolation=how)
    shown = cv2.GaussianBlur(shown, (0, 0), domain.blur) + domain.noise * rng.standard_normal(shown.shape)
    image = np.clip(np.rint(shown), 0, 255).astype(np.uint8)
    encoded = cv2.imencode(".jpg", cv2.cvtColor(image, cv2.COLOR_RGB2BGR), [cv2.IMWRITE_JPEG_QUALITY, domain.jpeg])[1]
    levels = cv2.resize(mask, size, interpolation=cv2.INTER_NEAREST)
    return encoded, levels


def perturbed(
    data: Path,
    work: Path,
    wanted: Mapping[str, dict[str, Any]],
    with_masks: bool,
    rare: tuple[str, float],
    **common: Any,
) -> None:
    """Learn from one half of the real cells, judge the other half as other sites would show it, and in turn.

    Of the class ``rare`` only that share of the cells is judged.
    """
    with (data / "labels.csv").open(newline="", encoding="utf-8") as file:
        rows = [row for row in csv.DictReader(file) if row["label"] != "basophil"]  # there is one
    # Some images are there twice under two names: the guard would refuse one on either side.
    rows = list({(data / row["path"]).read_bytes(): row for row in rows}.values())
    rng = np.random.default_rng(0)
    order = rng.permutation(len(rows))
    first = np.zeros(len(rows), bool)
    for label in sorted({row["label"] for row in rows}):
        of = [at for at in order if rows[at]["label"] == label]
        first[of[: len(of) // 2]] = True
    original = [
        {
            "path": str((data / row["path"]).resolve()),
            "mask": str((data / row["mask"]).resolve()) if with_masks else "",
            "label": row["label"],
            "source": "original",
            "group": str(number),
        }
        for number, row in enumerate(rows)
    ]
    folder = work / "perturbed"
    folder.mkdir(exist_ok=True)
    others: dict[str, list[dict[str, str]]] = {}
    for at, (name, domain) in enumerate(DOMAINS.items()):
        for number, row in enumerate(rows):
            path = folder / f"{at}-{number}.jpg"
            mask_path = path.with_suffix(".png")
            if not mask_path.exists():
                rgb = cv2.cvtColor(cv2.imread(str(data / row["path"])), cv2.COLOR_BGR2RGB)
                mask = cv2.imread(str(data / row["mask"]), cv2.IMREAD_GRAYSCALE)
                encoded, levels = drawn(rgb, mask, domain, np.random.default_rng([at, number]))
                path.write_bytes(encoded.tobytes())
                mask_path.write_bytes(cv2.imencode(".png", levels)[1].tobytes())
            entry = {
                "path": path.name,
                "mask": mask_path.name if with_masks else "",
                "label": row["label"],
                "source": name,
                "group": str(number),
            }
            others.setdefault(name, []).append(entry)
    pairs = []
    for half in (first, ~first):
        paths = folder / f"learnt-{len(pairs)}.csv", folder / f"tested-{len(pairs)}.csv"
        columns = ["path", "label", "source", "mask", "group"]
        _write(paths[0], columns, [row for at, row in enumerate(original) if half[at]])
        # The other half as it is, too: what is lost by another domain is lost by the same model on the same cells.
        domains = [original, *others.values()]
        judged = [at for at in np.flatnonzero(~half) if original[at]["label"] != rare[0]]
        scarce = [at for at in np.flatnonzero(~half) if original[at]["label"] == rare[0]]
        judged += scarce[: round(rare[1] * len(scarce))]
        _write(paths[1], columns, [of[at] for of in domains for at in sorted(judged)])
        pairs.append(paths)
    # One held-out part is enough for train, and half the work: the other half, as it is, is judged by evaluate.
    _table(pairs, list(DOMAINS), work, wanted, holdout=True, splits=2, **common)


def main() -> None:
    """Print a table for the page."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("what", choices=["synthetic", "perturbed"])
    parser.add_argument("--seeds", default="0")
    parser.add_argument("--data", type=Path)
    parser.add_argument("--without-masks", action="store_true")
    parser.add_argument("--rare", default=":1", help="CLASS:SHARE of its cells that are judged; perturbed only")
    parser.add_argument("--classifier", default="svm")
    parser.add_argument("--features", default="", help="blocks with , between them; default all handcrafted ones")
    parser.add_argument("--weights", help="for cnn: a .safetensors file, 'pretrained', or 'random'")
    parser.add_argument("--backbone", help="for cnn: any timm model")
    parser.add_argument("--recipes", default="", help="names with ; between them; default all")
    parser.add_argument("--work", type=Path, help="keep images and features here")
    parser.add_argument("--jobs", type=int, default=0)
    parser.add_argument(
        "--networks", type=Path, help="recipes of networks that start from these weights of MobileNetV2"
    )
    parser.add_argument("--seed", type=int, default=0, help="of the networks")
    asked = parser.parse_args()
    known = networks(asked.networks, asked.seed) if asked.networks else recipes()
    wanted = {name: known[name] for name in asked.recipes.split(";")} if asked.recipes else known
    with tempfile.TemporaryDirectory() as folder:
        work = asked.work or Path(folder)
        work.mkdir(parents=True, exist_ok=True)
        network = {"weights": asked.weights, "backbone": asked.backbone}
        given = {name: value for name, value in network.items() if value is not None}
        common = {
            "store": work / "store",
            "jobs": asked.jobs,
            "classifier": asked.classifier,
            "features": asked.features,
            "extractors": {"cnn": given} if given else {},
        }
        if asked.what == "synthetic":
            synthetic([int(seed) for seed in asked.seeds.split(",")], work, wanted, **common)
        else:
            name, _, share = asked.rare.partition(":")
            perturbed(asked.data, work, wanted, not asked.without_masks, (name, float(share)), **common)


if __name__ == "__main__":
    main()
