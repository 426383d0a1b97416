"""The Koblitz curves: the field, the group, points as octets, signatures; openssl is the outside reader."""

from __future__ import annotations

import contextlib
import random
import subprocess

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from harness.errors import LocalProtocolError, RemoteProtocolError
from harness.wire.curves import SECT163K1, SECT283K1, Point, new_private_key, sign, verify
from harness.wire.security import mmo
from tests.benchmarks.cbke import double_and_add

CURVES = pytest.mark.parametrize("curve", [SECT163K1, SECT283K1], ids=lambda curve: curve.name)
GROUP = settings(max_examples=15)  # each example multiplies several points

seeds = st.integers(0, 2**64)


def scalar_of(curve, seed):
    """Return a scalar that is not 0."""
    return random.Random(seed).randrange(1, curve.order)


def element_of(curve, seed):
    """Return an element of the field."""
    return random.Random(seed).getrandbits(curve.field.degree)


def subgroup_less(curve):
    """Return a point of the curve that is not in the subgroup: the generator plus the point of order 2."""
    two = Point(0, 1)
    assert curve.contains(two)
    assert curve.add(two, two) is None
    point = curve.add(curve.generator, two)
    assert point is not None
    return point


# --- the field --------------------------------------------------------------------------------------------------------


def slow_product(curve, a, b):
    """Multiply bit by bit, reducing by the polynomial that SEC 2 writes down."""
    polynomial = {163: (163, 7, 6, 3, 0), 283: (283, 12, 7, 5, 0)}[curve.field.degree]
    modulus = sum(1 << exponent for exponent in polynomial)
    product = 0
    for bit in range(b.bit_length()):
        if b >> bit & 1:
            product ^= a << bit
    while (excess := product.bit_length() - modulus.bit_length()) >= 0:
        product ^= modulus << excess
    return product


@CURVES
@given(seed=seeds)
def test_the_field_multiplies_as_polynomials_do(curve, seed):
    """The fast product, square and inverse agree with long multiplication and division by SEC 2's polynomial."""
    field = curve.field
    a, b = element_of(curve, seed), element_of(curve, seed + 1)
    assert field.multiply(a, b) == field.multiply(b, a) == slow_product(curve, a, b)
    assert field.square(a) == slow_product(curve, a, a)
    assume(a)
    assert field.multiply(a, field.inverse(a)) == 1


@CURVES
@pytest.mark.parametrize("ones", [(0, 0), (0, 1), (1, 1), (None, None), (None, 1)])
def test_the_field_multiplies_its_extremes(curve, ones):
    """Zero, one, and the element with every bit set, where the second fold of the reduction has most to do."""
    a, b = ((1 << curve.field.degree) - 1 if one is None else one for one in ones)
    assert curve.field.multiply(a, b) == slow_product(curve, a, b)
    assert curve.field.square(a) == slow_product(curve, a, a)


@CURVES
def test_zero_has_no_inverse(curve):
    """The Euclidean algorithm would never end on it."""
    with pytest.raises(LocalProtocolError, match="0 has no inverse"):
        curve.field.inverse(0)


@CURVES
@given(seed=seeds)
@settings(max_examples=20)
def test_the_trace_is_the_sum_of_all_squarings(curve, seed):
    """The two bits of the mask say what the definition says, and the half trace solves z^2 + z = a."""
    field = curve.field
    a = element_of(curve, seed)
    total, power = 0, a
    for _ in range(field.degree):
        total ^= power
        power = field.square(power)
    assert total == field.trace(a)
    if field.trace(a) == 0:
        z = field.half_trace(a)
        assert field.square(z) ^ z == a


# --- the group --------------------------------------------------------------------------------------------------------


@CURVES
def test_the_generator_has_the_published_order(curve):
    """It is on the curve, and the order times it is infinity, by the plain method that knows nothing of tau."""
    assert curve.contains(curve.generator)
    assert curve.in_subgroup(curve.generator)
    assert double_and_add(curve, curve.order, curve.generator) is None
    assert double_and_add(curve, curve.order - 1, curve.generator) == Point(
        curve.generator.x, curve.generator.x ^ curve.generator.y
    )


