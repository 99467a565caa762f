"""The network on the road of every classifier: train, predict, evaluate, and never judged on what it has learnt."""

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time

import cv2
import huggingface_hub
import numpy as np
import pandas as pd
import pytest
import safetensors.torch
import torch
from numpy.testing import assert_allclose, assert_array_equal

from fusion.analysis.stress import STRESSES, stress_report
from fusion.bundles.bundle_files import BundleError
from fusion.bundles.model_bundle import ModelBundle, load_model
from fusion.data.dataset import load_dataset
from fusion.errors import UsageError
from fusion.features.image_cache import IMAGES, read_images
from fusion.features.store import FeatureStore
from fusion.leakage.grouped_splits import LeakageError
from fusion.leakage.provenance import check_unseen, trained_on, training_overlap
from fusion.learning.study import Study
from fusion.plugins import registry
from fusion.progress import detail_of
from fusion.settings.commands import TrainConfig
from fusion.settings.loading import build_config
from fusion.workflows.train import train
from tests.builders.command_line import fusion
from tests.builders.images import ROOT, paint, write_image

SETTINGS = {
    "network": {
        "backbone": "test_efficientnet",
        "weights": "random",
        "size": 32,
        "drop_path": 0.0,
        "head": [16],
        "head_dropout": [0.0, 0.0],
    },
    "training": {"epochs": 2, "batch_size": 16, "learning_rate": 3e-3, "patience": 0},
}


pytestmark = pytest.mark.usefixtures("one_thread")


def config(data, output, store, **settings):
    given = {"features": ["none"], "splits": 2, "classifiers": {"neural": SETTINGS}}
    return TrainConfig(data=data, output=output, store=store, classifier="neural", jobs=1, **{**given, **settings})


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    return tmp_path_factory.mktemp("store")


@pytest.fixture(scope="module")
def strangers(tmp_path_factory):
    """Cells of subjects that nobody has met, as a table."""
    root = tmp_path_factory.mktemp("strangers")
    rows = []
    for at in range(12):
        write_image(root / f"{at}.png", paint(100 + at, radius=22 - 6 * (at % 2)))
        rows.append({"path": f"{at}.png", "label": ("all", "hem")[at % 2], "subject": f"new {at // 2}-{at % 2}"})
    pd.DataFrame(rows).to_csv(root / "cells.csv", index=False)
    return root / "cells.csv"


@pytest.fixture(scope="module")
def trained(synthetic, store, tmp_path_factory):
    """A network of images alone, and one with a handcrafted block."""
    root = tmp_path_factory.mktemp("models")
    alone = train(config(synthetic, root / "alone", store))
    settings = {**SETTINGS, "network": {**SETTINGS["network"], "fusion": "gated"}}
    fused = train(config(synthetic, root / "fused", store, features=["colour"], classifiers={"neural": settings}))
    return {"alone": (alone, root / "alone"), "fused": (fused, root / "fused")}


# ---- train, predict, evaluate ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(("which", "features"), [("alone", ("image",)), ("fused", ("image", "colour"))])
def test_every_cell_is_judged_by_a_network_that_has_not_met_its_subject(trained, which, features):
    result = trained[which][0].result
    assert result.scores[0].features == features
    assert np.isfinite(result.scores[0].proba).all()
    assert set(result.scores[0].fold[0]) == {0, 1}
    assert any("M parameters" in note for note in result.notes)
    assert not result.stamps


@pytest.mark.parametrize("which", ["alone", "fused"])
def test_a_stored_model_answers_as_the_trained_one(trained, which, synthetic, store):
    found, folder = trained[which]
    again = load_model(folder)
    dataset = load_dataset(synthetic, store=store)
    study = Study.of(dataset, again.blocks, again.transforms, FeatureStore(store), jobs=1)
    assert_array_equal(again.predict_proba(study), found.bundle.predict_proba(study))
    with pytest.raises(UsageError, match="judges images"):
        again.model.predict_proba(study.table.X)


