"""Zigbee's cryptography: CCM*, AES-MMO, keyed hashes, the keys derived from a link key, install codes."""

from __future__ import annotations

from enum import IntEnum
from functools import lru_cache
from struct import Struct
from struct import error as StructError
from typing import NamedTuple

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from cryptography.hazmat.primitives.ciphers.aead import AESCCM

from harness.errors import LocalProtocolError, RemoteProtocolError
from harness.wire.crc import reflected_crc16

KEY_LENGTH = 16
MIC_LENGTH = 4
INSTALL_CODE_LENGTHS = (6, 8, 12, 16)  # octets, without the CRC

# Zigbee PRO (05-3474-21): nwkSecurityLevel 5 is ENC-MIC-32, the only level that Zigbee PRO networks use.
SECURITY_LEVEL = 5
_EXTENDED_NONCE = 0x20

_NONCE = Struct("<QIB")
_NONCE_START = Struct("<QI")
_AUX = Struct("<I")
_AUX_SEQUENCE = Struct("<IB")
_AUX_EXTENDED = Struct("<IQ")
_AUX_EXTENDED_SEQUENCE = Struct("<IQB")
_OCTETS = tuple(bytes((octet,)) for octet in range(256))
# The control octet with level 5, as nonce and authentication have it, by the control octet on the air.
_AUTHENTICATED = tuple(bytes((control & 0xF8 | SECURITY_LEVEL,)) for control in range(256))


class KeyId(IntEnum):
    """Which key secures a frame: the key identifier of the auxiliary header."""

    LINK = 0
    NETWORK = 1
    KEY_TRANSPORT = 2
    KEY_LOAD = 3


class AuxHeader(NamedTuple):
    """The auxiliary security header of a NWK or APS frame (Zigbee PRO 4.5.1).

    `source` is the sender's EUI-64 when the frame carries it (the extended nonce), else None; `key_sequence` is there
    for the network key only.
    """

    key_id: int
    frame_counter: int
    source: int | None = None
    key_sequence: int | None = None


_new = tuple.__new__  # a NamedTuple without the call of its constructor: half the time


# --- CCM* -------------------------------------------------------------------------------------------------------------


@lru_cache(maxsize=256)
def cipher(key: bytes) -> AESCCM:
    """Return the CCM* cipher of `key` with the 4-octet MIC, kept because making one costs as much as using it."""
    if len(key) != KEY_LENGTH:
        raise LocalProtocolError(f"A Zigbee key has {KEY_LENGTH} octets, this one has {len(key)}")
    return AESCCM(key, tag_length=MIC_LENGTH)


def ccm_encrypt(key: bytes, nonce: bytes, plaintext: bytes, aad: bytes) -> bytes:
    """Encrypt `plaintext` and authenticate it with `aad` under a 13-octet nonce; return the ciphertext and its MIC."""
    return cipher(key).encrypt(nonce, plaintext, aad)


def ccm_decrypt(key: bytes, nonce: bytes, ciphertext_and_mic: bytes, aad: bytes) -> bytes:
    """Return the plaintext; a MIC that does not match is a RemoteProtocolError."""
    try:
        return cipher(key).decrypt(nonce, ciphertext_and_mic, aad)
    except InvalidTag:
        raise RemoteProtocolError(
            "Message integrity code does not match: wrong key, source or altered frame"
        ) from None


# --- Auxiliary header -------------------------------------------------------------------------------------------------


