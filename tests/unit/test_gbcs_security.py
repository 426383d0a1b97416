"""GBCS signatures, MACs, certificates and Upgrade Images, against the published vector and keys of our own."""

from __future__ import annotations

import contextlib
import hashlib
import random
from dataclasses import replace
from datetime import datetime

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from hypothesis import given, settings
from hypothesis import strategies as st

from harness.errors import LocalProtocolError, RemoteProtocolError, RigError
from harness.wire.gbcs import build_message, parse_message
from harness.wire.gbcs_image import (
    UpgradeImage,
    build_upgrade_image,
    image_hash,
    parse_upgrade_image,
    sign_image,
    verify_image,
)
from harness.wire.gbcs_names import use_case_name
from harness.wire.gbcs_payloads import (
    ActivateFirmware,
    CommandAccepted,
    message_of,
)
from harness.wire.gbcs_security import (
    KeyUse,
    check_mac,
    load_certificate,
    load_private_key,
    mac,
    protect,
    sign,
    verify,
)

SUPPLIER, ESME = 0x90B3D51F30010000, 0x00DB1234567890A0
HASH = bytes(range(32))


def key(number: int) -> ec.EllipticCurvePrivateKey:
    """A key of ours; the same number gives the same key."""
    return ec.derive_private_key(number, ec.SECP256R1())


# --- signatures and MACs ---------------------------------------------------------------------------------------------

# GBCS 18.4, Cryptographic Test Vectors: a critical command from Supplier A to Device A (ECS04b), as HenryGiraldo/gbcs
# (public domain) has it.
VECTOR = bytes.fromhex(
    "DD00000000000081A91100000000DF0901000000000000000108123456789ABCDEF008FFFFFFFFFFFFFFFE000200B335D92000000100030300"
    "700000130A00FF020300700000130A01FF020300700000130A02FF02030500000000050000000005000000004059045AB0F554622B0360340B"
    "9D87B5A23ED5723B41DE3F206E58CDD10F915B9FE2E12E2DA3632478A8DF678E418895869AC1E55318CCE04D120D2D6B44DC167B5D832D15B5"
    "7A56D620F198B3"
)
SUPPLIER_A_POINT = (
    "0476628E1C84EF7935548AE5D62C7BB3AD28964CF794F0387A697EEC19CDD98F460A4D5E19087EF7216ED89C29831A6EE838C8DE88EF34F11D"
    "3F41F36D80B2A5D5"
)
SUPPLIER_A_NUMBER = 0x3A6B2EAA0D9F25A9E455983FEB5BB947528121911BF3B76BE5661C89DBF24B26
BROKER_NUMBER = 0xE4A6CFB431471CFCAE491FD566D19C87082CF9FA7722D7FA24B2B3F5669DBEFB
DEVICE_A_POINT = (
    "042DB45A3F21889438B42C8F464C75292BACF5FDDB5DA0B492501B299CBFE92D8FDB90FC8FF4026129838B1BCAD1402CAE47FE7D8084E409A4"
    "1AFCE16D63579C5F"
)


def point(text: str) -> ec.EllipticCurvePublicKey:
    """The public key of a point in hex."""
    return ec.EllipticCurvePublicKey.from_encoded_point(ec.SECP256R1(), bytes.fromhex(text))


def test_the_published_vector_holds():
    """GBCS 18.4: signature and MAC verify, the MAC is reproduced, and the message builds back to its octets."""
    message = parse_message(VECTOR)
    assert use_case_name(message.message_code) == "ECS04b"
    assert verify(message, point(SUPPLIER_A_POINT))
    assert key(SUPPLIER_A_NUMBER).public_key() == point(SUPPLIER_A_POINT)
    assert mac(message, key(BROKER_NUMBER), point(DEVICE_A_POINT)) == message.mac
    assert check_mac(message, key(BROKER_NUMBER), point(DEVICE_A_POINT))
    assert build_message(message) == VECTOR


def test_a_flipped_bit_anywhere_fails_the_signature_or_the_mac():
    """Of the published vector every bit is covered: what still parses has another signature or another MAC."""
    sender, broker = point(SUPPLIER_A_POINT), key(BROKER_NUMBER)
    for bit in range(0, 8 * len(VECTOR), 3):
        octets = bytearray(VECTOR)
        octets[bit // 8] ^= 1 << bit % 8
        try:
            message = parse_message(bytes(octets))
        except RemoteProtocolError:
            continue
        assert not (verify(message, sender) and check_mac(message, broker, point(DEVICE_A_POINT))), bit


def test_a_message_is_signed_and_protected_by_us():
    """What sign and protect make, verify and check_mac accept at either end; another party's keys they do not."""
    supplier, broker, device, stranger = key(11), key(12), key(13), key(14)
    command = message_of(
        ActivateFirmware(HASH, 1000), originator=SUPPLIER, recipient=ESME, originator_counter=1000
    )
    assert not verify(command, supplier.public_key())
    assert not check_mac(command, broker, device.public_key())
    sent = protect(sign(command, supplier), broker, device.public_key())
    received = parse_message(build_message(sent))
    assert verify(received, supplier.public_key())
    assert check_mac(received, device, broker.public_key())
    assert not verify(received, stranger.public_key())
    assert not check_mac(received, stranger, broker.public_key())
    assert sign(sent, supplier) == sign(command, supplier)  # without the MAC, and the same every time


def test_a_key_on_another_curve_is_our_own_error():
    """GBCS has P-256 only."""
    other = ec.derive_private_key(5, ec.SECP384R1())
    message = message_of(CommandAccepted(), originator=1, recipient=2, originator_counter=3)
    with pytest.raises(LocalProtocolError, match="secp384r1"):
        sign(message, other)
    with pytest.raises(LocalProtocolError, match="secp384r1"):
        mac(message, other, key(1).public_key())
    with pytest.raises(LocalProtocolError, match="P-256"):
        mac(message, key(1), other.public_key())


def certificate(
    private_key: ec.EllipticCurvePrivateKey, *, signing: bool = True, usage: bool = True
) -> x509.Certificate:
    """A certificate of our own, for signing or for key agreement."""
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "test")])
    flags = dict.fromkeys(
        ("content_commitment", "key_encipherment", "data_encipherment", "key_cert_sign", "crl_sign"), False
    )
    builder = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(private_key.public_key())
        .serial_number(1)
        .not_valid_before(datetime(2026, 1, 1))
        .not_valid_after(datetime(2030, 1, 1))
    )
    if usage:
        use = x509.KeyUsage(
            **flags,
            digital_signature=signing,
            key_agreement=not signing,
            encipher_only=False,
            decipher_only=False,
        )
        builder = builder.add_extension(use, critical=True)
    return builder.sign(private_key, hashes.SHA256())


