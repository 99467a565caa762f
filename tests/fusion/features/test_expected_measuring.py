"""What measuring will take is told once, from the first cells; the store grows by what was said."""

from pathlib import Path

import numpy as np
import pytest

from extractors.texture.extractor import Texture
from fusion.data.dataset import Sample
from fusion.features.cell_measurement import Measured
from fusion.features.expected_measuring import MeasuringForecast
from fusion.features.store import FeatureStore
from fusion.io.content_hash import hash_content


class Network(Texture):
    in_main_process = True


def measured(*seconds):
    return [Measured(Sample(Path("a.bmp"), "", ""), frozenset(), seconds=each) for each in seconds]


def test_the_median_of_the_first_cells_tells_and_only_once():
    expected = MeasuringForecast(1016, [(Texture(), 1016)], 2, 512)
    forecast = expected.hear(measured(20.0, *[0.02] * 15))  # the first one compiles loops
    assert forecast.seconds == pytest.approx(1000 * 0.02 / 2)
    assert (forecast.processes, forecast.work) == (2, "measuring 1,000 more cells")
    assert expected.hear(measured(0.02)) is None


def test_a_network_is_told_of_by_its_second_batch():
    clock = iter([0.0, 9.0, 10.0])
    expected = MeasuringForecast(1128, [(Network(), 1128)], 2, 512, lambda: next(clock))
    assert expected.hear(measured(*[0.02] * 64)) is None  # it builds the network
    forecast = expected.hear(measured(*[0.02] * 64))
    assert forecast.seconds == pytest.approx(1000 / 64)
    assert forecast.processes == 1


def test_a_few_cells_are_not_told_of():
    assert MeasuringForecast(60, [(Texture(), 60)], 1, 512).hear(measured(0.02)) is None


def test_the_store_grows_by_what_was_said(tmp_path):
    store, names = FeatureStore(tmp_path), Texture().feature_names()
    for start in (0, 512):
        keys = [hash_content(str(at).encode()) for at in range(start, start + 512)]
        store.write("texture", "fingerprint", names, {key: np.zeros(len(names), np.float32) for key in keys})
    grown = sum(path.stat().st_size for path in tmp_path.rglob("*") if path.is_file())
    said = MeasuringForecast(1024, [(Texture(), 1024)], 1, 512).bytes_more()
    assert said == pytest.approx(grown, rel=0.02)