def parse_aux(data: bytes, offset: int) -> tuple[AuxHeader, int]:
    """Read the auxiliary header at `offset`; return it and the offset of what follows."""
    source = sequence = None
    try:
        control = data[offset]
        if control & 0x38 == 0x28:
            counter, source, sequence = _AUX_EXTENDED_SEQUENCE.unpack_from(data, offset + 1)
            end = offset + 14
        elif control & _EXTENDED_NONCE:
            counter, source = _AUX_EXTENDED.unpack_from(data, offset + 1)
            end = offset + 13
        elif control & 0x18 == 0x08:
            counter, sequence = _AUX_SEQUENCE.unpack_from(data, offset + 1)
            end = offset + 6
        else:
            (counter,) = _AUX.unpack_from(data, offset + 1)
            end = offset + 5
    except (IndexError, StructError):
        raise RemoteProtocolError(
            f"Frame of {len(data)} octets ends within its auxiliary security header"
        ) from None
    return _new(AuxHeader, (control >> 3 & 3, counter, source, sequence)), end


def seal(key: bytes, header: bytes, aux: AuxHeader, payload: bytes, source: int | None = None) -> bytes:
    """Secure `payload` (ENC-MIC-32) and return the whole frame: header, auxiliary header, ciphertext, MIC.

    `source` is the sender's EUI-64 for the nonce, needed when the auxiliary header does not carry it.
    """
    key_id, counter, extended, sequence = aux
    sender = extended if source is None else source
    if sender is None:
        raise LocalProtocolError("A frame without extended nonce needs its sender's EUI-64 to be secured")
    if not 0 <= key_id <= 3 or (sequence is None) == (key_id == 1):
        raise LocalProtocolError(
            f"{aux}: key identifiers are 0 to 3, and a key sequence number goes with 1 only"
        )
    try:
        if extended is None:
            control = key_id << 3
            rest = _AUX.pack(counter) if sequence is None else _AUX_SEQUENCE.pack(counter, sequence)
        else:
            control = key_id << 3 | _EXTENDED_NONCE
            if sequence is None:
                rest = _AUX_EXTENDED.pack(counter, extended)
            else:
                rest = _AUX_EXTENDED_SEQUENCE.pack(counter, extended, sequence)
        # Zigbee PRO 4.3.1.1: the level stands in the control octet for nonce and authentication, and is 0 on the air.
        nonce = _NONCE.pack(sender, counter, control | SECURITY_LEVEL)
    except StructError as error:
        raise LocalProtocolError(f"{aux} with sender {sender:#x} does not fit its fields: {error}") from None
    sealed = cipher(key).encrypt(nonce, payload, header + _AUTHENTICATED[control] + rest)
    return header + _OCTETS[control] + rest + sealed


def open_sealed(key: bytes, header: bytes, aux: AuxHeader, sealed: bytes, source: int | None = None) -> bytes:
    """Return the payload of a secured frame; RemoteProtocolError when its MIC does not match.

    `header` is every octet before the ciphertext, the auxiliary header included, as received.
    """
    key_id, counter, sender, _ = aux
    at = len(header) - (6 if key_id == 1 else 5)
    if sender is None:
        sender = source
        if sender is None:
            raise LocalProtocolError("A frame without extended nonce needs its sender's EUI-64 to be opened")
    else:
        at -= 8
    authenticated = _AUTHENTICATED[header[at]]
    try:
        return cipher(key).decrypt(
            _NONCE_START.pack(sender, counter) + authenticated,
            sealed,
            header[:at] + authenticated + header[at + 1 :],
        )
    except InvalidTag:
        raise RemoteProtocolError(
            f"Message integrity code does not match (frame counter {counter}): wrong key, source or altered frame"
        ) from None


# --- Hashes and derived keys ------------------------------------------------------------------------------------------


def mmo(data: bytes) -> bytes:
    """Return the 16-octet Matyas-Meyer-Oseas hash of `data` on AES-128 (Zigbee PRO annex B.6)."""
    bits = len(data) * 8
    if bits < 1 << 16:
        padded = data + b"\x80" + bytes(-(len(data) + 3) % 16) + bits.to_bytes(2, "big")
    elif bits < 1 << 32:
        # B.6: from 2^16 bits up the length takes four octets and is followed by two of zero.
        padded = data + b"\x80" + bytes(-(len(data) + 7) % 16) + bits.to_bytes(4, "big") + b"\0\0"
    else:
        raise LocalProtocolError(f"AES-MMO hashes less than 2^32 bits, not {bits}")
    digest = bytes(16)
    for start in range(0, len(padded), 16):
        block = padded[start : start + 16]
        encrypted = Cipher(algorithms.AES128(digest), modes.ECB()).encryptor().update(block)
        digest = (int.from_bytes(encrypted, "big") ^ int.from_bytes(block, "big")).to_bytes(16, "big")
    return digest


