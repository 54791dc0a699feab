"""Who is optimised how, against torch's own optimisers and the algebra of Muon."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from vitreous.errors import UsageError
from vitreous.training.muon import Muon, orthogonalise
from vitreous.training.optim import OptimConfig, Optimiser, members


@pytest.fixture
def task(program):
    torch.manual_seed(0)
    return program.Sorting(program.Network())


def fill(task, step: int = 0) -> None:
    generator = torch.Generator().manual_seed(step)
    for parameter in task.parameters():
        # autograd gives a gradient the layout of its parameter, and the fused kernels count on it
        parameter.grad = torch.empty_like(parameter).copy_(torch.randn(parameter.shape, generator=generator))


def test_every_parameter_has_its_treatment(task):
    treated = {m.name: (m.rule, m.decay) for m in members(task, OptimConfig(weight_decay=0.3, muon_weight_decay=0.2))}
    assert treated == {
        "network.stem.weight": ("adamw", 0.3),
        "network.stem.bias": ("adamw", 0.0),
        "network.position": ("adamw", 0.0),
        "network.conv.weight": ("muon", 0.2),
        "network.norm.weight": ("adamw", 0.0),
        "network.norm.bias": ("adamw", 0.0),
        "network.depthwise.weight": ("adamw", 0.3),
        "network.depthwise.bias": ("adamw", 0.0),
        "network.dense.weight": ("muon", 0.2),
        "network.dense.bias": ("adamw", 0.0),
        "network.head.weight": ("adamw", 0.3),
        "network.head.bias": ("adamw", 0.0),
    }


@pytest.mark.parametrize("name", ["adamw", "sgd"])
def test_one_rule_without_muon(task, name):
    assert {m.rule for m in members(task, OptimConfig(name=name))} == {name}


def test_layer_decay_falls_from_the_head_down(task):
    rates = {m.name: m.rate for m in members(task, OptimConfig(name="adamw", lr=1.0, layer_decay=0.5))}
    expected = {
        "stem": 0.125,
        "position": 0.125,
        "conv": 0.25,
        "norm": 0.25,
        "depthwise": 0.5,
        "dense": 0.5,
        "head": 1.0,
    }
    assert rates == {name: expected[name.split(".")[1]] for name in rates}


def test_what_belongs_to_the_task_alone_is_treated_like_a_head(task):
    task.projector = nn.Linear(4, 4)
    found = {m.name: m for m in members(task, OptimConfig(layer_decay=0.5, lr=1.0))}
    assert found["projector.weight"].rule == "adamw" and found["projector.weight"].rate == 1.0


def test_frozen_parameters_are_left_alone(task):
    task.network.stem.requires_grad_(False)
    assert not any("stem" in m.name for m in members(task, OptimConfig()))
    task.requires_grad_(False)
    with pytest.raises(UsageError, match="unfreeze"):
        members(task, OptimConfig())


@pytest.mark.parametrize("shapes", [[(8, 8)], [(16, 4), (16, 4), (4, 16)], [(300, 500), (8, 3), (300, 500)]])
def test_muon_is_torchs_on_matrices(shapes):
    torch.manual_seed(0)
    ours = [nn.Parameter(torch.randn(shape)) for shape in shapes]
    theirs = [nn.Parameter(p.detach().clone()) for p in ours]
    one = Muon(ours, lr=0.02, momentum=0.95, weight_decay=0.1)
    other = torch.optim.Muon(theirs, lr=0.02, momentum=0.95, weight_decay=0.1)
    for _ in range(3):
        for a, b in zip(ours, theirs, strict=True):
            a.grad = torch.randn_like(a)
            b.grad = a.grad.clone()
        one.step()
        other.step()
    for a, b in zip(ours, theirs, strict=True):
        # both orthogonalise in bfloat16, with sums in another order: the step of 3 x .02 agrees to that precision
        torch.testing.assert_close(a, b, rtol=0, atol=2e-3)


def test_muon_takes_a_kernel_as_its_matrix():
    torch.manual_seed(0)
    kernel = nn.Parameter(torch.randn(8, 4, 3, 3).to(memory_format=torch.channels_last))
    matrix = nn.Parameter(kernel.detach().flatten(1).clone())
    kernel.grad = torch.randn(8, 4, 3, 3).to(memory_format=torch.channels_last)
    matrix.grad = kernel.grad.flatten(1).clone()
    Muon([kernel], lr=0.1).step()
    Muon([matrix], lr=0.1).step()
    assert torch.equal(kernel.flatten(1), matrix)


@pytest.mark.parametrize("shape", [(3, 8, 8), (1, 20, 5), (2, 5, 40)])
def test_orthogonalised_singular_values_lie_near_one(shape):
    torch.manual_seed(0)
    matrices = torch.randn(shape)
    u, s, vh = torch.linalg.svd(matrices, full_matrices=False)
    found = orthogonalise(matrices)
    values = torch.linalg.svdvals(found)
    assert values.max() < 1.4 and values[s > 0.1 * s.max()].min() > 0.5
    # the same singular vectors: U' X V is diagonal
    inner = u.mT @ found @ vh.mT
    torch.testing.assert_close(inner, torch.diag_embed(inner.diagonal(dim1=1, dim2=2)), rtol=0, atol=0.05)


def test_muon_refuses_vectors():
    with pytest.raises(ValueError, match="vectors"):
        Muon([nn.Parameter(torch.zeros(3))])


def test_muon_lowers_a_loss():
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(16, 32), nn.ReLU(), nn.Linear(32, 16))
    x, y = torch.randn(64, 16), torch.randn(64, 16)
    optimiser = Muon([p for p in model.parameters() if p.ndim == 2], lr=0.02)
    losses = []
    for _ in range(60):
        loss = nn.functional.mse_loss(model(x), y)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        losses.append(loss.item())
    assert losses[-1] < 0.5 * losses[0]


@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
def test_adamw_is_torchs(task, layout):
    task.network.to(memory_format=layout)
    reference = [p.detach().clone().contiguous().requires_grad_() for p in task.parameters()]
    dense = [p.ndim > 1 and name != "network.position" for name, p in task.named_parameters()]
    groups = [
        {"params": [p for p, d in zip(reference, dense, strict=True) if d == is_dense], "weight_decay": 0.1 * is_dense}
        for is_dense in (True, False)
    ]
    theirs = torch.optim.AdamW(groups, lr=0.01, betas=(0.9, 0.99))
    ours = Optimiser(task, OptimConfig(name="adamw", lr=0.02, weight_decay=0.1, betas=(0.9, 0.99), clip=None))
    ours.set_rate(0.5)
    for step in range(3):
        fill(task, step)
        for p, q in zip(task.parameters(), reference, strict=True):
            q.grad = p.grad.clone().contiguous()
        ours.step()
        theirs.step()
    for p, q in zip(task.parameters(), reference, strict=True):
        torch.testing.assert_close(p, q)


def test_clipping_returns_the_norm_before_it(task):
    optimiser = Optimiser(task, OptimConfig(clip=1.0))
    fill(task)
    norm = torch.cat([p.grad.flatten() for p in task.parameters()]).norm()
    torch.testing.assert_close(optimiser.clip(), norm)
    torch.testing.assert_close(torch.cat([p.grad.flatten() for p in task.parameters()]).norm(), torch.tensor(1.0))
    torch.testing.assert_close(optimiser.clip(), torch.tensor(1.0))  # small gradients stay as they are


@pytest.mark.parametrize("name", ["muon", "adamw", "sgd"])
def test_what_is_frozen_at_first_may_learn_later(task, name):
    optimiser = Optimiser(task, OptimConfig(name=name, lr=0.01))
    late = task.network.dense.weight
    before = late.detach().clone()
    for step in range(3):
        fill(task, step)
        if step < 2:
            late.grad = None
        optimiser.step()
        optimiser.zero_grad()
        assert torch.equal(late, before) == (step < 2)


@pytest.mark.parametrize("name", ["muon", "adamw", "sgd"])
def test_the_state_goes_through_tensors_exactly(program, task, name):
    config = OptimConfig(name=name)
    task.network.to(memory_format=torch.channels_last)
    first = Optimiser(task, config)
    for step in range(2):
        fill(task, step)
        first.step()
    twin = program.Sorting(program.Network())
    twin.load_state_dict(task.state_dict())
    twin.network.to(memory_format=torch.channels_last)
    second = Optimiser(twin, config)
    second.load({name: tensor.contiguous().clone() for name, tensor in first.tensors().items()})
    for module, optimiser in ((task, first), (twin, second)):
        fill(module, 7)
        optimiser.step()
    for p, q in zip(task.parameters(), twin.parameters(), strict=True):
        assert torch.equal(p, q)
    assert first.tensors().keys() == second.tensors().keys()


@pytest.mark.parametrize(
    "wrong", [{"lr": -1.0}, {"lr": float("nan")}, {"warmup": 1.0}, {"ema": 1.0}, {"layer_decay": 0.0}, {"last_lr": 2.0}]
)
def test_impossible_values_are_refused(wrong):
    with pytest.raises(UsageError, match=next(iter(wrong))):
        OptimConfig(**wrong)
