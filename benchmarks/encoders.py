"""A vision transformer on one core: timm eager, ours by torch and by ONNX Runtime, and their bound; or compiled.

    OMP_NUM_THREADS=1 python -m benchmarks.encoders
    python -m benchmarks.encoders --backbone vit_base_patch14_dinov2 --size 224 --batches 1,8
    python -m benchmarks.encoders --compile --backbone tf_efficientnetv2_b3 --size 300 --batch 4

With ``--compile`` any network of timm's is timed eager, with channels last (as ours by torch is), and by torch.compile
of the latter, which needs a C++ compiler: of a transformer its blocks, where all work is, and whose code is made once.

The bound is what the products of matrices alone take: every linear layer's and both of attention's, each of its own
shape, float32, by the same BLAS. What an engine is below it is softmax, GELU, norms and memory. Images per second of
processor time, on one thread, in turns, of which the median counts, so that what else runs on the machine changes
little. Random weights of the exact shape; peak memory is that of the process, after each batch size in rising order.
"""

from __future__ import annotations

import argparse
import functools
import logging
import os
import resource
import statistics
import tempfile
import time
import warnings
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import timm
import torch

from extractors.cnn import onnx_backend
from extractors.cnn.extractor import Embedding


def products(model: Any, size: int) -> list[tuple[int, int, int, int]]:
    """(times, rows, inner, columns) of every product of matrices of one image, in a vision transformer of timm."""
    tokens = model.patch_embed.num_patches + model.num_prefix_tokens
    block, count = model.blocks[0], len(model.blocks)
    heads, width = block.attn.num_heads, model.embed_dim
    hidden, each = block.mlp.fc1.out_features, width // block.attn.num_heads
    patch = model.patch_embed.patch_size[0]
    assert model.patch_embed.img_size == (size, size)
    return [
        (1, model.patch_embed.num_patches, 3 * patch * patch, width),
        (count, tokens, width, 3 * width),
        (count, tokens, width, width),
        (count, tokens, width, hidden),
        (count, tokens, hidden, width),
        (count * heads, tokens, each, tokens),
        (count * heads, tokens, tokens, each),
    ]


def bound(shapes: Sequence[tuple[int, int, int, int]]) -> Callable[[], None]:
    """Runs every product of one image, on matrices that are there already."""
    made = [(times, torch.randn(a, b), torch.randn(b, c), torch.empty(a, c)) for times, a, b, c in shapes]

    def run() -> None:
        for times, left, right, out in made:
            for _ in range(times):
                torch.mm(left, right, out=out)

    return run


def timed(engines: Mapping[str, tuple[Callable[[], Any], int]], turns: int) -> dict[str, float]:
    """Images a processor second of each engine; one that cannot run is named, and left out."""
    found: dict[str, list[float]] = {}
    for turn in range(turns + 1):
        for name, (run, images) in engines.items():
            if turn and name not in found:
                continue
            start = time.process_time()
            try:
                run()
            except Exception as error:  # torch.compile without a compiler raises what its backend raises
                print(f"{name}: {type(error).__name__}, {str(error).splitlines()[0][:100]}")
                continue
            # The first turn loads, exports and compiles.
            found[name] = found.get(name, []) + ([images / (time.process_time() - start)] if turn else [])
    return {name: statistics.median(values) for name, values in found.items()}


def main() -> None:
    """Print the tables."""
    options = _options()
    warnings.simplefilter("ignore")
    logging.getLogger("fusion").setLevel(logging.ERROR)  # random weights: speed is all that is asked
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder:
        os.environ["FUSION_CACHE"] = str(Path(folder))
        (_print_compiled if options.compile else _print_engines)(options)


