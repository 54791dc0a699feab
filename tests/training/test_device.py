"""Where training runs. What needs several processes is in test_processes.py."""

from __future__ import annotations

import os
import socket
import subprocess
import sys

import pytest
import torch

from vitreous.errors import UsageError
from vitreous.training.device import Device, _deterministic, open_device, versions

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


def test_attention_on_gpus_takes_the_kernel_whose_gradient_is_repeatable():
    """No GPU is needed to see which kernels are allowed there."""
    cuda = torch.backends.cuda
    names = ("flash_sdp_enabled", "mem_efficient_sdp_enabled", "cudnn_sdp_enabled", "math_sdp_enabled")
    before = [getattr(cuda, name)() for name in names]
    with _deterministic(torch.device("cuda")):
        assert torch.are_deterministic_algorithms_enabled()
        assert [getattr(cuda, name)() for name in names] == [False, False, False, True]
    assert [getattr(cuda, name)() for name in names] == before
    assert not torch.are_deterministic_algorithms_enabled()


WAITER = """
import datetime, os, sys, time
from vitreous.training import device as rooms
rooms._PATIENCE = datetime.timedelta(seconds=2)
deed = sys.argv[1]
first = os.fork()  # after the imports, so that both begin at once
rank = 1 if first else 0
os.environ["RANK"] = str(rank)
code = 0
with rooms.open_device("cpu", "fp32") as device:
    device.barrier()
    if rank == 0:
        if deed == "dies":
            os._exit(7)
        time.sleep(5)
    try:
        device.agree(1.0) if deed == "stalls" else device.barrier()
    except RuntimeError:
        code = 9
    if rank == 1:
        print(code, os.waitstatus_to_exitcode(os.waitpid(first, 0)[1]), flush=True)
    os._exit(code)
"""


@pytest.mark.parametrize(("deed", "ends"), [("measures", "0 0"), ("stalls", "9 9"), ("dies", "9 7")])
def test_others_wait_for_the_first_process_but_not_in_a_step_nor_for_a_dead_one(deed, ends):
    """The patience of a step is two seconds here, and the first process takes five, or is no more."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    place = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port, "WORLD_SIZE": "2", "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-c", WAITER, deed]
    done = subprocess.run(command, env={**os.environ, **place}, capture_output=True, text=True, timeout=60, check=False)
    assert done.stdout.strip() == ends, done.stderr


def test_facts_name_what_exactness_hangs_on():
    facts = CPU.facts()
    assert facts["threads"] == torch.get_num_threads() and facts["processes"] == 1
    assert versions().keys() >= {"python", "torch", "vitreous"}
