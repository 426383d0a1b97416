"""The arithmetic of CBKE: ECMQV with the cofactor, the key derivation, and the codes that confirm a key."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Final, NamedTuple

from harness.wire.curves import Curve, Point, RandomOctets, new_private_key
from harness.wire.security import hmac_mmo, mmo

# ZSE 07-5356-19 annex C.4.2.8: the message constants, for U the initiator and for V the responder.
_FROM_INITIATOR: Final = b"\x02"
_FROM_RESPONDER: Final = b"\x03"


@dataclass(frozen=True, slots=True)
class EphemeralKey:
    """A key pair for one key establishment; `octets` is its public key on the air."""

    private_key: int = field(repr=False)
    public_key: Point
    octets: bytes


def new_ephemeral_key(curve: Curve, random_octets: RandomOctets) -> EphemeralKey:
    """Return a new key pair."""
    private_key = new_private_key(curve, random_octets)
    public_key = curve.public_key(private_key)
    return EphemeralKey(private_key, public_key, curve.compress(public_key))


def shared_secret(
    curve: Curve, private_key: int, ephemeral: EphemeralKey, partner_key: Point, partner_ephemeral: Point
) -> bytes | None:
    """Return the secret Z of two static and two ephemeral key pairs; None when it came out as infinity.

    SEC 1 v2.0 3.4 and 6.2, with the cofactor.
    """
    half = (curve.order.bit_length() + 1) // 2

    def associate(point: Point) -> int:
        return point.x % (1 << half) | 1 << half

    own = curve.cofactor * (ephemeral.private_key + associate(ephemeral.public_key) * private_key)
    point = curve.combine((own, partner_ephemeral), (own * associate(partner_ephemeral), partner_key))
    return None if point is None else point.x.to_bytes(curve.octets, "big")


class DerivedKeys(NamedTuple):
    """What is made of the secret: the key that confirms, and the new link key."""

    mac_key: bytes
    link_key: bytes

    def __repr__(self) -> str:
        return "DerivedKeys(...)"  # neither belongs in a message, nor in a traceback's locals


def derive_keys(secret: bytes) -> DerivedKeys:
    """Return the two keys of a secret (ANSI X9.63 5.6.3 on AES-MMO, without shared information)."""
    return DerivedKeys(mmo(secret + b"\0\0\0\1"), mmo(secret + b"\0\0\0\2"))


class Confirmation(NamedTuple):
    """The codes by which each side proves the key to the other."""

    from_initiator: bytes
    from_responder: bytes


def confirm(
    mac_key: bytes, initiator: int, responder: int, initiator_point: bytes, responder_point: bytes
) -> Confirmation:
    """Return MACU and MACV of two parties (EUI-64) and the ephemeral keys that they sent."""
    u, v = initiator.to_bytes(8, "big"), responder.to_bytes(8, "big")
    return Confirmation(
        hmac_mmo(mac_key, _FROM_INITIATOR + u + v + initiator_point + responder_point),
        hmac_mmo(mac_key, _FROM_RESPONDER + v + u + responder_point + initiator_point),
    )
