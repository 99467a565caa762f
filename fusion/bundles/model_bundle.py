"""A trained model as a folder that can be moved, read again, and trusted not to run code.

``model.json`` names every other file with its sha256; a file that is not named, or is another one, is refused. The
fusion layer is plain arrays (safetensors), and so are classifiers, or XGBoost's JSON; there is no pickle anywhere.
"""

from __future__ import annotations

import dataclasses
import json
import re
import shutil
import stat
import unicodedata
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self, get_args

import numpy as np
from numpy.typing import NDArray

from fusion.bundles._late_fusion_files import (
    CLASSIFIER,
    LAYER,
    is_file_of_late_fusion,
    load_late_fusion,
    load_layer,
    plain,
    write_late_fusion,
    write_layer,
)
from fusion.bundles._model_folder import MANIFEST, MAX_MANIFEST, write_folder
from fusion.bundles._model_folder import check_writable as check_writable
from fusion.bundles.bundle_files import BundleError, NoModelError, confined, load_arrays, write_arrays
from fusion.data.feature_table import FeatureTable
from fusion.errors import FusionError, UsageError
from fusion.evaluation.promises.held_out import Asked, Promises
from fusion.evaluation.scores import IMAGE
from fusion.feature_transforms.block_columns import block_slices
from fusion.feature_transforms.stable_features import Selection
from fusion.features.blocks import Block, blocks_of, instances
from fusion.features.image_cache import InputTransform
from fusion.image_transforms.normaliser import Normaliser
from fusion.images.cell import PREPARATION
from fusion.io.files import file_sha256, write_atomically
from fusion.io.notebook_table import notebook_table
from fusion.io.strict_json import parse_json
from fusion.leakage.provenance import Provenance
from fusion.learning.bags.mean_of_cells import for_unit, takes_bags
from fusion.learning.decision.calibration import Calibration
from fusion.learning.decision.late_fusion import LateFusion
from fusion.learning.fused_model import FusedModel
from fusion.learning.novelty import Novelty
from fusion.learning.recipe import entry_label
from fusion.learning.study import Images, Study
from fusion.learning.training_quantiles import Reference
from fusion.plugins import registry
from fusion.plugins.extractors import Extractor, Precomputed
from fusion.plugins.networks import TakesImages
from fusion.settings.data import Unit

if TYPE_CHECKING:
    import pandas as pd

    from fusion.feature_transforms.harmonisation import Harmoniser

#: Raised whenever an older Fusion could not read the folder.
FORMAT = 15

#: A network by a folder, which a stored model has no more: its parameters are the folder's, and its weights a file.
_LOCAL = "local-dir:"

#: The arrays of a model beside those of its classifier.
_ARRAYS = {LAYER, *(f"{part}.safetensors" for part in ("harmoniser", "novelty", "reference"))}

#: The settings of the training, to be read by a person or by ``--config``.
CONFIG = "config.yaml"

#: The largest file that a model has: a network of a billion parameters in 32 bits, or an SVM's vectors; the largest of
#: arrays beside those of its classifier, some numbers for each column; and the largest of any other kind.
_MAX_FILE, _MAX_ARRAYS, _MAX_TEXT = 4 << 30, 1 << 29, 1 << 28

#: What probabilities may sum to beside 1: those of trees are of 32 bits.
_ROUNDING = 1e-5


