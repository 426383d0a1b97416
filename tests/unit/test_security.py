"""Zigbee's cryptography against the published vectors."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.errors import LocalProtocolError, RemoteProtocolError
from harness.wire.crc import reflected_crc16
from harness.wire.security import (
    AuxHeader,
    KeyId,
    aps_key,
    ccm_decrypt,
    ccm_encrypt,
    hmac_mmo,
    install_code_crc,
    key_load_key,
    key_transport_key,
    link_key_from_install_code,
    mmo,
    open_sealed,
    parse_aux,
    seal,
    verify_key_hash,
)

WELL_KNOWN_KEY = b"ZigBeeAlliance09"
EUI64 = 0x000D6F000A9069E7

keys = st.binary(min_size=16, max_size=16)
eui64s = st.integers(0, 2**64 - 1)
counters = st.integers(0, 2**32 - 1)
aux_headers = st.one_of(
    st.builds(AuxHeader, st.sampled_from((0, 2, 3)), counters, st.none() | eui64s, st.none()),
    st.builds(AuxHeader, st.just(1), counters, st.none() | eui64s, st.integers(0, 255)),
)


def octets(count: int) -> bytes:
    """Return 00 01 02 ... FF 00 ..., the message of the specification's long vectors."""
    return bytes(index & 0xFF for index in range(count))


# Zigbee PRO (05-3474-21) annex C.5.
@pytest.mark.parametrize(
    ("message", "digest"),
    [
        (b"\xc0", "AE3A102A28D43EE0D4A09E22788B206C"),
        (bytes(range(0xC0, 0xD0)), "A7977E88BC0B61E8210827109A228F2D"),
        (octets(8191), "24EC2FE75BBFFCB34789BC0610E7F165"),
        (octets(8192), "DC6B0687F09F8607131C170B3BD31591"),
        (octets(8201), "72C9B15E178AA843E4A16C58E33643A3"),
        (octets(8202), "BC9828D59B2AA323DAF20BE5F2E66511"),
    ],
    ids=["1", "16", "8191", "8192", "8201", "8202"],
)
def test_mmo_gives_the_published_digests(message: bytes, digest: str) -> None:
    """AES-MMO agrees with the specification on both sides of 8192 octets, where the length field grows."""
    assert mmo(message).hex().upper() == digest


# Zigbee PRO annex C.6.
@pytest.mark.parametrize(
    ("key", "message", "digest"),
    [
        (bytes(range(0x40, 0x50)), b"\xc0", "4512807BF94CB3400F0E2C25FB76E999"),
        (bytes(range(0x40, 0x60)), bytes(range(0xC0, 0xD0)), "A3B0079984BF1557F74A0D6387E0A11A"),
    ],
    ids=["short-key", "long-key"],
)
def test_hmac_mmo_gives_the_published_codes(key: bytes, message: bytes, digest: str) -> None:
    """The keyed hash agrees with the specification, for a key of one block and for one that is hashed first."""
    assert hmac_mmo(key, message).hex().upper() == digest


def test_ccm_gives_the_published_ciphertext() -> None:
    """CCM* agrees with Zigbee PRO annex C.4, whose MIC has 8 octets: the ciphertext does not depend on that."""
    ciphertext = ccm_encrypt(
        bytes(range(0xC0, 0xD0)),
        bytes.fromhex("A0A1A2A3A4A5A6A70302010006"),
        bytes(range(0x08, 0x1F)),
        bytes(range(0x08)),
    )
    assert ciphertext[:-4].hex().upper() == "1A55A36ABB6C610D066B3375649CEF10D4664ECAD854A8"


@given(keys, st.binary(min_size=13, max_size=13), st.binary(max_size=90), st.binary(max_size=30))
def test_ccm_opens_what_it_sealed(key: bytes, nonce: bytes, plaintext: bytes, aad: bytes) -> None:
    """Decryption inverts encryption, and one changed bit anywhere is found."""
    sealed = ccm_encrypt(key, nonce, plaintext, aad)
    assert ccm_decrypt(key, nonce, sealed, aad) == plaintext
    with pytest.raises(RemoteProtocolError, match="integrity"):
        ccm_decrypt(key, nonce, bytes((sealed[0] ^ 1,)) + sealed[1:], aad)


@given(st.binary(max_size=20))
def test_ccm_takes_any_octets_for_a_ciphertext(octets: bytes) -> None:
    """Random octets, even too few for a MIC, are a RemoteProtocolError."""
    with pytest.raises(RemoteProtocolError):
        ccm_decrypt(WELL_KNOWN_KEY, bytes(13), octets, b"")


def test_the_derived_keys_of_the_well_known_key_are_right() -> None:
    """Key-transport key, key-load key and Verify-Key hash of ZigBeeAlliance09, as tshark and real devices have them."""
    assert key_transport_key(WELL_KNOWN_KEY).hex().upper() == "4BAB0F173E1434A2D572E1C1EF478782"
    assert key_load_key(WELL_KNOWN_KEY).hex().upper() == "C5A47035C332CCBF251571D8BADED188"
    assert verify_key_hash(WELL_KNOWN_KEY).hex().upper() == "1AB128DF1639A1246AABA72A6A559124"


