"""What a trained model says of any cells."""

from __future__ import annotations

from dataclasses import replace

from fusion.analysis.mixed_sources import with_mixed_sources
from fusion.bundles.inference import ask
from fusion.bundles.model_bundle import load_model
from fusion.evaluation.promises.held_out import Asked
from fusion.learning.predictions import Predictions
from fusion.progress import Progress
from fusion.settings.commands import PredictConfig
from fusion.settings.outputs import one_run_of


@one_run_of
def predict(config: PredictConfig, progress: Progress | None = None) -> Predictions:
    """Class probabilities for images, folders of images or tables, labelled or not.

    Raises
    ------
    BundleError : the model cannot be read.
    DatasetError : a path that is nothing Fusion can read.
    UsageError : ``explain`` is a folder that cannot be written, or more is to be promised than the model can.
    """
    bundle = load_model(config.model).with_own(config.own)
    promises = bundle.promising(Asked.of(config.sets, config.risk, config.risk_confidence))
    if config.explain is not None:
        from fusion.workflows.explain import check_folder, write_explanations  # draws; predicting alone does not

        check_folder(config.explain, "--explain")
    dataset, found = ask(bundle, config, progress)
    found = replace(with_mixed_sources(bundle, dataset, found), promises=promises)
    if config.explain is not None and len(found):
        explained = write_explanations(bundle, dataset, found, config.explain, progress=progress)
        return replace(found, faults=explained.faults)
    return found
