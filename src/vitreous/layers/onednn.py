"""Whether oneDNN's own operations can be called: they are private to torch, so everybody asks here first."""

from __future__ import annotations

from functools import cache

import torch
import torch.nn.functional as F


@cache
def available(dtype: torch.dtype) -> bool:
    """Whether this build of torch on this CPU has the operations for ``dtype``, and they give the right answer."""
    if dtype not in (torch.float32, torch.bfloat16) or not torch.backends.mkldnn.is_available():
        return False
    x, weight = torch.linspace(-2, 2, 32, dtype=dtype).view(2, 16), torch.ones(4, 16, dtype=dtype)
    image, kernel, geometry = x[..., None, None], weight[..., None, None], ([0, 0], [1, 1], [1, 1], 1)
    ops = torch.ops.mkldnn
    try:
        linear = ops._linear_pointwise(x, weight, None, "relu", [], "")
        packed = ops._reorder_convolution_weight(kernel, *geometry, list(image.shape))
        conv = ops._convolution_pointwise(image, packed, None, *geometry, "relu", [], "")
    except (AttributeError, RuntimeError, TypeError):
        return False
    expected = F.relu(F.linear(x, weight))
    return all(torch.allclose(y.reshape(2, 4), expected, atol=0.1, rtol=0.02) for y in (linear, conv))
