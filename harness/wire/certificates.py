"""The implicit certificates of Smart Energy, both suites: their octets, what they certify, and a CA that issues them.

An implicit certificate (ECQV, SEC 4 v1.0) holds no signature: the public key follows from it and from the CA's public
key. A certificate that somebody altered yields a key that nobody has the private key of.
"""

from __future__ import annotations

import dataclasses
import struct
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import ClassVar, Final

from harness.errors import LocalProtocolError, RemoteProtocolError
from harness.wire.curves import SECT163K1, SECT283K1, Curve, Point, RandomOctets, new_private_key
from harness.wire.mac import format_eui64
from harness.wire.security import mmo

# ZSE 07-5356-19 annex C.2.2: the crypto suites, as the bits of the attribute KeyEstablishmentSuite.
SUITE_1: Final = 0x0001
SUITE_2: Final = 0x0002
CURVES: Final[Mapping[int, Curve]] = {SUITE_1: SECT163K1, SUITE_2: SECT283K1}

# ZSE annex C.4.2.3: what a certificate of suite 2 says of itself.
TYPE_IMPLICIT: Final = 0x00
CURVE_SECT283K1: Final = 0x0D
HASH_AES_MMO: Final = 0x08
USAGE_KEY_AGREEMENT: Final = 0x08
USAGE_SIGNATURE: Final = 0x80
FOR_EVER: Final = 0xFFFFFFFF

PROFILE_DATA_LENGTH: Final = 10
_PROFILE_DATA: Final = bytes.fromhex("01090000000000000000")  # profile 0x0109; the rest is its manufacturer's

_SUITE_1: Final = struct.Struct(">22sQQ10s")
_SUITE_2: Final = struct.Struct(">BQBBQ5sIQB37s")
CERTIFICATE_LENGTHS: Final[Mapping[int, int]] = {SUITE_1: _SUITE_1.size, SUITE_2: _SUITE_2.size}


@dataclass(frozen=True, slots=True)
class CertificateSuite1:
    """A certificate on sect163k1. `reconstruction` is the compressed point that the public key is made of."""

    suite: ClassVar[int] = SUITE_1

    subject: int
    issuer: int
    reconstruction: bytes
    profile_data: bytes = _PROFILE_DATA


@dataclass(frozen=True, slots=True)
class CertificateSuite2:
    """A certificate on sect283k1. Times in seconds of Unix; no device of this project looks at them."""

    suite: ClassVar[int] = SUITE_2

    subject: int
    issuer: int
    reconstruction: bytes
    serial: int = 0
    valid_from: int = 0
    valid_to: int = FOR_EVER
    key_usage: int = USAGE_SIGNATURE | USAGE_KEY_AGREEMENT
    kind: int = TYPE_IMPLICIT
    curve: int = CURVE_SECT283K1
    hash: int = HASH_AES_MMO


Certificate = CertificateSuite1 | CertificateSuite2


def build_certificate(certificate: Certificate) -> bytes:
    """Return the 48 or 74 octets of a certificate. LocalProtocolError when a field does not fit its place."""
    curve = CURVES[certificate.suite]
    if len(certificate.reconstruction) != curve.octets + 1:
        raise LocalProtocolError(
            f"the point of a certificate of suite {certificate.suite} has {curve.octets + 1} octets,"
            f" not {len(certificate.reconstruction)}"
        )
    try:
        if isinstance(certificate, CertificateSuite1):
            if len(certificate.profile_data) != PROFILE_DATA_LENGTH:
                raise LocalProtocolError(
                    f"profile attribute data has {PROFILE_DATA_LENGTH} octets, not {len(certificate.profile_data)}"
                )
            return _SUITE_1.pack(
                certificate.reconstruction, certificate.subject, certificate.issuer, certificate.profile_data
            )
        return _SUITE_2.pack(
            certificate.kind,
            certificate.serial,
            certificate.curve,
            certificate.hash,
            certificate.issuer,
            certificate.valid_from.to_bytes(5, "big"),
            certificate.valid_to,
            certificate.subject,
            certificate.key_usage,
            certificate.reconstruction,
        )
    except (struct.error, OverflowError) as error:
        raise LocalProtocolError(f"{certificate} does not fit its fields: {error}") from None


def parse_certificate(data: bytes) -> Certificate:
    """Read a certificate, whose length says its suite. RemoteProtocolError when it has neither suite's.

    What is read builds back to the same octets; whether it makes sense is `check_certificate`'s to say.
    """
    if len(data) == _SUITE_1.size:
        reconstruction, subject, issuer, profile_data = _SUITE_1.unpack(data)
        return CertificateSuite1(subject, issuer, reconstruction, profile_data)
    if len(data) == _SUITE_2.size:
        kind, serial, curve, hash_, issuer, valid_from, valid_to, subject, usage, point = _SUITE_2.unpack(
            data
        )
        since = int.from_bytes(valid_from, "big")
        return CertificateSuite2(subject, issuer, point, serial, since, valid_to, usage, kind, curve, hash_)
    raise RemoteProtocolError(
        f"a certificate has {_SUITE_1.size} octets (suite 1) or {_SUITE_2.size} (suite 2), not {len(data)}"
    )


