"""What every model of the catalogue keeps. A new row gets these tests by standing there; there are no exemptions.

Rows are built small (two blocks deep, narrow, four patches wide); rows that become the same network are tested once.
"""

from __future__ import annotations

import io
import warnings

import pytest
import torch
from models.unsettled import unsettled
from small_models import distinct, small
from torch import Tensor, nn

from vitreous.errors import UsageError
from vitreous.layers.pack import pack
from vitreous.models import CATALOGUE, create, names
from vitreous.models.backbone import Backbone, TokenBackbone
from vitreous.types import Features


@pytest.fixture(params=distinct())
def name(request: pytest.FixtureRequest) -> str:
    return request.param


def build(name: str, drop_path: float = 0.0, channels: int = 3) -> tuple[Backbone, Tensor]:
    torch.manual_seed(0)
    size, options = small(CATALOGUE[name])
    backbone = create(name, size=size, channels=channels, drop_path=drop_path, options=options)
    image = torch.randn(3, channels, size, size)
    return unsettled(backbone, by=0.05).train(), image


def flat(features: Features) -> list[Tensor]:
    return [*features.maps, features.pooled]


def close(a: Features, b: Features, tolerance: float = 1e-5) -> None:
    for x, y in zip(flat(a), flat(b), strict=True):
        torch.testing.assert_close(x, y, atol=tolerance, rtol=tolerance)


