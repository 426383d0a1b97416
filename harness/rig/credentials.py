"""Which certificates a member of a rig has: the lab's own, or some that the rig's test CA makes on first use."""

from __future__ import annotations

import random
import secrets
from functools import lru_cache
from pathlib import Path

from harness.rig.authority import (
    Authority,
    load_authority,
    load_credentials,
    make_authority,
    save_credentials,
)
from harness.rig.schema import RigFile
from harness.wire.certificates import SUITE_2, Credentials
from harness.wire.mac import format_eui64


def credentials_of(file: RigFile, name: str, eui64: int) -> tuple[Credentials, ...]:
    """Return the certificates and private keys of the member `name`, whose EUI-64 is `eui64`.

    From its own file, or from the rig's test CA: one in a file leaves what it issues beside that file, for the next
    time; an emulated rig without one has a CA that follows from its seed. RigError for a file that is wrong.
    """
    settings = file.members[name]
    if settings.credentials is not None:
        return load_credentials(settings.credentials, eui64)
    if file.authority is not None:
        return _issued(file.authority, eui64)
    assert file.is_emulated  # load_rig saw to it
    return _emulated(file.seed, eui64)


def _issued(authority: Path, eui64: int) -> tuple[Credentials, ...]:
    path = authority.with_name(f"{authority.stem}.{format_eui64(eui64)}{authority.suffix}")
    if not path.exists():
        save_credentials(load_authority(authority).issue(eui64, secrets.token_bytes), path)
    return load_credentials(path, eui64)


@lru_cache(maxsize=8)
def _emulated_authority(seed: int) -> Authority:
    # Suite 2 alone, as on every GB HAN.
    return make_authority(random.Random(f"{seed} test CA").randbytes, suites=(SUITE_2,))


@lru_cache(maxsize=64)
def _emulated(seed: int, eui64: int) -> tuple[Credentials, ...]:
    return _emulated_authority(seed).issue(eui64, random.Random(f"{seed} {eui64}").randbytes)
