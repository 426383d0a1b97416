"""The implicit certificates of both suites: octets, checks, and a CA that issues them."""

from __future__ import annotations

import contextlib
import dataclasses
import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from harness.errors import LocalProtocolError, RemoteProtocolError
from harness.wire.certificates import (
    CURVES,
    FOR_EVER,
    SUITE_1,
    SUITE_2,
    USAGE_KEY_AGREEMENT,
    USAGE_SIGNATURE,
    CertificateSuite1,
    CertificateSuite2,
    build_certificate,
    certified_key,
    certify,
    check_certificate,
    check_credentials,
    derive_private_key,
    issue,
    new_authority,
    parse_certificate,
)
from harness.wire.curves import SECT163K1, SECT283K1
from tests.unit.key_partners import AUTHORITIES, HUB, ISSUER, PPMID, VECTORS, credentials, published

SUITES = pytest.mark.parametrize("suite", [SUITE_1, SUITE_2])
POINT_1, POINT_2 = SECT163K1.compress(SECT163K1.generator), SECT283K1.compress(SECT283K1.generator)


def test_the_published_certificates_have_their_fields():
    """ZSE annex C.5 and C.6: every field at its place, the EUI-64s big-endian."""
    one = parse_certificate(bytes.fromhex(VECTORS["1"]["initiator"]["certificate"]))
    assert one == CertificateSuite1(
        subject=2,
        issuer=int.from_bytes(b"TESTSECA", "big"),
        reconstruction=bytes.fromhex("020615E07D30ECA2DAD58002E667D94BC1B422398307"),
        profile_data=bytes.fromhex("01090006000000000000"),
    )
    two = parse_certificate(bytes.fromhex(VECTORS["2"]["initiator"]["certificate"]))
    assert two == CertificateSuite2(
        subject=0x0A0B0C0D0E0F1012,
        issuer=0x1112131415161718,
        reconstruction=bytes.fromhex(
            "03076277E2F7E2252B16A0E92B6E8771BB3F207946CBD4A45D9A9DF6EDAB8C796A48E89DEC"
        ),
        serial=0x84A933B37F018DEC,
        valid_from=0x5292A38A,
        valid_to=FOR_EVER,
        key_usage=0x88,
    )
    check_certificate(one)
    check_certificate(two)


@given(st.binary(min_size=48, max_size=48) | st.binary(min_size=74, max_size=74))
def test_what_is_parsed_builds_back_to_the_same_octets(data):
    """No field is lost, whatever is in it."""
    assert build_certificate(parse_certificate(data)) == data


@given(st.binary(max_size=100))
@settings(max_examples=60)
def test_hostile_octets_are_a_certificate_with_a_key_or_an_error(data):
    """Parse, check and extraction raise nothing but RemoteProtocolError."""
    with contextlib.suppress(RemoteProtocolError):
        certificate = parse_certificate(data)
        check_certificate(certificate)
        certified_key(certificate, AUTHORITIES[certificate.suite].public_key)


@pytest.mark.parametrize("length", [0, 47, 49, 73, 75])
def test_a_certificate_cut_short_is_refused(length):
    """The lengths of the two suites are the only ones."""
    with pytest.raises(RemoteProtocolError, match=f"not {length}$"):
        parse_certificate(bytes(length))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"kind": 1}, "type 0x01"),
        ({"curve": 0x0C}, "curve 0x0c, suite 2 has 0x0d"),
        ({"hash": 0x09}, "hash 0x09"),
        ({"key_usage": 0x80}, "key usage 0x80 is not for key agreement"),
    ],
)
def test_a_certificate_of_another_kind_is_named(change, message):
    """Type, curve, hash and usage, each with what it has to be."""
    certificate = dataclasses.replace(credentials(HUB).certificate, **change)
    with pytest.raises(RemoteProtocolError, match=message):
        check_certificate(certificate)


def test_the_usage_asked_for_is_the_usage_checked():
    """A key agreement certificate signs nothing."""
    certificate = dataclasses.replace(credentials(HUB).certificate, key_usage=USAGE_KEY_AGREEMENT)
    check_certificate(certificate)
    with pytest.raises(RemoteProtocolError, match="not for signatures"):
        check_certificate(certificate, USAGE_SIGNATURE)


