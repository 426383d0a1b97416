"""How much of a secured frame's cost is its cipher: build and parse through all layers, over bare CCM."""

from __future__ import annotations

from collections.abc import Callable

from cryptography.hazmat.primitives.ciphers.aead import AESCCM

from harness.wire.aps import ApsFrame, FrameType, build_aps, open_aps, parse_aps
from harness.wire.mac import SHORT, MacFrame, build_mac, parse_mac
from harness.wire.mac import FrameType as MacFrameType
from harness.wire.nwk import NwkFrame, build_nwk, open_nwk, parse_nwk
from harness.wire.security import AuxHeader, KeyId
from tests.benchmarks.measure import Figure, Seconds, best_of, timed

ROUNDS = 7
FRAMES = 4000

NETWORK_KEY = bytes(range(16))
LINK_KEY = bytes(range(16, 32))
SENDER = 0x000D6F000A9069E7
PAN, SOURCE, DESTINATION = 0x4A11, 0x0000, 0xC2CE
IMAGE_BLOCK_RESPONSE = bytes(range(73))  # ZCL header 3, fields 14, 56 octets of image

# What the cipher sees in such a frame (Zigbee PRO 4.3.1 and 4.4.1): headers as additional data, the rest as plaintext.
APS_HEADER, APS_AUX = 8, 5
NWK_HEADER, NWK_AUX = 8, 14
MIC = 4


def build(counter: int) -> bytes:
    """Build one image block response for the air: APS security, NWK security, MAC header and FCS."""
    aps = build_aps(
        ApsFrame(
            FrameType.DATA, 0, 1, None, 0x0019, 0x0109, 1, counter & 0xFF, IMAGE_BLOCK_RESPONSE, True,
            aux=AuxHeader(KeyId.LINK, counter),
        ),
        LINK_KEY,
        SENDER,
    )  # fmt: skip
    nwk = build_nwk(
        NwkFrame(
            0, DESTINATION, SOURCE, 30, counter & 0xFF, aps, discover_route=1,
            aux=AuxHeader(KeyId.NETWORK, counter, SENDER, 0),
        ),
        NETWORK_KEY,
    )  # fmt: skip
    return build_mac(
        MacFrame(MacFrameType.DATA, counter & 0xFF, nwk, SHORT, PAN, DESTINATION, SHORT, PAN, SOURCE, True)
    )


def parse(psdu: bytes) -> bytes:
    """Take the frame apart again, down to its ZCL frame."""
    nwk = open_nwk(parse_nwk(parse_mac(psdu).payload), NETWORK_KEY)
    return open_aps(parse_aps(nwk.payload), LINK_KEY, SENDER).payload


def _round_trips() -> None:
    for counter in range(FRAMES):
        parse(build(counter))


def _bare_ccm() -> Callable[[], None]:
    """Return the same number of CCM operations on as many octets, and nothing else."""
    inner, outer = AESCCM(LINK_KEY, tag_length=MIC), AESCCM(NETWORK_KEY, tag_length=MIC)
    inner_header, outer_header = bytes(APS_HEADER + APS_AUX), bytes(NWK_HEADER + NWK_AUX)
    body = bytes(APS_HEADER + APS_AUX + len(IMAGE_BLOCK_RESPONSE) + MIC)
    nonce = bytes(13)

    def run() -> None:
        for _ in range(FRAMES):
            sealed = inner.encrypt(nonce, IMAGE_BLOCK_RESPONSE, inner_header)
            wrapped = outer.encrypt(nonce, body, outer_header)
            outer.decrypt(nonce, wrapped, outer_header)
            inner.decrypt(nonce, sealed, inner_header)

    return run


def frame_over_ccm() -> Figure:
    """Secured frames built and parsed in a second, over pairs of CCM operations as many as are in them."""
    psdu = build(1)
    assert parse(psdu) == IMAGE_BLOCK_RESPONSE
    bare = _bare_ccm()

    def frames() -> Seconds:
        return timed(_round_trips)

    ours, floor = best_of(ROUNDS, frames, lambda: timed(bare))
    return Figure(
        floor.cpu / ours.cpu,
        f"{FRAMES / ours.cpu:,.0f} round trips of {len(psdu)} octets a second of CPU; the 2 encryptions and 2 "
        f"decryptions in each alone {FRAMES / floor.cpu:,.0f}",
    )
