"""Where training runs: device, precision, ranks, threads and seeds. The only importer of ``torch.distributed``.

Knows nothing of tasks or files.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import platform
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from datetime import timedelta
from importlib.metadata import version
from typing import Any, Literal

import torch
import torch.distributed as dist
from torch import Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel

from vitreous.errors import UsageError

Precision = Literal["auto", "fp32", "bf16"]
_PATIENCE = timedelta(minutes=30)  # how long a rank waits for the others in a step before it gives up
_LONG_PATIENCE = timedelta(days=1)  # while the first one looks at the data, measures, or writes


@dataclass(frozen=True, kw_only=True)
class Device:
    """One process of a training run, among ``world``."""

    place: torch.device
    rank: int = 0
    world: int = 1
    half: torch.dtype | None = None  # autocast to this type, or to none
    patient: Any = None  # the group of processes in which long waits are no sign of trouble

    @property
    def is_first(self) -> bool:
        """Whether this is the process that writes files and talks to people."""
        return self.rank == 0

    def autocast(self) -> AbstractContextManager[Any]:
        """The forward pass in reduced precision, where that was chosen."""
        if self.half is None:
            return nullcontext()
        return torch.autocast(self.place.type, self.half)

    def seed(self, seed: int, step: int) -> None:
        """Everything random in the model at ``step`` becomes a function of (seed, step, rank)."""
        digest = hashlib.blake2b(f"{seed}/{step}/{self.rank}".encode(), digest_size=8).digest()
        number = int.from_bytes(digest, "little") >> 1
        # torch.manual_seed would also note a call, with its traceback, for each kind of device that is not in use
        torch.default_generator.manual_seed(number)
        if self.place.type == "cuda":
            torch.cuda.manual_seed(number)

    def sum(self, values: Tensor) -> Tensor:
        """``values`` added over all processes, in place."""
        if self.world > 1:
            dist.all_reduce(values)
        return values

    def share(self, tensors: Sequence[Tensor]) -> None:
        """Give every process the first one's ``tensors``, in place."""
        if self.world > 1:
            _exchange(tensors, lambda message: dist.broadcast(message, 0))

    def average(self, tensors: Sequence[Tensor]) -> None:
        """Replace ``tensors`` by their mean over all processes, in place.

        This is how gradients meet, rather than through ``DistributedDataParallel``: that one lays its messages out
        anew after the first step, so the order of its sums after a resume is not that of a run that never stopped.
        """
        if self.world > 1:
            _exchange(tensors, lambda message: (dist.all_reduce(message), message.div_(self.world)))

    def agree(self, value: float) -> float:
        """The first process's ``value``, in all of them."""
        if self.world == 1:
            return value
        shared = torch.tensor([value], dtype=torch.float64, device=self.place)
        dist.broadcast(shared, 0)
        return float(shared.item())

    def gather(self, tensor: Tensor) -> Tensor:
        """``tensor`` of every process, joined along the first axis in the order of ranks; lengths may differ."""
        if self.world == 1:
            return tensor
        mine = tensor.detach().to(self.place).contiguous()
        lengths = [torch.zeros(1, dtype=torch.int64, device=self.place) for _ in range(self.world)]
        dist.all_gather(lengths, torch.tensor([len(mine)], device=self.place))
        longest = int(max(int(n) for n in lengths))
        padded = mine.new_zeros(longest, *mine.shape[1:])
        padded[: len(mine)] = mine
        parts = [torch.empty_like(padded) for _ in range(self.world)]
        dist.all_gather(parts, padded)
        return torch.cat([part[: int(n)] for part, n in zip(parts, lengths, strict=True)])

    def barrier(self) -> None:
        """Wait until every process is here, for a day if need be; one that has died is noticed at once."""
        if self.world > 1:
            dist.barrier(group=self.patient)

    def facts(self) -> dict[str, Any]:
        """What bit-exactness hangs on, for the card."""
        cuda = self.place.type == "cuda"
        return {
            "device": torch.cuda.get_device_name(self.place) if cuda else _cores(torch.get_num_threads()),
            "cpu": torch.backends.cpu.get_cpu_capability(),
            "machine": platform.machine(),
            "threads": torch.get_num_threads(),
            "processes": self.world,
            "precision": "fp32" if self.half is None else str(self.half).removeprefix("torch."),
            "versions": versions(),
        }


def _cores(threads: int) -> str:
    return f"cpu, {threads} thread{'s' if threads > 1 else ''}"


def versions() -> dict[str, str]:
    """Versions of what computes."""
    names = ("vitreous", "torch", "numpy", "pillow", "safetensors")
    return {"python": platform.python_version(), **{name: version(name) for name in names}}


