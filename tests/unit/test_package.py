"""Packages for bridges: what is accepted builds back to the same octets; what is wrong is named in one sentence."""

from __future__ import annotations

import contextlib

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from harness.errors import LocalProtocolError, RemoteProtocolError
from harness.wire.image import OtaImage, build_image, parse_image
from harness.wire.image_reading import Form, find_form, read_whatever_is_there
from harness.wire.package import (
    PACKAGE_MAGIC,
    Bridge,
    Package,
    PackagePart,
    build_package,
    check_package,
    parse_package,
)


def part(bridge, payload=b"firmware"):
    """The image of one bridge."""
    return PackagePart(bridge, OtaImage(0x121D, 0x0090 + bridge, 0x01020304, payload))


OPTION_A = Package((part(Bridge.B3), part(Bridge.B4, b"of the sleepy one")))
OCTETS = build_package(OPTION_A)
PARTS_AT = len(PACKAGE_MAGIC) + 2 + 2 * 5

packages = st.builds(
    lambda bridges, payload: Package(tuple(part(bridge, payload) for bridge in sorted(bridges))),
    bridges=st.lists(st.sampled_from(Bridge), min_size=1, unique=True),
    payload=st.binary(max_size=80),
)


def test_the_octets_are_those_of_the_documented_format():
    """Magic, version, count, one entry a bridge, and the OTA files as they are."""
    files = [build_image(part.image) for part in OPTION_A.parts]
    head = b"HANBRPKG\x01\x02" + b"\x03\x40\0\0\0" + b"\x04\x49\0\0\0"
    assert b"".join([head, *files]) == OCTETS
    assert OPTION_A.bridges == (Bridge.B3, Bridge.B4)
    assert build_image(OPTION_A.image_for(Bridge.B4)) == files[1]
    assert OPTION_A.image_for(Bridge.B1) is None


@settings(max_examples=100)
@given(packages)
def test_a_package_reads_back_as_it_was_built(package):
    """Any choice of bridges, any payload; and the payload of an OTA file that is a package is found out as one."""
    payload = build_package(package)
    assert parse_package(payload) == package
    reading = read_whatever_is_there(build_image(OtaImage(1, 2, 3, payload)))
    assert (reading.form, reading.package, reading.problems) == (Form.PLAIN, package, ())


@settings(max_examples=100)
@given(packages, st.data())
def test_a_package_cut_off_anywhere_is_refused(package, data):
    """No prefix of a package passes for a package."""
    payload = build_package(package)
    with pytest.raises(RemoteProtocolError):
        parse_package(payload[: data.draw(st.integers(0, len(payload) - 1))])


@settings(max_examples=200)
@given(st.data())
def test_damage_is_refused_or_builds_back_to_the_same_octets(data):
    """Hostile octets raise RemoteProtocolError and nothing else."""
    damaged = bytearray(OCTETS)
    for _ in range(data.draw(st.integers(1, 4))):
        damaged[data.draw(st.integers(0, len(OCTETS) - 1))] = data.draw(st.integers(0, 255))
    with contextlib.suppress(RemoteProtocolError):
        assert build_package(parse_package(bytes(damaged))) == damaged


