"""The files of certificates and private keys: the project's test CA, and what it or a lab's own CA issued."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Final, Literal, TypeVar

from pydantic import BeforeValidator, Field

from harness.errors import LocalProtocolError, RemoteProtocolError, RigError
from harness.rig.document import Document, Location, check, read_document, shown
from harness.rig.fields import Eui64
from harness.rig.profile import Strict
from harness.wire.certificates import (
    CERTIFICATE_LENGTHS,
    CURVES,
    SUITE_1,
    SUITE_2,
    CertificateAuthority,
    CertificateSuite2,
    Credentials,
    build_certificate,
    certified_key,
    check_credentials,
    issue,
    new_authority,
    parse_certificate,
)
from harness.wire.curves import Curve, RandomOctets
from harness.wire.mac import format_eui64

Result = TypeVar("Result")

AUTHORITY_SCHEMA: Final = "harness.ca/1"
CREDENTIALS_SCHEMA: Final = "harness.credentials/1"
DEFAULT_ISSUER: Final = int.from_bytes(b"HANTEST1", "big")  # text, as the published test CA's is "TESTSECA"

_NOTE: Final = "TEST KEYS of han-harness: made on an open bench, never for a device in anybody's home"
_SECRETS: Final = frozenset({"private_key"})
_SUITES: Final = {"suite_1": SUITE_1, "suite_2": SUITE_2}
_NAMES: Final = {suite: name for name, suite in _SUITES.items()}


@dataclass(frozen=True, slots=True)
class Authority:
    """The test CA of a bench: one CA for each suite, under one EUI-64."""

    issuer: int
    suites: Mapping[int, CertificateAuthority]

    def issue(self, subject: int, random_octets: RandomOctets) -> tuple[Credentials, ...]:
        """Return new credentials of every suite for a device (EUI-64)."""
        return tuple(issue(ca, subject, random_octets) for ca in self.suites.values())


def make_authority(
    random_octets: RandomOctets, issuer: int = DEFAULT_ISSUER, suites: Iterable[int] = (SUITE_1, SUITE_2)
) -> Authority:
    """Return a CA with new keys."""
    return Authority(issuer, {suite: new_authority(suite, issuer, random_octets) for suite in suites})


# --- files ------------------------------------------------------------------------------------------------------------


def _hexadecimal(value: object) -> bytes:
    if not isinstance(value, str):
        raise ValueError("must be hexadecimal digits in quotes")
    try:
        return bytes.fromhex(value.replace("-", "").replace(":", ""))
    except ValueError:
        raise ValueError("must be pairs of hexadecimal digits") from None


Octets = Annotated[bytes, BeforeValidator(_hexadecimal)]
SuiteName = Literal["suite_1", "suite_2"]


class _KeyPair(Strict):
    private_key: Octets = Field(repr=False)
    public_key: Octets


class _AuthorityFile(Strict):
    schema_: Literal["harness.ca/1"] = Field(alias="schema")
    note: str = ""
    issuer: Eui64
    suites: Annotated[dict[SuiteName, _KeyPair], Field(min_length=1)]


class _Certified(Strict):
    certificate: Octets
    private_key: Octets = Field(repr=False)
    ca_public_key: Octets


class _CredentialsFile(Strict):
    schema_: Literal["harness.credentials/1"] = Field(alias="schema")
    note: str = ""
    suites: Annotated[dict[SuiteName, _Certified], Field(min_length=1)]


def _at(
    document: Document, location: Location, function: Callable[..., Result], *arguments: object
) -> Result:
    """Return what a function makes of a value of the document; what it complains of is said with the value's line."""
    try:
        return function(*arguments)
    except (LocalProtocolError, RemoteProtocolError) as error:
        document.refuse([(location, str(error))])


def _write(path: Path, content: Mapping[str, Any]) -> None:
    text = json.dumps(content, indent=2) + "\n"
    try:
        # Exclusive: a key that is overwritten is lost, and with a CA's all that it issued.
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(descriptor, "w", encoding="utf-8") as file:
            file.write(text)
    except FileExistsError:
        raise RigError(f"{path}: is there already, and keys are not overwritten") from None
    except OSError as error:
        raise RigError(f"{path}: cannot be written ({error.strerror})") from error


def _private_key(curve: Curve, octets: bytes) -> int:
    if len(octets) != curve.octets:
        raise LocalProtocolError(
            f"a private key of {curve.name} has {curve.octets} octets, not {len(octets)}"
        )
    return int.from_bytes(octets, "big")


def save_authority(authority: Authority, path: Path) -> None:
    """Write a CA to a new file that only its owner can read. RigError when there is a file already."""
    suites = {}
    for suite, ca in authority.suites.items():
        curve = CURVES[suite]
        suites[_NAMES[suite]] = {
            "private_key": ca.private_key.to_bytes(curve.octets, "big").hex().upper(),
            "public_key": curve.compress(ca.public_key).hex().upper(),
        }
    issuer = format_eui64(authority.issuer)
    _write(path, {"schema": AUTHORITY_SCHEMA, "note": _NOTE, "issuer": issuer, "suites": suites})


