"""Which shortcuts the audit finds that are planted in real cells, and how often it warns where nothing was planted.

    python -m benchmarks.planted_shortcuts CELLS.csv --label neutrophil --cells 80
    python -m benchmarks.planted_shortcuts CELLS.csv --shuffled 200

Cells of one kind are dealt to two classes by lot, so that nothing tells the class but what is planted: in every image
of one class in full strength ("full"), in half of its images ("half of the images"), or in all of them half as strong
("half as strong", where a word has no half). For each stands the probe that should find it, whether it did, the rank
of its AUROC among all probes, and what ranks first.

With ``--shuffled`` labels are dealt to images by lot, to one image at a time, evenly and one to ten, as they come, and
to 8 and 20 subjects whose images look alike; an audit should warn of anything at all in at most 5 of 100.
"""

from __future__ import annotations

import argparse
import io
import os
import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image

from fusion.analysis.shortcuts.audit import ShortcutAudit, audit_shortcuts, judge_traces
from fusion.analysis.shortcuts.image_traces import collect_traces
from fusion.data.dataset import Dataset, load_dataset
from fusion.images.cell import decode_image, read_bytes

#: Ten days, and the day that all files are of, in seconds.
_TEN_DAYS, _DAY_OF_FILES = 864_000, 1_700_000_000


@dataclass(frozen=True)
class Picture:
    """An image on its way to a file."""

    rgb: NDArray[np.uint8]
    folder: str = "images"
    stem: str = "cell"
    suffix: str = ".png"
    options: dict[str, Any] = field(default_factory=dict)
    source: str = "here"
    written: float = _DAY_OF_FILES
    #: Where in the table and in the numbers of files it stands, beside its lot between 0 and 1.
    later: float = 0.0


Plant = Callable[[Picture, float], Picture]


def _background(picture: Picture, strength: float) -> Picture:
    return replace(picture, rgb=_clipped(picture.rgb + np.array([0.0, 0.0, -12 * strength])))


def _frame(picture: Picture, strength: float) -> Picture:
    rgb, wide = picture.rgb.copy(), max(1, round(3 * strength))
    rgb[:wide], rgb[-wide:], rgb[:, :wide], rgb[:, -wide:] = 0, 0, 0, 0
    return replace(picture, rgb=rgb)


def _dot(picture: Picture, strength: float) -> Picture:
    rgb, side = picture.rgb.copy(), max(2, round(6 * strength))
    rgb[2 : 2 + side, 2 : 2 + side] = (255, 0, 0)
    return replace(picture, rgb=rgb)


def _scale_bar(picture: Picture, strength: float) -> Picture:
    rgb, long = picture.rgb.copy(), round(0.25 * strength * picture.rgb.shape[1])
    rgb[-8:-6, -6 - long : -6] = 0
    return replace(picture, rgb=rgb)


def _stamp(picture: Picture, strength: float) -> Picture:
    rgb = picture.rgb.copy()
    cv2.putText(rgb, "12:30", (3, rgb.shape[0] - 5), cv2.FONT_HERSHEY_PLAIN, 0.7 * strength, (255, 255, 0), 1)
    return replace(picture, rgb=rgb)


def _size(picture: Picture, strength: float) -> Picture:
    less = max(1, round(4 * strength))
    return replace(picture, rgb=np.ascontiguousarray(picture.rgb[less:-less, less:-less]))


def _gradient(picture: Picture, strength: float) -> Picture:
    light = 1 + 0.08 * strength * np.linspace(-1, 1, picture.rgb.shape[1])[None, :, None]
    return replace(picture, rgb=_clipped(picture.rgb * light))


def _vignette(picture: Picture, strength: float) -> Picture:
    y, x = (np.linspace(-1, 1, side) for side in picture.rgb.shape[:2])
    light = 1 - 0.08 * strength * (y[:, None] ** 2 + x**2)
    return replace(picture, rgb=_clipped(picture.rgb * light[..., None]))


def _blur(picture: Picture, strength: float) -> Picture:
    return replace(picture, rgb=cv2.GaussianBlur(picture.rgb, (0, 0), strength))


def _off_centre(picture: Picture, strength: float) -> Picture:
    less = round(0.08 * strength * picture.rgb.shape[1])
    # Of the same size as before, so that the size says nothing.
    moved = cv2.copyMakeBorder(picture.rgb[:, less:], 0, 0, 0, less, cv2.BORDER_REFLECT)
    return replace(picture, rgb=moved)


