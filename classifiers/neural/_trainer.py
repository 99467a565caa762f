"""The training loop: epochs over batches, a look at cells kept back after each, the best epoch's network in the end.

Everything random at a step is drawn from (seed, epoch, step), and rates are functions of the step: what must be kept of
an unfinished training is the network, the optimiser's memory and a few numbers, and going on from them at the start of
an epoch gives, on a CPU, the bits that an uninterrupted training gives.

Plain torch on one device; or, started by torchrun, one device a process (see ``fusion.compute.torch_processes``): each
batch is dealt out to the processes, gradients are averaged over its cells, and all keep the same weights. Batch norm
takes the share of each process by itself, and remembers the first one's.
"""

from __future__ import annotations

import contextlib
import hashlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.metrics import f1_score
from torch import Tensor, nn

from classifiers.neural import _adapters
from classifiers.neural import _loss as losses
from classifiers.neural._sampling import SAMPLINGS, batches, count_batches, epoch_order
from classifiers.neural._schedule import SCHEDULES, depth_of_parameters, first_momentum, peak_rates, rate
from classifiers.neural.augmentation import Augmentation, augment, mix, turn
from classifiers.neural.network import Network, Output
from fusion.compute import torch_processes
from fusion.data.classifier_inputs import CellInputs

PRECISIONS = ("float32", "bfloat16", "float16")

#: Cells that a process needs at a step: batch norm has no spread of one.
_LEAST = 2

#: Called after every epoch with its number, from 1, and what there is to say of it: loss, score, learning_rate.
Log = Callable[[int, Mapping[str, float]], None]

#: Called after every step with (epoch, epochs, steps done in all, steps in all).
Watch = Callable[[int, int, int, int], None]


