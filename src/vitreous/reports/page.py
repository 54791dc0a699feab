"""One run folder to one HTML file: gathers the sections, fills the template, writes it whole or not at all.

The page may load nothing: its security policy allows pictures that are inside it and the one style sheet whose hash
it names. Names of classes and files are escaped wherever they stand.
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Mapping
from importlib.resources import files
from pathlib import Path
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from vitreous.reports import gallery, pretrained, sections, trust, verdict
from vitreous.reports.charts import ruler
from vitreous.reports.gallery import Thumbnail
from vitreous.reports.recorded import Recorded, read_run
from vitreous.reports.text import brief, shown
from vitreous.store.files import write_atomic


def write_report(run_folder: Path, out: Path | None = None, *, thumbnail: Thumbnail | None = None) -> Path:
    """Write the report of a run, finished or not.

    Args:
        run_folder: what training wrote; `vitreous.reports.recorded` lists the files that are read.
        out: where to; ``report.html`` in the run folder by default.
        thumbnail: gives the bytes of a small picture for a name in ``outputs.json``, or None.

    Returns:
        The file that was written.

    Raises:
        UsageError: the folder is not a run.
        DamagedFile: one of its files is not what a run writes.
        NoSpace: the disk is full; a report that was there is untouched.
    """
    run_folder = Path(run_folder)
    out = Path(out) if out else run_folder / "report.html"
    # a name that is not UTF-8 has been escaped already; this is for text that reached us some other way
    page = render(read_run(run_folder), thumbnail).encode("utf-8", "backslashreplace")
    out.parent.mkdir(parents=True, exist_ok=True)
    write_atomic(out, page)
    return out


def render(run: Recorded, thumbnail: Thumbnail | None = None) -> str:
    """The page as text."""
    return fill(files("vitreous.reports").joinpath("page.html").read_text("utf-8"), _contents(run, thumbnail))


def fill(template: str, contents: Mapping[str, Any]) -> str:
    """A template of ours with ``contents``, in the one style, allowed to load nothing."""
    style = files("vitreous.reports").joinpath("page.css").read_text("utf-8")
    environment = Environment(
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        finalize=_visible,
        loader=PackageLoader("vitreous.reports", ""),
    )
    environment.filters["brief"] = brief
    return environment.from_string(template).render(**contents, style=Markup(style), policy=_policy(style)).lstrip()


def _contents(run: Recorded, thumbnail: Thumbnail | None) -> dict[str, Any]:
    judged = verdict.judge(run)
    found = verdict.summary(run, judged)
    learned = pretrained.learned(run)
    measured = verdict.headline(*found) if found else None
    return {
        "run": run,
        "title": _title(run),
        "split": found[0] if found else None,
        "headline": learned["headline"] if learned else measured,
        "learned": learned,
        "classifier": measured if learned else None,
        "comparison": verdict.comparison(run, judged) if judged else None,
        "origin": learned["origin"] if learned else verdict.origin(run),
        "frozen": None if learned else verdict.frozen(run),
        "ruler": ruler(judged.scores.accuracy, verdict.guesses(run, judged)) if judged else None,
        "tiles": sections.tiles(found[1], run, judged, found[0]) if found else [],
        "data": sections.data(run),
        "curves": [] if learned else sections.learning(run),
        "kept": sections.kept(run),
        "mistakes": sections.mistakes(judged) if judged else None,
        "by_class": sections.by_class(judged) if judged else None,
        "confidence": sections.confidence(judged) if judged else None,
        "wrong": gallery.mistakes(judged, thumbnail) if judged else [],
        "unsure": gallery.uncertain(judged, thumbnail) if judged else [],
        "sets": trust.sets(run, judged) if judged else None,
        "labels": trust.labels(run, thumbnail),
        "copies": trust.copies(run, thumbnail),
        "limits": verdict.limits(run, judged) if found else [],
        "cost": sections.cost(run),
        "settings": sections.settings(run),
    }


def _title(run: Recorded) -> str:
    source = (run.get("data.source", str) or "").rstrip("/\\")
    parts = [run.get("network.model", str), source.replace("\\", "/").rsplit("/", 1)[-1]]
    return " on ".join(p for p in parts if p) or run.name


def _visible(value: Any) -> Any:
    return shown(value) if type(value) is str else value


def _policy(style: str) -> str:
    digest = base64.b64encode(hashlib.sha256(style.encode("utf-8")).digest()).decode("ascii")
    return f"default-src 'none'; img-src data:; style-src 'sha256-{digest}'; base-uri 'none'; form-action 'none'"
