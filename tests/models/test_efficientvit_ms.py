from __future__ import annotations

import itertools

import pytest
import torch
import torch.nn.functional as F
from models.unsettled import unsettled
from torch import Tensor, nn

from vitreous.errors import UsageError
from vitreous.layers.attention import Attend
from vitreous.models.efficientvit_ms import CascadedAttention, EfficientViTMS, EfficientViTMSConfig

SMALL = {"widths": (16, 24, 32), "depths": (1, 1, 1), "heads": (2, 3, 2), "kernels": (5, 3, 3), "key": 4}


def config(**changes: object) -> EfficientViTMSConfig:
    return EfficientViTMSConfig(**SMALL | changes)


def attention(window: int, heads: int = 2, dim: int = 16) -> CascadedAttention:
    torch.manual_seed(0)
    made = CascadedAttention(config(), dim, heads, window)
    made.reset_parameters()
    return unsettled(made, by=0.3)


def test_tables_of_biases_are_in_the_order_of_the_release() -> None:
    """Theirs counts offsets as they first appear, cell by cell; files hold tables in that order."""
    order: dict[tuple[int, int], int] = {}
    expected = []
    for one, two in itertools.product(itertools.product(range(5), repeat=2), repeat=2):
        expected.append(order.setdefault((abs(one[0] - two[0]), abs(one[1] - two[1])), len(order)))
    assert attention(5).offsets.flatten().tolist() == expected


def test_one_head_is_softmax_attention_with_a_bias() -> None:
    made, x = attention(3, heads=1).double(), torch.randn(2, 16, 3, 3, dtype=torch.float64)
    with torch.no_grad():
        made.proj.conv.weight.copy_(torch.eye(16)[:, :, None, None])
        made.proj.norm.reset_parameters()
        q, k, v = made.qkvs[0](x).split((4, 4, 16), dim=1)
        q = made.dws[0](q)
        scores = torch.einsum("bcyx,bcvu->byxvu", q, k) / 2
        for y, c, v_, u in itertools.product(range(3), repeat=4):
            scores[:, y, c, v_, u] += made.attention_biases[0, abs(y - v_) * 3 + abs(c - u)]
        weights = scores.flatten(3).softmax(-1).view_as(scores)
        expected = torch.einsum("byxvu,bcvu->bcyx", weights, v).relu() / (1 + 1e-5) ** 0.5
        torch.testing.assert_close(made(x), expected)


def test_what_a_head_saw_goes_down_the_cascade_and_never_up() -> None:
    made, x = attention(4, heads=2), torch.randn(2, 16, 4, 4)
    seen: list[Tensor] = []
    made.proj.register_forward_pre_hook(lambda _, given: seen.append(given[0]))
    for share in (0, 1):
        other = x.clone()
        other[:, 8 * share : 8 * share + 8] += 1
        made(x)
        made(other)
        before, after = seen[-2:]
        assert torch.equal(before[:, :8], after[:, :8]) == (share == 1)
        assert not torch.equal(before[:, 8:], after[:, 8:])


@pytest.mark.parametrize(("h", "w"), [(4, 4), (8, 4), (5, 9), (3, 6), (2, 2), (7, 1)])
def test_a_window_ends_where_the_map_ends(h: int, w: int) -> None:
    """Each window, cut out and asked alone, answers as it does in the map, whatever filled it up there."""
    made, x = attention(4), torch.randn(2, 16, h, w)
    with torch.no_grad():
        whole = made(x)
        assert whole.shape == x.shape
        for y, c in itertools.product(range(0, h, 4), range(0, w, 4)):
            part = (..., slice(y, y + 4), slice(c, c + 4))
            torch.testing.assert_close(whole[part], made(x[part]), atol=1e-5, rtol=1e-5)


def test_windows_do_not_see_one_another() -> None:
    made, x = attention(4), torch.randn(1, 16, 6, 8, requires_grad=True)
    made(x)[..., :4, 4:].sum().backward()
    seen = x.grad.abs().sum((0, 1)) > 0
    assert seen[:4, 4:].all() and seen.sum() == 16


def test_an_observer_sees_every_head_and_nothing_in_what_fills_up() -> None:
    made = attention(4)
    weights = []

    def observe(_: nn.Module, given: tuple[Tensor, ...]) -> None:
        q, k, _v, bias = given
        weights.append((q @ k.transpose(-2, -1) / q.shape[-1] ** 0.5 + bias).softmax(-1))

    assert isinstance(made.attend, Attend)
    made.attend.register_forward_pre_hook(observe)
    made(torch.randn(3, 16, 5, 4))
    assert [w.shape for w in weights] == [(3, 2, 16, 16)] * 2  # two heads, two windows
    for w in weights:
        torch.testing.assert_close(w.sum(-1), torch.ones(3, 2, 16))
        assert (w[:, 0] > 0).all() and (w[:, 1, :, :4] > 0).all() and not w[:, 1, :, 4:].any()


