"""The Supplier of a bench: who signs the images and the commands that meters and load switches obey."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import TypeVar

from cryptography.hazmat.primitives.asymmetric import ec

from harness.errors import RigError
from harness.members.firmware_values import TEST_SUPPLIER
from harness.rig.schema import RigFile
from harness.wire.gbcs_security import KeyUse, PrivateKey, PublicKey, load_certificate, load_private_key

_Loaded = TypeVar("_Loaded")
_LABEL = b"test Supplier "


@dataclass(frozen=True, slots=True)
class Supplier:
    """The Authorising Remote Party of a HAN's devices, by EUI-64, with both halves of its signing key."""

    eui64: int
    public_key: PublicKey = field(repr=False)
    private_key: PrivateKey = field(repr=False)


def supplier_of(file: RigFile) -> Supplier | None:
    """Return the Supplier of a rig: the file's, or a test one that follows from an emulated rig's seed.

    None for a real rig that names none. RigError for key files that are wrong, or do not belong together.
    """
    settings = file.supplier
    if settings is None:
        return _test_supplier(file.seed) if file.is_emulated else None
    certificate = _read(settings.certificate, lambda data: load_certificate(data, KeyUse.SIGNING))
    private_key = _read(settings.private_key, load_private_key)
    public_key = private_key.public_key()
    if certificate.public_key() != public_key:
        raise RigError(f"{settings.private_key}: is not the key of {settings.certificate}")
    return Supplier(settings.eui64, public_key, private_key)


@lru_cache(maxsize=8)
def _test_supplier(seed: int) -> Supplier:
    """A key that anybody can make again from the seed, and that is no secret."""
    number = int.from_bytes(hashlib.sha512(_LABEL + str(seed).encode()).digest(), "big")
    order = 0xFFFFFFFF00000000FFFFFFFFFFFFFFFFBCE6FAADA7179E84F3B9CAC2FC632551  # SEC 2: n of secp256r1
    private_key = ec.derive_private_key(number % (order - 1) + 1, ec.SECP256R1())
    return Supplier(TEST_SUPPLIER, private_key.public_key(), private_key)


def _read(path: Path, load: Callable[[bytes], _Loaded]) -> _Loaded:
    try:
        return load(path.read_bytes())
    except OSError as error:
        raise RigError(f"{path}: cannot be read ({error.strerror})") from error
    except RigError as error:
        raise RigError(f"{path}: {error}") from error