@CURVES
@given(seed=seeds)
@GROUP
def test_multiplication_agrees_with_double_and_add(curve, seed):
    """The Frobenius map's method gives what doublings give, for the generator's table and for a point's own."""
    k, m = scalar_of(curve, seed), scalar_of(curve, seed + 1)
    point = double_and_add(curve, k, curve.generator)
    assert curve.multiply(k, curve.generator) == point
    assert curve.multiply(m, point) == double_and_add(curve, m, point)


@CURVES
@pytest.mark.parametrize("small", [0, 1, 2, 3, 4, 5, 7, 127, -1, -2, -3], ids=str)
def test_multiplication_by_small_numbers_is_exact(curve, small):
    """Scalars of one or two digits, their negatives, and none at all: where a sum meets itself or its negative."""
    expected = double_and_add(curve, small % curve.order, curve.generator) if small else None
    assert curve.multiply(small, curve.generator) == expected
    point = curve.public_key(5)
    assert curve.multiply(small, point) == curve.multiply(5 * small, curve.generator)


@CURVES
@given(seed=seeds)
@GROUP
def test_the_points_are_a_group(curve, seed):
    """Addition commutes, associates, has infinity for zero and negatives; multiplication distributes over it."""
    k, m = scalar_of(curve, seed), scalar_of(curve, seed + 1)
    p, q, r = curve.public_key(k), curve.public_key(m), curve.generator
    assert curve.add(p, q) == curve.add(q, p) == curve.multiply(k + m, r)
    assert curve.add(curve.add(p, q), r) == curve.add(p, curve.add(q, r))
    assert curve.add(p, None) == curve.add(None, p) == p
    assert curve.add(p, Point(p.x, p.x ^ p.y)) is None
    assert curve.add(p, p) == curve.multiply(2, p)
    assert curve.multiply(m, p) == curve.multiply(k, q)


@CURVES
@given(seed=seeds)
@GROUP
def test_a_sum_of_products_is_the_sum_of_the_products(curve, seed):
    """Simultaneous multiplication equals one after the other, and finds infinity."""
    k, m = scalar_of(curve, seed), scalar_of(curve, seed + 1)
    p = curve.public_key(k)
    assert curve.combine((m, p), (k, curve.generator)) == curve.add(
        curve.multiply(m, p), curve.multiply(k, curve.generator)
    )
    assert curve.combine((1, p), (-k, curve.generator)) is None
    assert curve.combine((1, p), (1, p)) == curve.add(p, p)


@CURVES
@pytest.mark.parametrize("wrong", [0, -1, "order"], ids=str)
def test_a_private_key_is_less_than_the_order(curve, wrong):
    """Neither 0 nor the order makes a public key, and the message does not repeat the key."""
    with pytest.raises(LocalProtocolError, match="between 1 and the order less 1"):
        curve.public_key(curve.order if wrong == "order" else wrong)


@CURVES
def test_a_new_private_key_is_made_of_the_octets_given(curve):
    """Same octets, same key; the extremes of the octets give keys that can be used."""
    asked = []

    def octets(count):
        asked.append(count)
        return b"\xff" * count

    assert 0 < new_private_key(curve, octets) < curve.order
    assert asked == [curve.octets + 8]
    assert new_private_key(curve, bytes) == 1
    assert new_private_key(curve, random.Random(3).randbytes) == new_private_key(
        curve, random.Random(3).randbytes
    )


# --- points as octets -------------------------------------------------------------------------------------------------


@CURVES
@given(seed=seeds)
@GROUP
def test_a_compressed_point_decompresses_to_itself(curve, seed):
    """22 or 37 octets hold a point, and those that begin with the other of 02 and 03 its negative."""
    point = curve.public_key(scalar_of(curve, seed))
    octets = curve.compress(point)
    assert len(octets) == {163: 22, 283: 37}[curve.field.degree]
    assert curve.decompress(octets) == point
    other = curve.decompress(bytes((octets[0] ^ 1,)) + octets[1:])
    assert other == Point(point.x, point.x ^ point.y)
    assert curve.contains(other)