def test_shapes_and_strides_hold_at_any_resolution(name: str) -> None:
    backbone, image = build(name)
    backbone.eval()
    side = image.shape[-1]
    for h, w in [(side, side), (side * 2, side), (side // 2, side * 3 // 2), (side + 5, side - 3)]:
        with torch.no_grad():
            features = backbone(torch.randn(2, 3, h, w))
        assert isinstance(features, Features)
        assert len(features.maps) == len(backbone.dims) == len(backbone.strides)
        for x, d, stride in zip(features.maps, backbone.dims, backbone.strides, strict=True):
            assert x.shape == (2, d, -(-h // stride), -(-w // stride))
        assert features.pooled.shape == (2, backbone.width)
        assert all(x.dtype == torch.float32 and x.isfinite().all() for x in flat(features))


def test_a_picture_does_not_depend_on_its_batch(name: str) -> None:
    backbone, image = build(name)
    backbone.eval()
    with torch.no_grad():
        together = backbone(image)
        for i in range(len(image)):
            close(
                Features(tuple(m[i : i + 1] for m in together.maps), together.pooled[i : i + 1]),
                backbone(image[i : i + 1]),
            )


def test_no_picture_gives_no_answer(name: str) -> None:
    backbone, image = build(name)
    backbone.eval()
    with torch.no_grad():
        empty, full = backbone(image[:0]), backbone(image[:1])
    for x, y in zip(flat(empty), flat(full), strict=True):
        assert x.shape == (0, *y.shape[1:]) and x.dtype == y.dtype


def test_evaluation_is_deterministic(name: str) -> None:
    backbone, image = build(name, drop_path=0.5)
    backbone.eval()
    with torch.no_grad():
        assert all(torch.equal(x, y) for x, y in zip(flat(backbone(image)), flat(backbone(image)), strict=True))


def test_training_and_evaluation_agree_where_nothing_is_random(name: str) -> None:
    backbone, image = build(name)
    for module in backbone.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            module.track_running_stats, module.running_mean, module.running_var = False, None, None
    close(backbone.train()(image), backbone.eval()(image))


def test_the_layout_of_memory_changes_no_number_and_is_kept(name: str) -> None:
    backbone, image = build(name)
    backbone.eval()
    image = image[..., 3:]
    with torch.no_grad():
        expected = backbone(image.contiguous())
        backbone.to(memory_format=torch.channels_last)
        got = backbone(image.contiguous(memory_format=torch.channels_last))
    close(got, expected, 1e-4)
    if backbone.layout is torch.channels_last:
        assert all(x.is_contiguous(memory_format=torch.channels_last) for x in got.maps)


@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float32, 1e-4), (torch.float64, 1e-9)])
def test_put_together_for_inference_it_answers_the_same(name: str, dtype: torch.dtype, tolerance: float) -> None:
    """No norm of a map is left; one of what has been pooled has no convolution before it."""
    backbone, image = build(name)
    backbone, image = backbone.eval().to(dtype), image.to(dtype)
    with torch.no_grad():
        before = backbone(image)
        pack(backbone)
        close(backbone(image), before, tolerance)
    assert {key for key, m in backbone.named_modules() if isinstance(m, nn.BatchNorm2d)} <= {"norm"}


def test_stochastic_depth_acts_in_training(name: str) -> None:
    backbone, image = build(name, drop_path=0.5)
    draws = [backbone(image).pooled for _ in range(12)]
    assert any(not torch.equal(draws[0], draw) for draw in draws)


def test_every_parameter_gets_a_gradient(name: str) -> None:
    backbone, image = build(name)
    backbone(image).pooled.square().sum().backward()
    for key, p in backbone.named_parameters():
        assert p.grad is not None and p.grad.isfinite().all() and p.grad.any(), key


def test_gradients_reach_the_pixels(name: str) -> None:
    backbone, image = build(name)
    backbone(image.requires_grad_()).pooled.square().sum().backward()
    assert image.grad is not None and image.grad.isfinite().all() and image.grad.any()


def test_fresh_weights_replace_whatever_was_there(name: str) -> None:
    backbone, _ = build(name)
    with torch.no_grad():
        for tensor in [*backbone.parameters(), *backbone.buffers()]:
            tensor.fill_(float("nan")) if tensor.is_floating_point() else tensor.fill_(7)
    backbone.reset_parameters()
    for key, tensor in backbone.state_dict().items():
        assert tensor.isfinite().all() and not (tensor == 7).any(), key


def test_the_same_seed_gives_the_same_weights(name: str) -> None:
    (one, _), (two, _) = build(name), build(name)
    assert all(torch.equal(a, b) for a, b in zip(one.state_dict().values(), two.state_dict().values(), strict=True))


def test_a_state_dict_carries_everything(name: str) -> None:
    one, image = build(name)
    one(image)  # moves the statistics of batch norms
    two, _ = build(name)
    two.reset_parameters()
    file = io.BytesIO()
    torch.save(one.state_dict(), file)
    file.seek(0)
    two.load_state_dict(torch.load(file, weights_only=True))
    with torch.no_grad():
        expected, got = one.eval()(image), two.eval()(image)
    assert all(torch.equal(a, b) for a, b in zip(flat(expected), flat(got), strict=True))


def test_groups_hold_every_parameter_once_in_order_of_depth(name: str) -> None:
    backbone, _ = build(name)
    groups = backbone.groups()
    parameters = [key for key, _ in backbone.named_parameters()]
    assert sorted(key for group in groups for key in group) == sorted(parameters)
    assert all(groups) and len(groups) > 2
    assert f"{backbone.stem}.weight" in groups[0] and parameters[-1] in groups[-1]


@pytest.mark.parametrize("channels", [1, 4])
def test_pictures_may_have_other_channels(name: str, channels: int) -> None:
    backbone, image = build(name, channels=channels)
    assert backbone.get_submodule(backbone.stem).weight.shape[1] == channels
    backbone(image).pooled.square().sum().backward()
    assert backbone.get_submodule(backbone.stem).weight.grad.any()


def test_checkpointing_changes_no_bit(name: str) -> None:
    plain, image = build(name, drop_path=0.5)
    twice, _ = build(name, drop_path=0.5)
    twice.checkpoint()
    for backbone in (plain, twice):
        torch.manual_seed(1)
        backbone(image).pooled.square().sum().backward()
    for (key, a), (_, b) in zip(plain.named_parameters(), twice.named_parameters(), strict=True):
        assert torch.equal(a.grad, b.grad), key
    for (key, a), (_, b) in zip(plain.named_buffers(), twice.named_buffers(), strict=True):
        assert torch.equal(a, b), key


def test_checkpointing_keeps_less(name: str) -> None:
    """What autograd holds on to for the way back, in elements of distinct tensors."""

    def kept(on: bool) -> int:
        backbone, image = build(name)
        backbone.checkpoint(on)
        held = {}
        with torch.autograd.graph.saved_tensors_hooks(
            lambda t: held.setdefault(t.untyped_storage().data_ptr(), t), lambda t: t
        ):
            features = backbone(image)
        assert features.pooled.requires_grad
        own = {p.untyped_storage().data_ptr() for p in backbone.parameters()}
        return sum(t.untyped_storage().nbytes() for place, t in held.items() if place not in own)

    assert kept(True) < kept(False)


def test_what_is_frozen_does_not_move(name: str) -> None:
    backbone, image = build(name)
    groups = backbone.groups()
    backbone.freeze(2)
    held = {key for group in groups[:2] for key in group}
    before = {key: t.clone() for key, t in backbone.state_dict().items()}
    backbone.eval()
    backbone.train()
    backbone(image).pooled.square().sum().backward()
    for key, p in backbone.named_parameters():
        assert (p.grad is None) == (key in held), key
    norms = {key for key, m in backbone.named_modules() if isinstance(m, nn.BatchNorm2d)}
    for key in norms:
        moved = not torch.equal(backbone.get_buffer(f"{key}.running_mean"), before[f"{key}.running_mean"])
        assert moved == (f"{key}.weight" not in held), key
    backbone.freeze(0)
    assert all(p.requires_grad for p in backbone.parameters())
    backbone.freeze()
    assert not any(p.requires_grad for p in backbone.parameters())
    for depth in (-1, len(groups) + 1):
        with pytest.raises(UsageError, match=f"has {len(groups)} depths"):
            backbone.freeze(depth)
    with pytest.raises(UsageError, match="depth must be a whole number, not 'a'"):
        backbone.freeze("a")


def test_it_exports_with_a_free_batch_size(name: str) -> None:
    backbone, image = build(name)
    backbone.eval()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch's own, while it traces
        program = torch.export.export(backbone, (image,), dynamic_shapes=({0: torch.export.Dim("b", min=2, max=64)},))
    other = torch.randn(5, *image.shape[1:])
    with torch.no_grad():
        close(program.module()(other), backbone(other))


def test_hidden_tokens_are_dropped_and_the_rest_is_as_before(name: str) -> None:
    backbone, image = build(name)
    if not isinstance(backbone, TokenBackbone):
        return
    tokens = backbone.embed(image)
    b, n, d = tokens.shape
    mask = torch.rand(b, n).argsort(1) < n // 2
    token = torch.randn(d)
    covered = backbone.embed(image, mask, token)  # every family keeps its grid for one
    assert covered.shape == tokens.shape and torch.equal(covered[~mask], tokens[~mask])
    moved = covered[mask] - backbone.embed(image, mask, 0 * token)[mask]  # positions, where they are, are added to it
    torch.testing.assert_close(moved, token.expand_as(moved))
    visible = backbone.embed(image, mask)
    if not backbone.drops_hidden:  # another vector stands in their place, and what is not hidden is untouched
        assert visible.shape == tokens.shape
        assert torch.equal(visible[~mask], tokens[~mask]) and (visible[mask] == visible[mask][0]).all()
        return
    torch.testing.assert_close(visible, tokens[~mask].view(b, n - n // 2, d), atol=1e-4, rtol=1e-5)
    prefix = backbone.encode(visible).shape[1] - visible.shape[1]
    assert backbone.encode(tokens).shape == (b, prefix + n, d)
    with pytest.raises(ValueError, match="same number"):
        backbone.embed(image, torch.arange(b * n).view(b, n) < 3)


def test_order_of_tokens_matters_only_where_the_whole_grid_is_needed(name: str) -> None:
    backbone, image = build(name)
    if not isinstance(backbone, TokenBackbone):
        return
    tokens = backbone.eval().embed(image)
    order = torch.randperm(tokens.shape[1])
    forth, back = backbone.encode(tokens[:, order]), backbone.encode(tokens)
    if not backbone.drops_hidden:
        assert forth.shape == back.shape and not torch.allclose(forth.sum(1), back.sum(1), atol=1e-3)
        return
    prefix = forth.shape[1] - tokens.shape[1]
    torch.testing.assert_close(forth[:, prefix:], back[:, prefix:][:, order], atol=1e-5, rtol=1e-5)


def test_every_row_builds_at_full_size() -> None:
    assert set(names()) == set(CATALOGUE)
    for key in CATALOGUE:
        with torch.device("meta"):
            assert isinstance(create(key), Backbone)