@torch.no_grad()
def _exchange(tensors: Sequence[Tensor], send: Callable[[Tensor], object]) -> None:
    """``send`` all ``tensors`` as one message for each type of number, and take back what became of them."""
    for dtype in dict.fromkeys(t.dtype for t in tensors):
        alike = [t for t in tensors if t.dtype == dtype]
        message = torch.cat([t.flatten() for t in alike])
        send(message)
        for tensor, part in zip(alike, message.split([t.numel() for t in alike]), strict=True):
            tensor.copy_(part.view(tensor.shape))


@contextmanager
def open_device(device: str = "auto", precision: Precision = "auto") -> Iterator[Device]:
    """The device that ``device`` names ("auto", "cpu", "cuda", "cuda:1"), ready to train on.

    Under ``torchrun`` this process joins the others: gloo on CPUs, NCCL on GPUs. On CUDA deterministic kernels are
    chosen inside wherever torch has one. It has none for the gradient of resampled position tables, which networks
    that see pictures of another size than their tables take; torch warns of that. Written from torch's sources and
    documentation: no run on a GPU has been compared with its repetition yet.

    Raises:
        UsageError: there is no such device, or it cannot compute in that precision.
    """
    rank, world = int(os.environ.get("RANK", "0")), int(os.environ.get("WORLD_SIZE", "1"))
    place = _place(device)
    with _group(place, world) as patient, _deterministic(place):
        if world > 1:
            _share_threads(int(os.environ.get("LOCAL_WORLD_SIZE", "1")))
        yield Device(place=place, rank=rank, world=world, half=_half(place, precision), patient=patient)


def _place(name: str) -> torch.device:
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    try:
        place = torch.device(name)
    except RuntimeError:
        place = torch.device("meta")
    if place.type not in ("cpu", "cuda"):
        raise UsageError(f"{name} is not a device to train on; choose auto, cpu, cuda or cuda:N.")
    if place.type == "cpu":
        return place
    index = place.index if place.index is not None else int(os.environ.get("LOCAL_RANK", "0"))
    if index >= torch.cuda.device_count():
        raise UsageError(f"There is no {name} here ({torch.cuda.device_count()} GPUs are visible); choose auto or cpu.")
    torch.cuda.set_device(index)
    return torch.device("cuda", index)


def _half(place: torch.device, precision: Precision) -> torch.dtype | None:
    if place.type == "cuda":
        fast = able = torch.cuda.is_bf16_supported(including_emulation=False)
    else:
        # without these instructions bfloat16 is emulated, and slower than float32
        known = torch.cpu.get_capabilities()
        able, fast = True, bool(known.get("avx512_bf16") or known.get("amx_bf16"))
    if precision == "bf16" and not able:
        raise UsageError(f"{place} cannot compute in bf16; choose auto or fp32.")
    return torch.bfloat16 if precision == "bf16" or (precision == "auto" and fast) else None


@contextmanager
def _group(place: torch.device, world: int) -> Iterator[Any]:
    """Join the other processes; gives the group for long waits, which is on CPUs always."""
    if world == 1:
        yield None
        return
    if dist.is_initialized():
        yield dist.new_group(timeout=_LONG_PATIENCE, backend="gloo")
        return
    dist.init_process_group("nccl" if place.type == "cuda" else "gloo", timeout=_PATIENCE)
    try:
        yield dist.new_group(timeout=_LONG_PATIENCE, backend="gloo")
        dist.barrier()  # the first to leave must not take the connection from the others
    finally:
        dist.destroy_process_group()


def _share_threads(local: int) -> None:
    """torchrun gives each process one thread unless told otherwise; share out the machine instead."""
    if os.environ.get("OMP_NUM_THREADS", "1") == "1":
        torch.set_num_threads(max(1, usable_cores() // local))


def usable_cores() -> int:
    """Those that this process may run on."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


@contextmanager
def _deterministic(place: torch.device) -> Iterator[None]:
    if place.type != "cuda":  # on the CPU everything is, for one number of threads
        yield
        return
    settings: Any = torch.utils.deterministic
    before = torch.are_deterministic_algorithms_enabled(), settings.fill_uninitialized_memory
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    # an operation without a deterministic kernel is not worth a run that fails, so torch only warns; but while it
    # does, the fused kernels of attention keep to their unordered sums, and the plain one has to take their place
    torch.use_deterministic_algorithms(True, warn_only=True)
    settings.fill_uninitialized_memory = False  # finds mistakes, costs bandwidth
    with contextlib.ExitStack() as stack:
        stack.enter_context(sdpa_kernel(SDPBackend.MATH))
        stack.callback(torch.use_deterministic_algorithms, before[0])
        stack.callback(setattr, torch.utils.deterministic, "fill_uninitialized_memory", before[1])
        yield