@pytest.mark.parametrize("which", ["alone", "fused"])
def test_a_model_is_asked_and_judged_on_the_command_line(trained, which, strangers, tmp_path):
    folder = trained[which][1]
    images = sorted(strangers.parent.glob("*.png"))
    predicted = fusion("predict", folder, images[0], strangers.parent / "3.png", "--json")
    assert predicted.exit_code == 0, predicted.stderr
    rows = json.loads(predicted.stdout)["predictions"]
    assert len(rows) == 2
    assert all(sum(row["probability"].values()) == pytest.approx(1) for row in rows)
    judged = fusion("evaluate", folder, strangers, "-o", tmp_path / "r", "--json")
    assert judged.exit_code == 0, judged.stderr
    # They are drawn by another hand, which a network without features cannot tell.
    stamps = " ".join(json.loads(judged.stdout)["stamps"])
    assert ("12 of 12 cells are out of distribution" in stamps) == (which == "fused")
    assert bool(stamps) == (which == "fused")
    scores = pd.read_parquet(tmp_path / "r" / "scores.parquet").set_index("name")
    assert_allclose(scores.loc["3.png", "p_all"], rows[1]["probability"]["all"], atol=1e-6)


def test_a_model_is_not_judged_on_what_it_was_trained_on(trained, synthetic, tmp_path):
    refused = fusion("evaluate", trained["alone"][1], synthetic, "-o", tmp_path / "r")
    assert refused.exit_code == 1
    assert "was trained on cells" in refused.stderr


def test_one_part_can_be_held_out_instead_of_all_folds(synthetic, store, tmp_path):
    result = train(config(synthetic, tmp_path / "m", store, holdout=True)).result
    tested = result.scores[0].fold[0] >= 0
    assert 0 < tested.sum() < len(result.cells)
    assert np.isnan(result.scores[0].proba[0][~tested]).all()
    assert any(f"one held-out part of {tested.sum()} cells" in note for note in result.notes)
    assert np.isfinite(result.figures[0]["image"]["balanced_accuracy"]["value"])


class Killed(BaseException):
    """As a kill would: nothing may catch it."""


@pytest.mark.parametrize("when", ["fold 2 of 2", "all cells"])
def test_a_command_that_was_killed_goes_on_to_the_same_model(trained, synthetic, store, tmp_path, when):
    def progress(stage, done, total, faults):
        if stage == when and done == total - 1:
            raise Killed

    again = config(synthetic, tmp_path / "m", store)
    with pytest.raises(Killed):
        train(again, progress)
    assert (tmp_path / "m.unfinished").is_dir()
    assert not (tmp_path / "m").exists()
    stages = []
    resumed = train(again.model_copy(update={"resume": True}), lambda stage, *_: stages.append(stage))
    assert "fold 1 of 2" not in stages
    assert_array_equal(resumed.result.scores[0].proba, trained["alone"][0].result.scores[0].proba)
    for name in ("backbone.safetensors", "layers.safetensors"):
        whole, mended = (folder / "classifier" / name for folder in (trained["alone"][1], tmp_path / "m"))
        assert whole.read_bytes() == mended.read_bytes()
    assert not (tmp_path / "m.unfinished").exists()


@pytest.mark.slow
def test_a_command_that_is_killed_outright_goes_on_to_the_same_bits(trained, synthetic, store, tmp_path):
    """A process of its own, ended by SIGKILL as soon as it has kept an epoch; the same command goes on by --resume."""
    (tmp_path / "settings.yaml").write_text(json.dumps({"classifiers": {"neural": SETTINGS}}))
    words = [sys.executable, "-m", "fusion", "train", synthetic, "--classifier", "neural", "--features", "none"]
    words += ["--splits", "2", "--jobs", "1", "--store", store, "--config", tmp_path / "settings.yaml", "-q"]
    alone = {**os.environ, "OMP_NUM_THREADS": "1"}
    running = subprocess.Popen([*words, "-o", tmp_path / "m"], cwd=ROOT, env=alone)
    deadline = time.monotonic() + 120
    while not list((tmp_path / "m.unfinished").glob("*/checkpoint.safetensors")):
        assert running.poll() is None
        assert time.monotonic() < deadline
        time.sleep(0.005)
    running.kill()
    assert running.wait() == -signal.SIGKILL
    assert not (tmp_path / "m").exists()
    subprocess.run([*words, "-o", tmp_path / "m", "--resume"], cwd=ROOT, env=alone, check=True)
    for name in ("backbone.safetensors", "layers.safetensors"):
        whole, mended = (folder / "classifier" / name for folder in (trained["alone"][1], tmp_path / "m"))
        assert whole.read_bytes() == mended.read_bytes()


