"""Learning rates are torch's own curves, and every cell has its turn."""

import numpy as np
import pytest
import torch
from numpy.testing import assert_allclose, assert_array_equal

from classifiers.neural._sampling import batches, count_batches, epoch_order, keep_back
from classifiers.neural._schedule import depth_of_parameters, first_momentum, peak_rates, rate
from classifiers.neural.network import Design, Network
from extractors.cnn.backbone import untrained_backbone
from extractors.cnn.network_config import resolve_backbone_config


@pytest.mark.parametrize("steps", [10, 40, 137])
def test_one_cycle_is_torchs(steps):
    optimiser = torch.optim.AdamW([torch.nn.Parameter(torch.zeros(1))], lr=1e-4)
    scheduler = torch.optim.lr_scheduler.OneCycleLR(optimiser, max_lr=1e-3, total_steps=steps)
    rates, momenta = [], []
    for step in range(steps):
        rates.append(optimiser.param_groups[0]["lr"])
        momenta.append(optimiser.param_groups[0]["betas"][0])
        optimiser.step()
        if step < steps - 1:
            scheduler.step()
    assert_allclose([1e-3 * rate("onecycle", step, steps, 0) for step in range(steps)], rates, rtol=1e-9)
    assert_allclose([first_momentum("onecycle", step, steps) for step in range(steps)], momenta, rtol=1e-9)


def test_a_one_cycle_that_is_never_stepped_stays_at_its_start():
    """The published code ran so: at a constant 4e-5, whatever rate it was told."""
    assert 1e-3 * rate("onecycle", 0, 100, 0) == pytest.approx(4e-5)


def test_cosine_rises_then_falls_to_nothing():
    values = [rate("cosine", step, 100, 0.1) for step in range(100)]
    assert values.index(max(values)) == 10
    assert values[10] == 1
    assert_array_equal(np.sign(np.diff(values[:11])), np.ones(10))
    assert_array_equal(np.sign(np.diff(values[10:])), -np.ones(89))
    assert values[-1] < 1e-3


def test_constant_is_constant():
    assert {rate("constant", step, 50, 0.0) for step in range(50)} == {1.0}


def test_depths_cut_the_backbone_in_two_and_the_head_off():
    network = Network(
        Design(backbone="test_resnet", weights="random"),
        untrained_backbone(resolve_backbone_config(None, backbone="test_resnet", size=64), 0),
        {"shape": 3},
        2,
    )
    depths = depth_of_parameters(network)
    assert depths.keys() == {name for name, _ in network.named_parameters()}
    assert depths["backbone.backbone.conv1.0.weight"] == "early"
    assert {d for name, d in depths.items() if "layer4" in name} == {"late"}
    assert {d for name, d in depths.items() if name.startswith(("head.", "fuse.", "backbone.attention."))} == {"head"}


def test_rates_are_one_or_three():
    assert peak_rates(0.1) == {"early": 0.1, "late": 0.1, "head": 0.1}
    assert peak_rates((1e-6, 1e-4, 1e-2)) == {"early": 1e-6, "late": 1e-4, "head": 1e-2}
    for wrong in ((1e-6, 1e-4), 0.0):
        with pytest.raises(ValueError, match="learning_rate"):
            peak_rates(wrong)


def test_oversampling_makes_classes_equal_and_leaves_no_cell_out():
    codes = np.array([0] * 30 + [1] * 7 + [2] * 12)
    order = epoch_order(codes, "oversample", 0, 0)
    assert_array_equal(np.bincount(codes[order]), [30, 30, 30])
    times = np.bincount(order, minlength=49)
    for code in range(3):
        assert times[codes == code].max() - times[codes == code].min() <= 1
    assert times.min() == 1


def test_every_epoch_has_an_order_of_its_own_that_its_seed_repeats():
    codes = np.arange(40) % 2
    assert_array_equal(epoch_order(codes, "natural", 1, 3), epoch_order(codes, "natural", 1, 3))
    assert not np.array_equal(epoch_order(codes, "natural", 1, 3), epoch_order(codes, "natural", 1, 4))
    assert_array_equal(np.sort(epoch_order(codes, "natural", 1, 3)), np.arange(40))


@pytest.mark.parametrize("rows", [2, 7, 8, 9, 16, 17, 30])
def test_no_batch_holds_a_single_cell(rows):
    found = list(batches(np.arange(rows), 8))
    assert_array_equal(np.concatenate(found), np.arange(rows))
    assert min(len(batch) for batch in found) > 1
    assert len(found) == count_batches(rows, 8)


def test_what_is_kept_back_is_whole_groups_with_every_class():
    codes, groups = np.repeat(np.arange(20) % 2, 6), np.repeat(np.arange(20), 6)
    train, held = keep_back(codes, groups, 0.2, 0)
    assert not set(groups[train]) & set(groups[held])
    assert set(codes[held]) == set(codes[train]) == {0, 1}
    assert len(held) == pytest.approx(24, abs=6)


def test_nothing_is_kept_back_where_a_group_would_be_torn():
    """Splitting the only subject of a class would make a validation part that says nothing about new subjects."""
    codes, groups = np.array([0] * 20 + [1] * 10), np.array([*range(20), *[99] * 10])
    train, held = keep_back(codes, groups, 0.2, 0)
    assert len(held) == 0
    assert_array_equal(train, np.arange(30))
