"""Pseudo-labels against the same formulas in NumPy float64, and against what must not move."""

from __future__ import annotations

import copy
from collections.abc import Callable

import numpy as np
import pytest
import torch

from vitreous.errors import UsageError
from vitreous.network import Network, NetworkConfig, build_network
from vitreous.tasks.pseudo import Pseudo, PseudoConfig, balance
from vitreous.tasks.task import Loss
from vitreous.training.step import split
from vitreous.types import Batch

OWN = Loss(torch.tensor(2.0), {"cross_entropy": torch.tensor(2.0)})
COUNTS = [30, 20, 10]


@pytest.fixture
def network() -> Network:
    torch.manual_seed(0)
    made = build_network(NetworkConfig(model="resnet20_cifar", classes=3, size=16))
    with torch.no_grad():
        made.head.get_parameter("fc.weight").mul_(40)
    return made


@pytest.fixture
def batch() -> Batch:
    own = torch.Generator().manual_seed(1)
    colours = torch.rand(6, 2, 3, 1, 1, generator=own) * 200
    others = (colours + 55 * torch.rand(6, 2, 3, 16, 16, generator=own)).to(torch.uint8)
    return Batch(others[:, 0], torch.arange(6) % 3, torch.arange(6), others=others)


def asked(guide: Pseudo, batch: Batch) -> Loss:
    return guide(OWN, None, None, batch)  # type: ignore[arg-type]  # its own answers are of no account


def guided(config: PseudoConfig, network: Network, counts: list[int], progress: Callable[[int], float]) -> Pseudo:
    """As the only process."""
    return Pseudo(config, network, counts, progress, total=lambda tensor: tensor)


def softmax(x: torch.Tensor) -> np.ndarray:
    e = np.exp(x.double().numpy() - x.double().numpy().max(axis=1, keepdims=True))
    return e / e.sum(axis=1, keepdims=True)


def test_the_loss_is_the_one_on_paper(network: Network, batch: Batch) -> None:
    network.eval()  # so that both views can be asked again
    with torch.no_grad():
        likely = network(batch.others[:, 0]).softmax(1).max(1).values.sort().values
    threshold = float(likely[2] + likely[3]) / 2
    guide = guided(PseudoConfig(sure=threshold, weight=3.0, rise=0.5), network, COUNTS, lambda step: 0.25)
    guide.after_step(0)
    guide.shares.copy_(torch.tensor([0.8, 0.15, 0.05]))
    with torch.no_grad():
        weak, strong = softmax(guide.teacher(batch.others[:, 0])), softmax(network(batch.others[:, 1]))
    label, sure = weak.argmax(1), weak.max(1) >= threshold
    assert 0 < sure.sum() < 6, "some of each"
    counts = np.minimum(np.array([1 / 2, 1 / 3, 1 / 6]) / [0.8, 0.15, 0.05], 4.0)
    wanted = (sure * counts[label] * -np.log(strong[np.arange(6), label])).mean()
    found = asked(guide, batch)
    assert found.total.item() == pytest.approx(2.0 + 1.5 * wanted, rel=1e-4)
    assert found.parts["pseudo"].item() == pytest.approx(wanted, rel=1e-4)
    assert found.parts["sure"].item() == pytest.approx(sure.mean())
    assert set(found.parts) == {"cross_entropy", "pseudo", "sure"}


def test_whoever_is_not_sure_teaches_nothing(network: Network, batch: Batch) -> None:
    with torch.no_grad():
        network.head.get_parameter("fc.weight").zero_()
    guide = guided(PseudoConfig(sure=0.9), network, COUNTS, lambda step: 1.0)
    guide.after_step(0)
    assert asked(guide, batch).total.item() == 2.0
    before = guide.shares.clone()
    guide.after_step(1)
    assert torch.equal(guide.shares, before)


def test_the_gradient_goes_through_the_strong_view_alone(network: Network, batch: Batch) -> None:
    guide = guided(PseudoConfig(sure=0.4), network, COUNTS, lambda step: 1.0)
    guide.after_step(0)
    network.zero_grad()
    asked(guide, batch).total.backward()
    assert all(p.grad is not None for p in network.parameters())
    assert not any(p.requires_grad for p in guide.parameters()), "the teacher learns from nobody"
    guide.train()
    assert not guide.teacher.training