def test_biases_belong_to_offsets_at_every_size() -> None:
    """A picture smaller than planned for gets the part of each table that its offsets name."""
    torch.manual_seed(0)
    large = unsettled(EfficientViTMS(config(size=224)), by=0.3)
    small = EfficientViTMS(config(size=64)).eval()
    assert [stage[-1].attn.window for stage in large.stages] == [7, 7, 4]
    assert [stage[-1].attn.window for stage in small.stages] == [4, 2, 1]
    state = large.state_dict()
    for name, own in small.state_dict().items():
        if name.endswith("attention_biases"):
            old, new = (round(t.shape[1] ** 0.5) for t in (state[name], own))
            state[name] = state[name].view(-1, old, old)[:, :new, :new].flatten(1)
    small.load_state_dict(state)
    image = torch.randn(2, 3, 64, 64)
    with torch.no_grad():
        for x, y in zip(large(image).maps, small(image).maps, strict=True):
            torch.testing.assert_close(x, y, atol=1e-4, rtol=1e-4)


def test_tables_for_windows_of_another_side_are_stretched() -> None:
    network = EfficientViTMS(config(size=448))
    name = "stages.2.1.attn.attention_biases"
    assert network.get_parameter(name).shape == (2, 49)
    table = torch.randn(2, 16)
    expected = F.interpolate(table.view(1, 2, 4, 4), size=(7, 7), mode="bicubic", antialias=True).view(2, 49)
    torch.testing.assert_close(network.fitted(name, table), expected)
    torch.testing.assert_close(network.fitted(name, torch.full((2, 16), 3.0)), torch.full((2, 49), 3.0))
    assert network.fitted(name, torch.randn(2, 17)) is None
    assert network.fitted("stages.2.1.attn.proj.conv.weight", table) is None


def test_windows_follow_the_size_of_the_picture_planned_for() -> None:
    for size, windows in [(224, [7, 7, 4]), (448, [7, 7, 7]), (112, [7, 4, 2]), (100, [7, 4, 2]), (1, [1, 1, 1])]:
        with torch.device("meta"):
            network = EfficientViTMS(config(size=size))
        assert [stage[-1].attn.window for stage in network.stages] == windows


def test_a_fresh_block_changes_nothing_and_what_halves_the_map_does() -> None:
    """As in the authors' code: every branch ends in a zero norm, but for the depthwise ones beside the halving."""
    network = EfficientViTMS(config()).eval()
    x = torch.randn(2, 24, 4, 4)
    assert torch.equal(network.stages[1][1](x), x)
    zero = [n for n, m in network.named_modules() if isinstance(m, nn.BatchNorm2d) and not m.weight.any()]
    assert sorted(n for n in zero if n.startswith("stages.1.")) == [
        *(f"stages.1.0.{slice_}.pw2.norm" for slice_ in ("after", "before")),
        *(f"stages.1.1.after.{part}.norm" for part in ("dw", "pw2")),
        "stages.1.1.attn.proj.norm",
        *(f"stages.1.1.before.{part}.norm" for part in ("dw", "pw2")),
    ]


def test_pooled_is_the_mean_after_its_norm() -> None:
    torch.manual_seed(0)
    network, image = EfficientViTMS(config()).train(), torch.randn(6, 3, 128, 128)
    pooled = network(image).pooled
    torch.testing.assert_close(pooled.mean(0), torch.zeros(32), atol=1e-5, rtol=0)
    features = unsettled(network)(image)
    x, norm = features.maps[-1].mean((2, 3)), network.norm
    expected = (x - norm.running_mean) / (norm.running_var + 1e-5).sqrt() * norm.weight + norm.bias
    torch.testing.assert_close(features.pooled, expected)


@pytest.mark.parametrize("half", [torch.bfloat16, torch.float16])
def test_half_precision_keeps_what_fills_up_unseen(half: torch.dtype) -> None:
    made, x = attention(4), torch.randn(2, 16, 5, 6)
    with torch.no_grad():
        expected = made(x)
        with torch.autocast("cpu", dtype=half):
            automatic = made(x)
        whole = made.to(half)(x.to(half))
    for got in (automatic, whole):
        assert got.dtype == half
        torch.testing.assert_close(got.float(), expected, atol=0.1, rtol=0.05)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"depths": (1, 1)}, "as many depths and heads as widths"),
        ({"window": 0}, "at least 1"),
        ({"widths": (12, 24, 32)}, "multiple of 8, not 12"),
        ({"heads": (2, 5, 2)}, "Width 24 is not a multiple of 5 heads"),
        ({"kernels": (5, 3)}, "an odd number for each of 3 heads"),
        ({"kernels": (5, 4, 3)}, "an odd number for each of 3 heads"),
    ],
)
def test_impossible_networks_are_refused(change: dict[str, object], words: str) -> None:
    with pytest.raises(UsageError, match=words):
        config(**change)


def test_one_picture_alone_does_not_train() -> None:
    network, image = EfficientViTMS(config()), torch.rand(1, 3, 64, 64)
    with pytest.raises(UsageError, match="trains on batches of 2 or more"):
        network(image)
    network(image.expand(2, -1, -1, -1))
    network.freeze()
    assert network(image).pooled.shape == (1, 32)  # statistics that do not move need no others
    assert EfficientViTMS(config()).eval()(image).pooled.shape == (1, 32)