def _saved_before(picture: Picture, strength: float) -> Picture:
    quality = [cv2.IMWRITE_JPEG_QUALITY, round(100 - 60 * strength)]
    content = cv2.imencode(".jpg", picture.rgb, quality)[1]
    return replace(picture, rgb=cv2.imdecode(content, cv2.IMREAD_COLOR))


def _quality(picture: Picture, strength: float) -> Picture:
    return replace(picture, options={"quality": round(95 - 10 * strength)})


def _camera(picture: Picture, strength: float) -> Picture:
    exif = Image.Exif()
    exif[271] = "Zeiss"
    return replace(picture, options={**picture.options, "exif": exif})


@dataclass(frozen=True)
class Kind:
    """What is planted.

    Attributes
    ----------
    probes : that should find it, any of them.
    has_half : whether it can be half as strong.
    suffix : of all files.
    """

    probes: tuple[str, ...]
    plant: Plant
    has_half: bool = True
    suffix: str = ".png"


KINDS = {
    "background 12 levels less blue": Kind(("background",), _background),
    "black frame of 3 pixels": Kind(("border",), _frame),
    "red dot of 6 pixels in a corner": Kind(("marks",), _dot),
    "scale bar, a quarter of the width": Kind(("marks",), _scale_bar),
    "time stamp": Kind(("marks",), _stamp),
    "light 8% stronger to the right": Kind(("illumination",), _gradient),
    "corners 16% darker": Kind(("illumination",), _vignette),
    "blur, sigma 1 pixel": Kind(("focus",), _blur),
    "cell 8% off the middle": Kind(("position of the cell",), _off_centre),
    "8 pixels smaller": Kind(("image size",), _size),
    "BMP for PNG": Kind(("file format",), lambda picture, _: replace(picture, suffix=".bmp"), False),
    "EXIF camera": Kind(("EXIF camera",), _camera, False),
    "JPEG 85 for 95": Kind(("compression",), _quality, True, ".jpg"),
    "JPEG 40, then PNG": Kind(("compression",), _saved_before),
    "source": Kind(("source",), lambda picture, _: replace(picture, source="there"), False),
    "folder": Kind(("folder",), lambda picture, _: replace(picture, folder="batch"), False),
    "word in the file name": Kind(("words of the file name",), lambda picture, _: replace(picture, stem="scan"), False),
    "later by ten days": Kind(
        ("time of the file",), lambda picture, strength: replace(picture, written=_DAY_OF_FILES + _TEN_DAYS * strength)
    ),
    "later in the order": Kind(
        ("number in the file name", "row of the table"), lambda picture, strength: replace(picture, later=strength)
    ),
}

#: Share of a class's images that it is planted in, and how strong.
STRENGTHS = {"full": (1.0, 1.0), "half of the images": (0.5, 1.0), "half as strong": (1.0, 0.5)}


def _clipped(image: NDArray[Any]) -> NDArray[np.uint8]:
    return np.asarray(image.clip(0, 255), np.uint8)


def write_planted(
    folder: Path, images: Sequence[NDArray[np.uint8]], kind: Kind, share: float, strength: float, seed: int
) -> Path:
    """A table of the images, half of which are of class b, a share of these with what was planted."""
    rng = np.random.default_rng(seed)
    is_b = rng.permutation(np.arange(len(images)) % 2 == 1)
    has_it = is_b & (rng.permutation(len(images)) / len(images) < share) if share < 1 else is_b
    pictures = [Picture(rgb, suffix=kind.suffix, options={"quality": 95}) for rgb in images]
    pictures = [kind.plant(each, strength) if has else each for each, has in zip(pictures, has_it, strict=True)]
    lots = rng.random(len(images)) + [each.later for each in pictures]
    rows = []
    for number, at in enumerate(np.argsort(lots).tolist()):
        path = folder / pictures[at].folder / f"{pictures[at].stem}-{number:04d}{pictures[at].suffix}"
        _save(path, pictures[at])
        rows.append(f"{path.relative_to(folder)},{'ab'[int(is_b[at])]},{pictures[at].source}")
    table = folder / "cells.csv"
    table.write_text("path,label,source\n" + "\n".join(rows) + "\n")
    return table


def _save(path: Path, picture: Picture) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    options = {name: value for name, value in picture.options.items() if name != "quality" or path.suffix == ".jpg"}
    sink = io.BytesIO()
    Image.fromarray(picture.rgb).save(sink, path.suffix[1:].replace("jpg", "jpeg"), **options)
    path.write_bytes(sink.getvalue())
    os.utime(path, (picture.written, picture.written))