def check_certificate(certificate: Certificate, usage: int = USAGE_KEY_AGREEMENT) -> None:
    """RemoteProtocolError when a certificate is not of the kind that its suite has, or not for this usage.

    A certificate of suite 1 says nothing of either.
    """
    if isinstance(certificate, CertificateSuite1):
        return
    for name, value, expected in (
        ("type", certificate.kind, TYPE_IMPLICIT),
        ("curve", certificate.curve, CURVE_SECT283K1),
        ("hash", certificate.hash, HASH_AES_MMO),
    ):
        if value != expected:
            raise RemoteProtocolError(f"certificate of {name} {value:#04x}, suite 2 has {expected:#04x}")
    if not certificate.key_usage & usage:
        meant = "key agreement" if usage == USAGE_KEY_AGREEMENT else "signatures"
        raise RemoteProtocolError(f"certificate of key usage {certificate.key_usage:#04x} is not for {meant}")


def _hash(certificate: Certificate) -> int:
    return int.from_bytes(mmo(build_certificate(certificate)), "big")


def certified_key(certificate: Certificate, ca_public_key: Point) -> Point:
    """Return the public key that a certificate of this CA stands for (SEC 4 v1.0 2.5).

    RemoteProtocolError when the certificate's point is none of its curve's subgroup.
    """
    curve = CURVES[certificate.suite]
    point = curve.decompress(certificate.reconstruction)
    key = curve.add(curve.multiply(_hash(certificate), point), ca_public_key)
    if key is None:
        raise RemoteProtocolError("the certificate stands for the point at infinity, which is no public key")
    return key


@dataclass(frozen=True, slots=True)
class Credentials:
    """What a device has of one suite: its certificate, its private key, its CA's public key."""

    certificate: Certificate
    private_key: int = field(repr=False)
    ca_public_key: Point = field(repr=False)

    @property
    def suite(self) -> int:
        """SUITE_1 or SUITE_2."""
        return self.certificate.suite

    @property
    def curve(self) -> Curve:
        """The curve of the suite."""
        return CURVES[self.certificate.suite]


def check_credentials(credentials: Credentials) -> None:
    """Say what would let every key establishment with these fail: RemoteProtocolError, as of a certificate received.

    LocalProtocolError when the private key is none of the curve's.
    """
    check_certificate(credentials.certificate)
    key = certified_key(credentials.certificate, credentials.ca_public_key)
    if credentials.curve.public_key(credentials.private_key) != key:
        raise RemoteProtocolError(
            f"the certificate of {format_eui64(credentials.certificate.subject)} does not belong to the private key"
            f" and the CA's public key beside it"
        )


@dataclass(frozen=True, slots=True)
class CertificateAuthority:
    """A CA of one suite: the EUI-64 that its certificates name as issuer, and its key pair."""

    suite: int
    issuer: int
    private_key: int = field(repr=False)
    public_key: Point = field(repr=False)


def new_authority(suite: int, issuer: int, random_octets: RandomOctets) -> CertificateAuthority:
    """Return a CA with a new key pair."""
    curve = CURVES[suite]
    private_key = new_private_key(curve, random_octets)
    return CertificateAuthority(suite, issuer, private_key, curve.public_key(private_key))


def certify(
    authority: CertificateAuthority, template: Certificate, request: Point, random_octets: RandomOctets
) -> tuple[Certificate, int]:
    """Return the certificate for the holder of a request's private key, and the CA's part of the key it certifies.

    The template's `issuer` and `reconstruction` are replaced (SEC 4 v1.0 2.4).
    """
    curve = CURVES[authority.suite]
    if template.suite != authority.suite:
        raise LocalProtocolError(f"a CA of suite {authority.suite} issues none of suite {template.suite}")
    while True:
        secret = new_private_key(curve, random_octets)
        point = curve.add(request, curve.public_key(secret))
        if point is not None:
            break
    certificate = dataclasses.replace(template, issuer=authority.issuer, reconstruction=curve.compress(point))
    return certificate, (_hash(certificate) * secret + authority.private_key) % curve.order


def derive_private_key(certificate: Certificate, request_key: int, contribution: int) -> int:
    """Return the private key that a certificate certifies, of the request's and of the CA's part (SEC 4 v1.0 2.6)."""
    return (_hash(certificate) * request_key + contribution) % CURVES[certificate.suite].order


def issue(
    authority: CertificateAuthority,
    subject: int,
    random_octets: RandomOctets,
    *,
    usage: int = USAGE_SIGNATURE | USAGE_KEY_AGREEMENT,
) -> Credentials:
    """Return new credentials for a device (EUI-64): its request and the CA's answer in one, as test keys may be made.

    `usage` is for suite 2, whose certificates say it.
    """
    curve = CURVES[authority.suite]
    template: Certificate
    if authority.suite == SUITE_1:
        template = CertificateSuite1(subject, authority.issuer, b"")
    else:
        serial = int.from_bytes(random_octets(8), "big")
        template = CertificateSuite2(subject, authority.issuer, b"", serial, key_usage=usage)
    request_key = new_private_key(curve, random_octets)
    request = curve.public_key(request_key)
    certificate, contribution = certify(authority, template, request, random_octets)
    private_key = derive_private_key(certificate, request_key, contribution)
    return Credentials(certificate, private_key, authority.public_key)