def test_a_network_tells_its_fold_its_epoch_its_loss_and_its_score(synthetic, store, tmp_path):
    found = []
    train(config(synthetic, tmp_path / "m", store), lambda stage, *_: found.append((str(stage), detail_of(stage))))
    for name in ("fold 1 of 2", "fold 2 of 2", "all cells"):
        details = [detail for stage, detail in found if stage == name]
        assert details[0] == "epoch 1 of 2"
        assert re.fullmatch(r"epoch 2 of 2, loss \d+\.\d{3}, score [01]\.\d{3}", details[-1])


def test_curves_of_every_training_are_there_for_tensorboard(synthetic, store, tmp_path):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    train(config(synthetic, tmp_path / "m", store, holdout=True, tensorboard=tmp_path / "curves"))
    assert {path.name for path in (tmp_path / "curves").iterdir()} == {"fold 1 of 1", "all cells"}
    curves = EventAccumulator(str(tmp_path / "curves" / "all cells"))
    curves.Reload()
    losses = curves.Scalars("loss")
    assert [event.step for event in losses] == [1, 2]
    assert all(np.isfinite(event.value) for event in losses)


def test_what_the_network_sees_can_be_looked_at(synthetic, store, tmp_path):
    shown = {"show_batch": tmp_path / "batch.png", "show_attention": tmp_path / "attention.png"}
    train(config(synthetic, tmp_path / "m", store, holdout=True, **shown))
    for path in shown.values():
        sheet = cv2.imdecode(np.fromfile(path, np.uint8), cv2.IMREAD_COLOR)
        assert sheet.shape[0] > 500
        assert len(np.unique(sheet)) > 50


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("--classifier", "svm", "--features", "none"), "learns from features"),
        (("--classifier", "svm", "--resume"), "no training to go on with"),
        (("--classifier", "svm", "--features", "colour", "--show-batch", "b.png"), "Take --classifier neural"),
        (
            (
                "--classifier",
                "neural",
                "--features",
                "none",
                "--show-attention",
                "a.png",
                "--set",
                "classifiers.neural.network={backbone: test_vit4, weights: random, attention: false, drop_path: 0}",
            ),
            "needs a feature map",
        ),
        (("--classifier", "neural", "--set", "classifiers.neural.training.loss=hinge"), "focal or cross_entropy"),
        (("--classifier", "neural", "--set", "classifiers.neural.network.backbone=b3"), "unknown backbone"),
    ],
)
def test_wrong_use_is_told_before_anything_is_trained(synthetic, tmp_path, words, message):
    done = fusion("train", synthetic, "-o", tmp_path / "m", *words)
    assert done.exit_code == 2, done.output
    assert message in done.stderr
    assert not (tmp_path / "m").exists()


def test_a_harmed_network_in_a_model_is_refused(trained, tmp_path):
    folder = shutil.copytree(trained["alone"][1], tmp_path / "m")
    path = folder / "classifier" / "layers.safetensors"
    path.write_bytes(path.read_bytes()[:-1] + b"\x01")
    with pytest.raises(BundleError, match="changed"):
        load_model(folder)


#: Every file of settings for a network.
NETWORKS = sorted(path.name for path in (ROOT / "configs").glob("*.yaml") if "neural:" in path.read_text())


def test_the_box_has_the_published_network_and_its_baselines():
    baselines = {"resnet50", "prellberg2019"}
    assert {name.removesuffix(".yaml") for name in NETWORKS} >= baselines | {"braga2026", "braga2026-as-run"}


@pytest.mark.parametrize("which", ["alone", "fused"])
def test_stress_reaches_the_image_that_a_network_is_shown(trained, strangers, store, which, monkeypatch):
    _, folder = trained[which]
    bundle, shown = load_model(folder), []
    judged = ModelBundle.predict_proba
    monkeypatch.setattr(ModelBundle, "predict_proba", lambda self, study: shown.append(study) or judged(self, study))
    found = stress_report(bundle, load_dataset(strangers), 6, 0, FeatureStore(store), jobs=1)
    assert len(shown) == len(found["rows"]) == 1 + len(STRESSES)
    seen = {}
    for row, study in zip(found["rows"], shown, strict=True):
        (images,) = study.images.values()
        seen[row["stress"]] = images.source[images.rows].astype(float)
    plain = seen["none"]
    cell = plain > 30
    assert_allclose((seen["light, 10% less"] / np.maximum(plain, 1))[cell].mean(), 0.9, atol=0.02)
    for stress, images in seen.items():
        assert (stress == "none") == bool((images == plain).all())
    assert set(found["rows"][1]["blocks"]) == ({"colour"} if which == "fused" else set())


