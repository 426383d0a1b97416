"""Signed OTA upgrade files: the signature and certificate sub-elements of Smart Energy, made and checked."""

from __future__ import annotations

import dataclasses
from collections.abc import Container, Mapping
from typing import Final

from harness.errors import LocalProtocolError, RemoteProtocolError
from harness.wire.certificates import (
    CERTIFICATE_LENGTHS,
    CURVES,
    SUITE_1,
    SUITE_2,
    USAGE_SIGNATURE,
    Certificate,
    Credentials,
    build_certificate,
    certified_key,
    check_certificate,
    parse_certificate,
)
from harness.wire.curves import Point, RandomOctets, sign, verify
from harness.wire.image import OtaImage, SubElement, build_image, build_sub_elements, parse_sub_elements
from harness.wire.mac import format_eui64
from harness.wire.security import mmo

# ZCL8 11.4.3: sub-element tags, by suite.
SIGNATURE_TAGS: Final[Mapping[int, int]] = {SUITE_1: 0x0001, SUITE_2: 0x0005}
CERTIFICATE_TAGS: Final[Mapping[int, int]] = {SUITE_1: 0x0002, SUITE_2: 0x0006}

_SIGNER_LENGTH: Final = 8  # the EUI-64 before the signature, little-endian as all of the file


def _signature_length(suite: int) -> int:
    return 2 * CURVES[suite].octets


def sign_image(image: OtaImage, credentials: Credentials, random_octets: RandomOctets) -> OtaImage:
    """Return the image with its signer's certificate and signature behind the sub-elements that it has.

    LocalProtocolError when its payload is not made of sub-elements, or the certificate is not for signatures.
    """
    suite = credentials.suite
    try:
        parse_sub_elements(image.payload)
        check_certificate(credentials.certificate, USAGE_SIGNATURE)
    except RemoteProtocolError as error:
        raise LocalProtocolError(f"the image cannot be signed: {error}") from None
    signer = credentials.certificate.subject.to_bytes(_SIGNER_LENGTH, "little")
    length = _signature_length(suite)
    # The header states the size of the signed file, so the signature's place is made before it is computed.
    payload = image.payload + build_sub_elements(
        (
            SubElement(CERTIFICATE_TAGS[suite], build_certificate(credentials.certificate)),
            SubElement(SIGNATURE_TAGS[suite], signer + bytes(length)),
        )
    )
    data = build_image(dataclasses.replace(image, payload=payload))
    signature = sign(credentials.curve, credentials.private_key, mmo(data[:-length]), random_octets)
    return dataclasses.replace(image, payload=payload[:-length] + signature)


def verify_image(
    image: OtaImage, suite: int, ca_public_key: Point, issuer: int, signers: Container[int] | None = None
) -> int:
    """Return who signed an image (EUI-64), once its signature of this suite is found right.

    `issuer` is the EUI-64 of the CA; `signers` are those who may sign, None: whoever the CA certified for it.
    RemoteProtocolError says what is wrong: no signature, none that counts, or one that does not fit.
    """
    elements = parse_sub_elements(image.payload)
    certificate = _certificate(elements, suite)
    if not elements or elements[-1].tag != SIGNATURE_TAGS[suite]:
        # The digest is over all of the file before the signature, so nothing may follow it.
        raise RemoteProtocolError(f"the image does not end with a signature of suite {suite}")
    element = elements[-1].data
    length = _signature_length(suite)
    if len(element) != _SIGNER_LENGTH + length:
        raise RemoteProtocolError(
            f"signature element of {len(element)} octets, suite {suite} has {_SIGNER_LENGTH + length}"
        )
    signer = int.from_bytes(element[:_SIGNER_LENGTH], "little")
    if signer != certificate.subject:
        raise RemoteProtocolError(
            f"signed by {format_eui64(signer)} with the certificate of {format_eui64(certificate.subject)}"
        )
    if certificate.issuer != issuer:
        raise RemoteProtocolError(
            f"the signer's certificate is issued by {format_eui64(certificate.issuer)}, not {format_eui64(issuer)}"
        )
    if signers is not None and signer not in signers:
        raise RemoteProtocolError(f"{format_eui64(signer)} may not sign images")
    key = certified_key(certificate, ca_public_key)
    digest = mmo(build_image(image)[:-length])
    if not verify(CURVES[suite], key, digest, element[_SIGNER_LENGTH:]):
        raise RemoteProtocolError(f"the signature of {format_eui64(signer)} does not fit the image")
    return signer


def _certificate(elements: tuple[SubElement, ...], suite: int) -> Certificate:
    found = [element.data for element in elements if element.tag == CERTIFICATE_TAGS[suite]]
    if len(found) != 1:
        raise RemoteProtocolError(
            f"the image has {len(found)} signing certificates of suite {suite}, not one"
        )
    if len(found[0]) != CERTIFICATE_LENGTHS[suite]:
        raise RemoteProtocolError(
            f"signing certificate of {len(found[0])} octets, suite {suite} has {CERTIFICATE_LENGTHS[suite]}"
        )
    certificate = parse_certificate(found[0])
    check_certificate(certificate, USAGE_SIGNATURE)
    return certificate
