"""Every tensor on the way of a picture through a network: its shape, what made it, what that cost.

Shapes and multiply-accumulates are found on torch's meta device, which computes nothing, so a large network at a large
batch costs as little as a small one. Times come from real passes. Knows nothing of tables and pictures.
"""

from __future__ import annotations

import difflib
import operator
import re
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from numbers import Integral
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode
from torch.utils.flop_counter import FlopCounterMode

from vitreous import models
from vitreous.config import must_be
from vitreous.errors import UsageError
from vitreous.layers.blocks import Blocks
from vitreous.network import Network, NetworkConfig, build_network
from vitreous.types import Features

Shape = tuple[int, ...]
Sides = tuple[int, int]  # rows, columns of pixels

REPEATS = 5  # real passes, of which the median one counts
PATIENCE = 10.0  # seconds after which no further pass begins
MOST_TIMED = 2 * 10**12  # MACs of a batch; more would take minutes for a single pass
MOST = 4096 * 4096  # pixels of a batch; a pass over more would need memory that few machines have
OUTSIDE = "normalisation"  # what the network does outside of its parts


class Step(NamedTuple):
    """One operation that gave a tensor."""

    module: str  # dotted path of the module that asked for it; "" is the network itself
    operation: str  # torch's name: conv2d, linear, reshape; a module's class name where the operation is its own
    inputs: tuple[Shape, ...]  # of the tensors it was given
    output: Shape
    macs: int
    note: str = ""


class Stage(NamedTuple):
    """One part of the network, or several that are alike and follow each other."""

    name: str  # dotted path; "backbone.blocks.0-11" for a row of twelve
    kind: str  # the part's class
    input: Shape
    output: Shape
    params: int
    macs: int
    share: float | None  # of the time of a whole pass; None where it was not measured
    alike: int = 1  # how many parts this entry stands for


class Trace(NamedTuple):
    """What ``trace`` found, for one batch of pictures."""

    model: str
    size: Sides
    batch: int
    stages: tuple[Stage, ...]
    steps: tuple[Step, ...]
    params: int
    macs: int
    seconds: float | None  # of one pass over the batch
    drawing: Path | None = None  # where the picture of patches and windows was written


def trace(
    model: str,
    *,
    size: int | Sides | str | None = None,
    batch: int = 1,
    classes: int = 1000,
    stage: str | None = None,
    timed: bool = True,
) -> Trace:
    """Follow a batch through the model called ``model`` with a linear classifier.

    Args:
        size: of the pictures in pixels, one side or (rows, columns); the model's own by default.
        stage: keep this one alone: a stage's name or the path of any module, with or without ``backbone.``.
        timed: also run it for real, for the share of time of each stage, unless it is too much to compute.

    Raises:
        UsageError: an unknown model or stage, or a size or batch it cannot take.
    """
    must_be(Integral, batch=batch)
    if batch < 1:
        raise UsageError(f"A batch has at least 1 picture, not {batch}.")
    if stage is not None:
        must_be(str, stage=stage)
    seen = sides(model, size, batch)
    config = NetworkConfig(model=model, classes=classes, size=built(model, seen))
    shape = (batch, len(config.mean), *seen)
    with torch.device("meta"):
        network = build_network(config).eval()
        image = torch.empty(shape)
    recorder = Recorder(network)
    with torch.no_grad(), recorder:
        network(image)
    steps = recorder.steps
    if stage is not None:
        _refuse_stage(model, stage, _stages(network, recorder, {}), steps)
        steps = [step for step in steps if within(step.module, stage)]
    shares, seconds = _times(config, shape) if timed and recorder.macs <= MOST_TIMED else ({}, None)
    stages = [s for s in _stages(network, recorder, shares) if stage is None or within(s.name, stage)]
    params = sum(p.numel() for p in network.parameters())
    return Trace(model, seen, batch, _merged(stages), tuple(steps), params, recorder.macs, seconds)


