"""Who is optimised how: parameters sorted into groups by what they are and how deep they sit, and the optimisers.

Knows a task only by its parameters and ``groups()``. The learning rate is set from outside at each step, so the
state is what the optimisers keep for each tensor and nothing else.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

import torch
from torch import Tensor, nn

from vitreous.errors import UsageError
from vitreous.tasks.task import Task
from vitreous.training.muon import Muon

_DEFAULTS = {"muon": (1e-3, 0.05), "adamw": (1e-3, 0.05), "sgd": (0.05, 5e-4)}  # lr, weight decay
Rule = Literal["muon", "adamw", "sgd"]
_DENSE = (nn.Linear, nn.Conv1d, nn.Conv2d, nn.Conv3d)


@dataclass(frozen=True, kw_only=True)
class OptimConfig:
    """How weights follow gradients.

    Attributes:
        name: "muon" orthogonalises hidden matrices and kernels and leaves the rest to AdamW; "adamw"; "sgd" (Nesterov).
        lr: peak learning rate, of AdamW also when it accompanies Muon; None takes the optimiser's default.
        muon_lr: peak learning rate of the matrices under Muon.
        weight_decay: decoupled, of weight matrices and kernels alone: never of norms, biases, positions, tokens or
            LayerScale; None takes the optimiser's default.
        betas: of AdamW.
        momentum: of Muon and SGD.
        warmup: share of the run over which the rate rises.
        last_lr: share of the peak at the end of the cosine.
        layer_decay: factor on the rate for each group a parameter lies below the head (Clark et al. 2020; BEiT).
        clip: largest norm of all gradients together; None leaves them.
        ema: decay of the running average of the weights that is evaluated and shipped; None keeps none.
    """

    name: Rule = "muon"
    lr: float | None = None
    muon_lr: float = 0.02
    weight_decay: float | None = None
    muon_weight_decay: float = 0.01
    betas: tuple[float, float] = (0.9, 0.95)
    momentum: float = 0.95
    warmup: float = 0.1
    last_lr: float = 0.0
    layer_decay: float = 1.0
    clip: float | None = 1.0
    ema: float | None = 0.999

    def __post_init__(self) -> None:
        for name in ("lr", "muon_lr", "weight_decay", "muon_weight_decay", "clip"):
            value = getattr(self, name)
            if value is not None and not 0 <= value < float("inf"):
                raise UsageError(f"optim.{name} must be a number from 0 up, not {value}.")
        for name in ("warmup", "momentum"):
            if not 0 <= getattr(self, name) < 1:
                raise UsageError(f"optim.{name} lies in [0, 1), not {getattr(self, name)}.")
        if not all(0 <= beta < 1 for beta in self.betas):
            raise UsageError(f"optim.betas lie in [0, 1), not {self.betas}; 0.9,0.95 is usual.")
        if not (0 <= self.last_lr <= 1 and 0 < self.layer_decay <= 1):
            raise UsageError("optim.last_lr lies in [0, 1] and optim.layer_decay in (0, 1]; correct them.")
        if self.ema is not None and not 0 <= self.ema < 1:
            raise UsageError(f"optim.ema lies in [0, 1), not {self.ema}; none switches it off.")

    @property
    def rate(self) -> float:
        """The peak learning rate, default filled in."""
        return _DEFAULTS[self.name][0] if self.lr is None else self.lr

    @property
    def decay(self) -> float:
        """The weight decay, default filled in."""
        return _DEFAULTS[self.name][1] if self.weight_decay is None else self.weight_decay


class Member(NamedTuple):
    """One trainable tensor and how it is treated."""

    name: str
    tensor: nn.Parameter
    rule: Rule
    rate: float  # peak learning rate
    decay: float


def members(task: Task, config: OptimConfig) -> list[Member]:
    """Every trainable parameter of ``task`` with its treatment.

    A weight matrix or kernel is the ``weight`` of a linear or convolution module. Only these decay, and only those
    between the stem and the head of ``task.groups()``, depthwise kernels apart, follow Muon. What belongs to no group
    (projectors, decoders) is treated like a head.
    """
    dense = {f"{name}.weight" for name, module in task.named_modules() if isinstance(module, _DENSE)}
    groups = task.groups()
    depth = {name: i for i, group in enumerate(groups) for name in group}
    top = len(groups) - 1
    result = []
    for name, tensor in task.named_parameters():
        if not tensor.requires_grad:
            continue
        place = depth.get(name, top)
        hidden = name in dense and 0 < place < top and tensor.shape[1] > 1
        scale = config.layer_decay ** (top - place)
        if config.name == "muon" and hidden:
            result.append(Member(name, tensor, "muon", config.muon_lr * scale, config.muon_weight_decay))
        else:
            rule: Rule = "sgd" if config.name == "sgd" else "adamw"
            result.append(Member(name, tensor, rule, config.rate * scale, config.decay if name in dense else 0.0))
    if not result:
        raise UsageError("Every parameter is frozen, so there is nothing to train; unfreeze some.")
    return result


class Optimiser:
    """One or two torch optimisers that step together over all ``members``."""

    def __init__(self, task: Task, config: OptimConfig) -> None:
        self.config = config
        self.members = members(task, config)
        self._groups: list[dict[str, Any]] = []
        self._optimisers = [made for rule in ("muon", "adamw", "sgd") if (made := self._make(rule)) is not None]
        self._of = {id(p): o for o in self._optimisers for g in o.param_groups for p in g["params"]}

    def _make(self, rule: str) -> torch.optim.Optimizer | None:
        treatments: dict[tuple[float, float], list[nn.Parameter]] = {}
        for member in self.members:
            if member.rule == rule:
                treatments.setdefault((member.rate, member.decay), []).append(member.tensor)
        if not treatments:
            return None
        groups = [
            {"params": params, "lr": rate, "peak": rate, "weight_decay": decay}
            for (rate, decay), params in treatments.items()
        ]
        made: torch.optim.Optimizer
        if rule == "muon":
            made = Muon(groups, momentum=self.config.momentum)
        elif rule == "adamw":
            made = torch.optim.AdamW(groups, betas=self.config.betas, fused=True)
        else:
            momentum = self.config.momentum
            # not fused: that kernel takes no parameter whose first gradient comes later than others', as in DINO's head
            made = torch.optim.SGD(groups, lr=self.config.rate, momentum=momentum, nesterov=momentum > 0, foreach=True)
        self._groups += made.param_groups
        return made

    def set_rate(self, factor: float) -> None:
        """Multiply every peak learning rate by ``factor`` for the coming steps."""
        for group in self._groups:
            group["lr"] = group["peak"] * factor

    def gradients(self) -> list[Tensor]:
        """Those there are, in the order of ``members``."""
        return [m.tensor.grad for m in self.members if m.tensor.grad is not None]

    def clip(self) -> Tensor:
        """Norm of all gradients together, before they are scaled down to the largest one allowed; a scalar."""
        gradients = self.gradients()
        norm = torch.nn.utils.get_total_norm(gradients)
        if self.config.clip is not None:
            torch._foreach_mul_(gradients, (self.config.clip / (norm + 1e-6)).clamp(max=1.0))
        return norm

    def step(self) -> None:
        """One step of every tensor that has a gradient."""
        for optimiser in self._optimisers:
            optimiser.step()

    def zero_grad(self) -> None:
        """Forget the gradients."""
        for optimiser in self._optimisers:
            optimiser.zero_grad(set_to_none=True)

    def tensors(self) -> dict[str, Tensor]:
        """The state as named tensors: ``PARAMETER/KEY``."""
        return {
            f"{member.name}/{key}": value
            for member in self.members
            for key, value in self._state(member).items()
            if isinstance(value, Tensor)
        }

    def load(self, tensors: Mapping[str, Tensor]) -> None:
        """Take over the state of ``tensors()``, exactly."""
        by_name = {member.name: member for member in self.members}
        for optimiser in self._optimisers:
            optimiser.state.clear()
        for path, value in tensors.items():
            name, _, key = path.rpartition("/")
            parameter = by_name[name].tensor
            # moments keep the layout of their parameter: the fused kernels go by it
            home = torch.empty_like(parameter) if value.shape == parameter.shape else torch.empty_like(value)
            self._state(by_name[name])[key] = home.to(parameter.device, value.dtype).copy_(value)

    def _state(self, member: Member) -> dict[str, Any]:
        state: dict[str, Any] = self._of[id(member.tensor)].state[member.tensor]
        return state
