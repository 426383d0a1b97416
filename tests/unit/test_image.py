"""The OTA file: what is accepted builds back to the same octets; what is wrong is named in one sentence."""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from zigpy.ota.image import OTAImage as ZigpyImage

from harness.errors import LocalProtocolError, RemoteProtocolError
from harness.wire.image import (
    OtaImage,
    SubElement,
    build_image,
    build_sub_elements,
    parse_image,
    parse_sub_elements,
)

PLAIN = OtaImage(0x121D, 0x0084, 0x01020304, b"firmware" * 4, header_string=b"a PPMID".ljust(32, b"\0"))

hardware = st.tuples(st.integers(0, 0xFFFF), st.integers(0, 0xFFFF))
images = st.builds(
    lambda hardware, **fields: OtaImage(
        hardware_min=hardware and hardware[0], hardware_max=hardware and hardware[1], **fields
    ),
    hardware=st.none() | hardware,
    manufacturer=st.integers(0, 0xFFFF),
    image_type=st.integers(0, 0xFFFF),
    version=st.integers(0, 0xFFFFFFFF),
    payload=st.binary(max_size=80),
    stack_version=st.integers(0, 0xFFFF),
    header_string=st.binary(min_size=32, max_size=32),
    security_credential=st.none() | st.integers(0, 0xFF),
    destination=st.none() | st.integers(0, 0xFFFFFFFFFFFFFFFF),
)


@settings(max_examples=150, deadline=None)
@given(images)
def test_an_image_reads_back_as_it_was_built(image):
    """Every combination of optional fields survives the file."""
    data = build_image(image)
    assert parse_image(data) == image
    assert len(data) == image.total_size == image.header_length + len(image.payload)


@settings(max_examples=150, deadline=None)
@given(images, st.data())
def test_a_file_cut_off_anywhere_is_refused_as_truncated(image, data):
    """No prefix of a file passes for a file, and each is called truncated."""
    whole = build_image(image)
    with pytest.raises(RemoteProtocolError, match="truncated"):
        parse_image(whole[: data.draw(st.integers(0, len(whole) - 1))])


@settings(max_examples=200, deadline=None)
@given(images, st.integers(0), st.integers(0, 7))
def test_a_flipped_bit_is_refused_or_builds_back_to_itself(image, place, bit):
    """Whatever parse_image accepts is exactly what build_image would write."""
    data = bytearray(build_image(image))
    data[place % len(data)] ^= 1 << bit
    try:
        read = parse_image(bytes(data))
    except RemoteProtocolError:
        return
    assert build_image(read) == data


@settings(max_examples=150, deadline=None)
@given(st.binary(max_size=120))
def test_random_octets_are_never_more_than_a_remote_error(data):
    """Hostile octets cause RemoteProtocolError and nothing else."""
    for parse in (parse_image, parse_sub_elements):
        with contextlib.suppress(RemoteProtocolError):
            parse(data)


class Huge(bytes):
    """A payload that claims to be larger than a file can state."""

    def __len__(self):
        return 1 << 32


def altered(offset: int, octets: bytes) -> bytes:
    """A good file with some octets changed."""
    data = bytearray(build_image(dataclasses.replace(PLAIN, hardware_min=1, hardware_max=2)))
    data[offset : offset + len(octets)] = octets
    return bytes(data)


@pytest.mark.parametrize(
    ("data", "sentence"),
    [
        (b"", "OTA file is truncated: 0 octets, a header has 56"),
        (build_image(PLAIN)[:55], "OTA file is truncated: 55 octets, a header has 56"),
        (build_image(PLAIN)[:-3], "OTA file is truncated: 85 of the 88 octets that it states"),
        (b"PK\3\4" + bytes(80), "not an OTA file: it begins with the identifier 0x04034b50, not 0x0beef11e"),
        (altered(4, b"\0\2"), "OTA header version 0x0200 is not 0x0100"),
        (altered(6, b"\x38\0"), "OTA header length 56 is wrong: the fields that it announces take 60 octets"),
        (altered(8, b"\x0c\0"), "OTA header field control 0x000c announces unknown fields"),
        (altered(52, b"\x3b\0\0\0"), "OTA total image size 59 is less than its header length 60"),
        (
            build_image(PLAIN) + b"\xff\xff",
            "OTA file has 2 trailing octets: 90 where its header states 88",
        ),
    ],
)
def test_each_defect_of_a_file_has_its_sentence(data, sentence):
    """A person who chose the wrong file reads why, with the value that is wrong."""
    with pytest.raises(RemoteProtocolError) as caught:
        parse_image(data)
    assert str(caught.value) == sentence


