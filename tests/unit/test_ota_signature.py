"""Signed OTA upgrade files: whose signature counts, and what breaks it."""

from __future__ import annotations

import dataclasses
import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from harness.errors import LocalProtocolError, RemoteProtocolError
from harness.wire.certificates import CERTIFICATE_LENGTHS, SUITE_1, SUITE_2, USAGE_KEY_AGREEMENT, issue
from harness.wire.image import (
    OtaImage,
    SubElement,
    build_image,
    build_sub_elements,
    parse_image,
    parse_sub_elements,
)
from harness.wire.ota_signature import sign_image, verify_image
from tests.unit.key_partners import AUTHORITIES, HUB, ISSUER, PPMID, STRANGER, credentials

SUITES = pytest.mark.parametrize("suite", [SUITE_1, SUITE_2])
PLAIN = OtaImage(0x121D, 0x0084, 7, build_sub_elements([SubElement(0x0000, bytes(range(100)))]))


def signed(suite=SUITE_2, signer=PPMID):
    """Return the image with a device's signature."""
    return sign_image(PLAIN, credentials(signer, suite), random.Random(1).randbytes)


def verify(image, suite=SUITE_2, **changed):
    """Check an image against the test CA."""
    expected = {"ca_public_key": AUTHORITIES[suite].public_key, "issuer": ISSUER} | changed
    return verify_image(image, suite, **expected)


@SUITES
def test_a_signed_image_verifies_and_names_its_signer(suite):
    """The certificate's element, then the signer's EUI-64 (little-endian) and signature, last in the file."""
    image = signed(suite)
    assert verify(parse_image(build_image(image)), suite, signers=(HUB, PPMID)) == PPMID
    image_element, certificate, signature = parse_sub_elements(image.payload)
    assert image_element.data == bytes(range(100))
    assert (certificate.tag, len(certificate.data)) == (
        {1: 0x0002, 2: 0x0006}[suite],
        CERTIFICATE_LENGTHS[suite],
    )
    assert (signature.tag, len(signature.data)) == {1: (0x0001, 0x32), 2: (0x0005, 0x50)}[suite]
    assert signature.data[:8] == PPMID.to_bytes(8, "little")


SIGNED = signed()
SIGNED_FILE = build_image(SIGNED)


@given(st.integers(0, 8 * len(SIGNED_FILE) - 1))
@settings(max_examples=60)
def test_one_flipped_bit_anywhere_is_found(bit):
    """In the header, the image, the certificate or the signature: nothing of the file is outside of it."""
    data = bytearray(SIGNED_FILE)
    data[bit // 8] ^= 1 << bit % 8
    with pytest.raises(RemoteProtocolError):
        verify(parse_image(bytes(data)))


def without(image, tag):
    """Return the image without the elements of a tag."""
    elements = [element for element in parse_sub_elements(image.payload) if element.tag != tag]
    return dataclasses.replace(image, payload=build_sub_elements(elements))


def test_each_thing_that_a_signature_can_have_wrong_is_named():
    """No signature, no certificate, something behind it, another suite, signer or CA."""
    trailing = dataclasses.replace(
        SIGNED, payload=SIGNED.payload + build_sub_elements([SubElement(0xF000, b"")])
    )
    elements = parse_sub_elements(SIGNED.payload)
    other = SubElement(0x0005, HUB.to_bytes(8, "little") + elements[2].data[8:])
    short = SubElement(0x0005, elements[2].data[:-1])
    cut = SubElement(0x0006, elements[1].data[:-1])
    for image, message in (
        (PLAIN, "0 signing certificates of suite 2"),
        (without(SIGNED, 0x0006), "0 signing certificates"),
        (without(SIGNED, 0x0005), "does not end with a signature"),
        (trailing, "does not end with a signature"),
        (signed(SUITE_1), "0 signing certificates of suite 2"),
        (
            dataclasses.replace(SIGNED, payload=build_sub_elements([*elements[:2], other])),
            "signed by 00-0D-6F-00-0A",
        ),
        (dataclasses.replace(SIGNED, payload=build_sub_elements([*elements[:2], short])), "of 79 octets"),
        (
            dataclasses.replace(SIGNED, payload=build_sub_elements([elements[0], cut, elements[2]])),
            "of 73 octets",
        ),
        (dataclasses.replace(SIGNED, version=8), "does not fit the image"),
        (dataclasses.replace(SIGNED, payload=b"\x00"), "cut off"),
    ):
        with pytest.raises(RemoteProtocolError, match=message):
            verify(image)
    with pytest.raises(RemoteProtocolError, match="may not sign"):
        verify(SIGNED, signers=(HUB,))
    with pytest.raises(RemoteProtocolError, match="is issued by 48-54-45-53-54-43-41-01"):
        verify(SIGNED, issuer=ISSUER + 1)
    with pytest.raises(RemoteProtocolError, match="does not fit the image"):
        verify(SIGNED, ca_public_key=STRANGER.public_key)


def test_what_cannot_be_signed_is_our_mistake():
    """A payload without sub-elements, as those of the GB HAN are, and a certificate for key agreement alone."""
    octets = random.Random(1).randbytes
    with pytest.raises(LocalProtocolError, match="cannot be signed: OTA sub-element"):
        sign_image(dataclasses.replace(PLAIN, payload=b"opaque"), credentials(PPMID), octets)
    agreement = issue(AUTHORITIES[SUITE_2], PPMID, octets, usage=USAGE_KEY_AGREEMENT)
    with pytest.raises(LocalProtocolError, match="not for signatures"):
        sign_image(PLAIN, agreement, octets)
