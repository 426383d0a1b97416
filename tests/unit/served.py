"""An NCP served by `harness emulate` in a process of its own, for tests that open it as a lab's programs do."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import yaml

REPOSITORY = Path(__file__).resolve().parents[2]
STANDING_RIG = REPOSITORY / "rigs" / "emulated-devices.yaml"
HARNESS = (sys.executable, "-c", "from harness.cli import main; main(prog_name='harness')")

LONGEST = 60.0  # seconds that a served NCP may live: a test that hangs ends by this


def harness(*arguments: str | os.PathLike[str], timeout: float = LONGEST) -> subprocess.CompletedProcess[str]:
    """Run the `harness` command to its end, as somebody at a terminal does."""
    command = [*HARNESS, *(str(argument) for argument in arguments)]
    return subprocess.run(
        command, cwd=REPOSITORY, capture_output=True, text=True, timeout=timeout, check=False
    )


def installed(program: str) -> str | None:
    """Return the path of a program of this Python's environment, or else of the user's PATH; None without it."""
    beside = Path(sys.executable).parent / program
    return str(beside) if beside.is_file() else shutil.which(program)


def rig_of_version(folder: Path, ezsp: int) -> Path:
    """Write the standing rig with a stick of this EZSP version, and return its path."""
    content = yaml.safe_load(STANDING_RIG.read_text())
    content["members"]["hub"]["ncp"] = {"ezsp": ezsp}
    path = folder / f"rig-{ezsp}.yaml"
    path.write_text(yaml.safe_dump(content, sort_keys=False))
    return path


@contextmanager
def served(listen: str, *, rig: Path = STANDING_RIG, pcap: Path | None = None) -> Iterator[str]:
    """Serve the NCP of a rig, and give the URL that a host opens; SIGTERM ends it, with exit code 0 and no word more.

    Every command that a host sends must be one that the NCP knows: it would print one more line.
    """
    command = [*HARNESS, "emulate", str(rig), "--listen", listen]
    if pcap is not None:
        command += ["--pcap", str(pcap)]
    with subprocess.Popen(
        command, cwd=REPOSITORY, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    ) as process:
        assert process.stdout is not None
        watchdog = threading.Timer(LONGEST, process.kill)
        watchdog.start()
        try:
            announced = process.stdout.readline()
            assert " at " in announced, announced + process.stdout.read()
            yield announced.strip().rpartition(" ")[2]
        finally:
            process.terminate()
            said = process.stdout.read()
            process.wait()
            watchdog.cancel()
    assert (process.returncode, said) == (0, "")