@pytest.mark.parametrize(
    "fields",
    [
        {"manufacturer": 0x10000},
        {"image_type": -1},
        {"version": 1 << 32},
        {"stack_version": 1 << 16},
        {"security_credential": 256},
        {"destination": 1 << 64},
        {"hardware_min": 1},
        {"hardware_max": 1},
        {"hardware_min": 1, "hardware_max": 0x10000},
        {"header_string": bytes(33)},
        {"payload": Huge()},
    ],
)
def test_a_field_that_does_not_fit_is_our_own_error(fields):
    """What we ask for wrongly is a LocalProtocolError, never a file."""
    with pytest.raises(LocalProtocolError):
        build_image(dataclasses.replace(PLAIN, **fields))


def test_hardware_versions_fit_from_the_minimum_to_the_maximum():
    """FW-07: both ends of the range belong to it; without a range everything fits."""
    ranged = dataclasses.replace(PLAIN, hardware_min=0x1111, hardware_max=0x1211)
    fits = [ranged.fits_hardware(version) for version in (0x1110, 0x1111, 0x1180, 0x1211, 0x1212)]
    assert fits == [False, True, True, True, False]
    assert PLAIN.fits_hardware(0)


def test_zigpy_reads_what_is_built():
    """An outside reader finds every field and sub-element where we put it, and writes the same octets."""
    elements = (SubElement(0x0000, b"image" * 9), SubElement(0x0003, bytes(16)))
    data = build_image(
        OtaImage(
            0x121D,
            0x0084,
            0xACDCACDC,
            build_sub_elements(elements),
            header_string=b"read by zigpy".ljust(32, b"\0"),
            security_credential=1,
            destination=0x0011223344556677,
            hardware_min=0x1111,
            hardware_max=0x1211,
        )
    )
    image, rest = ZigpyImage.deserialize(data)
    header = image.header
    assert rest == b""
    assert (header.manufacturer_id, header.image_type, header.file_version) == (0x121D, 0x0084, 0xACDCACDC)
    assert (header.stack_version, header.image_size, header.header_length) == (2, len(data), 69)
    assert header.security_credential_version == 1
    assert header.upgrade_file_destination.serialize() == bytes.fromhex("7766554433221100")
    assert (header.minimum_hardware_version, header.maximum_hardware_version) == (0x1111, 0x1211)
    assert [(element.tag_id, bytes(element.data)) for element in image.subelements] == list(elements)
    assert image.serialize() == data
    assert parse_sub_elements(parse_image(data).payload) == elements


@pytest.mark.parametrize("payload", [b"\0", b"\0\0\4\0\0\0abc", b"\0\0\0\0\0\0\1"])
def test_sub_elements_that_do_not_fill_the_payload_are_refused(payload):
    """A tag, length or content that is cut off is named."""
    with pytest.raises(RemoteProtocolError, match="OTA sub-element"):
        parse_sub_elements(payload)


@pytest.mark.parametrize(
    ("name", "image_type", "size", "text"),
    [
        ("sr11_1-esme.ota", 0x0000, 361, b"I am a GFI ESME[] firmware image"),
        ("sr11_4-ppmid.ota", 0x0084, 295, b"I am a GFI PPMID firmware image "),
    ],
)
def test_the_published_samples_read_as_decoded_by_hand(shared_data, name, image_type, size, text):
    """The images inside the public SR11.1 and SR11.4 templates have the header that facts F1.2 lists."""
    data = (shared_data / "dcc-samples" / name).read_bytes()
    image = parse_image(data)
    assert (image.manufacturer, image.image_type, image.version) == (0x121D, image_type, 0xACDCACDC)
    assert (image.stack_version, image.header_string) == (0x0002, text)
    assert (image.hardware_min, image.hardware_max) == (0x1111, 0x1211)
    assert (image.security_credential, image.destination) == (None, None)
    assert (image.header_length, image.total_size) == (60, size)
    assert build_image(image) == data
    digest = hashlib.sha256(image.payload[:235]).hexdigest()
    assert digest == "7542f475e3f12eae887d81e32c46d313741d67076b13caec2f82e00ba5e1bb36"
