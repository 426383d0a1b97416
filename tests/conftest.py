"""What every test may ask for: outside readers, published data, and a capture's second opinion."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, settings

REPOSITORY = Path(__file__).resolve().parent.parent
ON_CI = os.environ.get("CI") == "true"

# A slow machine is not a defect: no deadline anywhere. CI must not find a new example on a commit that changed nothing.
settings.register_profile(
    "user", deadline=None, max_examples=100, suppress_health_check=[HealthCheck.too_slow]
)
settings.register_profile("ci", settings.get_profile("user"), derandomize=True, database=None)
settings.load_profile("ci" if ON_CI else "user")

# wireshark's epan/proto.h PI_ERROR, as `tshark -G values` prints it for _ws.expert.severity.
EXPERT_ERROR = 0x0080_0000

UNREAD = (
    f"zbee_sec.encrypted_payload || _ws.malformed || _ws.expert.severity >= {EXPERT_ERROR} || wpan.fcs.bad"
)


def missing(reason: str) -> None:
    """Skip the test on a user's machine; fail it on CI, where what it needs must be there."""
    if ON_CI:
        pytest.fail(f"{reason}, and CI must have it")
    pytest.skip(reason)


class Dissection:
    """One capture as tshark reads it, with the keys in one configuration directory."""

    def __init__(self, program: str, capture: Path, configuration: Path) -> None:
        self._program = program
        self._capture = capture
        self._configuration = configuration

    def run(self, *arguments: str) -> str:
        """Return what tshark prints for the capture; a reader's failure fails the test."""
        environment = os.environ | {
            "WIRESHARK_CONFIG_DIR": str(self._configuration),
            # Values are compared as text: no thousands separators, no local time.
            "LC_ALL": "C.UTF-8",
            "TZ": "UTC",
        }
        command = [self._program, "-n", "-r", str(self._capture), *arguments]
        done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=120)
        assert done.returncode == 0, f"tshark {' '.join(arguments)} failed: {done.stderr}"
        return done.stdout

    def fields(self, *names: str, where: str = "") -> list[tuple[str, ...]]:
        """Return one tuple of texts per frame that the display filter `where` keeps, empty for an absent field."""
        arguments = ["-T", "fields", *(part for name in names for part in ("-e", name))]
        if where:
            arguments += ["-Y", where]
        return [tuple(line.split("\t")) for line in self.run(*arguments).splitlines()]

    def count(self, where: str = "frame") -> int:
        """Return how many frames the display filter keeps."""
        return len(self.fields("frame.number", where=where))

    def layers(self, where: str = "frame") -> list[dict[str, Any]]:
        """Return the whole dissection of each frame that the display filter keeps."""
        return [row["_source"]["layers"] for row in json.loads(self.run("-T", "json", "-Y", where))]

    def unread(self) -> list[str]:
        """Return tshark's summary of each frame that is undecrypted, malformed, damaged or against the protocol."""
        return self.run("-Y", UNREAD).splitlines()


@pytest.fixture(scope="session")
def outside_reader() -> Callable[[str], str]:
    """Return a function from a program's name to its path: the test skips without it, and on CI fails."""

    def find(program: str) -> str:
        path = shutil.which(program)
        if path is None:
            missing(f"{program} is not installed")
        assert path is not None
        return path

    return find


@pytest.fixture(scope="session")
def tshark(outside_reader: Callable[[str], str]) -> str:
    """Return the path of tshark."""
    return outside_reader("tshark")


@pytest.fixture(scope="session")
def openssl(outside_reader: Callable[[str], str]) -> str:
    """Return the path of openssl."""
    return outside_reader("openssl")


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """Return the folder of published samples that stands next to the repository; skip where there is none."""
    folder = REPOSITORY.parent / "shared" / "data"
    if not folder.is_dir():
        pytest.skip("the folder ../shared/data with the published samples is not here")
    return folder


@pytest.fixture
def dissect(tshark: str, tmp_path: Path) -> Callable[..., Dissection]:
    """Return a function that opens a capture with tshark, under no other configuration than the keys given.

    `keys` is a directory with a `zigbee_pc_keys` file, or a mapping from label to 16-octet key.
    """

    def open_capture(
        capture: str | os.PathLike[str], keys: Path | Mapping[str, bytes] | None = None
    ) -> Dissection:
        if isinstance(keys, Path):
            return Dissection(tshark, Path(capture), keys)
        configuration = tmp_path / "wireshark"
        configuration.mkdir(exist_ok=True)
        rows = [f'"{key.hex()}","Normal","{label}"\n' for label, key in (keys or {}).items()]
        (configuration / "zigbee_pc_keys").write_text("".join(rows))
        return Dissection(tshark, Path(capture), configuration)

    return open_capture


@pytest.fixture
def check_capture(dissect: Callable[..., Dissection]) -> Callable[..., Dissection]:
    """Return a function that proves a capture readable as a whole and returns its dissection.

    It asserts that there are frames, and that tshark leaves none undecrypted, malformed, with a bad FCS, or with an
    expert error.
    """

    def check(capture: str | os.PathLike[str], keys: Path | Mapping[str, bytes] | None = None) -> Dissection:
        dissection = dissect(capture, keys)
        assert dissection.count() > 0, f"{capture} holds no frame"
        unread = dissection.unread()
        assert not unread, f"tshark cannot read {len(unread)} frames: " + "; ".join(unread[:10])
        return dissection

    return check