@dataclass(frozen=True, eq=False)
class ModelBundle:
    """A fitted model with everything that predicting needs.

    Attributes
    ----------
    model : fusion layer and classifier.
    classifier : its registered name; of a late fusion that of its blocks' classifiers.
    blocks : by name, each with its extractor, in the order of the columns.
    columns : ``block.feature`` of every input column.
    positive : the class that sensitivity is about, None for more than two classes.
    provenance : hashes of the images, subjects and groups trained on.
    facts : what is worth knowing about the training: held-out figures, data set, versions. Plain values.
    novelty : tells cells that are out of distribution; None for a model without features.
    reference : how the features are spread over the training cells, to explain a value by; None where not learnt.
    normaliser : what pixels are changed by before they are measured, None for nothing.
    config : the settings that it was trained with, as YAML for ``fusion train --config``; "" where not kept. Never read
        by the model itself.
    promises : what it promises of new cells and subjects, and the held-out scores that rests on; None where unknown.
    unit : what it judges: a cell, or a subject by the bag of its cells.

    Examples
    --------
    >>> ModelBundle.load("model").features  # doctest: +SKIP
    ('morphology',)
    """

    model: FusedModel
    classifier: str
    blocks: tuple[Block, ...]
    columns: tuple[str, ...]
    positive: str | None
    provenance: Provenance
    facts: Mapping[str, Any]
    novelty: Novelty | None = None
    reference: Reference | None = None
    normaliser: Normaliser | None = None
    config: str = ""
    promises: Promises | None = None
    unit: Unit = "cell"

    def __repr__(self) -> str:
        return f"ModelBundle({' + '.join(self.features)}, {self.label}: {', '.join(self.classes)})"

    def _repr_html_(self) -> str:
        return notebook_table(repr(self), self._described_blocks)

    def _described_blocks(self) -> pd.DataFrame:
        """A row for each block: its name, and how many features it has."""
        import pandas as pd

        rows = [(name, part.stop - part.start) for name, part in block_slices(self.columns).items()]
        return pd.DataFrame(rows, columns=["block", "features"])

    @property
    def classes(self) -> list[str]:
        """Class labels in the order of the probabilities' columns."""
        return self.model.classes

    @property
    def label(self) -> str:
        """What results call the classifier: ``svm``, or ``svm-late`` where it is a late fusion."""
        return entry_label(self.classifier, "late" if isinstance(self.model.classifier, LateFusion) else "weighted")

    @property
    def features(self) -> tuple[str, ...]:
        """What it has learnt from, as results name it."""
        images = (IMAGE,) if isinstance(self.model.classifier, TakesImages) else ()
        return (*images, *(block.name for block in self.blocks))

    def promising(self, asked: Asked) -> Promises | None:
        """What it promises: what is asked for, or what was when it was trained; None for nothing.

        Raises
        ------
        UsageError : more than its training subjects allow, or of a model that keeps no held-out scores.
        """
        if asked.is_nothing:
            return None if self.promises is None or self.promises.asked.is_nothing else self.promises
        if self.promises is None:
            raise UsageError(
                "this model has no held-out scores to promise by", do="Train it again with this version of Fusion."
            )
        return self.promises.with_asked(asked)

    @property
    def transforms(self) -> list[InputTransform]:
        """The input transform by which the classifier takes images; none where it takes features alone."""
        classifier = self.model.classifier
        return [classifier.input_transform()] if isinstance(classifier, TakesImages) else []

    def with_own(self, files: Mapping[str, str]) -> ModelBundle:
        """The same model, its blocks ``own.NAME`` out of these files: name -> file.

        Raises
        ------
        UsageError : the model has no such block.
        """
        own = {block.name: block for block in self.blocks if isinstance(block.extractor, Precomputed)}
        if unknown := [name for name in files if f"own.{name}" not in own]:
            raise UsageError(
                f"--own {unknown[0]} is no block of this model",
                found=", ".join(files),
                expected=", ".join(name.removeprefix("own.") for name in own) or "no --own: it has no such block",
            )
        if not files:
            return self

        def given(block: Block) -> Block:
            file = files.get(block.name.removeprefix("own."))
            extractor = block.extractor
            if file is None or block.name not in own or not isinstance(extractor, Precomputed):
                return block
            return dataclasses.replace(block, extractor=extractor.with_file(file))

        return dataclasses.replace(self, blocks=tuple(given(block) for block in self.blocks))

    def predict_proba(self, study: Study) -> NDArray[np.float64]:
        """float64 (n, classes) for cells that were measured by this model's blocks and input transform.

        Raises
        ------
        BundleError : they have other columns than the model was trained on.
        """
        table = study.table
        if table.columns != self.columns:
            missing = [name for name in self.columns if name not in table.columns]
            raise BundleError(
                "the features are not those the model was trained on",
                found=f"{len(table.columns)} columns" + (f" without {', '.join(missing[:3])}" if missing else ""),
                expected=f"{len(self.columns)} columns from {', '.join(block.name for block in self.blocks)}",
            )
        for transform in self.transforms:
            return self.model.predict_proba(study.inputs(transform, list(table.blocks), study.everyone))
        return self.model.predict_proba(table.X, table.sources)

    def save(self, folder: Path | str) -> None:
        """Write the folder whole or not at all; an older model of the same name is replaced.

        Raises
        ------
        BundleError : ``folder`` exists and is something else than a model.
        """
        write_folder(Path(folder), self._write)

    def _write(self, folder: Path) -> None:
        late = None
        if isinstance(self.model.classifier, LateFusion):
            late = write_late_fusion(folder, self.model.classifier)
        else:
            (folder / CLASSIFIER).mkdir()
            self.model.classifier.save(folder / CLASSIFIER)
        layer = write_layer(folder, self.model.layer)
        harmonise = None
        if self.model.harmoniser is not None:
            harmonise, arrays = self.model.harmoniser.state()
            write_arrays(folder / "harmoniser.safetensors", arrays)
        novelty = None
        if self.novelty is not None:
            novelty, arrays = self.novelty.state()
            write_arrays(folder / "novelty.safetensors", arrays)
        if self.reference is not None:
            write_arrays(folder / "reference.safetensors", self.reference.state())
        if self.config:
            write_atomically(folder / CONFIG, self.config.encode())
        manifest = {
            "format": FORMAT,
            "classes": self.classes,
            "positive": self.positive,
            "columns": list(self.columns),
            "classifier": self.classifier,
            "unit": self.unit,
            "layer": layer,
            "late": late,
            "calibration": None if self.model.calibration is None else self.model.calibration.to_json(),
            "threshold": self.model.threshold,
            "costs": None if self.model.costs is None else self.model.costs.tolist(),
            "normalise": None if self.normaliser is None else self.normaliser.to_json(),
            "harmonise": harmonise,
            "selection": None if self.model.selection is None else self.model.selection.to_json(),
            "novelty": None if novelty is None else plain(novelty),
            "reference": self.reference is not None,
            "promises": None if self.promises is None else self.promises.to_json(),
            "extractors": [_describe(*instance, folder) for instance in instances(self.blocks).items()],
            "provenance": self.provenance.to_json(),
            "facts": self.facts,
        }
        files = {
            path.relative_to(folder).as_posix(): file_sha256(path)
            for path in sorted(folder.rglob("*"))
            if path.is_file()
        }
        write_atomically(folder / MANIFEST, json.dumps({**manifest, "files": files}, indent=1).encode())

    @classmethod
    def load(cls, folder: Path | str) -> Self:
        """Read a model folder after checking every file in it.

        Raises
        ------
        BundleError : see the class; nothing in the folder is executed.
        """
        folder = Path(folder)
        manifest = _read_manifest(folder)
        _check_files(folder, manifest)
        try:
            _check_names(manifest)
            blocks = _rebuild_blocks(manifest, folder)
            if (unit := manifest["unit"]) not in get_args(Unit):
                raise BundleError("the model judges neither cells nor subjects", found=repr(unit)[:60])
            late = manifest["late"]
            if late is None:
                kind = registry.classifier_class(manifest["classifier"])
                classifier: Any = for_unit(kind.load(folder / CLASSIFIER), unit)
            else:
                columns = block_slices(manifest["columns"])
                classifier = load_late_fusion(folder, late, manifest["classifier"], columns, unit)
            selection, promised = manifest["selection"], manifest["promises"]
            calibration = manifest["calibration"]
            model = FusedModel(
                load_layer(folder, manifest["layer"]),
                classifier,
                None if calibration is None else Calibration.from_json(calibration),
                None if manifest["threshold"] is None else float(manifest["threshold"]),
                _load_harmoniser(folder, manifest["harmonise"]),
                None if selection is None else Selection.from_json(selection),
                None if manifest["costs"] is None else np.array(manifest["costs"], np.float64),
            )
            normalise = manifest["normalise"]
            bundle = cls(
                model=model,
                classifier=manifest["classifier"],
                blocks=blocks,
                columns=tuple(manifest["columns"]),
                positive=manifest["positive"],
                provenance=Provenance.from_json(manifest["provenance"]),
                facts=manifest["facts"],
                novelty=_load_novelty(folder, manifest["novelty"]),
                reference=_load_reference(folder) if manifest["reference"] else None,
                normaliser=None if normalise is None else Normaliser.from_json(normalise),
                config=(folder / CONFIG).read_text(encoding="utf-8") if CONFIG in manifest["files"] else "",
                promises=None
                if promised is None
                else Promises.from_json(promised, manifest["classes"], manifest["positive"]),
                unit=unit,
            )
            bundle._check(manifest)
        except FusionError:
            raise
        except Exception as error:  # a manifest or an array of a stranger's making can trip any line above
            reason = " ".join(f"{type(error).__name__}: {error}".split())[:200]
            raise BundleError(f"{folder} is not a model that this version can read", found=reason) from error
        return bundle

    def _check(self, manifest: Mapping[str, Any]) -> None:
        """Whether the parts fit together: columns, classes, and a row that goes all the way through."""
        if self.unit == "cell" and takes_bags(self.model.classifier):
            raise BundleError("a classifier of patients in a model of cells", found=self.classifier[:60])
        if self.classes != manifest["classes"]:
            raise BundleError("manifest and classifier of the model disagree about the classes")
        threshold, two = self.model.threshold, len(self.classes) == 2
        if (self.positive is not None or threshold is not None) and not (two and self.positive in self.classes):
            raise BundleError(
                "the model's positive class is none of its two classes",
                found=repr(self.positive)[:60],
                expected=" or ".join(map(repr, self.classes[:2])),
            )
        if threshold is not None and not 0 <= threshold <= 1:
            raise BundleError("the model's threshold is no probability", found=f"{threshold:.6g}")
        if (costs := self.model.costs) is not None:
            is_square = not two and costs.shape == (len(self.classes),) * 2
            if not is_square or not (np.isfinite(costs) & (costs >= 0)).all() or np.diag(costs).any():
                raise BundleError(
                    "the model's costs are none of its classes",
                    found=str(costs.tolist())[:60],
                    expected=f"{len(self.classes)} by {len(self.classes)} numbers, 0 where the class is the true one",
                )
        given = [column for block in self.blocks for column in block.columns]
        if given != list(self.columns):
            missing = [column for column in self.columns if column not in set(given)]
            raise _other_features(missing or self.columns, len(given))
        row = np.zeros((1, len(self.columns)), np.float32)
        if self.novelty is not None and not np.isfinite(self.novelty.distance(row)).all():
            raise BundleError("the model gives no distance from its training cells")
        known = self.reference
        if known is not None and (len(known.counts), len(known.typical)) != (len(self.classes), len(self.columns)):
            raise BundleError("the model's training cells had other classes or features")
        proba = self.predict_proba(self._one_cell(row))
        is_sane = proba.shape == (1, len(self.classes)) and bool(((proba >= 0) & (proba <= 1)).all())
        if not is_sane or abs(proba.sum() - 1) > _ROUNDING:
            raise BundleError("the model gives no probabilities", found=f"{proba.ravel()[:3]} for one cell")

    def _one_cell(self, row: NDArray[np.float32]) -> Study:
        """A cell that is black, with these features."""
        black = {
            each: Images(np.zeros((1, each.size, each.size, 3), np.uint8), np.zeros(1, np.intp))
            for each in self.transforms
        }
        study = Study(FeatureTable.of_cells(row, self.columns, ["cell"]), black)
        return study.by_subject() if self.unit == "subject" else study