_INNER_PAD = bytes(octet ^ 0x36 for octet in range(256))
_OUTER_PAD = bytes(octet ^ 0x5C for octet in range(256))


def hmac_mmo(key: bytes, data: bytes) -> bytes:
    """Return the HMAC of `data` on AES-MMO with its block of 16 octets (Zigbee PRO annex B.1.4)."""
    if len(key) > KEY_LENGTH:
        key = mmo(key)
    key = key.ljust(KEY_LENGTH, b"\0")
    return mmo(key.translate(_OUTER_PAD) + mmo(key.translate(_INNER_PAD) + data))


@lru_cache(maxsize=1024)
def key_transport_key(link_key: bytes) -> bytes:
    """Return the key under which a network key travels to the holder of `link_key` (Zigbee PRO 4.5.3)."""
    return hmac_mmo(_checked(link_key), b"\x00")


@lru_cache(maxsize=1024)
def key_load_key(link_key: bytes) -> bytes:
    """Return the key under which a new link key travels to the holder of `link_key` (Zigbee PRO 4.5.3)."""
    return hmac_mmo(_checked(link_key), b"\x02")


@lru_cache(maxsize=1024)
def verify_key_hash(link_key: bytes) -> bytes:
    """Return the hash by which Verify-Key proves possession of `link_key` (Zigbee PRO 4.4.10.7)."""
    return hmac_mmo(_checked(link_key), b"\x03")


def aps_key(link_key: bytes, key_id: int) -> bytes:
    """Return the key that an APS frame with `key_id` between the two holders of `link_key` is secured with."""
    if key_id == KeyId.LINK:
        return link_key
    if key_id == KeyId.KEY_TRANSPORT:
        return key_transport_key(link_key)
    if key_id == KeyId.KEY_LOAD:
        return key_load_key(link_key)
    raise LocalProtocolError(f"Key identifier {key_id} is not derived from a link key")


def _checked(link_key: bytes) -> bytes:
    if len(link_key) != KEY_LENGTH:
        raise LocalProtocolError(f"A link key has {KEY_LENGTH} octets, this one has {len(link_key)}")
    return link_key


# --- Install codes ----------------------------------------------------------------------------------------------------


def install_code_crc(code: bytes) -> int:
    """Return the CRC-16/X-25 of an install code; it is appended low octet first (ZSE 07-5356-19 5.4.8.1.1)."""
    return reflected_crc16(code, 0xFFFF) ^ 0xFFFF


def link_key_from_install_code(code_with_crc: bytes) -> bytes:
    """Return the preconfigured link key of an install code of 6, 8, 12 or 16 octets followed by its CRC.

    A wrong length or CRC is a LocalProtocolError, which does not repeat the code: it is a secret.
    """
    code, crc = code_with_crc[:-2], code_with_crc[-2:]
    if len(code_with_crc) - 2 not in INSTALL_CODE_LENGTHS:
        raise LocalProtocolError(
            f"An install code has 6, 8, 12 or 16 octets and a CRC of 2, this one has {len(code_with_crc)} in all"
        )
    expected = install_code_crc(code).to_bytes(2, "little")
    if crc != expected:
        raise LocalProtocolError(
            f"Install code of {len(code)} octets: its CRC is {expected.hex().upper()}, it ends with {crc.hex().upper()}"
        )
    return mmo(code_with_crc)