@pytest.mark.parametrize(
    ("octets", "sentence"),
    [
        (b"", "not a package for bridges: it begins with nothing"),
        (b"BM" + OCTETS, "not a package for bridges: it begins with 424d"),
        (PACKAGE_MAGIC, "truncated: 8 octets, its head has 10"),
        (PACKAGE_MAGIC + b"\x02" + OCTETS[9:], "package format 2 is not 1"),
        (PACKAGE_MAGIC + b"\x01\x00", "package without any image"),
        (PACKAGE_MAGIC + b"\x01\x02" + bytes(9), "its 2 entries end at 20"),
        (OCTETS[:10] + b"\x00" + OCTETS[11:], "bridge 0, which is none of B1 to B4"),
        (OCTETS[:10] + b"\x05" + OCTETS[11:], "bridge 5, which is none of B1 to B4"),
        (OCTETS[:10] + b"\x04" + OCTETS[11:], "names B4 behind B4"),
        (OCTETS[:15] + b"\x02" + OCTETS[16:], "names B2 behind B3"),
        (OCTETS[:-1], "truncated: B4 has 73 octets, 72 are left"),
        (OCTETS + b"\0", "1 trailing octets"),
        (OCTETS[:PARTS_AT] + b"\0" + OCTETS[PARTS_AT + 1 :], "image of B3: not an OTA file"),
        (OCTETS[:11] + b"\x3f" + OCTETS[12:], "image of B3: OTA file is truncated"),
    ],
)
def test_what_is_wrong_with_a_package_is_one_sentence(octets, sentence):
    """Every way in which the format can be broken."""
    with pytest.raises(RemoteProtocolError, match=sentence):
        parse_package(octets)


@pytest.mark.parametrize(
    ("parts", "sentence"),
    [
        ((), "without any image"),
        ((part(Bridge.B4), part(Bridge.B3)), "B3 stands behind B4"),
        ((part(Bridge.B4), part(Bridge.B4)), "B4 stands behind B4"),
    ],
)
def test_a_package_that_would_be_refused_is_not_built(parts, sentence):
    """No image, bridges out of order, a bridge twice."""
    with pytest.raises(LocalProtocolError, match=sentence):
        build_package(Package(parts))


def test_a_package_must_match_its_bridges():
    """MP170: it lacks one that is there, or has one for a bridge that is not on site."""
    check_package(OPTION_A, (Bridge.B4, Bridge.B3))
    with pytest.raises(RemoteProtocolError, match=r"package lacks the image of B1, B2$"):
        check_package(OPTION_A, tuple(Bridge))
    with pytest.raises(RemoteProtocolError, match=r"package has an image for B4, not one of its bridges$"):
        check_package(OPTION_A, (Bridge.B3,))


def test_a_package_is_plain_even_where_its_last_image_looks_signed():
    """The octet 0x40 at 65 from the end is chance in a payload that is a whole package."""
    payload = build_package(Package((part(Bridge.B1, b"\0\x40" + bytes(range(64))),)))
    assert payload[-65] == 0x40
    assert find_form(payload) is Form.PLAIN
    assert find_form(payload[len(PACKAGE_MAGIC) :]) is Form.GBCS


def test_a_damaged_package_in_a_whole_file_is_said():
    """The OTA file around it is right, what it carries is not."""
    reading = read_whatever_is_there(build_image(OtaImage(1, 2, 3, OCTETS[:-1])))
    assert reading.problems == ("package is truncated: B4 has 73 octets, 72 are left",)


# --- the reader of damaged files -------------------------------------------------------------------------------------

FULL = OtaImage(1, 2, 3, b"firmware", security_credential=1, destination=2, hardware_min=3, hardware_max=4)


@settings(max_examples=200)
@given(st.data())
def test_a_reading_without_problems_is_a_file_that_is_accepted(data):
    """Damaged, cut off, with octets behind: nothing is raised, and what parse_image refuses has a problem."""
    octets = bytearray(build_image(FULL))
    for _ in range(data.draw(st.integers(0, 2))):
        octets[data.draw(st.integers(0, len(octets) - 1))] = data.draw(st.integers(0, 255))
    damaged = bytes(octets[: data.draw(st.just(len(octets)) | st.integers(0, 80))]) + data.draw(
        st.binary(max_size=1)
    )
    reading = read_whatever_is_there(damaged)
    assert reading.size == len(damaged)
    try:
        image = parse_image(damaged)
    except RemoteProtocolError:
        assert reading.problems
    else:
        expected = () if image.payload and image.fits_hardware(image.hardware_min or 0) else reading.problems
        assert (reading.payload, reading.problems) == (image.payload, expected)
        for name, value in reading.header.items():
            assert getattr(image, name, value) == value