def load_model(folder: Path | str) -> ModelBundle:
    """A model folder that ``fusion train`` wrote; see ``ModelBundle.load`` for what is refused.

    Examples
    --------
    >>> load_model("model").classes  # doctest: +SKIP
    ['all', 'hem']
    """
    return ModelBundle.load(folder)


def _describe(block: str, extractor: Extractor, folder: Path) -> dict[str, Any]:
    """What rebuilds the extractor of a block; files that it needs are copied into the model, by the block's name."""
    params = {}
    for f in dataclasses.fields(extractor):  # type: ignore[arg-type]  # extractors are dataclasses by protocol
        value = getattr(extractor, f.name)
        if f.metadata.get("file") and Path(str(value)).is_file():
            kept = f"{block}-{f.name}{Path(str(value)).suffix}"
            shutil.copyfile(str(value), folder / kept)
            value = {"file": kept}
        if f.metadata.get("stays"):
            value = None
        if f.init:
            params[f.name] = value
    return {
        "block": block,
        "name": extractor.name,
        "version": extractor.version,
        "params": plain(params),
        "fingerprint": registry.fingerprint(extractor, PREPARATION),
    }


def _rebuild_blocks(manifest: Mapping[str, Any], folder: Path) -> tuple[Block, ...]:
    """The blocks that the columns are named by, each with its extractor."""
    built = {entry["block"]: _rebuild(entry, folder) for entry in manifest["extractors"]}
    try:
        return tuple(blocks_of(dict.fromkeys(column.rpartition(".")[0] for column in manifest["columns"]), built))
    except UsageError as error:
        raise _other_features(manifest["columns"], 0) from error