def report_planted(dataset: Dataset, label: str, cells: int, seed: int, only: str) -> None:
    """A line for each kind and strength."""
    own = [sample for sample in dataset.samples if sample.label == label]
    drawn = np.random.default_rng([seed, 1]).permutation(len(own))[: 2 * cells]
    images = [decode_image(read_bytes(own[at].path)) for at in drawn]
    print(f"{len(images)} cells ({label}), seed {seed}\nplanted | strength | found | AUROC | rank | ranks first")
    for name, kind in KINDS.items():
        if only not in name:
            continue
        for word, (share, strength) in STRENGTHS.items():
            if strength < 1 and not kind.has_half:
                continue
            with tempfile.TemporaryDirectory() as folder:
                table = write_planted(Path(folder), images, kind, share, strength, seed)
                found = audit_shortcuts(load_dataset(table, store=Path(folder) / "store"), seed, jobs=1)
            print(f"{name} | {word} | {_line(found, kind)}", flush=True)


def _line(found: ShortcutAudit, kind: Kind) -> str:
    """Whether it was found, with what AUROC, at which rank, and what is first."""
    rank, best = next((at, each) for at, each in enumerate(found.probes, 1) if each.name in kind.probes)
    others = [each.name for each in found.shortcuts if each.name not in kind.probes]
    return (
        f"{'yes' if best.is_shortcut else 'NO'} | {best.auroc:.2f} [{best.low:.2f}, {best.high:.2f}] | {rank} | "
        f"{found.probes[0].name}; found too: {', '.join(others) or 'none'}"
    )


def _shuffled(
    labels: NDArray[Any], shade: NDArray[np.float64], seed: int
) -> Iterator[tuple[str, NDArray[np.intp], NDArray[Any], NDArray[np.intp]]]:
    """Designs: their name, positions of the images that take part, their labels by lot, and their groups."""
    rng = np.random.default_rng(seed)
    some = np.sort(rng.permutation(len(labels))[:300])
    alone = np.arange(len(some))
    yield "two classes", some, rng.choice(np.array(["a", "b"], object), len(some)), alone
    yield "one to ten", some, rng.permutation(np.where(alone % 11 == 0, "a", "b").astype(object)), alone
    yield "as they come", some, rng.permutation(labels[some]), alone
    for subjects in (8, 20):
        # Images of a subject look alike: their shade is near, as that of one slide is.
        order = np.argsort(np.argsort(np.argsort(shade[some])) + rng.normal(0, 0.25 * len(some), len(some)))
        groups = np.empty(len(some), np.intp)
        groups[order] = alone * subjects // len(some)
        of_subject = rng.permutation(np.where(np.arange(subjects) % 2 == 0, "a", "b").astype(object))
        yield f"{subjects} subjects", some, of_subject[groups], groups


def report_shuffled(dataset: Dataset, times: int) -> None:
    """How many audits of labels by lot warn of anything."""
    positions = np.sort(np.random.default_rng(0).permutation(len(dataset))[:1200])
    labels = np.array([str(dataset.samples[at].label) for at in positions], object)
    traces = collect_traces(dataset, positions.tolist(), 1)
    shade = np.nan_to_num(traces["background"][:, 0])
    alarms: dict[str, int] = {}
    for seed in range(times):
        for name, some, drawn, groups in _shuffled(labels, shade, seed):
            counts = {label: len(np.unique(groups[drawn == label])) for label in set(drawn.tolist())}
            kept = np.isin(drawn, [label for label, count in counts.items() if count >= 4])
            shown = {probe: X[some][kept] for probe, X in traces.items()}
            alarms[name] = alarms.get(name, 0) + bool(judge_traces(shown, drawn[kept], groups[kept], seed).shortcuts)
    for name, count in alarms.items():
        print(f"{name:14s} {count / times:.1%} ({count} of {times})", flush=True)


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("--label", default="neutrophil", help="the kind of cells that shortcuts are planted in")
    parser.add_argument("--cells", type=int, default=80, help="of each class")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--only", default="", help="kinds with this in their name")
    parser.add_argument("--shuffled", type=int, default=0, metavar="TIMES", help="count false alarms instead")
    options = parser.parse_args(arguments)
    dataset = load_dataset(options.data)
    if options.shuffled:
        report_shuffled(dataset, options.shuffled)
    else:
        report_planted(dataset, options.label, options.cells, options.seed, options.only)


if __name__ == "__main__":
    main()