def test_the_key_identifier_selects_the_derived_key() -> None:
    """aps_key follows the auxiliary header's key identifier; a network key is not derived from a link key."""
    assert aps_key(WELL_KNOWN_KEY, KeyId.LINK) == WELL_KNOWN_KEY
    assert aps_key(WELL_KNOWN_KEY, KeyId.KEY_TRANSPORT) == key_transport_key(WELL_KNOWN_KEY)
    assert aps_key(WELL_KNOWN_KEY, KeyId.KEY_LOAD) == key_load_key(WELL_KNOWN_KEY)
    with pytest.raises(LocalProtocolError, match="1 is not derived"):
        aps_key(WELL_KNOWN_KEY, KeyId.NETWORK)


# ZSE (07-5356-19) 5.4.8.1.
@pytest.mark.parametrize(
    ("code", "crc", "key"),
    [
        ("83FED3407A93", "2B70", "CD4FA064773F46941EC986C09963D1A8"),
        ("83FED3407A939723A5C639B26916D505", "C3B5", "66B6900981E1EE3CA4206B6B861C02BB"),
    ],
)
def test_an_install_code_gives_its_published_link_key(code: str, crc: str, key: str) -> None:
    """CRC and key of the specification's install codes of 48 and 128 bits."""
    octets = bytes.fromhex(code)
    assert install_code_crc(octets).to_bytes(2, "little").hex().upper() == crc
    assert link_key_from_install_code(octets + bytes.fromhex(crc)).hex().upper() == key


def test_a_wrong_install_code_is_named_without_being_shown() -> None:
    """The message tells the CRCs or the length, and not one pair of octets of the secret."""
    with pytest.raises(LocalProtocolError) as mistake:
        link_key_from_install_code(bytes.fromhex("83FED3407A932B71"))
    assert str(mistake.value) == "Install code of 6 octets: its CRC is 2B70, it ends with 2B71"
    with pytest.raises(LocalProtocolError) as mistake:
        link_key_from_install_code(bytes.fromhex("83FED3407A93A52B70"))
    assert "9 in all" in str(mistake.value)
    assert "83FE" not in str(mistake.value)
    with pytest.raises(LocalProtocolError, match="0 in all"):
        link_key_from_install_code(b"")


def test_the_reflected_crc_has_its_catalogued_check_values() -> None:
    """CRC-16/KERMIT and CRC-16/X-25 of "123456789"."""
    assert reflected_crc16(b"123456789") == 0x2189
    assert reflected_crc16(b"123456789", 0xFFFF) ^ 0xFFFF == 0x906E


def test_a_key_of_the_wrong_length_is_our_mistake() -> None:
    """Neither a cipher nor a derived key is made of anything but 16 octets."""
    for use in (key_transport_key, key_load_key, verify_key_hash):
        with pytest.raises(LocalProtocolError, match="15"):
            use(bytes(15))
    with pytest.raises(LocalProtocolError, match="17"):
        ccm_encrypt(bytes(17), bytes(13), b"", b"")


@given(keys, st.binary(min_size=1, max_size=30), aux_headers, st.binary(max_size=80))
def test_a_sealed_frame_opens_with_key_header_and_source(
    key: bytes, header: bytes, aux: AuxHeader, payload: bytes
) -> None:
    """seal, parse_aux and open_sealed agree, with and without the source on the air, and the level on the air is 0."""
    frame = seal(key, header, aux, payload, None if aux.source is not None else EUI64)
    assert frame.startswith(header)
    assert frame[len(header)] & 0x07 == 0
    parsed, end = parse_aux(frame, len(header))
    assert parsed == aux
    assert open_sealed(key, frame[:end], parsed, frame[end:], EUI64) == payload
    with pytest.raises(RemoteProtocolError, match="integrity"):
        open_sealed(key, b"\xff" + frame[:end], parsed, frame[end:], EUI64)


@given(st.binary(max_size=20), st.integers(0, 20))
def test_parse_aux_takes_any_octets(data: bytes, offset: int) -> None:
    """Any octets are an auxiliary header or a RemoteProtocolError."""
    try:
        _, end = parse_aux(data, offset)
    except RemoteProtocolError:
        return
    assert offset < end <= len(data)


@pytest.mark.parametrize(
    ("aux", "source"),
    [
        (AuxHeader(0, 1), None),
        (AuxHeader(1, 1, EUI64), None),
        (AuxHeader(0, 1, EUI64, 0), None),
        (AuxHeader(4, 1, EUI64), None),
        (AuxHeader(0, 1 << 32, EUI64), None),
        (AuxHeader(0, 1), 1 << 64),
    ],
    ids=["no-source", "no-sequence", "sequence", "key-id", "counter", "source"],
)
def test_an_impossible_auxiliary_header_is_our_mistake(aux: AuxHeader, source: int | None) -> None:
    """seal refuses what has no place in a frame."""
    with pytest.raises(LocalProtocolError):
        seal(WELL_KNOWN_KEY, b"\0", aux, b"", source)
    if source is None and aux == AuxHeader(0, 1):
        with pytest.raises(LocalProtocolError, match="EUI-64"):
            open_sealed(WELL_KNOWN_KEY, bytes(6), aux, bytes(4))
