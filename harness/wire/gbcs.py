"""GBCS messages: the Grouping Header, content and signature, and the MAC header around those that carry a MAC."""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum
from typing import Final

from harness.errors import LocalProtocolError, RemoteProtocolError
from harness.wire.gbcs_octets import Cursor, build_length

SIGNATURE_LENGTH: Final = 64  # GBCS 4.3.3: r and s of ECDSA on P-256
MAC_LENGTH: Final = 12  # GBCS 4.3.3: GMAC cut to 96 bits
DATE_TIME_LENGTH: Final = 12  # a DLMS date-time, IEC 62056-6-2

_GENERAL_CIPHERING: Final = 0xDD
_GENERAL_SIGNING: Final = 0xDF
_GENERAL_BLOCK_TRANSFER: Final = 0xE0
# GBCS 7.2.5: the MAC Header, whose transaction id, titles, date-time, other information and key info are empty.
_MAC_HEADER: Final = bytes((_GENERAL_CIPHERING, 0, 0, 0, 0, 0, 0))
# GBCS 7.2.5: authentication only with suite 1, and an invocation counter that is always 0.
_SECURITY_HEADER: Final = bytes.fromhex("1100000000")
# GBCS 7.2.7: the transaction id is the CRA flag and an originator counter of 8 octets.
_TRANSACTION_ID_LENGTH: Final = 9
_EUI64_LENGTH: Final = 8
# The certificate that may end the other information is a SEQUENCE; a counter never gets so far as to begin like one.
_SEQUENCE: Final = 0x30


class Cra(IntEnum):
    """The CRA flag (GBCS 7.2.7)."""

    COMMAND = 1
    RESPONSE = 2
    ALERT = 3


@dataclass(frozen=True, slots=True)
class GbcsMessage:
    """One GBCS message. Counters have 64 bits, parties are EUI-64s, `content` is the payload's octets.

    `date_time` is empty or a DLMS date-time of 12 octets. `signature` is empty or r and s, 64 octets. `mac` is 12
    octets, or None in a message without MAC Header. Of the supplementary fields each needs those before it, but for
    the certificate, which needs no originator counter.
    """

    cra: Cra
    originator_counter: int
    originator: int
    recipient: int
    message_code: int
    content: bytes
    date_time: bytes = b""
    supplementary_remote_party: int | None = None
    supplementary_remote_party_counter: int | None = None
    supplementary_originator_counter: int | None = None
    supplementary_certificate: bytes = b""
    signature: bytes = b""
    mac: bytes | None = None


def build_message(message: GbcsMessage) -> bytes:
    """The octets of a message. LocalProtocolError when a field does not fit its place."""
    octets = signed_part(message) + build_length(len(message.signature)) + message.signature
    if message.signature and len(message.signature) != SIGNATURE_LENGTH:
        raise LocalProtocolError(
            f"GBCS signature of {len(message.signature)} octets, it has {SIGNATURE_LENGTH}"
        )
    octets = bytes((_GENERAL_SIGNING,)) + octets
    if message.mac is None:
        return octets
    if len(message.mac) != MAC_LENGTH:
        raise LocalProtocolError(f"GBCS MAC of {len(message.mac)} octets, it has {MAC_LENGTH}")
    service = _SECURITY_HEADER + octets + message.mac
    return _MAC_HEADER + build_length(len(service)) + service


def signed_part(message: GbcsMessage) -> bytes:
    """What a signature covers: from behind the general-signing tag to the end of the content.

    Proved on the vector of GBCS 18.4 and on the signed messages of RTDS 4.5.0.
    """
    if message.date_time and len(message.date_time) != DATE_TIME_LENGTH:
        raise LocalProtocolError(
            f"GBCS date-time of {len(message.date_time)} octets, it has {DATE_TIME_LENGTH}"
        )
    other = _other_information(message)
    return b"".join(
        (
            transaction_id(message),
            bytes((_EUI64_LENGTH,)),
            _octets("originator", message.originator, 8),
            bytes((_EUI64_LENGTH,)),
            _octets("recipient", message.recipient, 8),
            bytes((len(message.date_time),)),
            message.date_time,
            build_length(len(other)),
            other,
            build_length(len(message.content)),
            message.content,
        )
    )


def authenticated_part(message: GbcsMessage) -> bytes:
    """What a MAC covers: the security control octet, five empty header fields, and the whole signed message.

    GBCS 6.2.3; proved on the vector of GBCS 18.4 and on the messages of RTDS 4.5.0.
    """
    without_mac = signed_part(message) + build_length(len(message.signature)) + message.signature
    return _SECURITY_HEADER[:1] + bytes(5) + bytes((_GENERAL_SIGNING,)) + without_mac


def transaction_id(message: GbcsMessage) -> bytes:
    """The transaction id with its length: CRA flag and originator counter."""
    head = bytes((_TRANSACTION_ID_LENGTH, message.cra))
    return head + _octets("originator counter", message.originator_counter, 8)


def _octets(name: str, value: int, size: int) -> bytes:
    try:
        return value.to_bytes(size, "big")
    except OverflowError as error:
        raise LocalProtocolError(f"GBCS {name} {value:#x} does not fit {8 * size} bits") from error