@pytest.mark.parametrize(
    "certificate",
    [
        CertificateSuite1(1 << 64, 1, POINT_1),
        CertificateSuite1(1, 1, POINT_2),
        CertificateSuite1(1, 1, POINT_1, b"short"),
        CertificateSuite2(1, 1, POINT_1),
        CertificateSuite2(1, -1, POINT_2),
        CertificateSuite2(1, 1, POINT_2, valid_from=1 << 40),
        CertificateSuite2(1, 1, POINT_2, key_usage=256),
    ],
    ids=["subject", "point-1", "profile", "point-2", "issuer", "valid-from", "usage"],
)
def test_a_certificate_that_does_not_fit_is_our_mistake(certificate):
    """Each field is checked when it is built."""
    with pytest.raises(LocalProtocolError):
        build_certificate(certificate)


@SUITES
@given(seed=st.integers(0, 2**32))
@settings(max_examples=8)
def test_what_a_ca_issues_belongs_to_its_holder(suite, seed):
    """Request, certificate and the CA's part make a private key whose public key follows from the certificate."""
    octets = random.Random(seed).randbytes
    authority = new_authority(suite, ISSUER, octets)
    issued = issue(authority, PPMID, octets)
    check_credentials(issued)
    check_certificate(issued.certificate)
    assert (issued.certificate.subject, issued.certificate.issuer) == (PPMID, ISSUER)
    assert parse_certificate(build_certificate(issued.certificate)) == issued.certificate
    assert (issued.suite, issued.curve) == (suite, CURVES[suite])


@SUITES
def test_the_ca_never_needs_the_holders_key(suite):
    """The three steps apart: the request's key stays with the holder, the CA gives its part."""
    octets = random.Random(1).randbytes
    curve, authority = CURVES[suite], AUTHORITIES[suite]
    template = credentials(HUB, suite).certificate
    certificate, contribution = certify(authority, template, curve.public_key(99), octets)
    key = certified_key(certificate, authority.public_key)
    assert curve.public_key(derive_private_key(certificate, 99, contribution)) == key
    assert curve.public_key(derive_private_key(certificate, 98, contribution)) != key


def test_the_usage_that_is_asked_for_is_issued():
    """For suite 2, whose certificates state one."""
    issued = issue(AUTHORITIES[SUITE_2], HUB, random.Random(1).randbytes, usage=USAGE_SIGNATURE)
    assert issued.certificate.key_usage == USAGE_SIGNATURE
    with pytest.raises(RemoteProtocolError, match="not for key agreement"):
        check_credentials(issued)


@SUITES
def test_credentials_that_do_not_belong_together_are_found_out(suite):
    """One altered octet of the certificate, another private key, another CA: the sentence names the device."""
    good = published(suite, "initiator")
    other_subject = dataclasses.replace(good.certificate, subject=good.certificate.subject ^ 1)
    for wrong in (
        dataclasses.replace(good, certificate=other_subject),
        dataclasses.replace(good, private_key=good.private_key - 1),
        dataclasses.replace(good, ca_public_key=AUTHORITIES[suite].public_key),
    ):
        with pytest.raises(RemoteProtocolError, match="does not belong to the private key") as mistake:
            check_credentials(wrong)
        assert f"{good.private_key:X}"[:8] not in str(mistake.value).upper()


def test_a_certificate_whose_key_is_infinity_is_refused():
    """A CA key that cancels the certificate's: there is nothing to verify with."""
    certificate = credentials(HUB).certificate
    curve = SECT283K1
    key = certified_key(certificate, curve.generator)
    # Q = e P + Q_CA, so that Q_CA = -(e P) is the one that leaves nothing.
    part = curve.add(key, curve.multiply(-1, curve.generator))
    with pytest.raises(RemoteProtocolError, match="infinity"):
        certified_key(certificate, curve.multiply(-1, part))


def test_a_ca_issues_its_own_suite_only():
    """A template of the other suite is our mistake."""
    with pytest.raises(LocalProtocolError, match="CA of suite 2 issues none of suite 1"):
        certify(
            AUTHORITIES[SUITE_2],
            credentials(HUB, SUITE_1).certificate,
            SECT283K1.generator,
            random.Random(1).randbytes,
        )