def _other_features(missing: Sequence[str], count: int) -> BundleError:
    return BundleError(
        "the extractors do not give the features that the model was trained on",
        found=f"{count} features, without {', '.join(map(str, missing[:3]))}",
    )


def _rebuild(entry: Mapping[str, Any], folder: Path) -> Extractor:
    kind = registry.plugin_class(registry.EXTRACTORS, entry["name"])
    is_file = {f.name: bool(f.metadata.get("file")) for f in dataclasses.fields(kind)}
    params = {name: _confined_value(name, value, folder, is_file) for name, value in entry["params"].items()}
    extractor = registry.build_extractor(entry["name"], params)
    if registry.fingerprint(extractor, PREPARATION) != entry["fingerprint"]:
        raise BundleError(
            f"extractor '{entry['name']}' is not the one the model was trained with",
            found=f"version {extractor.version}",
            expected=f"version {entry['version']} with fingerprint {entry['fingerprint']}",
            do="Train the model again with this version of Fusion, or install the version it was trained with.",
        )
    return extractor


def _confined_value(name: str, value: Any, folder: Path, is_file: Mapping[str, bool]) -> Any:
    """A parameter that leads to no file but one of the model's own.

    Raises
    ------
    BundleError : a path, where a word is expected, or a file that the model does not hold.
    """
    if is_file.get(name) and isinstance(value, dict):
        path = folder / confined(value["file"])
        if value.keys() != {"file"} or not path.is_file():
            raise BundleError("a model names a file that it does not hold", found=repr(value)[:100])
        return str(path)
    leads_out = isinstance(value, str) and (
        value.startswith((_LOCAL, "/", "~", "\\", "."))
        or ".." in value
        or "\\" in value
        or (is_file.get(name) and not re.fullmatch(r"[\w-]+", value))
    )
    if leads_out:
        raise BundleError(
            "a model names a file outside its folder", found=f"{name}: {value[:100]!r}", do="Do not use it."
        )
    return value


