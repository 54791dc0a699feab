"""Where training runs. What needs several processes is in test_processes.py."""

from __future__ import annotations

import pytest
import torch

from vitreous.errors import UsageError
from vitreous.training.device import Device, open_device, versions

CPU = Device(place=torch.device("cpu"))


def draw(device: Device, seed: int, step: int) -> list[float]:
    device.seed(seed, step)
    return torch.rand(4).tolist()


def test_randomness_is_a_function_of_seed_step_and_rank():
    other = Device(place=torch.device("cpu"), rank=1, world=2)
    assert draw(CPU, 0, 5) == draw(CPU, 0, 5)
    drawn = [draw(CPU, 0, 5), draw(CPU, 0, 6), draw(CPU, 1, 5), draw(other, 0, 5), draw(CPU, 0, -1)]
    assert len({tuple(d) for d in drawn}) == 5
    CPU.seed(0, 0)
    assert torch.initial_seed() == 4808561972376111626  # in every process, whatever PYTHONHASHSEED


def test_one_process_needs_no_exchange():
    tensor = torch.arange(3)
    assert CPU.gather(tensor) is tensor and CPU.sum(tensor) is tensor and CPU.agree(2.5) == 2.5
    CPU.share([tensor])
    CPU.average([tensor])
    assert tensor.tolist() == [0, 1, 2]


@pytest.mark.parametrize("name", ["tpu", "cuda:99", "meta", ""])
def test_unknown_devices_are_refused(name):
    with pytest.raises(UsageError, match="choose auto"), open_device(name):
        pass


def test_precision_is_what_was_asked_for():
    with open_device("cpu", "fp32") as device:
        assert device.half is None
    with open_device("cpu", "bf16") as device, device.autocast():
        assert torch.nn.Linear(4, 4)(torch.ones(1, 4)).dtype == torch.bfloat16
    known = torch.cpu.get_capabilities()
    with open_device("cpu") as device:
        assert (device.half is not None) == bool(known.get("avx512_bf16") or known.get("amx_bf16"))


def test_facts_name_what_exactness_hangs_on():
    facts = CPU.facts()
    assert facts["threads"] == torch.get_num_threads() and facts["processes"] == 1
    assert versions().keys() >= {"python", "torch", "vitreous"}