@CURVES
@given(seed=seeds)
@settings(max_examples=40)
def test_hostile_octets_are_a_point_of_the_subgroup_or_an_error(curve, seed):
    """What decompress accepts is on the curve and has the prime order, by the plain method."""
    octets = bytes((0x02,)) + element_of(curve, seed).to_bytes(curve.octets, "big")
    try:
        point = curve.decompress(octets)
    except RemoteProtocolError:
        return
    assert curve.contains(point)
    assert double_and_add(curve, curve.order, point) is None


@CURVES
@given(octets=st.binary(max_size=40))
def test_any_octets_are_a_point_or_a_remote_protocol_error(curve, octets):
    """Nothing else comes out of hostile octets."""
    with contextlib.suppress(RemoteProtocolError):
        assert curve.compress(curve.decompress(octets)) == octets


@CURVES
def test_each_thing_that_a_compressed_point_can_have_wrong_is_named(curve):
    """Length, infinity, prefix, an x too large, the point of order 2, an x of no point, a point out of the subgroup."""
    good = curve.compress(curve.generator)
    no_point = next(
        x
        for x in range(2, 100)
        if curve.field.trace(x ^ curve.a ^ curve.field.square(curve.field.inverse(x)))
    )
    for octets, message in (
        (good[:-1], "has"),
        (bytes(len(good)), "infinity"),
        (b"\x04" + good[1:], "02 or 03, not 04"),
        (b"\x02" + b"\xff" * curve.octets, "more than the"),
        (b"\x02" + bytes(curve.octets), "x = 0"),
        (b"\x02" + no_point.to_bytes(curve.octets, "big"), "no point"),
        (curve.compress(subgroup_less(curve)), "subgroup"),
    ):
        with pytest.raises(RemoteProtocolError, match=message):
            curve.decompress(octets)


@CURVES
@given(seed=seeds)
@settings(max_examples=10)
def test_the_subgroup_check_agrees_with_the_order(curve, seed):
    """The point plus one of small order is out of the subgroup, and found to be, as the plain method finds it."""
    point = curve.public_key(scalar_of(curve, seed))
    assert curve.in_subgroup(point)
    small = Point(0, 1)
    strange = [curve.add(point, small)]
    if curve.cofactor == 4:
        # x = 1 has y^2 + y = 1 + 1 = 0 on sect283k1: (1, 0) doubles to (0, 1), so its order is 4.
        four = Point(1, 0)
        assert curve.add(four, four) == small
        strange += [curve.add(point, four), curve.add(point, Point(1, 1))]
    for other in strange:
        assert curve.contains(other)
        assert not curve.in_subgroup(other)
        assert double_and_add(curve, curve.order, other) is not None
    assert not curve.in_subgroup(small)


@CURVES
def test_a_point_off_the_curve_is_told_from_one_on_it(curve):
    """One bit of either coordinate makes the difference, and so does a coordinate that is no field element."""
    x, y = curve.generator
    assert not curve.contains(Point(x ^ 2, y))
    assert not curve.contains(Point(x, y ^ 2))
    assert not curve.contains(Point(x | 1 << curve.field.degree, y))
    assert not curve.contains(Point(-x, y))


# --- signatures -------------------------------------------------------------------------------------------------------


@CURVES
@given(seed=seeds, message=st.binary(max_size=50), flip=st.integers(0, 2**16))
@settings(max_examples=10)
def test_a_signature_holds_for_its_message_and_key_alone(curve, seed, message, flip):
    """One flipped bit of the signature, another digest or another key, and it does not verify."""
    private_key = scalar_of(curve, seed)
    public_key = curve.public_key(private_key)
    digest = mmo(message)
    signature = sign(curve, private_key, digest, random.Random(seed).randbytes)
    assert len(signature) == {163: 42, 283: 72}[curve.field.degree]
    assert verify(curve, public_key, digest, signature)
    bit = flip % (8 * len(signature))
    flipped = int.from_bytes(signature, "big") ^ 1 << bit
    assert not verify(curve, public_key, digest, flipped.to_bytes(len(signature), "big"))
    assert not verify(curve, public_key, mmo(message + b"."), signature)
    assert not verify(curve, curve.generator, digest, signature)