def load_authority(path: Path) -> Authority:
    """Read a CA. RigError with file, line and key when something in it is wrong; private keys are never shown."""
    document = read_document(path)
    file = check(document, _AuthorityFile, secrets=_SECRETS)
    suites = {}
    for name, pair in sorted(file.suites.items()):
        suite, location = _SUITES[name], ("suites", name)
        curve = CURVES[suite]
        private_key = _at(document, (*location, "private_key"), _private_key, curve, pair.private_key)
        expected = _at(document, (*location, "private_key"), curve.public_key, private_key)
        public_key = _at(document, (*location, "public_key"), curve.decompress, pair.public_key)
        if public_key != expected:
            document.refuse([((*location, "public_key"), "is not that of the private key beside it")])
        suites[suite] = CertificateAuthority(suite, file.issuer, private_key, public_key)
    return Authority(file.issuer, suites)


def save_credentials(credentials: Iterable[Credentials], path: Path) -> None:
    """Write a device's credentials to a new file that only its owner can read. RigError when there is one already."""
    suites = {}
    for own in credentials:
        suites[_NAMES[own.suite]] = {
            "certificate": build_certificate(own.certificate).hex().upper(),
            "private_key": own.private_key.to_bytes(own.curve.octets, "big").hex().upper(),
            "ca_public_key": own.curve.compress(own.ca_public_key).hex().upper(),
        }
    _write(path, {"schema": CREDENTIALS_SCHEMA, "note": _NOTE, "suites": suites})


def load_credentials(
    path: Path, subject: int | None = None, issuer: int | None = None
) -> tuple[Credentials, ...]:
    """Read a device's credentials, made here or brought from another CA, and prove that they belong together.

    RigError with file, line and key when they do not, or are not those of `subject` by `issuer` (EUI-64s, None: any);
    private keys are never shown.
    """
    document = read_document(path)
    file = check(document, _CredentialsFile, secrets=_SECRETS)
    found: list[Credentials] = []
    for name, entry in sorted(file.suites.items()):
        own = _credentials(document, _SUITES[name], entry)
        location = ("suites", name, "certificate")
        subject = own.certificate.subject if subject is None else subject
        if own.certificate.subject != subject:
            problem = f"is that of {format_eui64(own.certificate.subject)}, not of {format_eui64(subject)}"
            document.refuse([(location, problem)])
        if issuer is not None and own.certificate.issuer != issuer:
            problem = f"is issued by {format_eui64(own.certificate.issuer)}, not by {format_eui64(issuer)}"
            document.refuse([(location, problem)])
        found.append(own)
    return tuple(found)


def _credentials(document: Document, suite: int, entry: _Certified) -> Credentials:
    location: Location = ("suites", _NAMES[suite])
    curve = CURVES[suite]
    length = CERTIFICATE_LENGTHS[suite]
    if len(entry.certificate) != length:
        problem = f"a certificate of suite {suite} has {length} octets, not {len(entry.certificate)}"
        document.refuse([((*location, "certificate"), problem)])
    certificate = parse_certificate(entry.certificate)
    private_key = _at(document, (*location, "private_key"), _private_key, curve, entry.private_key)
    _at(document, (*location, "private_key"), curve.public_key, private_key)
    ca_public_key = _at(document, (*location, "ca_public_key"), curve.decompress, entry.ca_public_key)
    credentials = Credentials(certificate, private_key, ca_public_key)
    _at(document, (*location, "certificate"), check_credentials, credentials)
    return credentials


def describe(path: Path) -> str:
    """Return what a CA's or a device's file holds, without its private keys. RigError when it is neither, or wrong."""
    document = read_document(path)
    schema = document.value.get("schema") if isinstance(document.value, Mapping) else None
    if schema not in (AUTHORITY_SCHEMA, CREDENTIALS_SCHEMA):
        document.refuse(
            [(("schema",), f"must be {AUTHORITY_SCHEMA} or {CREDENTIALS_SCHEMA}, not {shown(schema)}")]
        )
    if schema == AUTHORITY_SCHEMA:
        authority = load_authority(path)
        lines = [f"test CA {format_eui64(authority.issuer)}"]
        for suite, ca in authority.suites.items():
            lines.append(f"suite {suite}: public key {CURVES[suite].compress(ca.public_key).hex().upper()}")
        return "\n".join(lines)
    lines = []
    for own in load_credentials(path):
        certificate = own.certificate
        if not lines:
            lines.append(f"device {format_eui64(certificate.subject)}")
        public_key = own.curve.compress(certified_key(certificate, own.ca_public_key)).hex().upper()
        usage = ""
        if isinstance(certificate, CertificateSuite2):
            usage = f", serial {certificate.serial:016X}, key usage {certificate.key_usage:#04x}"
        lines.append(f"suite {own.suite}: issued by {format_eui64(certificate.issuer)}{usage}")
        lines.append(f"  certificate {build_certificate(certificate).hex().upper()}")
        lines.append(f"  public key {public_key}")
    return "\n".join(lines)
