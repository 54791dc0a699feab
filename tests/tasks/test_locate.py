"""Dense relative localisation: offsets against counting by hand, and a network that can learn them."""

from __future__ import annotations

import torch
from torch import nn

from vitreous.tasks.locate import Locate, apart, take
from vitreous.tasks.task import Loss
from vitreous.types import Batch, Features


def features(cells: torch.Tensor) -> Features:
    return Features((cells,), cells.mean((2, 3)))


def batch(b: int) -> Batch:
    return Batch(image=torch.zeros(b, 3, 8, 8), label=torch.zeros(b, dtype=torch.int64), index=torch.arange(b))


def test_offsets_are_those_of_the_grid() -> None:
    cells = torch.arange(6.0).view(1, 1, 2, 3)  # 0 1 2 / 3 4 5
    first, second = torch.tensor([[0, 5, 2]]), torch.tensor([[5, 4, 2]])
    assert take(cells, first).flatten().tolist() == [0, 5, 2]
    torch.testing.assert_close(apart(first, second, cells), torch.tensor([[[1 / 2, 2 / 3], [0, 1 / 3], [0, 0]]]))


def test_the_weight_is_that_of_the_addition() -> None:
    torch.manual_seed(0)
    cells, own = torch.randn(4, 8, 3, 3), Loss(torch.tensor(2.0), {})
    once, twice = Locate(0.5, 8), Locate(1.0, 8)
    twice.load_state_dict(once.state_dict())
    results = []
    for guide in (once, twice):
        torch.manual_seed(1)
        results.append(guide(own, torch.zeros(4, 2), features(cells), batch(4)))
    torch.testing.assert_close(2 * (results[0].total - 2), results[1].total - 2)
    torch.testing.assert_close(results[0].parts["location"], results[1].parts["location"])


def test_one_cell_has_no_offsets() -> None:
    own = Loss(torch.tensor(2.0), {})
    assert Locate(1.0, 8)(own, torch.zeros(4, 2), features(torch.randn(4, 8, 1, 1)), batch(4)) is own


def test_cells_learn_to_say_where_they_are() -> None:
    torch.manual_seed(0)
    cells = nn.Parameter(torch.randn(1, 8, 4, 4) * 0.1)
    guide = Locate(1.0, 8)
    optimiser = torch.optim.Adam([cells, *guide.parameters()], lr=3e-3)
    errors = []
    for _ in range(150):
        loss = guide(Loss(torch.tensor(0.0), {}), torch.zeros(4, 2), features(cells.expand(4, -1, -1, -1)), batch(4))
        optimiser.zero_grad()
        loss.total.backward()
        optimiser.step()
        errors.append(float(loss.parts["location"]))
    assert errors[0] > 0.25 and errors[-1] < 0.08