@pytest.fixture
def hub_of_dinobloom(tmp_path, monkeypatch):
    """What the hub has of DinoBloom-S, as far as a network without weights needs it."""
    from extractors.cnn import _published_models

    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    _published_models._published.cache_clear()
    repository = tmp_path / "hub" / "models--1aurent--vit_small_patch14_224.dinobloom"
    snapshot = repository / "snapshots" / "abc"
    snapshot.mkdir(parents=True)
    (repository / "refs").mkdir()
    (repository / "refs" / "main").write_text("abc")
    config = {"architecture": "vit_small_patch14_dinov2", "num_classes": 0, "model_args": {"img_size": 224}}
    (snapshot / "config.json").write_text(json.dumps({**config, "pretrained_cfg": {"input_size": [3, 224, 224]}}))
    safetensors.torch.save_file({"pos_embed": torch.zeros(1, 257, 384)}, snapshot / "model.safetensors")
    yield
    _published_models._published.cache_clear()


@pytest.mark.usefixtures("hub_of_dinobloom")
@pytest.mark.parametrize("file", NETWORKS)
def test_every_network_in_the_box_is_one_that_can_be_built(file):
    from classifiers.neural.estimator import NeuralClassifier
    from classifiers.neural.network import Network
    from extractors.cnn._published_models import published_weights
    from extractors.cnn.backbone import Backbone
    from fusion.leakage.encoders import encoders

    settings = build_config(TrainConfig, file=ROOT / "configs" / file, options={"data": "cells", "output": "model"})
    model = NeuralClassifier(**settings.classifiers["neural"])
    design, how, _ = model._settings()
    assert settings.blocks == []
    assert published_weights(encoders()[design.backbone].backbone if design.backbone in encoders() else design.backbone)
    with torch.device("meta"):
        network = Network(design, Backbone(design.extractor().backbone_config, drop_path=design.drop_path), {}, 2)
        logits = network.eval()(torch.empty(2, 0), torch.empty(2, 3, design.size, design.size)).logits
    assert logits.shape == (2, 2)
    assert how.epochs <= 100


# ---- images, decoded once ------------------------------------------------------------------------------------------


def input_transform(**settings):
    return registry.build_classifier("neural", {"network": {**SETTINGS["network"], **settings}}).input_transform()


def test_images_are_taken_once_and_again_when_harmed(class_folders, tmp_path):
    dataset = load_dataset(class_folders, store=tmp_path)
    message = []
    seen = read_images(dataset, input_transform(), tmp_path, progress=lambda stage, done, *_: message.append(stage))
    assert set(message) == {"looking"}
    expected = np.array(seen.images)
    message.clear()
    assert_array_equal(
        read_images(dataset, input_transform(), tmp_path, progress=lambda *t: message.append(t)).images, expected
    )
    assert not message
    (path,) = (tmp_path / IMAGES).glob("*.npy")
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)
    assert_array_equal(
        read_images(dataset, input_transform(), tmp_path, progress=lambda *t: message.append(t)).images, expected
    )
    assert message


def test_another_input_transform_takes_other_images(class_folders, tmp_path):
    dataset = load_dataset(class_folders, store=tmp_path)
    one, other = (read_images(dataset, input_transform(view=view), tmp_path).images for view in (None, 200))
    assert not np.array_equal(one, other)


def test_an_image_without_a_cell_is_a_fault_and_moves_no_other(class_folders, tmp_path):
    write_image(class_folders / "blast" / "0b.png", np.zeros((40, 40, 3), np.uint8))
    dataset = load_dataset(class_folders, store=tmp_path)
    for _ in range(2):  # taken now, and remembered
        seen = read_images(dataset, input_transform(), tmp_path)
        (at,) = seen.faults
        assert dataset.samples[at].path.name == "0b.png"
        assert seen.positions[at] == -1
        for row, sample in enumerate(dataset.samples):
            if row != at:
                from fusion.images.cell import read_cell

                assert_array_equal(seen.images[seen.positions[row]], input_transform()([read_cell(sample.path)])[0])


