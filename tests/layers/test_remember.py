from __future__ import annotations

import copy
import pickle

import pytest
import torch
from torch import Tensor

from vitreous.layers.remember import Remembered


class Counted:
    """A function of one weight that counts its calls."""

    def __init__(self) -> None:
        self.weight = torch.nn.Parameter(torch.arange(3.0))
        self.remembered = Remembered(keep=2)
        self.calls = 0

    def __call__(self, key: object = 0) -> Tensor:
        return self.remembered(key, [self.weight], self.compute)

    def compute(self) -> Tensor:
        self.calls += 1
        return self.weight * 2


def test_an_answer_is_given_again_until_the_weight_changes() -> None:
    f = Counted()
    with torch.no_grad():
        assert torch.equal(f(), f()) and f.calls == 1
        f.weight.add_(1)
        assert torch.equal(f(), f.weight * 2) and f.calls == 2
        f.weight.data = torch.ones(3)
        assert torch.equal(f(), torch.full((3,), 2.0)) and f.calls == 3


def test_weights_that_come_to_lie_in_the_same_place_are_other_weights() -> None:
    f = Counted()
    with torch.no_grad():
        for value in range(50):  # freed and allocated again, of one version
            f.weight = torch.full((3,), float(value))
            assert torch.equal(f(), f.weight * 2)


def test_keys_have_answers_of_their_own_and_there_are_not_too_many() -> None:
    f = Counted()
    with torch.no_grad():
        f("a"), f("b"), f("a"), f("b")
        assert f.calls == 2
        f("c")
        assert len(f.remembered._kept[2]) == 1  # it forgets all at once
        f("a")
        assert f.calls == 4


@pytest.mark.parametrize("fused", [False, True])
@pytest.mark.parametrize("kind", [torch.optim.AdamW, torch.optim.Adam, torch.optim.SGD])
def test_a_step_of_any_optimiser_is_noticed(kind: type[torch.optim.Optimizer], fused: bool) -> None:
    """Fused ones change weights without counting up their version."""
    f = Counted()
    optimiser = kind([f.weight], lr=0.5, fused=fused)
    for _ in range(3):
        with torch.no_grad():
            assert torch.equal(f(), f.weight * 2)
        f().sum().backward()
        optimiser.step()


def test_answers_under_autocast_are_others() -> None:
    weight, remembered = torch.nn.Parameter(torch.randn(4, 4)), Remembered()
    with torch.no_grad():
        for _ in range(2):
            with torch.autocast("cpu", torch.bfloat16):
                assert remembered(0, [weight], lambda: weight @ weight).dtype == torch.bfloat16
            assert remembered(0, [weight], lambda: weight @ weight).dtype == torch.float32


def test_with_gradients_it_computes_each_time() -> None:
    f = Counted()
    with torch.no_grad():
        f()
    f().sum().backward()
    assert f.calls == 2 and torch.equal(f.weight.grad, torch.full((3,), 2.0))


def test_what_follows_from_no_weights_is_remembered_with_gradients_too() -> None:
    remembered, calls = Remembered(), []

    def compute() -> Tensor:
        calls.append(1)
        return torch.tensor([1, 0])

    with torch.inference_mode():
        remembered("order", (), compute)
    x = torch.randn(2, requires_grad=True)
    x.index_select(0, remembered("order", (), compute)).sum().backward()  # an inference tensor could not be kept
    assert len(calls) == 1


def test_weights_born_in_inference_mode_have_no_versions() -> None:
    f = Counted()
    with torch.inference_mode():
        f.weight = torch.zeros(3)
        f()
        f.weight.add_(1)
        assert torch.equal(f(), torch.full((3,), 2.0))


@pytest.mark.parametrize("clone", [copy.deepcopy, lambda f: pickle.loads(pickle.dumps(f))])
def test_a_copy_starts_empty(clone: object) -> None:
    f = Counted()
    with torch.no_grad():
        f()
        other = clone(f)
        assert not other.remembered._kept[2] and other.remembered.keep == 2
        other.weight.add_(1)
        assert torch.equal(other(), other.weight * 2) and torch.equal(f(), f.weight * 2)


def test_a_compiler_sees_through_it() -> None:
    f = Counted()
    with torch.no_grad():
        compiled = torch.compile(lambda: f() + 1, backend="eager", fullgraph=True)
        assert torch.equal(compiled(), f.weight * 2 + 1)
