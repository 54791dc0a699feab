"""Makes torchvision importable beside a CPU build of torch. Used in the peers' environment, before timm is imported.

PyPI's torchvision is linked against CUDA: its operator library does not load, and then `torch.library.register_fake`
finds no schema for its operators. None of those operators is used by the models compared here, so declaring their
names is enough.
"""

from __future__ import annotations

import torch

_NAMES = ("nms", "qnms", "roi_align", "ps_roi_align", "roi_pool", "ps_roi_pool", "deform_conv2d")
_BACKWARD = tuple(f"_{name}_backward" for name in _NAMES[2:])

_library = torch.library.Library("torchvision", "DEF")
for _name in _NAMES + _BACKWARD:
    _library.define(f"{_name}() -> ()")


def main() -> None:
    """Print the peers' versions: the proof that they import."""
    import timm
    import torchvision
    import transformers
    from transformers import ViTModel  # noqa: F401 - its import is the test

    print(f"torch {torch.__version__}  timm {timm.__version__}  torchvision {torchvision.__version__}", end="  ")
    print(f"transformers {transformers.__version__}")


if __name__ == "__main__":
    main()
