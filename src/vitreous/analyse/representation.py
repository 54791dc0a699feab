"""What can be told of features without any label: in how many directions they vary, and whether they vary at all.

Knows features; nothing of networks. Both numbers are functions of their arguments alone.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from vitreous.analyse.familiar import unit

Numbers = NDArray[Any]


def effective_rank(features: Numbers) -> float:
    """exp of the entropy of the singular values' shares, 1 to min(n, d) (Garrido et al. 2023, RankMe, section 3.1).

    Args:
        features: (n, d), of n pictures.
    """
    values = np.linalg.svd(features.astype(np.float64), compute_uv=False)
    total = values.sum()
    if not total > 0:
        return 1.0
    share = values[values > 0] / total
    return float(np.exp(-(share * np.log(share)).sum()))


def spread(features: Numbers) -> float:
    """How far features of unit length lie apart: sqrt(d) times the mean of their deviations, 0 when all are the same.

    1 is that of directions without preference (Chen and He 2021, SimSiam, section 4.1).

    Args:
        features: (n, d), of n pictures.
    """
    directions = unit(features).astype(np.float64)
    return float(directions.std(axis=0).mean() * features.shape[1] ** 0.5)
