"""Batch norms measured anew: the statistics of the pictures under the averaged weights, and nothing else changed."""

from __future__ import annotations

import torch
from torch import nn

from vitreous.data.loader import Loader
from vitreous.data.prepare import DataConfig, prepare
from vitreous.data.preprocess import Preprocess
from vitreous.data.transforms import Evaluate
from vitreous.network import NetworkConfig, build_network
from vitreous.tasks.classify import ClassifyConfig, ClassifyTask
from vitreous.training.average import Average
from vitreous.training.device import open_device
from vitreous.training.norms import remeasure

SMALL = Preprocess(size=32, store=32)


def made() -> tuple[ClassifyTask, Loader]:
    torch.manual_seed(0)
    network = build_network(NetworkConfig(model="resnet20_cifar", classes=10, size=32))
    prepared = prepare(DataConfig(source="digits", preprocess=SMALL))
    pictures = prepared.subset(prepared.indices("train")[:64])
    task = ClassifyTask(network, ClassifyConfig(), SMALL, prepared.class_counts["train"])
    return task.train(), Loader(pictures, Evaluate(SMALL), batch=64, train=False)


def first_norm(network: nn.Module) -> nn.BatchNorm2d:
    return next(module for module in network.modules() if isinstance(module, nn.BatchNorm2d))


def test_statistics_are_those_of_the_pictures_under_the_averaged_weights() -> None:
    task, plain = made()
    average = Average(task.network, 0.9)
    own = {name: tensor.clone() for name, tensor in task.network.state_dict().items()}
    for name, tensor in average.tensors.items():
        if name.endswith("conv1.weight"):
            tensor.mul_(3.0)  # so that the average is not what the network holds
    with open_device("cpu", "fp32") as device:
        remeasure(task, average, plain, device)
    assert all(torch.equal(task.network.state_dict()[name], own[name]) for name in own), "the network is as it was"
    batch = next(plain.evaluate())
    seen: list[torch.Tensor] = []
    with average.applied(), torch.no_grad():
        norm = first_norm(task.network)
        hook = norm.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0].double()))
        task.network.eval()(batch.image)
        hook.remove()
        # torch itself adds 65,536 numbers a channel up in float32, which is 1e-4 from the truth
        assert torch.allclose(norm.running_mean.double(), seen[0].mean(dim=(0, 2, 3)), atol=2e-4)
        assert torch.allclose(norm.running_var.double(), seen[0].var(dim=(0, 2, 3)), rtol=2e-4)
    assert norm.momentum == 0.1


def test_frozen_norms_and_training_mode_stay() -> None:
    task, plain = made()
    task.network.backbone.freeze()
    before = {name: tensor.clone() for name, tensor in task.network.state_dict().items()}
    with open_device("cpu", "fp32") as device:
        remeasure(task, None, plain, device)
        assert all(torch.equal(task.network.state_dict()[name], before[name]) for name in before)
        task.network.backbone.freeze(0)
        remeasure(task, None, plain, device)
    assert not torch.equal(first_norm(task.network).running_mean, torch.zeros(16)), "as they begin"
    assert first_norm(task.network).training
    assert task.training
