"""The running average of weights, against its definition."""

from __future__ import annotations

import torch
from torch import nn

from vitreous.training.average import Average


def test_it_is_the_exponential_average_with_a_warm_up():
    network = nn.BatchNorm2d(3)
    average = Average(network, 0.5)
    expected = network.weight.detach().clone()
    for step in range(1, 20):
        with torch.no_grad():
            network.weight.add_(torch.randn(3))
            network.num_batches_tracked.add_(1)
        average.update(step)
        decay = min(0.5, (1 + step) / (10 + step))
        expected = decay * expected + (1 - decay) * network.weight.detach()
        torch.testing.assert_close(average.tensors["weight"], expected)
    assert average.tensors["num_batches_tracked"] == 19
    assert torch.equal(average.tensors["running_mean"], torch.zeros(3))


def test_a_short_run_is_not_held_back_by_its_start():
    network = nn.Linear(1, 1, bias=False)
    average = Average(network, 0.9999)
    nn.init.ones_(network.weight)
    for step in range(1, 101):
        average.update(step)
    assert abs(average.tensors["weight"].item() - 1) < 1e-3


def test_applied_gives_the_own_weights_back_bit_for_bit():
    network = nn.Sequential(nn.Conv2d(2, 2, 3), nn.BatchNorm2d(2)).to(memory_format=torch.channels_last)
    average = Average(network, 0.5)
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.mul_(1.7)
    own = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    try:
        with average.applied():
            assert torch.equal(network[0].weight, average.tensors["0.weight"])
            raise KeyboardInterrupt
    except KeyboardInterrupt:
        pass
    assert all(torch.equal(own[name], tensor) for name, tensor in network.state_dict().items())