@CURVES
def test_a_signature_out_of_range_does_not_verify(curve):
    """Zeros, values of the order and above, and the wrong length are no signatures."""
    octets = curve.octets
    signature = sign(curve, 1, bytes(16), random.Random(1).randbytes)
    r, s = signature[:octets], signature[octets:]
    order = curve.order.to_bytes(octets, "big")
    for wrong in (bytes(octets) + s, r + bytes(octets), order + s, r + order, signature[:-1], b""):
        assert not verify(curve, curve.generator, bytes(16), wrong)


# --- openssl ----------------------------------------------------------------------------------------------------------

OIDS = {"sect163k1": "2b81040001", "sect283k1": "2b81040010"}  # 1.3.132.0.1 and .16


def der(tag, *parts):
    """Return one DER element."""
    body = b"".join(parts)
    assert len(body) < 256
    length = bytes((len(body),)) if len(body) < 128 else bytes((0x81, len(body)))
    return bytes((tag,)) + length + body


def integer(value):
    """Return a DER integer."""
    return der(0x02, value.to_bytes(value.bit_length() // 8 + 1, "big"))


def integers(data):
    """Return the numbers of a DER sequence of integers."""
    assert data[0] == 0x30
    at = 3 if data[1] & 0x80 else 2
    found = []
    while at < len(data):
        assert data[at] == 0x02
        length = data[at + 1]
        found.append(int.from_bytes(data[at + 2 : at + 2 + length], "big"))
        at += 2 + length
    return found


def key_file(curve, private_key, path):
    """Write an EC private key (RFC 5915) without its public key, which openssl then computes."""
    oid = der(0x06, bytes.fromhex(OIDS[curve.name]))
    octets = der(0x04, private_key.to_bytes(curve.octets, "big"))
    path.write_bytes(der(0x30, integer(1), octets, der(0xA0, oid)))


def run(*command):
    """Run a program and return what it prints."""
    done = subprocess.run(command, capture_output=True, timeout=60)
    assert done.returncode == 0, done.stderr.decode()
    return done.stdout


@CURVES
def test_openssl_computes_the_same_public_keys(curve, openssl, tmp_path):
    """Three private keys, the least and the greatest among them, have the public keys that openssl gives them."""
    for number, private_key in enumerate((2, curve.order - 1, scalar_of(curve, 7))):
        path = tmp_path / f"key-{number}.der"
        key_file(curve, private_key, path)
        out = run(
            openssl, "ec", "-inform", "DER", "-in", str(path), "-pubout", "-conv_form", "compressed", "-outform", "DER"
        )  # fmt: skip
        assert out.endswith(curve.compress(curve.public_key(private_key)))


@CURVES
def test_openssl_verifies_our_signatures_and_we_verify_its(curve, openssl, tmp_path):
    """ECDSA agrees both ways, on SHA-256 digests: longer than the order on one curve, shorter on the other."""
    private_key = scalar_of(curve, 11)
    key, public, digest_file = tmp_path / "key.der", tmp_path / "public.pem", tmp_path / "digest"
    key_file(curve, private_key, key)
    run(openssl, "ec", "-inform", "DER", "-in", str(key), "-pubout", "-out", str(public))
    digest = random.Random(5).randbytes(32)
    digest_file.write_bytes(digest)

    ours = sign(curve, private_key, digest, random.Random(6).randbytes)
    r, s = (int.from_bytes(part, "big") for part in (ours[: curve.octets], ours[curve.octets :]))
    (tmp_path / "signature").write_bytes(der(0x30, integer(r), integer(s)))
    verdict = run(
        openssl, "pkeyutl", "-verify", "-pubin", "-inkey", str(public), "-in", str(digest_file),
        "-sigfile", str(tmp_path / "signature"), "-pkeyopt", "digest:sha256",
    )  # fmt: skip
    assert b"Signature Verified Successfully" in verdict

    theirs = run(
        openssl, "pkeyutl", "-sign", "-keyform", "DER", "-inkey", str(key), "-in", str(digest_file),
        "-pkeyopt", "digest:sha256",
    )  # fmt: skip
    signature = b"".join(number.to_bytes(curve.octets, "big") for number in integers(theirs))
    assert verify(curve, curve.public_key(private_key), digest, signature)