def sides(model: str, size: int | Sides | str | None, batch: int = 1) -> Sides:
    """Rows and columns of the pictures that ``size`` means for ``model``.

    Raises:
        UsageError: an unknown model, no size, or too many pixels in a batch.
    """
    own = models.find(model).size
    if isinstance(size, str):
        if not re.fullmatch(r"\d{1,9}(x\d{1,9})?", size, re.ASCII):
            raise UsageError(f"A size is a side in pixels such as 224, or rows x columns such as 160x224, not {size}.")
        rows, _, columns = size.partition("x")
        size = (int(rows), int(columns or rows))
    wanted = size if isinstance(size, tuple) else (own if size is None else size,) * 2
    if len(wanted) != 2 or not all(isinstance(s, Integral) and not isinstance(s, bool) for s in wanted):
        raise UsageError(f"A size is a number of pixels or a pair (rows, columns), not {size!r}.")
    if min(wanted) < 1:
        raise UsageError(f"Pictures have a size of at least 1 pixel, not {size}.")
    if batch * wanted[0] * wanted[1] > MOST:
        raise UsageError(f"{batch} x {wanted[0]} x {wanted[1]} pixels are too many to trace; take at most {MOST:,}.")
    return operator.index(wanted[0]), operator.index(wanted[1])


def built(model: str, seen: Sides) -> int:
    """The size to build ``model`` for: that of the pictures it sees, and its own where they are not square."""
    return seen[0] if seen[0] == seen[1] else models.find(model).size


def within(module: str, stage: str) -> bool:
    """Whether the module at a dotted path is ``stage`` or lies in it; a stage may be a row such as blocks.0-11."""
    module, stage = module.removeprefix("backbone.") or OUTSIDE, stage.removeprefix("backbone.")
    row = re.fullmatch(r"(.*\.)(\d+)-(\d+)", stage)
    if row is None:
        return stage != "" and f"{module}.".startswith(f"{stage}.")
    parent, first, last = row.groups()
    number = module.removeprefix(parent).partition(".")[0]
    return module.startswith(parent) and number.isdecimal() and int(first) <= int(number) <= int(last)


def _refuse_stage(model: str, stage: str, stages: Sequence[Stage], steps: Sequence[Step]) -> None:
    if any(within(step.module, stage) for step in steps):
        return
    if any(within(s.name, stage) for s in stages):
        raise UsageError(f"{stage} of {model} is a parameter; operations belong to modules.")
    known = [s.name.removeprefix("backbone.") for s in _merged(stages)]
    near = difflib.get_close_matches(stage.removeprefix("backbone."), known, cutoff=0.5) or known
    raise UsageError(f"{model} has no stage {stage}; did you mean {' or '.join(near[:3])}?")