def _load_harmoniser(folder: Path, about: Mapping[str, Any] | None) -> Harmoniser | None:
    if about is None:
        return None
    from fusion.feature_transforms.harmonisation import Harmoniser

    return Harmoniser.from_state(about, load_arrays(folder / "harmoniser.safetensors"))


def _load_novelty(folder: Path, values: Mapping[str, Any] | None) -> Novelty | None:
    if values is None:
        return None
    return Novelty.from_state(values, load_arrays(folder / "novelty.safetensors"))


def _load_reference(folder: Path) -> Reference:
    return Reference.from_state(load_arrays(folder / "reference.safetensors"))


def _read_manifest(folder: Path) -> dict[str, Any]:
    path = folder / MANIFEST
    if not path.is_file():
        raise NoModelError(f"{folder} is not a model", expected=f"a folder with {MANIFEST}, made by fusion train")
    status = path.lstat()
    if not stat.S_ISREG(status.st_mode) or status.st_size > MAX_MANIFEST:
        raise BundleError(f"{path} is a link, or too large to be a manifest", found=f"{status.st_size >> 20} MB")
    try:
        manifest = parse_json(path.read_bytes())
        version, files = manifest["format"], manifest["files"]
    except (ValueError, KeyError, TypeError) as error:
        raise BundleError(f"{path} is damaged", found=str(error)[:200]) from error
    if version != FORMAT or not isinstance(files, dict):
        raise BundleError(
            f"{folder} has model format {version!r}",
            expected=str(FORMAT),
            do="Train it again with this version of Fusion.",
        )
    return dict(manifest)


