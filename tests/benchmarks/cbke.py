"""What key establishment costs: one side of it on suite 2, over a single multiplication done the plain way."""

from __future__ import annotations

import random

from harness.wire.certificates import SUITE_2, certified_key, issue, new_authority
from harness.wire.curves import SECT283K1, Curve, Point
from harness.wire.key_agreement import confirm, derive_keys, new_ephemeral_key, shared_secret
from tests.benchmarks.measure import Figure, best_of, timed

ROUNDS = 15
HUB, PPMID = 0x000D6F000A9069E7, 0x000D6F000B7A1102


def double_and_add(curve: Curve, scalar: int, point: Point) -> Point | None:
    """Return scalar * point as a textbook does it: affine, a doubling a bit, an addition for each that is set."""
    total: Point | None = None
    for bit in f"{scalar:b}":
        total = curve.add(total, total)
        if bit == "1":
            total = curve.add(total, point)
    return total


def cbke_over_double_and_add() -> Figure:
    """CPU time of one side's suite 2 CBKE, over one sect283k1 multiplication by double-and-add on the same field."""
    rng = random.Random(1)
    authority = new_authority(SUITE_2, 1, rng.randbytes)
    own, partner = (issue(authority, eui64, rng.randbytes) for eui64 in (HUB, PPMID))
    partner_ephemeral = new_ephemeral_key(SECT283K1, rng.randbytes)
    keys = []

    def one_side() -> None:
        ephemeral = new_ephemeral_key(SECT283K1, rng.randbytes)
        partner_key = certified_key(partner.certificate, own.ca_public_key)
        # As it comes from the air: to be decompressed, and proved to be of the subgroup.
        received = SECT283K1.decompress(partner_ephemeral.octets)
        secret = shared_secret(SECT283K1, own.private_key, ephemeral, partner_key, received)
        assert secret is not None
        derived = derive_keys(secret)
        confirm(derived.mac_key, HUB, PPMID, ephemeral.octets, partner_ephemeral.octets)
        keys.append(derived.link_key)

    def plain() -> None:
        scalar = rng.randrange(1 << 280, SECT283K1.order)
        assert double_and_add(SECT283K1, scalar, partner_ephemeral.public_key) is not None

    ours, theirs = best_of(ROUNDS, lambda: timed(one_side), lambda: timed(plain))
    assert len(set(keys)) == ROUNDS
    return Figure(
        ours.cpu / theirs.cpu,
        f"{ours.cpu * 1000:.1f} ms for ephemeral key, certificate, ECMQV, derivation and both MACs;"
        f" {theirs.cpu * 1000:.1f} ms for one multiplication by affine double-and-add",
    )
