"""Signatures and MACs of GBCS messages, and the certificates and keys that they need."""

from __future__ import annotations

import hmac
from dataclasses import replace
from enum import Enum
from typing import Final

from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature, encode_dss_signature
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.kdf.concatkdf import ConcatKDFHash

from harness.errors import LocalProtocolError, RigError
from harness.wire.gbcs import (
    MAC_LENGTH,
    SIGNATURE_LENGTH,
    GbcsMessage,
    authenticated_part,
    signed_part,
    transaction_id,
)

PublicKey = ec.EllipticCurvePublicKey
PrivateKey = ec.EllipticCurvePrivateKey

_HALF: Final = SIGNATURE_LENGTH // 2
# RFC 6979: the same message and key give the same signature, so that two runs of one seed give the same octets.
_SIGNING: Final = ec.ECDSA(hashes.SHA256(), deterministic_signing=True)
_VERIFYING: Final = ec.ECDSA(hashes.SHA256())
_KEY_LENGTH: Final = 16
# GBCS 4.3.3.3: the AlgorithmID of the key derivation, 2.16.756.5.8.3.0 (AES-GCM-128).
_ALGORITHM_ID: Final = bytes.fromhex("60857406080300")


class KeyUse(Enum):
    """What a certificate's key is for: a party of GBCS has one certificate for each."""

    SIGNING = "digital_signature"
    AGREEMENT = "key_agreement"


def load_certificate(data: bytes, use: KeyUse) -> x509.Certificate:
    """A certificate from the octets of a PEM or DER file. RigError when it is none, not on P-256, or not for `use`."""
    pem = b"-----BEGIN" in data
    try:
        certificate = x509.load_pem_x509_certificate(data) if pem else x509.load_der_x509_certificate(data)
        key = certificate.public_key()
        usage = certificate.extensions.get_extension_for_class(x509.KeyUsage).value
    except x509.ExtensionNotFound as error:
        raise RigError("the certificate does not say what its key is for") from error
    except (
        ValueError,
        TypeError,
        UnsupportedAlgorithm,
        x509.DuplicateExtension,
        x509.InvalidVersion,
    ) as error:
        raise RigError(f"not a certificate in PEM or DER with a key that can be used: {error}") from error
    if not isinstance(key, PublicKey) or not isinstance(key.curve, ec.SECP256R1):
        raise RigError("the certificate's key is not on the curve P-256")
    if not getattr(usage, use.value):
        raise RigError(f"the certificate's key is not for {use.value.replace('_', ' ')}")
    return certificate


def load_private_key(data: bytes) -> PrivateKey:
    """A P-256 private key from the octets of a PEM or DER file without password. RigError, which never shows it."""
    load = serialization.load_pem_private_key if b"-----BEGIN" in data else serialization.load_der_private_key
    try:
        key = load(data, None)
    except (ValueError, TypeError, UnsupportedAlgorithm) as error:
        raise RigError("not a private key in PEM or DER without password") from error
    if not isinstance(key, PrivateKey) or not isinstance(key.curve, ec.SECP256R1):
        raise RigError("the private key is not on the curve P-256")
    return key


def sign(message: GbcsMessage, private_key: PrivateKey) -> GbcsMessage:
    """The message with a new signature, and without the MAC that it may have had: a MAC covers the signature."""
    return replace(message, signature=sign_octets(signed_part(message), private_key), mac=None)


def verify(message: GbcsMessage, signer: x509.Certificate | PublicKey) -> bool:
    """Whether the signature is the signer's. A message without one is not."""
    return verify_octets(signed_part(message), message.signature, signer)


def sign_octets(octets: bytes, private_key: PrivateKey) -> bytes:
    """ECDSA on P-256 with SHA-256 as GBCS writes it: r and s, 32 octets each (GBCS 4.3.3)."""
    if not isinstance(private_key.curve, ec.SECP256R1):
        raise LocalProtocolError(f"GBCS signs on P-256, the key is on {private_key.curve.name}")
    r, s = decode_dss_signature(private_key.sign(octets, _SIGNING))
    return r.to_bytes(_HALF, "big") + s.to_bytes(_HALF, "big")


def verify_octets(octets: bytes, signature: bytes, signer: x509.Certificate | PublicKey) -> bool:
    """Whether `signature` (r and s) is the signer's over `octets`."""
    if len(signature) != SIGNATURE_LENGTH:
        return False
    r, s = int.from_bytes(signature[:_HALF], "big"), int.from_bytes(signature[_HALF:], "big")
    try:
        _public_key(signer).verify(encode_dss_signature(r, s), octets, _VERIFYING)
    except InvalidSignature:
        return False
    return True


def protect(message: GbcsMessage, private_key: PrivateKey, peer: x509.Certificate | PublicKey) -> GbcsMessage:
    """The message with a new MAC under the key that `private_key` and the peer's public key agree on."""
    return replace(message, mac=mac(message, private_key, peer))


def mac(message: GbcsMessage, private_key: PrivateKey, peer: x509.Certificate | PublicKey) -> bytes:
    """The 12 octets of MAC: GMAC under AES-128 over `authenticated_part` (GBCS 6.2.3).

    Either end computes the same. A command is MAC'd by the Access Control Broker whoever its originator is; a
    response is MAC'd for the party that it goes to.
    """
    # GBCS 4.3.3.4: the initialization vector is the originator and an invocation counter of 0.
    vector = message.originator.to_bytes(8, "big") + bytes(4)
    tag = AESGCM(shared_key(message, private_key, peer)).encrypt(vector, b"", authenticated_part(message))
    return tag[:MAC_LENGTH]


def check_mac(message: GbcsMessage, private_key: PrivateKey, peer: x509.Certificate | PublicKey) -> bool:
    """Whether the MAC is that of the two keys. A message without one has not."""
    return message.mac is not None and hmac.compare_digest(message.mac, mac(message, private_key, peer))


def shared_key(message: GbcsMessage, private_key: PrivateKey, peer: x509.Certificate | PublicKey) -> bytes:
    """The AES-128 key for one message: ECDH on P-256, and one step of the concatenation KDF (GBCS 4.3.3.3)."""
    if not isinstance(private_key.curve, ec.SECP256R1):
        raise LocalProtocolError(f"GBCS agrees on keys on P-256, the key is on {private_key.curve.name}")
    other_info = b"".join(
        (
            _ALGORITHM_ID,
            message.originator.to_bytes(8, "big"),
            transaction_id(message),
            message.recipient.to_bytes(8, "big"),
        )
    )
    secret = private_key.exchange(ec.ECDH(), _public_key(peer))
    return ConcatKDFHash(hashes.SHA256(), _KEY_LENGTH, other_info).derive(secret)


def _public_key(party: x509.Certificate | PublicKey) -> PublicKey:
    key = party.public_key() if isinstance(party, x509.Certificate) else party
    if not isinstance(key, PublicKey) or not isinstance(key.curve, ec.SECP256R1):
        raise LocalProtocolError("GBCS has keys on P-256 only, the other party's is another")
    return key
