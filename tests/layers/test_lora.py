"""Low-rank terms: nothing at first, little to train, little to keep, and gone when they are merged."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from vitreous import models
from vitreous.layers.attention import Attention
from vitreous.layers.linear import Linear
from vitreous.layers.lora import LowRank, adapt, merge
from vitreous.network import NetworkConfig, build_network


def vit(depth: int = 2, **options: object) -> nn.Module:
    torch.manual_seed(0)
    return models.create("vit_pico_patch4_32", options={"depth": depth, "width": 48, "heads": 3, **options})


def disturb(root: nn.Module) -> None:
    for module in root.modules():
        if isinstance(module, LowRank):
            nn.init.normal_(module.up, std=0.1)


def kept(network: nn.Module, image: Tensor) -> int:
    """Bytes that a forward pass keeps for the way back, parameters apart."""
    own = {p.untyped_storage().data_ptr() for p in network.parameters()}
    seen: dict[int, int] = {}

    def pack(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in own:
            seen[storage.data_ptr()] = storage.nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        pooled = network(image).pooled
    assert pooled.requires_grad
    return sum(seen.values())


def test_nothing_changes_at_first_and_little_is_trained() -> None:
    backbone, image = vit().eval(), torch.randn(2, 3, 32, 32)
    before = backbone(image).pooled
    backbone.freeze()
    assert adapt(backbone, 4, 8.0) == 4  # qkv and proj of two blocks
    torch.testing.assert_close(backbone(image).pooled, before, rtol=0, atol=0)
    trained = {name: p.shape for name, p in backbone.named_parameters() if p.requires_grad}
    assert len(trained) == 8 and all(name.endswith(("down", "up")) for name in trained)
    assert sum(s.numel() for s in trained.values()) < 0.1 * sum(p.numel() for p in backbone.parameters())


def test_the_answer_is_that_of_the_paper() -> None:
    torch.manual_seed(0)
    layer = LowRank(Linear(6, 5).double(), 3, 12.0)
    nn.init.normal_(layer.up)
    x = torch.randn(7, 6, dtype=torch.float64)
    expected = x @ layer.weight.T + layer.bias + 12.0 / 3 * (x @ layer.down.T) @ layer.up.T
    torch.testing.assert_close(layer(x), expected)
    torch.testing.assert_close(layer.merged()(x), expected)


@pytest.mark.parametrize("model", ["vit_pico_patch4_32", "swin_tiny_patch4_window7_224", "swinv2_tiny_window8_256"])
def test_merged_is_a_plain_network_with_the_same_answers(model: str) -> None:
    torch.manual_seed(0)
    small = {"depth": 2, "width": 48, "heads": 3}
    if model.startswith("swin"):
        small = {"width": 12, "depths": (2, 2), "heads": (1, 2), "window": 4}
    network = build_network(NetworkConfig(model=model, classes=3, size=32, options=small)).eval()
    names = set(network.state_dict())
    assert adapt(network.backbone, 4, 8.0) > 0
    disturb(network)
    image = torch.randint(0, 256, (2, 3, 32, 32), dtype=torch.uint8)
    fast = network.optimise()
    assert not any(p.requires_grad for p in fast.parameters())
    with torch.no_grad():
        adapted, optimised = network(image), fast(image)
        merge(network)
        assert set(network.state_dict()) == names and not any(isinstance(m, LowRank) for m in network.modules())
        torch.testing.assert_close(network(image), adapted, rtol=1e-4, atol=1e-5)
        torch.testing.assert_close(optimised, adapted, rtol=1e-3, atol=1e-4)
    assert all(p.requires_grad for p in network.parameters())


def test_less_is_kept_for_the_way_back() -> None:
    whole, adapted, image = vit(4), vit(4), torch.randn(8, 3, 32, 32)
    adapted.freeze()
    adapt(adapted, 4, 8.0)
    assert kept(adapted, image) < 0.8 * kept(whole, image)


def test_gradients_of_the_terms_are_exact() -> None:
    torch.manual_seed(0)
    attention = Attention(12, 3).double()
    adapt(attention, 2, 4.0)
    disturb(attention)
    x = torch.randn(1, 4, 12, dtype=torch.float64)
    terms = [p for n, p in attention.named_parameters() if n.endswith(("down", "up"))]

    def answer(*values: Tensor) -> Tensor:
        return torch.func.functional_call(attention, dict(zip(names, values, strict=True)), x)

    names = [n for n, _ in attention.named_parameters() if n.endswith(("down", "up"))]
    assert torch.autograd.gradcheck(answer, [p.detach().requires_grad_() for p in terms])