@dataclass(frozen=True)
class Training:
    """How a network learns; the defaults are the published recipe.

    Attributes
    ----------
    epochs : at most so many.
    batch_size : cells in a batch, of all processes together.
    accumulate : batches whose gradients make one step.
    learning_rate : peak rate, or three: of the early and the late half of the backbone, and of all that comes after.
    schedule : of the learning rate: "onecycle", "cosine" or "constant".
    warmup : share of the steps on which the schedules "cosine" and "constant" rise.
    weight_decay : of AdamW.
    clip : largest norm of the gradient; 0 leaves it.
    loss : "focal" with ``alpha`` and ``gamma``, or "cross_entropy".
    alpha : factor of the focal loss, or one for each class in their order.
    gamma : how far the focal loss turns away from cells that are predicted with certainty; 0 does not.
    label_smoothing : share of a target that goes to all classes alike.
    sampling : "oversample" evens classes out, "natural" takes every cell once an epoch.
    tune : what of the backbone learns: "all", "last" (its last ``last_blocks`` blocks or stages), "lora" (low-rank
        adapters of a transformer's attention, added into its weights in the end), or "none".
    last_blocks : how many, for "last".
    lora_rank, lora_alpha : rank of the adapters, and what their outcome is multiplied with, over the rank.
    freeze_epochs : epochs at the start in which the backbone stays as it is.
    freeze_norm : batch norms of the backbone keep their statistics all along, as weights with norms folded in need.
    validation : share of the cells kept back, whole groups, to stop by; 0 keeps none.
    patience : stop after so many epochs without a better macro F1 on them; 0 never stops. The best epoch's network is
        the outcome either way.
    min_delta : what a macro F1 has to be better by.
    ema : decay of the running mean of the weights that is judged and kept in their place; 0 keeps the weights.
    precision : "float32", "bfloat16", or on a GPU "float16", for what may be computed so (torch's autocast, with
        gradients scaled for float16); weights stay float32. A CPU is as a rule slower by "bfloat16".
    tf32 : whether a GPU may round the factors of products to 10 bits, several times as fast; never while it embeds.

    Raises
    ------
    ValueError : a value outside the above.
    """

    epochs: int = 100
    batch_size: int = 8
    accumulate: int = 1
    learning_rate: float | tuple[float, ...] = 1e-3
    schedule: str = "onecycle"
    warmup: float = 0.0
    weight_decay: float = 1e-5
    clip: float = 1.0
    loss: str = "focal"
    alpha: float | tuple[float, ...] = 0.25
    gamma: float = 2.0
    label_smoothing: float = 0.0
    sampling: str = "oversample"
    tune: str = "all"
    last_blocks: int = 2
    lora_rank: int = 8
    lora_alpha: float = 16.0
    freeze_epochs: int = 0
    freeze_norm: bool = False
    validation: float = 0.2
    patience: int = 10
    min_delta: float = 0.002
    ema: float = 0.0
    precision: str = "float32"
    tf32: bool = False

    def __post_init__(self) -> None:
        choices = {"schedule": SCHEDULES, "loss": losses.LOSSES, "sampling": SAMPLINGS, "precision": PRECISIONS}
        choices |= {"tune": _adapters.TUNED}
        for name, known in choices.items():
            if getattr(self, name) not in known:
                raise ValueError(f"{name} must be {' or '.join(known)}, not {getattr(self, name)!r}")
        for name in ("epochs", "accumulate", "last_blocks", "lora_rank"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be 1 or more, not {getattr(self, name)}")
        if self.batch_size < 2:
            raise ValueError(f"batch_size must be 2 or more, for batch norm, not {self.batch_size}")
        if not self.lora_alpha > 0:
            raise ValueError(f"lora_alpha must be above 0, not {self.lora_alpha}")
        for name in ("weight_decay", "clip", "gamma", "freeze_epochs", "patience", "min_delta"):
            if not getattr(self, name) >= 0:
                raise ValueError(f"{name} must be 0 or more, not {getattr(self, name)}")
        for name in ("warmup", "label_smoothing", "validation", "ema"):
            if not 0 <= getattr(self, name) < 1:
                raise ValueError(f"{name} must be a share from 0 to below 1, not {getattr(self, name)}")
        if self.validation > 0.5:
            raise ValueError(f"validation keeps back half of the cells at most, not {self.validation}")
        peak_rates(self.learning_rate)


@dataclass(frozen=True, eq=False)
class Lesson:
    """The cells of one training: what is seen of them, class numbers, and which are kept back.

    ``turns`` is how many rotations a prediction is the mean over.
    """

    inputs: CellInputs
    codes: NDArray[np.intp]
    classes: int
    train: NDArray[np.intp]
    held: NDArray[np.intp]
    is_black: bool
    turns: int = 1


@dataclass
class State:
    """All that changes during a training, apart from the network itself and its optimiser.

    Attributes
    ----------
    epoch : epochs finished.
    stale : epochs since the best one.
    best_score : macro F1 on the cells kept back at the best epoch, None before the first and where none are kept back.
    best, mean : tensors of the best epoch's network, and the running mean of the weights; empty where not in use.
    history : for every epoch its mean loss, and its score.
    """

    epoch: int = 0
    stale: int = 0
    best_score: float | None = None
    best: dict[str, Tensor] = field(default_factory=dict)
    mean: dict[str, Tensor] = field(default_factory=dict)
    history: list[dict[str, float | None]] = field(default_factory=list)


class Trainer:
    """One training of a network; ``state`` and ``optimiser`` may be filled from a checkpoint before ``run``."""

    def __init__(
        self,
        network: Network,
        lesson: Lesson,
        how: Training,
        augmentation: Augmentation,
        seed: int,
        auxiliary: float = 0.0,
    ) -> None:
        if isinstance(how.alpha, tuple) and len(how.alpha) != lesson.classes:
            raise ValueError(f"alpha is one number, or one for each of the {lesson.classes} classes")
        self.network, self.lesson, self.how, self.augmentation = network, lesson, how, augmentation
        self.seed, self.auxiliary = seed, auxiliary
        self.state = State()
        self._device = next(network.parameters()).device
        if how.precision == "float16" and self._device.type == "cpu":
            raise ValueError("precision float16 is for a GPU; a CPU trains in float32 or bfloat16")
        self._processes = torch_processes.count()
        if how.batch_size < _LEAST * self._processes:
            raise ValueError(
                f"batch_size must be {_LEAST * self._processes} or more for {self._processes} processes, "
                f"not {how.batch_size}"
            )
        self._bound: nn.parallel.DistributedDataParallel | None = None
        self._bound_for: list[bool] = []
        self._forward: Callable[..., Output] = network
        #: Without float16 it changes nothing.
        self.scaler = torch.amp.GradScaler(self._device.type, enabled=how.precision == "float16")
        depths = depth_of_parameters(network)
        # One parameter a group: its name finds its memory again in a checkpoint, and its depth has its rate.
        groups = [
            {"params": [parameter], "name": name, "peak": peak_rates(how.learning_rate)[depths[name]]}
            for name, parameter in network.named_parameters()
        ]
        self.optimiser = torch.optim.AdamW(groups, lr=1e-3, weight_decay=how.weight_decay)
        sampled = len(epoch_order(lesson.codes[lesson.train], how.sampling, seed, 0))
        if sampled < _LEAST * self._processes:
            raise ValueError(f"{sampled} cells are too few for {self._processes} processes, which need two each")
        self._batches = count_batches(sampled, how.batch_size, _LEAST * self._processes)
        self._per_epoch = -(-self._batches // how.accumulate)

    def run(
        self, watch: Watch | None = None, keep: Callable[[Trainer], None] | None = None, log: Log | None = None
    ) -> State:
        """Train until it is time to stop; the network then is the best epoch's, in evaluation mode.

        Parameters
        ----------
        watch : informed of every step.
        keep : called after every epoch, to write a checkpoint.
        log : informed of every epoch.
        """
        self._check_agreement()
        while self.state.epoch < self.how.epochs and not self._is_spent():
            self._set_mode()
            self._bind()
            mean_loss = self._epoch(watch)
            self.state.epoch += 1
            self._judge(mean_loss)
            if log is not None:
                values = {**self.state.history[-1], "learning_rate": self.optimiser.param_groups[-1]["lr"]}
                log(self.state.epoch, {name: value for name, value in values.items() if value is not None})
            if keep is not None:
                keep(self)
        self.network.load_state_dict(self.state.best or self._judged())
        return_to_rest(self.network)
        return self.state

    # ---- several processes -------------------------------------------------------------------------------------------

    def _together(self) -> Any:
        """The accelerator of all processes; they have met when the device was chosen."""
        return torch_processes.join("cpu" if self._device.type == "cpu" else "cuda")

    def _check_agreement(self) -> None:
        """ValueError where the processes have found different checkpoints, as they do without a shared folder."""
        if self._processes == 1:
            return
        from accelerate.utils import gather_object

        epochs = gather_object([self.state.epoch])
        if len(set(epochs)) > 1:
            raise ValueError(
                f"the processes go on from different epochs ({', '.join(map(str, epochs))}): they need one folder"
            )

    def _bind(self) -> None:
        """Average gradients over the processes; anew whenever other weights are trained than before."""
        if self._processes == 1:
            return
        trained = [parameter.requires_grad for parameter in self.network.parameters()]
        if self._bound is not None and self._bound_for == trained:
            return
        together = self._together()
        together.free_memory()
        # The head of a block that no cell of a batch has gets no gradient; all else always does.
        together.ddp_handler.find_unused_parameters = bool(self.auxiliary)
        self._bound, self._bound_for = together.prepare_model(self.network), trained
        self._forward = self._bound

    def _share(self, batch: NDArray[np.intp]) -> NDArray[np.intp]:
        """This process's part of the batch."""
        return np.array_split(batch, self._processes)[torch_processes.rank()]

    def _sum(self, value: float) -> float:
        """Over all processes."""
        if self._processes == 1:
            return value
        total = self._together().reduce(torch.tensor(value, dtype=torch.float64, device=self._device), "sum")
        return float(total)

    def _agree(self) -> None:
        """All processes take the first one's tensors; only what batch norms remember was ever different."""
        if self._processes == 1:
            return
        from accelerate.utils import broadcast

        own = self.network.state_dict()
        self.network.load_state_dict(broadcast(own))
        # Tensors meet by their place, and what was read from a file is in any order.
        self.state.mean = broadcast({name: self.state.mean[name] for name in own if name in self.state.mean})

    def _predict_held(self) -> NDArray[np.float64]:
        """float64 (n, classes) of the cells kept back; each process judges its part of them."""
        rows = self.lesson.held
        alone = self._processes == 1 or len(rows) < self._processes
        held = self.lesson.inputs.take(rows if alone else self._share(rows))
        proba = predict(self.network, held, 4 * self.how.batch_size, self.lesson.turns, self.lesson.is_black)
        if alone:
            return proba
        from accelerate.utils import gather_object

        return np.concatenate(gather_object([proba]))

    # ---- the loop ----------------------------------------------------------------------------------------------------

    def _is_spent(self) -> bool:
        return bool(self.how.patience) and self.state.stale >= self.how.patience

    def _set_mode(self) -> None:
        self.network.train()
        backbone = self.network.backbone
        if backbone is None:
            return
        is_frozen = self.state.epoch < self.how.freeze_epochs
        _adapters.freeze(backbone.backbone, "none" if is_frozen else self.how.tune, self.how.last_blocks)
        if is_frozen or self.how.tune == "none":
            backbone.backbone.eval()  # its batch norms would drift, and drop path has nothing to teach
            return
        for module in backbone.backbone.modules():
            if isinstance(module, nn.modules.batchnorm._BatchNorm):
                learns = module.weight is not None and module.weight.requires_grad
                module.train(learns and not self.how.freeze_norm)

    @property
    def trained(self) -> int:
        """Number of values that training may change, whatever is frozen at its start."""
        backbone = self.network.backbone
        if backbone is not None:
            _adapters.freeze(backbone.backbone, self.how.tune, self.how.last_blocks)
        return _adapters.count_trained(self.network)

    def _epoch(self, watch: Watch | None) -> float:
        rows = self.lesson.train
        order = rows[epoch_order(self.lesson.codes[rows], self.how.sampling, self.seed, self.state.epoch)]
        steps = self.how.epochs * self._per_epoch
        total = 0.0
        self.optimiser.zero_grad(set_to_none=True)
        for at, batch in enumerate(batches(order, self.how.batch_size, _LEAST * self._processes)):
            first = at - at % self.how.accumulate
            together = min(self.how.accumulate, self._batches - first)
            is_step = (at + 1) % self.how.accumulate == 0 or at + 1 == self._batches
            own = self._share(batch) if self._processes > 1 else batch
            with contextlib.nullcontext() if self._bound is None or is_step else self._bound.no_sync():
                loss = self._loss(own, at)
                # The mean over processes of these is the mean over the batch's cells.
                weight = 1 if self._processes == 1 else len(own) * self._processes / len(batch)
                self.scaler.scale(loss * weight / together).backward()
            total += loss.item() * len(own)
            if is_step:
                step = self.state.epoch * self._per_epoch + at // self.how.accumulate
                self._step(step, steps)
                if watch is not None:
                    watch(self.state.epoch, self.how.epochs, step + 1, steps)
        return self._sum(total) / len(order)

    def _loss(self, batch: NDArray[np.intp], at: int) -> Tensor:
        # Each process draws its own numbers; the first one's are those of a process alone.
        rank = torch_processes.rank()
        draw = torch.Generator().manual_seed(_mixed(self.seed, self.state.epoch, at, *((2, rank) if rank else ())))
        with torch.random.fork_rng(devices=[]):  # dropout draws from the global stream: it gets one of this step's own
            torch.manual_seed(_mixed(self.seed, self.state.epoch, at, *((3, rank) if rank else (1,))))
            x, X = self._encoded(batch, draw)
            codes = torch.from_numpy(self.lesson.codes[batch]).to(X.device)
            shares = losses.targets(codes, self.lesson.classes, self.how.label_smoothing)
            if x is not None and (self.augmentation.mixup or self.augmentation.cutmix):
                x, shares, partner, own = mix(x, shares, self.augmentation, draw)
                X = own * X + (1 - own) * X[partner]  # a block that one of the two lacks is lacking in the mixture
            images = None if x is None or self.network.backbone is None else self.network.backbone.normalise(x)
            with self._arithmetic():
                return self._weighed(self._forward(X, images), shares)

    @contextlib.contextmanager
    def _arithmetic(self) -> Iterator[None]:
        """The precision that was asked for."""
        if self._device.type != "cuda":
            with torch.autocast(self._device.type, torch.bfloat16, enabled=self.how.precision == "bfloat16"):
                yield
            return
        low = {"bfloat16": torch.bfloat16, "float16": torch.float16}.get(self.how.precision)
        before = torch.backends.cuda.matmul.allow_tf32
        torch.backends.cuda.matmul.allow_tf32 = self.how.tf32
        try:
            with (
                torch.backends.cudnn.flags(enabled=True, allow_tf32=self.how.tf32),
                torch.autocast("cuda", low, enabled=low is not None),
            ):
                yield
        finally:
            torch.backends.cuda.matmul.allow_tf32 = before

    def _encoded(self, batch: NDArray[np.intp], draw: torch.Generator) -> tuple[Tensor | None, Tensor]:
        """Augmented images in [0, 1] and features."""
        X = features(self.network, self.lesson.inputs, batch)
        if self.network.backbone is None:
            return None, X
        x = self.network.backbone.scale(self.lesson.inputs.images(batch))
        return augment(x, self.augmentation, draw, is_black=self.lesson.is_black), X

    def _weighed(self, output: Output, shares: Tensor) -> Tensor:
        loss = self._plain(output.logits, shares)
        for name, logits in output.auxiliary.items():
            has = output.present[name]
            if has.any():
                loss = loss + self.auxiliary / len(output.auxiliary) * self._plain(logits[has], shares[has])
        return loss

    def _plain(self, logits: Tensor, shares: Tensor) -> Tensor:
        if self.how.loss == "focal":
            return losses.focal_loss(logits, shares, self.how.alpha, self.how.gamma)
        return losses.cross_entropy(logits, shares)

    def _step(self, step: int, steps: int) -> None:
        share = rate(self.how.schedule, step, steps, self.how.warmup)
        momentum = first_momentum(self.how.schedule, step, steps)
        for group in self.optimiser.param_groups:
            group["lr"], group["betas"] = group["peak"] * share, (momentum, 0.999)
        self.scaler.unscale_(self.optimiser)
        if self.how.clip:
            nn.utils.clip_grad_norm_(self.network.parameters(), self.how.clip)
        self.scaler.step(self.optimiser)
        self.scaler.update()
        self.optimiser.zero_grad(set_to_none=True)
        if self.how.ema:
            self._average(step)

    def _average(self, step: int) -> None:
        # A mean over a thousand steps would still be the random start after ten: it begins short and grows.
        decay = min(self.how.ema, (1 + step) / (10 + step))
        for name, tensor in self.network.state_dict().items():
            if name not in self.state.mean or not tensor.is_floating_point():
                self.state.mean[name] = tensor.detach().clone()
            else:
                self.state.mean[name].lerp_(tensor, 1 - decay)

    def _judged(self) -> dict[str, Tensor]:
        """The tensors that are judged and kept: the running mean where there is one."""
        return self.state.mean or self.network.state_dict()

    def _judge(self, mean_loss: float) -> None:
        score = None
        self._agree()
        if len(self.lesson.held):
            own = {name: tensor.detach().clone() for name, tensor in self.network.state_dict().items()}
            self.network.load_state_dict(self._judged())
            self.network.eval()
            proba = self._predict_held()
            score = float(
                f1_score(self.lesson.codes[self.lesson.held], proba.argmax(1), average="macro", zero_division=0)
            )
            if self.state.best_score is None or score >= self.state.best_score + self.how.min_delta:
                self.state.best_score, self.state.stale = score, 0
                self.state.best = {name: tensor.detach().clone() for name, tensor in self.network.state_dict().items()}
            else:
                self.state.stale += 1
            self.network.load_state_dict(own)
        self.state.history.append({"loss": mean_loss, "score": score})


def return_to_rest(network: Network) -> None:
    """Evaluation mode, nothing frozen: how a network is kept."""
    network.requires_grad_(True)
    network.eval()


def features(network: Network, inputs: CellInputs, rows: NDArray[np.intp]) -> Tensor:
    """float32 (k, d) of these cells on the network's device."""
    device = next(network.parameters()).device
    return torch.from_numpy(np.ascontiguousarray(inputs.X[rows], np.float32)).to(device)


def predict(network: Network, inputs: CellInputs, batch_size: int, turns: int, is_black: bool) -> NDArray[np.float64]:
    """float64 (n, classes): the mean probability over ``turns`` rotations, equally far apart."""
    found = []
    with torch.inference_mode():
        for start in range(0, len(inputs), batch_size):
            rows = np.arange(start, min(start + batch_size, len(inputs)))
            X = features(network, inputs, rows)
            if network.backbone is None:
                found.append(network(X, None).logits.double().softmax(1))
                continue
            x = network.backbone.scale(inputs.images(rows))
            views = (turn(x, 360 * at / turns, is_black=is_black) for at in range(turns))
            proba = [network(X, network.backbone.normalise(view)).logits.double().softmax(1) for view in views]
            found.append(torch.stack(proba).mean(0))
    return torch.cat(found).cpu().numpy()


def predict_variants(
    network: Network, image: NDArray[np.uint8], X: NDArray[np.float32], batch_size: int, turns: int, is_black: bool
) -> NDArray[np.float64]:
    """float64 (n, classes): what ``predict`` gives for rows that share one image, which is looked at once."""
    assert network.backbone is not None
    every = CellInputs(X, {})
    with torch.inference_mode():
        x = network.backbone.scale(image[None])
        views = [network.backbone.normalise(turn(x, 360 * at / turns, is_black=is_black)) for at in range(turns)]
        encoded = [network.encode(view) for view in views]
        found = []
        for start in range(0, len(X), batch_size):
            rows = features(network, every, np.arange(start, min(start + batch_size, len(X))))
            proba = [
                network.judge_encoded(rows, one.expand(len(rows), *one.shape[1:])).logits.double().softmax(1)
                for one in encoded
            ]
            found.append(torch.stack(proba).mean(0))
    return torch.cat(found).cpu().numpy()


def identity(how: Mapping[str, Any], lesson: Lesson) -> str:
    """64 hex digits of what a training is: its settings, labels, parts and cells. A checkpoint serves no other."""
    digest = hashlib.sha256(repr(sorted(how.items())).encode())
    inputs = lesson.inputs
    for array in (lesson.codes, lesson.train, lesson.held, np.nan_to_num(inputs.X, nan=-1e30)):
        digest.update(np.ascontiguousarray(array).tobytes())
    if inputs.source is not None:
        for start in range(0, len(inputs), 64):  # some at a time: all of them may be larger than the memory
            digest.update(inputs.images(np.arange(start, min(start + 64, len(inputs)))).tobytes())
    return digest.hexdigest()


def _mixed(*numbers: int) -> int:
    """One seed of several numbers, spread so that neighbours have nothing in common."""
    return int(np.random.SeedSequence(numbers).generate_state(1, np.uint64)[0] >> np.uint64(1))