class Recorder(TorchFunctionMode):
    """Writes down every operation of ``network`` that gives a tensor, and every call of its modules."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.steps: list[Step] = []
        self.calls: dict[str, tuple[Shape, Shape, int]] = {}  # module: (input, output, MACs), the first call of each
        self._network = network
        self._path: list[str] = []
        self._before: list[int] = []
        self._counter = FlopCounterMode(display=False)
        self._hooks: list[Any] = []

    @property
    def macs(self) -> int:
        """Multiply-accumulates so far."""
        return int(self._counter.get_total_flops()) // 2

    def __enter__(self) -> Recorder:
        for name, module in self._network.named_modules():
            self._hooks.append(module.register_forward_pre_hook(self._enter(name)))
            self._hooks.append(module.register_forward_hook(self._leave(name), always_call=True))
        self._counter.__enter__()
        super().__enter__()
        return self

    def __exit__(self, *error: Any) -> None:
        super().__exit__(*error)
        self._counter.__exit__(*error)
        for hook in self._hooks:
            hook.remove()

    def __torch_function__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        before = self.macs
        result = func(*args, **(kwargs or {}))
        name = getattr(func, "__name__", str(func)).strip("_")
        given = tuple(tuple(t.shape) for t in _tensors(args))
        where = self._path[-1] if self._path else ""
        if name == "scaled_dot_product_attention":
            q, k = args[0].shape, args[1].shape
            note = "never stored"
            self.steps.append(Step(where, "attention", (tuple(q), tuple(k)), (*q[:-1], k[-2]), 0, note))
        for tensor in _tensors(result):
            if name not in ("get", "to", "contiguous"):
                self.steps.append(Step(where, name, given, tuple(tensor.shape), self.macs - before))
        return result

    def _enter(self, name: str) -> Callable[..., None]:
        def hook(module: nn.Module, args: tuple[Any, ...]) -> None:
            self._path.append(name)
            self._before.append(self.macs)

        return hook

    def _leave(self, name: str) -> Callable[..., None]:
        def hook(module: nn.Module, args: tuple[Any, ...], output: Any) -> None:
            self._path.pop()
            macs = self.macs - self._before.pop()
            given, made = _main(args), _main((output,))
            if given is not None and made is not None:
                self.calls.setdefault(name, (tuple(given.shape), tuple(made.shape), macs))

        return hook


def parts(network: nn.Module, path: str = "") -> Iterator[tuple[str, nn.Module]]:
    """(dotted path, module) of the parts a reader wants to see: what containers of blocks hold, and what is beside."""
    for name, module in network.named_children():
        here = f"{path}.{name}" if path else name
        holds = isinstance(module, (nn.Sequential, nn.ModuleList)) or any(
            isinstance(child, Blocks) for child in module.modules()
        )
        if holds and next(module.children(), None) is not None:
            yield from parts(module, here)
        else:
            yield here, module


def _stages(network: Network, recorder: Recorder, shares: dict[str, float]) -> list[Stage]:
    """One entry for each part that ran, in the order in which they ran, after the parameters that lie in no part."""
    known = dict(parts(network))
    stages = [
        Stage(name, "Parameter", tuple(p.shape), tuple(p.shape), p.numel(), 0, None)
        for name, p in network.named_parameters()
        if not any(name.startswith(f"{part}.") for part in known)
    ]
    for name, (given, output, macs) in recorder.calls.items():
        if name in known and not isinstance(known[name], nn.Identity):
            params = sum(p.numel() for p in known[name].parameters())
            kind = type(known[name]).__name__
            stages.append(Stage(name, kind, given, output, params, macs, shares.get(name)))
    return stages


def _merged(stages: Sequence[Stage]) -> tuple[Stage, ...]:
    """Neighbours that differ in nothing but their number, as one stage with the sum of their costs."""
    merged: list[Stage] = []
    for stage in stages:
        before = merged[-1] if merged else None
        parent, _, number = stage.name.rpartition(".")
        if (
            before is not None
            and number.isdigit()
            and before.name.rpartition(".")[0] == parent
            and (before.kind, before.input, before.output) == (stage.kind, stage.input, stage.output)
            and before.params == before.alike * stage.params
            and before.macs == before.alike * stage.macs
        ):
            first = before.name.rpartition(".")[2].partition("-")[0]
            share = None if before.share is None or stage.share is None else before.share + stage.share
            merged[-1] = Stage(
                f"{parent}.{first}-{number}",
                stage.kind,
                stage.input,
                stage.output,
                before.params + stage.params,
                before.macs + stage.macs,
                share,
                before.alike + 1,
            )
        else:
            merged.append(stage)
    return tuple(merged)


def _times(config: NetworkConfig, shape: Shape) -> tuple[dict[str, float], float]:
    """(share of each part, seconds) of a pass with random weights: of up to ``REPEATS`` the one of median time."""
    network = build_network(config).eval()
    image = torch.rand(shape)
    passes: list[tuple[float, dict[str, float]]] = []
    with torch.inference_mode():
        started = time.perf_counter()
        network(image)
        while not passes or (len(passes) < REPEATS and time.perf_counter() - started < PATIENCE):
            with _clocks(network) as took:
                begin = time.perf_counter()
                network(image)
                passes.append((time.perf_counter() - begin, took))
    seconds, took = sorted(passes, key=lambda one: one[0])[len(passes) // 2]
    return {name: spent / seconds for name, spent in took.items()}, seconds


@contextmanager
def _clocks(network: nn.Module) -> Iterator[dict[str, float]]:
    """Seconds that each part spends, by hooks around it."""
    took: dict[str, float] = {}
    begun: dict[str, float] = {}
    hooks = []
    for name, module in parts(network):

        def start(module: nn.Module, args: Any, name: str = name) -> None:
            begun[name] = time.perf_counter()

        def stop(module: nn.Module, args: Any, output: Any, name: str = name) -> None:
            took[name] = took.get(name, 0.0) + time.perf_counter() - begun[name]

        hooks += [module.register_forward_pre_hook(start), module.register_forward_hook(stop)]
    try:
        yield took
    finally:
        for hook in hooks:
            hook.remove()


def _main(values: tuple[Any, ...]) -> Tensor | None:
    """The tensor that matters most: the first, and of Features the pooled one."""
    return next((v.pooled if isinstance(v, Features) else v for v in values if isinstance(v, (Tensor, Features))), None)


def _tensors(values: Any) -> Iterator[Tensor]:
    """The tensors in a result or in arguments, however nested in tuples and lists."""
    if isinstance(values, Tensor):
        yield values
    elif isinstance(values, (tuple, list)):
        for value in values:
            yield from _tensors(value)
