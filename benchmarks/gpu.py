"""What a GPU makes of the same network: precisions, layout, compilation, one process under DDP; prints Markdown.

    python -m benchmarks.gpu                                        ViT-S/14 at 224 pixels, EfficientNetV2-B3 at 300
    python -m benchmarks.gpu --networks vit_base_patch14_dinov2:224 --batch 128
    python -m benchmarks.gpu --dry                                  a tiny network on a CPU: checks the script alone

Embedding and training steps on images that lie on the device already, each rung by itself and in turns; the median
counts. Beside the speed of embedding stands how far its numbers are from those in float32 (cosine of the worst image),
which is what says whether a precision may be used. Random weights of the exact shapes.
"""

from __future__ import annotations

import argparse
import contextlib
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import timm
import torch

#: Steps that are timed at a time, and those before them: compilation and an allocator's first requests are no speed.
_STEPS, _WARM = 20, 3


@dataclass(frozen=True)
class Rung:
    """One way of computing the same.

    Attributes
    ----------
    low : precision of what may be computed so (autocast); None is float32.
    tf32, channels_last, compiled, parallel : products of 10 bits, layout, torch.compile, DistributedDataParallel.
    """

    name: str
    low: torch.dtype | None = None
    tf32: bool = False
    channels_last: bool = False
    compiled: bool = False
    parallel: bool = False


RUNGS = (
    Rung("fp32"),
    Rung("TF32", tf32=True),
    Rung("bf16", torch.bfloat16, tf32=True),
    Rung("fp16", torch.float16, tf32=True),
    Rung("bf16, channels_last", torch.bfloat16, tf32=True, channels_last=True),
    Rung("bf16, channels_last, compile", torch.bfloat16, tf32=True, channels_last=True, compiled=True),
    Rung("bf16, channels_last, DDP on one", torch.bfloat16, tf32=True, channels_last=True, parallel=True),
)


def build(network: str, rung: Rung, device: str) -> Any:
    """The network with the same random weights whichever the rung."""
    name, _, size = network.partition(":")
    torch.manual_seed(0)
    sized = {"img_size": int(size)} if "vit" in name else {}
    layout = torch.channels_last if rung.channels_last else torch.contiguous_format
    model: Any = timm.create_model(name, num_classes=2, **sized).to(device, memory_format=layout)
    if rung.compiled:
        model = torch.compile(model)
    return torch.nn.parallel.DistributedDataParallel(model) if rung.parallel else model


@contextlib.contextmanager
def arithmetic(rung: Rung, device: str) -> Iterator[None]:
    """The precision of a rung."""
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = rung.tf32
    with torch.autocast(torch.device(device).type, rung.low, enabled=rung.low is not None):
        yield


def embedding(network: str, rung: Rung, x: Any, device: str) -> tuple[Callable[[], Any], Any]:
    """One pass, and the numbers that it gives (float32, on the CPU)."""
    model = build(network, rung, device).eval()
    seen = x.to(memory_format=torch.channels_last if rung.channels_last else torch.contiguous_format)

    def run() -> Any:
        with torch.inference_mode(), arithmetic(rung, device):
            return model(seen)

    return run, run().float().cpu()


def training(network: str, rung: Rung, x: Any, device: str) -> Callable[[], Any]:
    """One step: forward, backward, AdamW."""
    model = build(network, rung, device).train()
    optimiser = torch.optim.AdamW(model.parameters(), lr=1e-4, fused=device == "cuda")
    scaler = torch.amp.GradScaler(torch.device(device).type, enabled=rung.low is torch.float16)
    seen = x.to(memory_format=torch.channels_last if rung.channels_last else torch.contiguous_format)
    y = torch.arange(len(x), device=device) % 2

    def run() -> None:
        optimiser.zero_grad(set_to_none=True)
        with arithmetic(rung, device):
            loss = torch.nn.functional.cross_entropy(model(seen), y)
        scaler.scale(loss).backward()
        scaler.step(optimiser)
        scaler.update()

    return run


def speed(run: Callable[[], Any], images: int, device: str, turns: int) -> tuple[float, float]:
    """Images a second, and the peak of the device's memory in MB; 0 on a CPU."""
    on_gpu = device == "cuda"
    for _ in range(_WARM if on_gpu else 1):
        run()
    if on_gpu:
        torch.cuda.synchronize()
        torch.cuda.reset_peak_memory_stats()
    steps, found = _STEPS if on_gpu else 1, []
    for _ in range(turns):
        start = time.perf_counter()
        for _ in range(steps):
            run()
        if on_gpu:
            torch.cuda.synchronize()
        found.append(steps * images / (time.perf_counter() - start))
    return statistics.median(found), torch.cuda.max_memory_allocated() / 1e6 if on_gpu else 0.0


def climb(network: str, batch: int, device: str, turns: int) -> None:
    """Both tables of a network."""
    size = int(network.partition(":")[2])
    x = torch.rand(batch, 3, size, size, generator=torch.Generator().manual_seed(0)).to(device)
    rungs = [rung for rung in RUNGS if device == "cuda" or not rung.compiled]
    print(f"\n## {network.partition(':')[0]}, {size} pixels, batches of {batch}\n")
    print(
        "| embedding | images/s | times fp32 | peak MB | least cosine with fp32 |\n| --- | ---: | ---: | ---: | ---: |"
    )
    plain = expected = None
    for rung in (each for each in rungs if not each.parallel):
        run, numbers = embedding(network, rung, x, device)
        expected = numbers if expected is None else expected
        like = torch.nn.functional.cosine_similarity(numbers, expected).min().item()
        value, peak = speed(run, batch, device, turns)
        plain = plain or value
        print(f"| {rung.name} | {value:.0f} | {value / plain:.2f} | {peak:.0f} | {like:.5f} |", flush=True)
    print("\n| training | images/s | times fp32 | peak MB |\n| --- | ---: | ---: | ---: |")
    plain = None
    for rung in rungs:
        value, peak = speed(training(network, rung, x, device), batch, device, turns)
        plain = plain or value
        print(f"| {rung.name} | {value:.0f} | {value / plain:.2f} | {peak:.0f} |", flush=True)


def main() -> None:
    """Print the tables; without a GPU, and without --dry, say so and stop."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    networks = "vit_small_patch14_dinov2:224,tf_efficientnetv2_b3:300"
    parser.add_argument("--networks", default=networks, help="NAME:SIZE, with a comma between")
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--turns", type=int, default=3)
    parser.add_argument("--dry", action="store_true", help="a tiny network on a CPU: nothing about speed")
    options = parser.parse_args()
    if not options.dry and not torch.cuda.is_available():
        parser.error("no GPU is at hand; --dry checks the script on a CPU")
    device = "cpu" if options.dry else "cuda"
    if options.dry:
        options.networks, options.batch, options.turns = "test_vit:32,test_efficientnet:32", 4, 1
    where = "a CPU, a dry run: no figure here is a speed" if options.dry else torch.cuda.get_device_name()
    print(f"# The ladder of a GPU\n\n{where}; torch {torch.__version__}, timm {timm.__version__}.")
    with tempfile.TemporaryDirectory() as folder:
        torch.distributed.init_process_group(
            "gloo" if options.dry else "nccl", f"file://{folder}/rendezvous", rank=0, world_size=1
        )
        try:
            for network in options.networks.split(","):
                climb(network, options.batch, device, options.turns)
        finally:
            torch.distributed.destroy_process_group()


if __name__ == "__main__":
    main()
