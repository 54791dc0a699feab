"""Vision transformers that work on your own pictures.

    import vitreous as vt
    run = vt.train("photos/", budget="10m")
    run.predict("cat.jpg")

Names are loaded when first used, so that importing the package costs nothing. The verbs are those of the command
line; only ``vitreous models`` is called ``list_models`` here, because ``vitreous.models`` is where the models live.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from vitreous.errors import (
        BadData,
        DamagedFile,
        NoSpace,
        RunBusy,
        TrainingDiverged,
        Unreachable,
        UnreadableImage,
        UnusableWeights,
        UsageError,
        VitreousError,
    )
    from vitreous.estimator import ImageClassifier
    from vitreous.predictor import Predictor
    from vitreous.results import Classes
    from vitreous.verbs import (
        check,
        compare,
        create,
        embed,
        evaluate,
        list_models,
        load,
        predict,
        pretrain,
        report,
        resume,
        trace,
        train,
    )

__version__ = "0.1.0"

_HOMES = {
    "BadData": "vitreous.errors",
    "Classes": "vitreous.results",
    "DamagedFile": "vitreous.errors",
    "ImageClassifier": "vitreous.estimator",
    "NoSpace": "vitreous.errors",
    "Predictor": "vitreous.predictor",
    "RunBusy": "vitreous.errors",
    "TrainingDiverged": "vitreous.errors",
    "Unreachable": "vitreous.errors",
    "UnreadableImage": "vitreous.errors",
    "UnusableWeights": "vitreous.errors",
    "UsageError": "vitreous.errors",
    "VitreousError": "vitreous.errors",
    "check": "vitreous.verbs",
    "compare": "vitreous.verbs",
    "create": "vitreous.verbs",
    "embed": "vitreous.verbs",
    "evaluate": "vitreous.verbs",
    "list_models": "vitreous.verbs",
    "load": "vitreous.verbs",
    "predict": "vitreous.verbs",
    "pretrain": "vitreous.verbs",
    "report": "vitreous.verbs",
    "resume": "vitreous.verbs",
    "trace": "vitreous.verbs",
    "train": "vitreous.verbs",
}

__all__ = [
    "BadData",
    "Classes",
    "DamagedFile",
    "ImageClassifier",
    "NoSpace",
    "Predictor",
    "RunBusy",
    "TrainingDiverged",
    "Unreachable",
    "UnreadableImage",
    "UnusableWeights",
    "UsageError",
    "VitreousError",
    "__version__",
    "check",
    "compare",
    "create",
    "embed",
    "evaluate",
    "list_models",
    "load",
    "predict",
    "pretrain",
    "report",
    "resume",
    "trace",
    "train",
]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'vitreous' has no attribute {name!r}")
    value = getattr(import_module(_HOMES[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
