"""The values that a rig file is written in: EUI-64s, install codes, keys, paths, shares, names."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated

from pydantic import BeforeValidator, Field, ValidationInfo, WithJsonSchema

from harness.errors import LocalProtocolError
from harness.rig.document import shown
from harness.wire.ezsp import VERSIONS
from harness.wire.mac import format_eui64, parse_eui64
from harness.wire.security import link_key_from_install_code

_MEMBER_NAME = r"^[a-z][a-z0-9_]*$"


def _eui64(value: object) -> int:
    if not isinstance(value, str):
        raise ValueError(f"must be an EUI-64 such as 00-0D-6F-00-0A-90-69-E7, not {shown(value)}")
    try:
        eui64 = parse_eui64(value)
    except LocalProtocolError as error:
        raise ValueError(f"must be an EUI-64 such as 00-0D-6F-00-0A-90-69-E7, not {shown(value)}") from error
    if eui64 in (0, 0xFFFF_FFFF_FFFF_FFFF):
        raise ValueError(f"{format_eui64(eui64)} is no device's EUI-64")
    return eui64


def _octets(value: object) -> bytes:
    if not isinstance(value, str):
        raise ValueError("must be hexadecimal digits in quotes")
    try:
        return bytes.fromhex(re.sub(r"[\s-]", "", value))
    except ValueError as error:
        raise ValueError("must be pairs of hexadecimal digits") from error


def _install_code(value: object) -> bytes:
    code = _octets(value)
    try:
        link_key_from_install_code(code)
    except LocalProtocolError as error:
        raise ValueError(str(error)) from error
    return code


def _key(value: object) -> bytes:
    key = _octets(value)
    if len(key) != 16:
        raise ValueError(f"must be 16 octets, not {len(key)}")
    return key


def _path(value: object, info: ValidationInfo) -> Path:
    if not isinstance(value, str) or not value:
        raise ValueError(f"must be a path, not {shown(value)}")
    path = Path((info.context or {}).get("folder", "."), value)
    if not path.parent.is_dir():
        raise ValueError(f"the folder of {shown(value)} does not exist")
    return path


def _ezsp(value: object) -> object:
    if isinstance(value, int) and value not in VERSIONS:
        raise ValueError(f"the installed bellows speaks EZSP {', '.join(map(str, VERSIONS))}, not {value}")
    return value


_HEX_PAIR = "[0-9A-Fa-f]{2}"
Eui64 = Annotated[
    int,
    BeforeValidator(_eui64),
    WithJsonSchema({"type": "string", "pattern": f"^{_HEX_PAIR}([:-]?{_HEX_PAIR}){{7}}$"}),
]
InstallCode = Annotated[
    bytes, BeforeValidator(_install_code), WithJsonSchema({"type": "string", "pattern": r"^[0-9A-Fa-f\s-]+$"})
]
NetworkKey = Annotated[
    bytes, BeforeValidator(_key), WithJsonSchema({"type": "string", "pattern": r"^[0-9A-Fa-f\s-]+$"})
]
StateFile = Annotated[Path, BeforeValidator(_path), WithJsonSchema({"type": "string", "minLength": 1})]
EzspVersion = Annotated[int, BeforeValidator(_ezsp), Field(ge=8)]
MemberName = Annotated[str, Field(pattern=_MEMBER_NAME)]
# labgrid's rule for the tags of a place, so that they can be set there as they are.
Tag = Annotated[str, Field(pattern=r"^[a-z][a-z0-9_]+$")]
TagValue = Annotated[str, Field(pattern=r"^[a-z0-9_]*$")]
Share = Annotated[float, Field(ge=0, le=1)]