def test_pictures_of_a_rare_class_that_are_sure_count_for_more() -> None:
    """Whoever named classes as they should come is left alone; shares that are weighed become those wanted."""
    wanted, named = torch.tensor([0.5, 0.3, 0.2]), torch.tensor([0.6, 0.3, 0.1])
    assert torch.equal(balance(wanted, wanted), torch.ones(3))
    found = balance(wanted, named)
    assert found[2] == pytest.approx(2.0) and found[0] < 1 and found[1] == 1
    assert torch.allclose(named * found, wanted)
    assert balance(wanted, torch.tensor([1.0, 0.0, 0.0])).max() == 4.0, "and no single picture decides all"


def test_the_shares_follow_what_was_named(network: Network, batch: Batch) -> None:
    guide = guided(PseudoConfig(sure=0.34), network, COUNTS, lambda step: 1.0)
    guide.after_step(0)
    with torch.no_grad():
        named = guide.teacher(batch.others[:, 0]).softmax(1)
    sure = named.max(1).values >= 0.34
    shares = torch.bincount(named.argmax(1)[sure], minlength=3) / sure.sum()
    for step in range(1, 400):
        guide.tally += torch.bincount(named.argmax(1)[sure], minlength=3)
        guide.after_step(step)
    assert torch.allclose(guide.shares, shares, atol=1e-2) and guide.shares.sum() == pytest.approx(1.0, abs=1e-4)


@pytest.mark.parametrize("processes", [1, 2])
def test_the_shares_are_those_of_the_whole_batch(network: Network, batch: Batch, processes: int) -> None:
    """However many parts and processes it is worked through in, and who of them was sure of nothing."""
    with torch.no_grad():
        logits = network.eval()(batch.others[:, 0])
        network.head.get_parameter("fc.bias").sub_(logits.mean(0))  # so that no class is named each time
        likely, label = (logits - logits.mean(0)).softmax(1).max(1)
    config = PseudoConfig(sure=float(likely.sort().values[2] - 1e-4))
    assert len(set(label[likely >= config.sure].tolist())) > 1, "otherwise any part says the same"
    whole, *each = (guided(config, network, COUNTS, lambda step: 1.0) for _ in range(1 + processes))
    asked(whole, batch)
    for number, part in enumerate(split(batch, 6)):
        asked(each[number % processes], part)
    together = sum(guide.tally for guide in each)
    whole.after_step(0)
    for guide in each:
        guide.total = lambda tensor: tensor.copy_(together)
        guide.after_step(0)
        assert torch.equal(guide.shares, whole.shares) and not guide.tally.any()
    assert not torch.equal(whole.shares, whole.wanted)


def test_the_teacher_is_the_running_average(network: Network, batch: Batch) -> None:
    guide = guided(PseudoConfig(decay=0.9), network, COUNTS, lambda step: 1.0)
    name = next(n for n, p in network.named_parameters() if p.ndim > 1)
    wanted = network.get_parameter(name).detach().double().clone()
    for step in range(30):
        with torch.no_grad():
            network.get_parameter(name).add_(0.1)
        guide.after_step(step)
        decay = min(0.9, (1 + (step + 1)) / (10 + (step + 1)))
        wanted = decay * wanted + (1 - decay) * network.get_parameter(name).detach().double()
    assert torch.allclose(guide.teacher.get_parameter(name).double(), wanted, atol=1e-5)


def test_its_state_goes_on_with_another_one(network: Network, batch: Batch) -> None:
    progress = lambda step: step / 10  # noqa: E731
    guide = guided(PseudoConfig(sure=0.4), network, COUNTS, progress)
    for step in range(3):
        asked(guide, batch)
        guide.after_step(step)
    other = guided(PseudoConfig(sure=0.4), copy.deepcopy(network), [1, 1, 1], progress)
    other.load_state_dict(guide.state_dict())
    network.eval()
    other.answer.__self__.eval()
    assert asked(other, batch).total.item() == asked(guide, batch).total.item() != 2.0
    assert not any(name.startswith("answer") for name in guide.state_dict())


@pytest.mark.parametrize("wrong", [{"weight": 0}, {"rise": 0}, {"rise": 1.5}, {"sure": 1.0}, {"sure": 0}, {"decay": 1}])
def test_values_out_of_range_are_refused(wrong: dict[str, float]) -> None:
    with pytest.raises(UsageError, match=f"pseudo.{next(iter(wrong))}"):
        PseudoConfig(**wrong)
