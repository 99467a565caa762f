"""Images varied while a network learns: on tensors, on the network's device, each image by its own draw.

What lies outside the cell stays as it was: a black pixel is no part of it, and neither colour nor blur gets there.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional


@dataclass(frozen=True)
class Augmentation:
    """What is varied, and how far; the defaults are the published ones. Everything at 0 or False leaves images be.

    Attributes
    ----------
    flip_horizontal : mirror every other image, left to right.
    flip_vertical : mirror every other image, top to bottom.
    quarter_turns : turn by 0, 90, 180 or 270 degrees; with both flips these are the eight of the dihedral group.
    rotation : largest angle either way, degrees.
    translate : largest shift either way, as a share of the side.
    scale : largest change of size either way, as a share.
    brightness : largest change of the light either way, as a share.
    contrast : largest change of contrast either way, as a share.
    stain : standard deviation of the change of optical density, as a share, shared by the three channels and once more
        channel by channel.
    blur : largest sigma of a Gaussian, pixels; every other image is blurred.
    mixup, cutmix : parameter of the Beta distribution that pairs are mixed by (Zhang et al. 2018; Yun et al. 2019);
        0 mixes none.

    Raises
    ------
    ValueError : a negative value, or both mixup and cutmix.
    """

    flip_horizontal: bool = True
    flip_vertical: bool = False
    quarter_turns: bool = False
    rotation: float = 10.0
    translate: float = 0.0
    scale: float = 0.0
    brightness: float = 0.1
    contrast: float = 0.1
    stain: float = 0.0
    blur: float = 0.0
    mixup: float = 0.0
    cutmix: float = 0.0

    def __post_init__(self) -> None:
        for name, value in vars(self).items():
            if not 0 <= value < math.inf:
                raise ValueError(f"{name} must be 0 or more, not {value}")
        if self.scale >= 1:
            raise ValueError(f"scale must be a share below 1, not {self.scale}")
        if self.mixup and self.cutmix:
            raise ValueError("mixup and cutmix exclude each other; set one of them to 0")


def augment(x: Tensor, how: Augmentation, draw: torch.Generator, *, is_black: bool) -> Tensor:
    """float (N, 3, S, S) in [0, 1], varied.

    Parameters
    ----------
    x : float (N, 3, S, S) in [0, 1].
    draw : where random numbers come from; on the CPU, so that every device sees the same variations.
    is_black : the background is black, and must stay so; otherwise border pixels go on where an image is moved away.
    """
    x = _dihedral(x, how, draw)
    if how.rotation or how.translate or how.scale:
        n = len(x)
        angle = math.radians(1) * how.rotation * _spread(n, draw)
        x = move(x, angle, 1 + how.scale * _spread(n, draw), how.translate * _spread((n, 2), draw), is_black=is_black)
    cell = (x.amax(1, keepdim=True) > 0).to(x.dtype) if is_black else torch.ones_like(x[:, :1])
    if how.blur:
        sigma = how.blur * torch.rand(len(x), generator=draw) * (torch.rand(len(x), generator=draw) < 0.5)
        x = _blur(x, sigma.to(x.device), cell)
    if how.stain:
        x = _stain(x, how.stain, draw)
    if how.brightness or how.contrast:
        light, range_ = (_each(1 + part * _spread(len(x), draw), x) for part in (how.brightness, how.contrast))
        grey = (x * cell).sum((1, 2, 3), keepdim=True) / (3 * cell.sum((1, 2, 3), keepdim=True)).clamp(min=1)
        x = (x - grey) * range_ + grey * light
    return x.clamp(0, 1) * cell


def turn(x: Tensor, degrees: float, *, is_black: bool) -> Tensor:
    """All images turned anticlockwise by one angle; a multiple of 90 degrees moves pixels and changes none."""
    if degrees % 90 == 0:
        return torch.rot90(x, int(degrees // 90) % 4, (2, 3))
    n = len(x)
    return move(x, torch.full((n,), math.radians(degrees)), torch.ones(n), torch.zeros(n, 2), is_black=is_black)


def mix(x: Tensor, shares: Tensor, how: Augmentation, draw: torch.Generator) -> tuple[Tensor, Tensor, Tensor, float]:
    """Images mixed with partners, targets (N, K) in the same shares.

    Returns
    -------
    images, targets, intp (N,) partners, and the share that is an image's own: whoever has more to mix (feature
    blocks) does it likewise.
    """
    n, side = len(x), x.shape[-1]
    partner = torch.randperm(n, generator=draw).to(x.device)
    alpha = how.mixup or how.cutmix
    # A Beta variate from two Gamma variates, since torch's own distribution takes no generator.
    a, b = (torch._standard_gamma(torch.tensor(alpha, dtype=torch.float64), generator=draw) for _ in range(2))
    own = float(a / (a + b)) if float(a + b) > 0 else 1.0
    if how.mixup:
        x = own * x + (1 - own) * x[partner]
    else:
        length = round(side * math.sqrt(1 - own))
        top, left = (int(torch.randint(side - length + 1, (), generator=draw)) for _ in range(2))
        x = x.clone()
        x[:, :, top : top + length, left : left + length] = x[partner][:, :, top : top + length, left : left + length]
        own = 1 - (length / side) ** 2
    return x, own * shares + (1 - own) * shares[partner], partner, own


def _dihedral(x: Tensor, how: Augmentation, draw: torch.Generator) -> Tensor:
    """Pixels change places, none changes its value."""
    for asked, axis in ((how.flip_horizontal, 3), (how.flip_vertical, 2)):
        if asked:
            x = torch.where(_each(torch.rand(len(x), generator=draw) < 0.5, x), x.flip(axis), x)
    if how.quarter_turns:
        turns = torch.randint(4, (len(x),), generator=draw)
        for quarter in (1, 2, 3):
            x = torch.where(_each(turns == quarter, x), torch.rot90(x, quarter, (2, 3)), x)
    return x


def move(x: Tensor, angle: Tensor, scale: Tensor, shift: Tensor, *, is_black: bool) -> Tensor:
    """Each image turned anticlockwise by its angle (radians), scaled about its middle, shifted by shares (x, y)."""
    cos, sin = torch.cos(angle) / scale, torch.sin(angle) / scale
    # grid_sample asks, for every pixel of the result, where it comes from: the inverse map, in [-1, 1].
    matrix = torch.stack([torch.stack([cos, -sin], 1), torch.stack([sin, cos], 1)], 1)
    offset = -(matrix @ (2 * shift[:, :, None]))
    theta = torch.cat([matrix, offset], 2).to(x.device, x.dtype)
    grid = functional.affine_grid(theta, list(x.shape), align_corners=False)
    return functional.grid_sample(
        x, grid, mode="bilinear", padding_mode="zeros" if is_black else "border", align_corners=False
    )


def _stain(x: Tensor, deviation: float, draw: torch.Generator) -> Tensor:
    """Optical density times a factor: more or less of the dye, and of each colour's absorption (Beer and Lambert).

    Source: after Tellez et al. (2018), IEEE TMI 37:2126-2136, who vary stains that are unmixed first. Blood smears are
    stained by mixtures that have no fixed unmixing, so the channels are varied themselves.
    """
    shared, own = torch.randn(len(x), 1, generator=draw), torch.randn(len(x), 3, generator=draw)
    factor = (1 + deviation * (shared + own)).clamp(min=0.0)[:, :, None, None].to(x.device, x.dtype)
    # 1 of 256 grey levels added: the density of black stays finite.
    density = -torch.log((255 * x + 1) / 256)
    return (256 * torch.exp(-density * factor) - 1) / 255


def _blur(x: Tensor, sigma: Tensor, cell: Tensor) -> Tensor:
    """Gaussian, each image by its own sigma, of the cell alone: black does not bleed in at the contour."""
    radius = max(1, math.ceil(3 * float(sigma.max())))
    steps = torch.arange(-radius, radius + 1, device=x.device, dtype=x.dtype)
    kernel = torch.exp(-0.5 * (steps / sigma.clamp(min=1e-3)[:, None]) ** 2)
    kernel = kernel / kernel.sum(1, keepdim=True)

    def smooth(y: Tensor) -> Tensor:
        n, c = y.shape[:2]
        weights = kernel.repeat_interleave(c, 0)
        y = functional.pad(y.reshape(1, n * c, *y.shape[2:]), (radius,) * 4, mode="replicate")
        y = functional.conv2d(y, weights[:, None, :, None], groups=n * c)
        return functional.conv2d(y, weights[:, None, None, :], groups=n * c).reshape(n, c, *x.shape[2:])

    blurred = smooth(x * cell) / smooth(cell).clamp(min=1e-6)
    return torch.where(_each(sigma > 0, x), blurred, x) * cell


def _spread(shape: int | tuple[int, ...], draw: torch.Generator) -> Tensor:
    """Uniform in [-1, 1]."""
    return 2 * torch.rand(shape, generator=draw) - 1


def _each(values: Tensor, x: Tensor) -> Tensor:
    """(N,) as (N, 1, 1, 1) on the device of ``x``."""
    return values[:, None, None, None].to(x.device)
