"""A run as one page that anybody can open: no network, no script, nothing beside it.

It reads what a run folder holds (see `vitreous.reports.recorded` for every field) and recounts the scores from the
stored outputs. It never loads a network.
"""

from __future__ import annotations

from vitreous.reports.gallery import Thumbnail
from vitreous.reports.page import write_report

__all__ = ["Thumbnail", "write_report"]
