"""What the page on models shows was tried, and names what there is."""

from __future__ import annotations

import doctest
import fnmatch
import re
from pathlib import Path

from vitreous.models import CATALOGUE, FAMILIES

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs" / "models.md"


def test_the_examples_give_what_is_printed() -> None:
    options = doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE
    failed, tried = doctest.testfile(str(PAGE), module_relative=False, optionflags=options, encoding="utf-8")
    assert tried > 15 and not failed


def test_every_model_and_every_file_of_one_is_in_the_table() -> None:
    rows = re.findall(r"^\|.*`\w+\.py`.*\|$", PAGE.read_text(encoding="utf-8"), re.M)
    named = set(re.findall(r"`([^`]+)`", " ".join(rows)))
    assert {f"{module.rpartition('.')[2]}.py" for module, *_ in FAMILIES.values()} == {n for n in named if ".py" in n}
    patterns = [n for n in named if ".py" not in n]
    assert [name for name in CATALOGUE if not any(fnmatch.fnmatch(name, p) for p in patterns)] == []
    assert [p for p in patterns if not fnmatch.filter(CATALOGUE, p)] == []


def test_the_readme_counts_the_models() -> None:
    found = re.search(r"^\| models \| (\d+):", (ROOT / "README.md").read_text(encoding="utf-8"), re.M)
    assert found is not None and int(found[1]) == len(CATALOGUE)