def _print_compiled(options: argparse.Namespace) -> None:
    def model() -> Any:
        sizes = {"img_size": options.size} if "vit" in options.backbone else {}
        return timm.create_model(options.backbone, num_classes=0, **sizes).eval()

    x = torch.randn(options.batch, 3, options.size, options.size)
    plain, last, compiled = model(), *(model().to(memory_format=torch.channels_last) for _ in range(2))
    for part in getattr(compiled, "blocks", [compiled]) if "vit" in options.backbone else [compiled]:
        part.compile()
    inputs = {"eager": x, "eager, channels last": x.contiguous(memory_format=torch.channels_last)}
    inputs["compiled, channels last"] = inputs["eager, channels last"]

    def by(model: Any, x: torch.Tensor) -> Callable[[], Any]:
        def run() -> Any:
            with torch.inference_mode():
                return model(x)

        return run

    models = dict(zip(inputs, (plain, last, compiled), strict=True))
    engines = {name: (by(models[name], x), options.batch) for name, x in inputs.items()}
    start = time.perf_counter()
    engines["compiled, channels last"][0]()
    took = time.perf_counter() - start
    found = timed(engines, options.turns)
    print(
        f"{options.backbone}, {options.size} pixels, batches of {options.batch}, one thread; torch {torch.__version__}"
    )
    print(f"compiled in {took:.0f} s\n\n| | images/s | times eager |\n| --- | ---: | ---: |")
    for name, value in found.items():
        print(f"| {name} | {value:.2f} | {value / found['eager']:.2f} |")


def _print_engines(options: argparse.Namespace) -> None:
    asked = {"backbone": options.backbone, "weights": "random", "size": options.size, "pool": "cls", "device": "cpu"}
    images = np.random.default_rng(0).integers(0, 256, (options.images, options.size, options.size, 3), np.uint8)
    plain = timm.create_model(options.backbone, num_classes=0, img_size=options.size).eval()
    torch_one = Embedding(**asked, engine="torch")
    x = torch_one.network.prepare(images[: options.batch]).contiguous()
    shapes = products(plain, options.size)
    billions = sum(2 * times * a * b * c for times, a, b, c in shapes) / 1e9

    def by(model: Any) -> Callable[[], Any]:
        def run() -> Any:
            with torch.inference_mode():
                return model(x)

        return run

    engines: dict[str, tuple[Callable[[], Any], int]] = {
        "the products of matrices alone (the bound)": (bound(shapes), 1),
        "timm eager": (by(plain), len(x)),
        "fusion by torch": (lambda: torch_one.embed(images[: options.batch]), options.batch),
    }
    if onnx_backend.is_installed():
        onnx_one = Embedding(**asked, engine="onnx")
        engines["fusion by ONNX Runtime"] = (lambda: onnx_one.embed(images[: options.batch]), options.batch)
    found = timed(engines, options.turns)
    most = found["the products of matrices alone (the bound)"]
    print(f"{options.backbone}, {options.size} pixels, batches of {options.batch}, one thread, "
          f"{billions:.1f} GFLOP an image; torch {torch.__version__}, timm {timm.__version__}\n")  # fmt: skip
    print("| | images/s | of the bound | times timm eager |\n| --- | ---: | ---: | ---: |")
    for name, value in found.items():
        print(f"| {name} | {value:.2f} | {value / most:.0%} | {value / found['timm eager']:.2f} |")
    print("\n| fusion's engine, images a batch | images/s | peak memory, MB |\n| ---: | ---: | ---: |")
    own = Embedding(**asked)
    entries = {str(batch): (functools.partial(own.embed, images[:batch]), batch) for batch in options.batches}
    peaks = {}
    for name, (run, _) in entries.items():
        run()
        peaks[name] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    for name, value in timed(entries, options.turns).items():
        print(f"| {name} | {value:.2f} | {peaks[name]:.0f} |", flush=True)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--backbone", default="vit_small_patch14_dinov2", help="a network of timm")
    parser.add_argument("--size", type=int, default=224)
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--batches", type=lambda text: [int(each) for each in text.split(",")], default=[1, 4, 16])
    parser.add_argument("--images", type=int, default=16)
    parser.add_argument("--turns", type=int, default=3)
    parser.add_argument("--compile", action="store_true", help="what torch.compile brings, instead")
    return parser.parse_args()


if __name__ == "__main__":
    main()
