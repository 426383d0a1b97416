"""The benchmarks from the command line: `python -m tests.benchmarks [ROW...]`, all rows by default.

Every row runs in a process of its own. The table goes to the terminal, the same rows to bench.json at the top of the
repository. The exit code is 1 when a row misses its target.
"""

from __future__ import annotations

import json
import os
import platform
import sys
import time
from concurrent.futures import ProcessPoolExecutor
from importlib.metadata import version
from multiprocessing import get_context
from pathlib import Path

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from tests.benchmarks.air_rate import air_rate_over_limit
from tests.benchmarks.cbke import cbke_over_double_and_add
from tests.benchmarks.firmware import ota_four_over_one, overwrite_matrix
from tests.benchmarks.frames import frame_over_ccm
from tests.benchmarks.inventory import cpl_over_reader, inventory_over_dict
from tests.benchmarks.measure import Figure, Row
from tests.benchmarks.memory import premises_memory_air, premises_memory_live
from tests.benchmarks.ota import ota_over_uart_floor, ota_over_zigpy_manager
from tests.benchmarks.premises import premises_day

RESULTS = Path(__file__).resolve().parents[2] / "bench.json"
PACKAGES = ("bellows", "zigpy", "cryptography")

ROWS = (
    Row("ota-over-uart-floor", ota_over_uart_floor, "x", 15),
    Row("ota-over-zigpy-manager", ota_over_zigpy_manager, "x", 2.5),
    Row("premises-day", premises_day, "simulated s / s", 10_000),
    Row("air-rate-over-limit", air_rate_over_limit, "x", 0.95, 1.05),
    Row("cbke-over-double-and-add", cbke_over_double_and_add, "x", 0, 1.5),
    Row("frame-over-ccm", frame_over_ccm, "x", 0.2),
    Row("premises-memory-air", premises_memory_air, "KiB / 128 KiB", 0, 1),
    Row("premises-memory-live", premises_memory_live, "KiB / 450 KiB", 0, 1),
    # One transfer alone all but fills the air, see air-rate-over-limit: four lose what contention costs, and no more.
    Row("ota-four-over-one", ota_four_over_one, "x", 0.7),
    # The whole matrix is 74 simulated hours: it has to be through in a minute.
    Row("overwrite-matrix", overwrite_matrix, "simulated h / min", 74),
    # The row breaks down where a Device takes more than 4 KiB.
    Row("inventory-over-dict", inventory_over_dict, "x", 0.05),
    Row("cpl-over-reader", cpl_over_reader, "x", 0, 1.5),
)


def machine() -> str:
    """Say what the figures were measured on."""
    model = platform.processor() or platform.machine()
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.exists():
        names = [
            line for line in cpuinfo.read_text(encoding="utf-8").splitlines() if line.startswith("model name")
        ]
        model = names[0].partition(":")[2].strip() if names else model
    packages = ", ".join(f"{package} {version(package)}" for package in PACKAGES)
    return (
        f"{model}, {os.cpu_count()} CPUs, {platform.system()} {platform.release()}\n"
        f"{platform.python_implementation()} {platform.python_version()}, {packages}"
    )


def show_target(row: Row) -> str:
    """Return a row's target as the table has it."""
    if row.high is None:
        return f">= {row.low:,g}"
    return f"{row.low:g} to {row.high:g}" if row.low else f"<= {row.high:g}"


def run(row: Row, console: Console) -> tuple[Figure | None, str]:
    """Measure one row in a process of its own: what one leaves in memory and caches is nothing to the next.

    None, and why, for a row that broke down: the others still have their say.
    """
    with (
        console.status(row.id),
        ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool,
    ):
        measured = pool.submit(row.measure)
        error = measured.exception()
        if error is not None:
            return None, f"{type(error).__name__}: {error}"
        return measured.result(), ""


def main(names: list[str]) -> int:
    """Run the rows of these names, all when there are none; return the exit code."""
    unknown = [name for name in names if name not in [row.id for row in ROWS]]
    if unknown:
        print(
            f"no such row: {', '.join(unknown)}; there are: {', '.join(row.id for row in ROWS)}",
            file=sys.stderr,
        )
        return 2
    rows = [row for row in ROWS if not names or row.id in names]
    console = Console()
    table = Table("row", "ratio", "target", "unit", "", title=machine())
    table.columns[1].justify = "right"
    results = []
    missed = False
    for row in rows:
        began = time.monotonic()
        figure, problem = run(row, console)
        took = f"({time.monotonic() - began:.0f} s to measure)"
        met = figure is not None and row.is_met(figure)
        missed = missed or not met
        mark = "[green]met[/]" if met else "[bold red]MISSED[/]"
        ratio = None if figure is None else round(figure.ratio, 4)
        detail = f"{problem if figure is None else figure.detail} {took}"
        shown = "-" if ratio is None else f"{ratio:,.0f}" if ratio >= 1000 else f"{ratio:.3g}"
        table.add_row(row.id, shown, show_target(row), row.unit, mark)
        results.append(
            {"id": row.id, "ratio": ratio, "target": row.target, "unit": row.unit, "detail": detail}
        )
    console.print(table)
    for result in results:
        console.print(f"[bold]{result['id']}[/]: {escape(result['detail'])}", highlight=False)
    RESULTS.write_text(json.dumps(results, indent=2) + "\n", encoding="utf-8")
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