# ---- provenance ------------------------------------------------------------------------------------------------------


def weights_of(folder):
    return folder / "classifier" / "backbone.safetensors"


def test_an_embedding_is_not_judged_on_cells_its_network_has_learnt(trained, synthetic, strangers, tmp_path):
    words = ("--features", "cnn", "--weights", weights_of(trained["alone"][1]), "--classifier", "logreg")
    words = (*words, "--splits", 2)
    refused = fusion("train", synthetic, *words, "-o", tmp_path / "m")
    assert refused.exit_code == 1
    assert "the network behind 'cnn' was trained on cells" in refused.stderr
    stamped = fusion("train", synthetic, *words, "-o", tmp_path / "m", "--allow-leakage", "--json")
    assert stamped.exit_code == 0, stamped.stderr
    assert "leaky: the network behind 'cnn'" in json.loads(stamped.stdout)["stamps"][0]
    honest = fusion("train", strangers, *words, "-o", tmp_path / "n", "--json")
    assert honest.exit_code == 0, honest.stderr
    assert not json.loads(honest.stdout)["stamps"]
    # The model of strangers' cells still embeds by a network that knows the synthetic ones.
    judged = fusion("evaluate", tmp_path / "n", synthetic, "-o", tmp_path / "r")
    assert judged.exit_code == 1
    assert "the network behind 'cnn'" in judged.stderr


def test_a_network_that_goes_on_from_another_knows_its_cells(trained, strangers, synthetic, store, tmp_path):
    start = {**SETTINGS["network"], "weights": str(weights_of(trained["alone"][1])), "size": 32}
    settings = {"neural": {**SETTINGS, "network": start}}
    with pytest.raises(LeakageError, match="behind 'neural'"):
        train(config(synthetic, tmp_path / "m", store, classifiers=settings))
    found = train(config(strangers, tmp_path / "n", store, classifiers=settings))
    dataset = load_dataset(synthetic, store=store)
    assert len(training_overlap(found.bundle.model.classifier.provenance(), dataset)) == len(dataset)
    refused = fusion("evaluate", tmp_path / "n", synthetic, "-o", tmp_path / "r")
    assert "the network behind 'neural'" in refused.stderr


def test_no_id_of_a_subject_is_written_down(trained):
    content = weights_of(trained["alone"][1]).read_bytes()
    said = json.loads(json.loads(content[8 : 8 + int.from_bytes(content[:8], "little")])["__metadata__"]["provenance"])
    assert len(said["subjects"]) == 10
    assert len(said["images"]) == 60
    assert all(len(digest) == 16 for digest in said["subjects"])


def test_a_subject_that_shares_an_image_with_one_that_was_learnt_is_known_too(tmp_path):
    """A network that knows H1 has seen the image under H2's name as well, so H2's other cells are no test."""
    rows = []
    for at, (name, subject) in enumerate([("a", "H1"), ("b", "H2"), ("c", "H2"), ("d", "H3")]):
        write_image(tmp_path / f"{name}.png", paint(0 if name in "ab" else at))
        rows.append({"path": f"{name}.png", "label": "hem", "subject": subject})
    pd.DataFrame(rows).to_csv(tmp_path / "cells.csv", index=False)
    dataset = load_dataset(tmp_path / "cells.csv", store=tmp_path / "store")
    provenance = trained_on(dataset.samples[:1])
    assert training_overlap(provenance, dataset) == [0, 1, 2]

    class Learner:
        def provenance(self):
            return provenance

    with pytest.raises(LeakageError, match=r"behind 'cnn\.b3' [^3]+3 of 4"):
        check_unseen([("cnn.b3", Learner())], dataset, allow=False)
    (stamp,) = check_unseen([("cnn.b3", Learner())], dataset, allow=True)
    assert stamp.startswith("leaky: the network behind 'cnn.b3'")
    assert check_unseen([("cnn.b3", object())], dataset, allow=False) == []