def _check_files(folder: Path, manifest: Mapping[str, Any]) -> None:
    paths = [path for path in folder.rglob("*") if path.is_symlink() or not path.is_dir()]
    for path in paths:  # before any is opened: a link leads elsewhere, and a pipe would be waited for for ever
        status = path.lstat()
        if not stat.S_ISREG(status.st_mode):
            raise BundleError(f"{path} is a link or a device, not a file", do="Do not use it.")
        most = _MAX_FILE if path.suffix == ".safetensors" else _MAX_TEXT
        if status.st_size > (_MAX_ARRAYS if path.name in _ARRAYS else most):
            raise BundleError(f"{path} is too large for a part of a model", found=f"{status.st_size >> 20} MB")
    present = {path.relative_to(folder).as_posix() for path in paths} - {MANIFEST}
    listed = {confined(name) for name in manifest["files"]}
    if present != listed:
        odd = sorted(present ^ listed)
        raise BundleError(
            f"{folder} does not hold what its manifest lists",
            found=f"{'unlisted' if odd[0] in present else 'missing'}: {', '.join(odd[:3])}",
        )
    if odd := sorted(name for name in listed if not _is_expected(name, manifest)):
        raise BundleError(f"{folder} holds what no model has", found=", ".join(map(repr, odd[:3])), do="Do not use it.")
    for name, digest in manifest["files"].items():
        if file_sha256(folder / name) != digest:
            raise BundleError(f"{folder / name} was changed after the model was written", do="Copy the model again.")


def _is_expected(name: str, manifest: Mapping[str, Any]) -> bool:
    """Whether a model has such a file: its classifier's, which knows its own, arrays, and files of its extractors."""
    of_classifier = name.startswith(f"{CLASSIFIER}/") if manifest.get("late") is None else is_file_of_late_fusion(name)
    if of_classifier or name in _ARRAYS or name == CONFIG:
        return True
    entries = manifest["extractors"] if isinstance(manifest.get("extractors"), list) else []
    params = [entry["params"] for entry in entries if isinstance(entry, dict) and isinstance(entry.get("params"), dict)]
    return any(isinstance(value, dict) and value.get("file") == name for each in params for value in each.values())


def _check_names(manifest: Mapping[str, Any]) -> None:
    """BundleError for names of classes, columns or plug-ins that are no text, or that hold control characters."""
    if not all(isinstance(label, str) for label in manifest["classes"]):
        raise BundleError("the model has a class whose name is no text")
    names = [*manifest["columns"], manifest["classifier"]]
    names += [entry[key] for entry in manifest["extractors"] for key in ("block", "name", "version")]
    odd: list[Any] = [name for name in names if not isinstance(name, str)]
    # Each sign once: a thousand columns have forty thousand of them, and thirty that differ.
    if not odd and (controls := {sign for sign in set("".join(names)) if unicodedata.category(sign) == "Cc"}):
        odd = [name for name in names if controls.intersection(name)]
    if odd:
        raise BundleError("the model has a name that is no text", found=repr(odd[0])[:60], do="Do not use it.")
