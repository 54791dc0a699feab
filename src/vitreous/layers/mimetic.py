"""Mimetic initialisation: attention that begins as trained attention looks.

Trockman and Kolter 2023, "Mimetic Initialization of Self-Attention Layers", section 4. In trained transformers the
product of queries and keys is close to a positive multiple of the identity, and that of values and output to a negative
one; starting there helps most on small sets.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from vitreous.layers.attention import Attention

NOISE_QK, IDENTITY_QK = 0.7, 0.7  # the paper's alpha and beta, for queries and keys
NOISE_VO, IDENTITY_VO = 0.4, 0.4  # and for values and output


@torch.no_grad()
def mimetic(network: nn.Module) -> int:
    """Give every ``Attention`` in ``network`` such weights, in place; how many there were."""
    found = [module for module in network.modules() if isinstance(module, Attention)]
    for attention in found:
        _start(attention)
    return len(found)


def _start(attention: Attention) -> None:
    """Wq' Wk = a Z + b I a head, cut to the head's rank; Wo Wv = a Z - b I; Z normal of variance 1 / d."""
    qkv, proj = attention.qkv.weight, attention.proj.weight
    d = proj.shape[0]
    share = d // attention.heads
    query, key, value = qkv.view(3, d, d).unbind(0)  # rows are outputs
    for rows in torch.arange(d).split(share):
        q, k = _factors(_near_identity(d, NOISE_QK, IDENTITY_QK), share)
        query[rows], key[rows] = q.t(), k.t()
    output, inner = _factors(_near_identity(d, NOISE_VO, -IDENTITY_VO), d)
    proj.copy_(output)
    value.copy_(inner.t())


def _near_identity(d: int, noise: float, identity: float) -> Tensor:
    """(d, d) float64: noise Z + identity I"""
    scaled: Tensor = torch.randn(d, d, dtype=torch.float64) * (noise / d**0.5)
    return scaled + identity * torch.eye(d, dtype=torch.float64)


def _factors(product: Tensor, rank: int) -> tuple[Tensor, Tensor]:
    """(d, rank) A and B with A B' the best approximation of ``product`` of that rank, its weight shared evenly."""
    u, s, vh = torch.linalg.svd(product)
    root = s[:rank].sqrt()
    return (u[:, :rank] * root).float(), (vh[:rank].t() * root).float()
