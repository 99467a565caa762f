"""How a network pools the cells of a bag: all bags of a batch at once, their cells one below the other."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

#: Summaries of a bag that its cells are compared with, in the place of all other cells (Lee et al. 2019): memory then
#: grows with the cells, and not with their square.
_SUMMARIES = 8

#: Attention heads.
HEADS = 2


def bag_softmax(scores: Tensor, owner: Tensor, bags: int) -> Tensor:
    """float (k, h): the softmax of float (k, h) within each bag, of intp (k,) ``owner``."""
    index = owner[:, None].expand_as(scores)
    peak = torch.full((bags, scores.shape[1]), -math.inf).scatter_reduce(0, index, scores, "amax")
    odds = torch.exp(scores - peak.detach()[owner])
    return odds / torch.zeros_like(peak).index_add(0, owner, odds)[owner]


class GatedAttention(nn.Module):
    """Attention pooling with a gate: Ilse, Tomczak and Welling (2018), ICML 80:2127-2136, equation 9."""

    def __init__(self, hidden: int, classes: int) -> None:
        super().__init__()
        self.value, self.gate = nn.Linear(hidden, hidden // 2), nn.Linear(hidden, hidden // 2)
        self.score = nn.Linear(hidden // 2, 1, bias=False)
        self.head = nn.Linear(hidden, classes)

    def forward(self, cells: Tensor, owner: Tensor, bags: int) -> tuple[Tensor, Tensor]:
        """float (n, classes) and the attention, float (k,), of float (k, hidden)."""
        scores = self.score(torch.tanh(self.value(cells)) * torch.sigmoid(self.gate(cells)))
        weights = bag_softmax(scores, owner, bags)
        pooled = torch.zeros((bags, cells.shape[1])).index_add(0, owner, weights * cells)
        return self.head(pooled), weights[:, 0]


class TopCells(nn.Module):
    """The mean over the cells that speak most for each class: a share of the bag, one at least.

    Source: Durand, Mordan, Thome and Cord (2017), CVPR: 642-651; the share in the place of a number, so that a class
    does not depend on how many cells a bag has.
    """

    def __init__(self, hidden: int, classes: int, share: float) -> None:
        super().__init__()
        self.head = nn.Linear(hidden, classes)
        self.share = share

    def forward(self, cells: Tensor, owner: Tensor, bags: int) -> tuple[Tensor, Tensor]:
        """As ``GatedAttention``; the weights are those of the cells that were taken, averaged over classes."""
        scores = self.head(cells)
        sizes = torch.bincount(owner, minlength=bags)
        wanted = torch.clamp((sizes * self.share).round(), min=1)[owner]
        starts = torch.cumsum(sizes, 0) - sizes
        weights = torch.zeros_like(scores)
        for column in range(scores.shape[1]):
            # By bag, and in each from the highest score down: the rank within the bag follows from where it begins.
            order = torch.argsort(scores[:, column].detach(), descending=True, stable=True)
            order = order[torch.argsort(owner[order], stable=True)]
            rank = torch.arange(len(owner)) - starts[owner[order]]
            taken = (rank < wanted[order]).to(scores.dtype) / wanted[order]
            weights[order, column] = taken
        pooled = torch.zeros((bags, scores.shape[1])).index_add(0, owner, weights * scores)
        return pooled, weights.mean(dim=1)


class SetTransformer(nn.Module):
    """Cells compared with summaries of their bag, then gated attention.

    Source: Lee, Lee, Kim, Kosiorek, Choi and Teh (2019), Set Transformer, ICML 97:3744-3753: one block of induced
    attention, of two heads.
    """

    def __init__(self, hidden: int, classes: int) -> None:
        super().__init__()
        self.summaries = nn.Parameter(torch.randn(_SUMMARIES, hidden) / math.sqrt(hidden))
        self.keys, self.values = nn.Linear(hidden, hidden), nn.Linear(hidden, hidden)
        self.asked, self.shown, self.told = (nn.Linear(hidden, hidden) for _ in range(3))
        self.first, self.last = nn.LayerNorm(hidden), nn.LayerNorm(hidden)
        self.pool = GatedAttention(hidden, classes)

    def forward(self, cells: Tensor, owner: Tensor, bags: int) -> tuple[Tensor, Tensor]:
        """As ``GatedAttention``."""
        k, hidden = cells.shape
        width = hidden // HEADS
        normed = self.first(cells)
        keys, values = self.keys(normed).view(k, HEADS, width), self.values(normed).view(k, HEADS, width)
        asked = self.summaries.view(_SUMMARIES, HEADS, width)
        scores = torch.einsum("khw,shw->ksh", keys, asked) / math.sqrt(width)
        weights = bag_softmax(scores.reshape(k, -1), owner, bags).view(k, _SUMMARIES, HEADS)
        summed = torch.zeros((bags, _SUMMARIES, HEADS, width))
        for at in range(_SUMMARIES):  # one after the other: all of them at once are eight times the cells
            summed[:, at] = torch.zeros((bags, HEADS, width)).index_add(0, owner, weights[:, at, :, None] * values)
        summary = summed.reshape(bags, _SUMMARIES, hidden)
        shown = self.shown(summary).view(bags, _SUMMARIES, HEADS, width)
        told = self.told(summary).view(bags, _SUMMARIES, HEADS, width)
        query = self.asked(normed).view(k, HEADS, width)
        scores = torch.stack([(query * shown[:, at][owner]).sum(-1) for at in range(_SUMMARIES)]) / math.sqrt(width)
        share = torch.softmax(scores, dim=0)
        mixed = torch.zeros_like(query)
        for at in range(_SUMMARIES):
            mixed = mixed + share[at, :, :, None] * told[:, at][owner]
        return self.pool(self.last(cells + mixed.reshape(k, hidden)), owner, bags)


class BagNetwork(nn.Module):
    """Cells into a small hidden space, and a pooling on top.

    Parameters
    ----------
    columns, classes, hidden : sizes.
    pooling : "attention", "top-k" or "transformer".
    share : of a bag that "top-k" takes.
    dropout : of columns, by half of it, and of the hidden space.
    """

    def __init__(self, columns: int, classes: int, hidden: int, pooling: str, share: float, dropout: float) -> None:
        super().__init__()
        self.encode = nn.Linear(columns, hidden)
        self.drop, self.drop_columns = nn.Dropout(dropout), nn.Dropout(dropout / 2)
        self.pool: GatedAttention | TopCells | SetTransformer
        if pooling == "attention":
            self.pool = GatedAttention(hidden, classes)
        elif pooling == "top-k":
            self.pool = TopCells(hidden, classes, share)
        else:
            self.pool = SetTransformer(hidden, classes)

    def silence(self) -> None:
        """Have it say nothing of any bag, until it has learnt to."""
        head = self.pool.pool.head if isinstance(self.pool, SetTransformer) else self.pool.head
        for parameter in head.parameters():
            nn.init.zeros_(parameter)

    def forward(self, cells: Tensor, owner: Tensor, bags: int) -> tuple[Tensor, Tensor]:
        """float (n, classes) of n bags, and how much each cell weighs in its own, float (k,)."""
        hidden = self.drop(torch.relu(self.encode(self.drop_columns(cells))))
        found: tuple[Tensor, Tensor] = self.pool(hidden, owner, bags)
        return found
