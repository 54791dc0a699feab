"""How long a user waits before anything happens: importing the package, and asking for help.

    python bench/startup.py [--repeats 9]

Every measurement is a fresh process; the three commands are interleaved, and medians are compared. Goals:
``vitreous --help`` within 0.3 s, ``import vitreous`` within ``import torch`` + 0.15 s.
"""

from __future__ import annotations

import argparse
import json
import platform
import statistics
import subprocess
import sys
import time
from pathlib import Path

from rich.console import Console
from rich.table import Table

COMMANDS = {
    "python -c pass": ["-c", "pass"],
    "import torch": ["-c", "import torch"],
    "import vitreous": ["-c", "import vitreous"],
    "everything a training imports": ["-c", "import vitreous.run.execution"],
    "vitreous --help": ["-m", "vitreous", "--help"],
}


def seconds(command: list[str]) -> float:
    start = time.perf_counter()
    subprocess.run([sys.executable, *command], check=True, stdout=subprocess.DEVNULL)
    return time.perf_counter() - start


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=9)
    repeats = parser.parse_args().repeats
    times: dict[str, list[float]] = {name: [] for name in COMMANDS}
    for _ in range(repeats):
        for name, command in COMMANDS.items():
            times[name].append(seconds(command))
    medians = {name: statistics.median(t) for name, t in times.items()}

    table = Table(title="Start-up, seconds", box=None)
    table.add_column("command")
    for column in ("median", "least", "most"):
        table.add_column(column, justify="right")
    for name, t in times.items():
        table.add_row(name, f"{medians[name]:.2f}", f"{min(t):.2f}", f"{max(t):.2f}")
    Console().print(table)

    result = {
        "repeats": repeats,
        "median_seconds": medians,
        "goals": {
            "help_within_0.3_s": medians["vitreous --help"] <= 0.3,
            "import_within_torch_plus_0.15_s": medians["import vitreous"] <= medians["import torch"] + 0.15,
        },
        "python": platform.python_version(),
        "machine": platform.machine(),
    }
    place = Path(__file__).parent / "results" / "startup.json"
    place.parent.mkdir(exist_ok=True)
    place.write_text(json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    main()
