"""Measures spoilt images one after the other. A script, so that a crash of a decoder is one failed test.

Arguments: a folder to work in, how many, a seed. The file `last.bin` there is the image at work; the last line of
the output tells the outcomes.
"""

import collections
import json
import random
import signal
import sys
from pathlib import Path

from fusion.data.dataset import Dataset, load_dataset
from fusion.features.cell_measurement import Measure
from fusion.plugins import registry
from tests.builders.mutants import images, spoil

#: Seconds that one image may take.
HANGS = 10

folder, count, seed = Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3])
rng = random.Random(seed)
originals = list(images().items())
extractors = tuple(registry.build_extractor(name) for name in ("morphology", "colour"))
measure = Measure(extractors, frozenset())
need = frozenset(extractor.name for extractor in extractors)
outcomes: collections.Counter[str] = collections.Counter()
reasons: collections.Counter[str] = collections.Counter()
slowest = 0.0
path = folder / "last.bin.png"
# Compiling the loops for the first time takes longer than any image may: a whole image first, without a limit.
path.write_bytes(originals[0][1])
measure([(sample, need) for sample in load_dataset(path, store=folder / "index").samples])
for at in range(count):
    name, content = originals[at % len(originals)]
    path.write_bytes(spoil(content, rng))
    signal.alarm(HANGS)  # ends the process: no decoder can be interrupted otherwise
    dataset: Dataset = load_dataset(path, store=folder / "index")
    for sample in dataset.samples:
        (measured,) = measure([(sample, need)])
        done = measured.rows.keys() | measured.faults.keys()
        assert done == need, (name, done)
        stages = {fault.stage for fault in measured.faults.values()}
        outcomes["features" if not stages else "fault: " + ", ".join(sorted(stages))] += 1
        reasons.update(fault.reason for fault in measured.faults.values() if fault.stage == "extract")
    for fault in dataset.faults:
        outcomes[f"fault: {fault.stage}"] += 1
    signal.alarm(0)
print(json.dumps({"outcomes": outcomes, "extract": reasons}))