def test_a_certificate_is_loaded_for_its_use():
    """PEM or DER; its key then verifies what the other half signed."""
    made = certificate(key(21))
    for encoding in (serialization.Encoding.PEM, serialization.Encoding.DER):
        loaded = load_certificate(made.public_bytes(encoding), KeyUse.SIGNING)
        message = message_of(CommandAccepted(), originator=1, recipient=2, originator_counter=3)
        assert verify(sign(message, key(21)), loaded)
    agreement = certificate(key(22), signing=False).public_bytes(serialization.Encoding.DER)
    assert load_certificate(agreement, KeyUse.AGREEMENT).public_key() == key(22).public_key()


def test_a_bad_certificate_is_a_clear_error():
    """Cut short, for another use, without a use, on another curve: RigError says which."""
    der = serialization.Encoding.DER
    good = certificate(key(23)).public_bytes(der)
    cases = [
        (b"", "not a certificate"),
        (good[:-1], "not a certificate"),
        (certificate(key(23)).public_bytes(serialization.Encoding.PEM)[:-40], "not a certificate"),
        (certificate(key(23), signing=False).public_bytes(der), "not for digital signature"),
        (certificate(key(23), usage=False).public_bytes(der), "does not say"),
        (certificate(ec.derive_private_key(5, ec.SECP384R1())).public_bytes(der), "P-256"),
    ]
    for data, sentence in cases:
        with pytest.raises(RigError, match=sentence):
            load_certificate(data, KeyUse.SIGNING)


@settings(max_examples=100)
@given(st.binary(max_size=40), st.data())
def test_a_damaged_certificate_file_is_never_more_than_a_rig_error(tail, data):
    """Random octets, and a good certificate damaged somewhere, load or are a RigError."""
    good = bytearray(certificate(key(24)).public_bytes(serialization.Encoding.DER))
    good[data.draw(st.integers(0, 1000)) % len(good)] ^= 0x41
    for octets in (tail, bytes(good)):
        with contextlib.suppress(RigError):
            load_certificate(octets, KeyUse.SIGNING)
        with contextlib.suppress(RigError):
            load_private_key(octets)


def test_a_private_key_is_loaded_or_refused_without_showing_it():
    """PEM and DER; another curve, a password or rubbish is a RigError."""
    pkcs8, plain = serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    for encoding in (serialization.Encoding.PEM, serialization.Encoding.DER):
        data = key(25).private_bytes(encoding, pkcs8, plain)
        assert load_private_key(data).private_numbers() == key(25).private_numbers()
    other = ec.derive_private_key(5, ec.SECP384R1())
    locked = key(25).private_bytes(
        serialization.Encoding.PEM, pkcs8, serialization.BestAvailableEncryption(b"x")
    )
    for data, sentence in (
        (other.private_bytes(serialization.Encoding.PEM, pkcs8, plain), "P-256"),
        (locked, "without password"),
        (b"-----BEGIN rubbish", "not a private key"),
    ):
        with pytest.raises(RigError, match=sentence):
            load_private_key(data)


# --- Upgrade Images --------------------------------------------------------------------------------------------------


def test_an_upgrade_image_reads_back_and_verifies():
    """Manufacturer Image, Force Replace, 0x40, signature; the signature covers the Manufacturer Image alone."""
    octets = random.Random(1).randbytes(300)
    image = sign_image(octets, key(31))
    assert parse_upgrade_image(build_upgrade_image(image)) == image
    assert build_upgrade_image(image) == octets + b"\x00\x40" + image.signature
    assert verify_image(image, key(31).public_key())
    assert verify_image(replace(image, force_replace=1), key(31).public_key())
    assert not verify_image(image, key(32).public_key())
    assert image.image_hash == image_hash(octets) == hashlib.sha256(octets).digest()


@settings(max_examples=100)
@given(st.binary(max_size=200))
def test_any_octets_are_an_upgrade_image_or_a_remote_error(octets):
    """What is accepted builds back to the same octets."""
    with contextlib.suppress(RemoteProtocolError):
        assert build_upgrade_image(parse_upgrade_image(octets)) == octets


def test_an_image_without_a_signature_is_named():
    """Too short, or another octet where the signature's length stands."""
    with pytest.raises(RemoteProtocolError, match="65 octets"):
        parse_upgrade_image(bytes(65))
    with pytest.raises(RemoteProtocolError, match="0x00 stands"):
        parse_upgrade_image(bytes(100))
    for image in (UpgradeImage(b"x", bytes(63)), UpgradeImage(b"x", bytes(64), 256)):
        with pytest.raises(LocalProtocolError):
            build_upgrade_image(image)
