"""Writes src/vitreous/models/costs.json: parameters and multiply-accumulates of every model of the catalogue.

python bench/costs.py
"""

from __future__ import annotations

import json
from pathlib import Path

from vitreous import models
from vitreous.models import costs
from vitreous.models.describe import describe


def main() -> None:
    """Work out every row and write the table, one model a line."""
    rows = []
    for name in models.names():
        found = describe(name)
        rows.append(f' "{name}": {json.dumps([found.params, found.macs])}')
    Path(costs.__file__).with_name("costs.json").write_text("{\n" + ",\n".join(rows) + "\n}\n")


if __name__ == "__main__":
    main()
