"""The GBCS Upgrade Image: a Manufacturer Image with the Force Replace octet and the supplier's signature behind it."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import Final

from cryptography import x509

from harness.errors import LocalProtocolError, RemoteProtocolError
from harness.wire.gbcs import SIGNATURE_LENGTH
from harness.wire.gbcs_security import PrivateKey, PublicKey, sign_octets, verify_octets

# GBCS 11.2.2: Force Replace, the length of the signature, the signature.
TRAILER_LENGTH: Final = 2 + SIGNATURE_LENGTH


@dataclass(frozen=True, slots=True)
class UpgradeImage:
    """The payload of the OTA file for an ESME, GSME or HCALCS (GBCS 11.2.2). A PPMID's is its Manufacturer Image alone.

    `force_replace` is an octet that only the Communications Hub reads, 0 in every published image.
    """

    manufacturer_image: bytes
    signature: bytes
    force_replace: int = 0

    @property
    def image_hash(self) -> bytes:
        """The Manufacturer Image Hash that CS06 and the CPL name."""
        return image_hash(self.manufacturer_image)


def image_hash(manufacturer_image: bytes) -> bytes:
    """The SHA-256 of a Manufacturer Image, 32 octets (GBCS 11.2.4)."""
    return hashlib.sha256(manufacturer_image).digest()


def build_upgrade_image(image: UpgradeImage) -> bytes:
    """The octets of an Upgrade Image. LocalProtocolError when a field does not fit its place."""
    if not 0 <= image.force_replace <= 0xFF:
        raise LocalProtocolError(f"Force Replace {image.force_replace:#x} does not fit an octet")
    if len(image.signature) != SIGNATURE_LENGTH:
        raise LocalProtocolError(f"signature of {len(image.signature)} octets, it has {SIGNATURE_LENGTH}")
    return image.manufacturer_image + bytes((image.force_replace, SIGNATURE_LENGTH)) + image.signature


def parse_upgrade_image(payload: bytes) -> UpgradeImage:
    """Read the payload of an OTA file. RemoteProtocolError when it does not end in a signature of 64 octets."""
    if len(payload) < TRAILER_LENGTH:
        raise RemoteProtocolError(
            f"Upgrade Image of {len(payload)} octets: its Force Replace and signature alone have {TRAILER_LENGTH}"
        )
    force_replace, length = payload[-TRAILER_LENGTH], payload[1 - TRAILER_LENGTH]
    if length != SIGNATURE_LENGTH:
        raise RemoteProtocolError(
            f"Upgrade Image has no signature: {length:#04x} stands where its length, 0x40, should"
        )
    return UpgradeImage(payload[:-TRAILER_LENGTH], payload[-SIGNATURE_LENGTH:], force_replace)


def sign_image(manufacturer_image: bytes, private_key: PrivateKey, *, force_replace: int = 0) -> UpgradeImage:
    """An Upgrade Image signed by the supplier: ECDSA over the Manufacturer Image alone (GBCS 11.2.2)."""
    return UpgradeImage(manufacturer_image, sign_octets(manufacturer_image, private_key), force_replace)


def verify_image(image: UpgradeImage, signer: x509.Certificate | PublicKey) -> bool:
    """Whether the signature is the signer's over the Manufacturer Image."""
    return verify_octets(image.manufacturer_image, image.signature, signer)