def _other_information(message: GbcsMessage) -> bytes:
    party = message.supplementary_remote_party
    party_counter = message.supplementary_remote_party_counter
    counter = message.supplementary_originator_counter
    certificate = message.supplementary_certificate
    if (party is None and party_counter is not None) or (
        party_counter is None and (counter is not None or certificate)
    ):
        raise LocalProtocolError(
            "GBCS supplementary fields follow one another: one before the last is missing"
        )
    octets = _octets("message code", message.message_code, 2)
    if party is not None:
        octets += _octets("supplementary remote party id", party, 8)
    if party_counter is not None:
        octets += _octets("supplementary remote party counter", party_counter, 8)
    if counter is not None:
        field = _octets("supplementary originator counter", counter, 8)
        if field[0] == _SEQUENCE:
            raise LocalProtocolError(
                f"GBCS supplementary originator counter {counter:#x} reads as a certificate"
            )
        octets += field
    if certificate and certificate[0] != _SEQUENCE:
        raise LocalProtocolError(
            f"GBCS supplementary certificate begins with {certificate[0]:#04x}, not 0x30"
        )
    return octets + certificate


def parse_message(data: bytes) -> GbcsMessage:
    """Read one message, nothing behind it. RemoteProtocolError says what is wrong.

    What is accepted builds back to the same octets.
    """
    if not data:
        raise RemoteProtocolError("GBCS message without any octet")
    tag = data[0]
    if tag == _GENERAL_CIPHERING:
        return _parse_ciphering(data)
    if tag == _GENERAL_SIGNING:
        cursor = Cursor(data)
        message = _parse_signing(cursor, None)
        cursor.end("message")
        return message
    if tag == _GENERAL_BLOCK_TRANSFER:
        raise RemoteProtocolError(
            "GBCS message is one block of a General Block Transfer, which is not read here"
        )
    raise RemoteProtocolError(f"not a GBCS message: it begins with {tag:#04x}, not 0xdd or 0xdf")


def _parse_ciphering(data: bytes) -> GbcsMessage:
    cursor = Cursor(data)
    if data[1:2] == bytes((_TRANSACTION_ID_LENGTH,)):
        raise RemoteProtocolError(
            "GBCS message has a Routing Header, of a block transfer, which is not read here"
        )
    cursor.expect(_MAC_HEADER, "MAC header")
    length = cursor.length("length of the MAC'd part")
    if length != cursor.left:
        raise RemoteProtocolError(f"GBCS MAC header states {length} octets, {cursor.left} follow")
    cursor.expect(_SECURITY_HEADER, "security header")
    inner = Cursor(cursor.take(max(cursor.left - MAC_LENGTH, 0), "Grouping Header"))
    mac = cursor.take(MAC_LENGTH, "MAC")
    message = _parse_signing(inner, mac)
    inner.end("message before its MAC")
    return message


def _parse_signing(cursor: Cursor, mac: bytes | None) -> GbcsMessage:
    cursor.expect(bytes((_GENERAL_SIGNING,)), "general-signing tag")
    cursor.expect(bytes((_TRANSACTION_ID_LENGTH,)), "length of the transaction id")
    flag = cursor.number(1, "CRA flag")
    if flag not in (Cra.COMMAND, Cra.RESPONSE, Cra.ALERT):
        raise RemoteProtocolError(f"GBCS CRA flag {flag} is none of command 1, response 2, alert 3")
    originator_counter = cursor.number(8, "originator counter")
    cursor.expect(bytes((_EUI64_LENGTH,)), "length of the originator")
    originator = cursor.number(8, "originator")
    cursor.expect(bytes((_EUI64_LENGTH,)), "length of the recipient")
    recipient = cursor.number(8, "recipient")
    date_time_length = cursor.number(1, "length of the date-time")
    if date_time_length not in (0, DATE_TIME_LENGTH):
        raise RemoteProtocolError(
            f"GBCS date-time of {date_time_length} octets, it has none or {DATE_TIME_LENGTH}"
        )
    date_time = cursor.take(date_time_length, "date-time")
    other = Cursor(cursor.take(cursor.length("length of the other information"), "other information"))
    message_code = other.number(2, "message code")
    party = other.number(8, "supplementary remote party id") if other.left else None
    party_counter = other.number(8, "supplementary remote party counter") if other.left else None
    rest = other.take(other.left, "supplementary fields")
    counter = None
    if rest and rest[0] != _SEQUENCE:
        counter = Cursor(rest).number(8, "supplementary originator counter")
        rest = rest[8:]
        if rest and rest[0] != _SEQUENCE:
            raise RemoteProtocolError(f"GBCS supplementary certificate begins with {rest[0]:#04x}, not 0x30")
    content = cursor.take(cursor.length("length of the content"), "content")
    signature_length = cursor.length("length of the signature")
    if signature_length not in (0, SIGNATURE_LENGTH):
        raise RemoteProtocolError(
            f"GBCS signature of {signature_length} octets, it has none or {SIGNATURE_LENGTH}"
        )
    return GbcsMessage(
        cra=Cra(flag),
        originator_counter=originator_counter,
        originator=originator,
        recipient=recipient,
        message_code=message_code,
        content=content,
        date_time=date_time,
        supplementary_remote_party=party,
        supplementary_remote_party_counter=party_counter,
        supplementary_originator_counter=counter,
        supplementary_certificate=rest,
        signature=cursor.take(signature_length, "signature"),
        mac=mac,
    )
