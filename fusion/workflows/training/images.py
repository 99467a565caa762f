"""What a user wishes to see of a training: the first batch, where the network looks, its curves."""

from __future__ import annotations

from fusion.compute import torch_processes
from fusion.errors import UsageError
from fusion.learning.learn import FittedModel
from fusion.learning.recipe import Recipe
from fusion.learning.run import check_tensorboard
from fusion.learning.study import Study
from fusion.reports.png import write_png
from fusion.settings.commands import TrainConfig
from fusion.workflows.loading import Inputs


def check_wishes(config: TrainConfig, recipe: Recipe, inputs: Inputs) -> None:
    """UsageError for what is asked of a network, where there is none or it cannot."""
    wishes = (config.show_batch, config.show_attention, config.tensorboard)
    if not inputs.takers:
        if any(wishes):
            raise UsageError(
                "only a classifier that takes images can show them",
                do="Take --classifier neural, or another one of images.",
            )
        if config.resume:
            raise UsageError(
                f"classifier '{recipe.classifier}' has no training to go on with", do="Leave --resume out."
            )
        return
    if config.show_attention is not None and not all(taker.has_map() for taker in inputs.takers):
        raise UsageError("--show-attention needs a feature map", found="a backbone of tokens, as transformers are")
    if config.tensorboard is not None:
        check_tensorboard()


def show_batch(config: TrainConfig, recipe: Recipe, inputs: Inputs, study: Study) -> None:
    """Draw what the network is given, before it is trained."""
    if config.show_batch is None or not torch_processes.is_first():
        return
    (taker,) = inputs.takers[:1]
    study = study.of_cells_alone
    blocks = recipe.blocks if recipe.takes_images else ()
    images = study.inputs(taker.input_transform(), blocks, study.everyone)
    write_png(config.show_batch, taker.show_batch(images, [str(label) for label in study.table.y]))


def show_attention(config: TrainConfig, model: FittedModel) -> None:
    """Draw where the trained network looks."""
    if config.show_attention is None or not torch_processes.is_first():
        return
    network, study = model.network, model.study.of_cells_alone
    blocks = model.recipe.blocks if model.recipe.takes_images else ()
    images = study.inputs(network.input_transform(), blocks, study.everyone)
    write_png(config.show_attention, network.show_attention(images, [str(label) for label in study.table.y]))
