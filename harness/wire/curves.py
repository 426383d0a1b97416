"""The Koblitz curves of Smart Energy, sect163k1 and sect283k1, on Python integers: for test keys only, see below.

Nothing here takes the same time for every key, and nothing hides a key in memory: whoever can watch this process can
learn what it computes with. That is good enough for keys that are made to test with, and for no others.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cache
from typing import Final, NamedTuple

from harness.errors import LocalProtocolError, RemoteProtocolError

RandomOctets = Callable[[int], bytes]
"""Where randomness comes from: a function from a number of octets to that many of them."""

_LOW_NIBBLE: Final = bytes(octet & 0x0F for octet in range(256))
_HIGH_NIBBLE: Final = bytes(octet >> 4 for octet in range(256))


# --- the field --------------------------------------------------------------------------------------------------------


class Field:
    """The binary field of one curve: polynomials over GF(2) as integers, bit n the coefficient of x^n.

    Addition is `^`. The field polynomial is x^degree + x^taps[0] + x^taps[1] + x^taps[2] + 1; `trace_mask` has the
    bits whose parity is an element's trace.
    """

    __slots__ = ("_high", "_low", "_mask", "_middle", "_octets", "degree", "trace_mask")

    def __init__(self, degree: int, taps: tuple[int, int, int], trace_mask: int) -> None:
        self.degree = degree
        self.trace_mask = trace_mask
        self._high, self._middle, self._low = taps
        self._mask = (1 << degree) - 1
        self._octets = (degree + 7) // 8

    def _reduce(self, product: int) -> int:
        # The product of two elements is short enough for the second fold to be the last.
        high = product >> self.degree
        product = (
            (product & self._mask) ^ high ^ high << self._low ^ high << self._middle ^ high << self._high
        )
        high = product >> self.degree
        if not high:
            return product
        return (product & self._mask) ^ high ^ high << self._low ^ high << self._middle ^ high << self._high

    def multiply(self, a: int, b: int) -> int:
        """Return a * b."""
        # Four bits of b a time, by a table of what they make of a: Python has no product without carries.
        a2, a4, a8 = a << 1, a << 2, a << 3
        a3, a5, a6, a12 = a ^ a2, a ^ a4, a2 ^ a4, a4 ^ a8
        table = (
            0, a, a2, a3, a4, a5, a6, a3 ^ a4, a8, a ^ a8, a2 ^ a8, a3 ^ a8, a12, a ^ a12, a2 ^ a12, a3 ^ a12,
        )  # fmt: skip
        octets = b.to_bytes(self._octets, "big")
        product = 0
        for high, low in zip(octets.translate(_HIGH_NIBBLE), octets.translate(_LOW_NIBBLE), strict=True):
            product = product << 8 ^ table[high] << 4 ^ table[low]
        return self._reduce(product)

    def square(self, a: int) -> int:
        """Return a * a."""
        # A square has the element's bits with a zero between each two: its binary digits, read in base four.
        return self._reduce(int(f"{a:b}", 4))

    def inverse(self, a: int) -> int:
        """Return 1 / a, by the extended Euclidean algorithm. LocalProtocolError for 0, which has no inverse."""
        if a == 0:
            raise LocalProtocolError("0 has no inverse in a field")
        u, v = a, 1 << self.degree | 1 << self._high | 1 << self._middle | 1 << self._low | 1
        g, h = 1, 0
        while u != 1:
            shift = u.bit_length() - v.bit_length()
            if shift < 0:
                u, v, g, h, shift = v, u, h, g, -shift
            u ^= v << shift
            g ^= h << shift
        return self._reduce(g)

    def trace(self, a: int) -> int:
        """Return the trace of a, 0 or 1."""
        return (a & self.trace_mask).bit_count() & 1

    def half_trace(self, a: int) -> int:
        """Return z with z^2 + z = a, if a has trace 0 (the other one is z + 1)."""
        z = a
        for _ in range(self.degree // 2):
            z = self.square(self.square(z)) ^ a
        return z


# --- the curve --------------------------------------------------------------------------------------------------------


class Point(NamedTuple):
    """A point in affine coordinates. The point at infinity is None instead."""

    x: int
    y: int


class _TablePoint(NamedTuple):
    """A point as the mixed addition wants it; its negative has the last two swapped."""

    x: int
    y: int
    x_plus_y: int


_Projective = tuple[int, int, int]
_INFINITY: Final = (1, 0, 0)

# Digits of a point's own, made for one multiplication, and of the generator, made once: each with its best table size.
_WIDTH: Final = 4
_GENERATOR_WIDTH: Final = 7


class Curve:
    """y^2 + xy = x^3 + ax^2 + 1 over a field, with `a` 0 or 1, and in it a subgroup of prime order with a generator.

    Scalars are taken modulo the order. `octets` is the length of a private key and of a field element on the wire,
    a compressed point has one more.
    """

    __slots__ = ("a", "cofactor", "field", "generator", "name", "octets", "order")

    def __init__(self, name: str, field: Field, a: int, order: int, cofactor: int, generator: Point) -> None:
        self.name = name
        self.field = field
        self.a = a
        self.order = order
        self.cofactor = cofactor
        self.generator = generator
        self.octets = (field.degree + 7) // 8

    def __repr__(self) -> str:
        return f"<Curve {self.name}>"

    # --- points as octets ---------------------------------------------------------------------------------------

    def compress(self, point: Point) -> bytes:
        """Return a point's octets: 02 or 03, then x (SEC 1 v2.0 2.3.3)."""
        x, y = point
        bit = self.field.multiply(y, self.field.inverse(x)) & 1 if x else 0
        return bytes((0x02 | bit,)) + x.to_bytes(self.octets, "big")

    def decompress(self, data: bytes) -> Point:
        """Return the point of 22 or 37 octets (SEC 1 v2.0 2.3.4).

        RemoteProtocolError when they are no compressed point of the subgroup: what an attacker would send to learn
        something of a key, and nobody else.
        """
        if len(data) != self.octets + 1:
            raise RemoteProtocolError(
                f"a compressed point of {self.name} has {self.octets + 1} octets, not {len(data)}"
            )
        if data[0] == 0x00:
            raise RemoteProtocolError("the point at infinity is no public key")
        if data[0] not in (0x02, 0x03):
            raise RemoteProtocolError(f"a compressed point begins with 02 or 03, not {data[0]:02X}")
        x = int.from_bytes(data[1:], "big")
        if x >> self.field.degree:
            raise RemoteProtocolError(
                f"x coordinate has more than the {self.field.degree} bits of {self.name}"
            )
        if x == 0:
            raise RemoteProtocolError(f"the point with x = 0 has order 2 on {self.name}: it is no public key")
        field = self.field
        beta = x ^ self.a ^ field.square(field.inverse(x))
        if field.trace(beta):
            raise RemoteProtocolError(f"no point of {self.name} has the x coordinate sent")
        z = field.half_trace(beta)
        point = Point(x, field.multiply(x, z ^ (z ^ data[0]) & 1))
        if not self.in_subgroup(point):
            raise RemoteProtocolError(f"the point is not in the subgroup of prime order of {self.name}")
        return point

    def contains(self, point: Point) -> bool:
        """Whether a point satisfies the equation of the curve."""
        x, y = point
        if not 0 <= x < 1 << self.field.degree or not 0 <= y < 1 << self.field.degree:
            return False
        field = self.field
        left = field.multiply(y, x ^ y)
        return left == field.multiply(field.square(x), x ^ self.a) ^ 1

    def in_subgroup(self, point: Point) -> bool:
        """Whether a point of the curve, not infinity, is in the subgroup of prime order.

        That group is what is left of the curve's points when all are multiplied by the cofactor, 2 or 4: so the
        question is whether the point has a half, and for 4 whether the half has one.
        """
        # E. Knudsen, "Elliptic Scalar Multiplication Using Point Halving", 1999: a point has a half if and only if its
        # x has the trace of a. The half (u, v) has l = u + v/u with l^2 + l = x + a, and u^2 = y + (l + 1) x.
        field = self.field
        if point.x == 0 or field.trace(point.x) != self.a:
            return False
        if self.cofactor == 2:
            return True
        slope = field.half_trace(point.x ^ self.a)
        return field.trace(point.y ^ field.multiply(slope ^ 1, point.x)) == self.a

    # --- the group ----------------------------------------------------------------------------------------------

    def add(self, p: Point | None, q: Point | None) -> Point | None:
        """Return p + q in affine coordinates, for any two points of the curve."""
        if p is None:
            return q
        if q is None:
            return p
        field = self.field
        if p.x != q.x:
            slope = field.multiply(p.y ^ q.y, field.inverse(p.x ^ q.x))
            x = field.square(slope) ^ slope ^ p.x ^ q.x ^ self.a
            return Point(x, field.multiply(slope, p.x ^ x) ^ x ^ p.y)
        if p.y != q.y or p.x == 0:
            return None
        slope = p.x ^ field.multiply(p.y, field.inverse(p.x))
        x = field.square(slope) ^ slope ^ self.a
        return Point(x, field.square(p.x) ^ field.multiply(slope ^ 1, x))

    def multiply(self, scalar: int, point: Point) -> Point | None:
        """Return scalar * point, for a point of the subgroup."""
        return self.combine((scalar, point))

    def combine(self, *terms: tuple[int, Point]) -> Point | None:
        """Return the sum of scalar * point over all terms, in little more time than one multiplication."""
        rows = []
        for scalar, point in terms:
            own = point == self.generator
            width = _GENERATOR_WIDTH if own else _WIDTH
            table = _generator_table(self) if own else _table(self, point, width)
            rows.append((_tau_naf(self, *_reduced(self, scalar), width), table))
        return self._affine(_interleave(self, rows))

    def public_key(self, private_key: int) -> Point:
        """Return private_key * generator. LocalProtocolError when the private key is not in 1 ... order - 1."""
        if not 0 < private_key < self.order:
            raise LocalProtocolError(
                f"a private key of {self.name} is between 1 and the order less 1, this one is not"
            )
        point = self.multiply(private_key, self.generator)
        assert point is not None  # the order is prime
        return point

    def _affine(self, point: _Projective) -> Point | None:
        x, y, z = point
        if z == 0:
            return None
        field = self.field
        inverse = field.inverse(z)
        return Point(field.multiply(x, inverse), field.multiply(y, field.square(inverse)))


# --- multiplication with the Frobenius map ----------------------------------------------------------------------------
#
# J. Solinas, "Efficient Arithmetic on Koblitz Curves", Designs, Codes and Cryptography 19 (2000). Squaring both
# coordinates of a point is an endomorphism tau of the curve with tau^2 + 2 = mu tau, mu = -1 for a = 0 and 1 for a = 1.
# A scalar written with powers of tau in place of powers of two needs squarings where others need doublings. The pair
# (c, d) below stands for c + d tau.


def _mu(curve: Curve) -> int:
    return 1 if curve.a else -1


def _remainder(curve: Curve, c: int, modulus: tuple[int, int]) -> tuple[int, int]:
    """Return an element near 0 that differs from the integer c by a multiple of the modulus."""
    mu = _mu(curve)
    m0, m1 = modulus
    norm = m0 * m0 + mu * m0 * m1 + 2 * m1 * m1
    # c / modulus is c times the modulus' conjugate over its norm; each part to the nearest integer.
    q0 = (2 * c * (m0 + mu * m1) + norm) // (2 * norm)
    q1 = (-2 * c * m1 + norm) // (2 * norm)
    return c - q0 * m0 + 2 * q1 * m1, -(q0 * m1 + q1 * m0 + mu * q1 * m1)


def _tau_power(curve: Curve, exponent: int) -> tuple[int, int]:
    c, d = 1, 0
    for _ in range(exponent):
        c, d = -2 * d, c + _mu(curve) * d
    return c, d


@cache
def _unity(curve: Curve) -> tuple[int, int]:
    """Return (tau^m - 1) / (tau - 1), which takes every point of the subgroup to infinity."""
    c = d = 0
    for exponent in range(curve.field.degree):
        e, f = _tau_power(curve, exponent)
        c, d = c + e, d + f
    return c, d


def _reduced(curve: Curve, scalar: int) -> tuple[int, int]:
    return _remainder(curve, scalar % curve.order, _unity(curve))


@cache
def _digits(curve: Curve, width: int) -> tuple[int, tuple[tuple[int, int], ...]]:
    """Return tau modulo 2^width, and what the odd digits 1, 3, ... 2^(width - 1) - 1 stand for."""
    modulus = 1 << width
    root = next(t for t in range(0, modulus, 2) if (t * t + 2 - _mu(curve) * t) % modulus == 0)
    power = _tau_power(curve, width)
    return root, tuple(_remainder(curve, digit, power) for digit in range(1, modulus >> 1, 2))


def _tau_naf(curve: Curve, c: int, d: int, width: int) -> list[int]:
    """Return the digits of c + d tau, the lowest first: 0, or odd and between -2^(width - 1) and 2^(width - 1)."""
    mu = _mu(curve)
    root, meanings = _digits(curve, width)
    modulus, half = 1 << width, 1 << width - 1
    digits = []
    while c or d:
        digit = 0
        if c & 1:
            digit = (c + d * root) % modulus
            if digit < half:
                e, f = meanings[digit >> 1]
                c, d = c - e, d - f
            else:
                digit -= modulus
                e, f = meanings[-digit >> 1]
                c, d = c + e, d + f
        digits.append(digit)
        c >>= 1
        c, d = d + mu * c, -c
    return digits


def _table(curve: Curve, point: Point, width: int) -> tuple[_TablePoint, ...]:
    """Return the multiples of a point that the odd digits stand for, all to affine with one inversion."""
    first = _TablePoint(point.x, point.y, point.x ^ point.y)
    _, meanings = _digits(curve, width)
    multiples = [_interleave(curve, [(_tau_naf(curve, c, d, 2), (first,))]) for c, d in meanings[1:]]
    field = curve.field
    products = [1]
    for _, _, z in multiples:
        products.append(field.multiply(products[-1], z))
    inverse = field.inverse(products.pop())
    table = []
    for (x, y, z), before in zip(reversed(multiples), reversed(products), strict=True):
        own = field.multiply(inverse, before)
        inverse = field.multiply(inverse, z)
        x, y = field.multiply(x, own), field.multiply(y, field.square(own))
        table.append(_TablePoint(x, y, x ^ y))
    return (first, *reversed(table))


@cache
def _generator_table(curve: Curve) -> tuple[_TablePoint, ...]:
    return _table(curve, curve.generator, _GENERATOR_WIDTH)


def _interleave(curve: Curve, rows: Sequence[tuple[list[int], Sequence[_TablePoint]]]) -> _Projective:
    """Return the sum over all rows of digits times table, in Lopez-Dahab coordinates (X/Z, Y/Z^2)."""
    square = curve.field.square
    x, y, z = _INFINITY
    for place in range(max(len(digits) for digits, _ in rows) - 1, -1, -1):
        if z:
            x, y, z = square(x), square(y), square(z)
        for digits, table in rows:
            if place < len(digits) and (digit := digits[place]):
                if digit > 0:
                    x, y, z = _add_mixed(curve, x, y, z, *table[digit >> 1])
                else:
                    x2, y2, x2_plus_y2 = table[-digit >> 1]
                    x, y, z = _add_mixed(curve, x, y, z, x2, x2_plus_y2, y2)
    return x, y, z


def _add_mixed(curve: Curve, x1: int, y1: int, z1: int, x2: int, y2: int, x2_plus_y2: int) -> _Projective:
    """Return a point in Lopez-Dahab coordinates plus one in affine ones."""
    # Hankerson, Menezes, Vanstone, "Guide to Elliptic Curve Cryptography", algorithm 3.25.
    if z1 == 0:
        return x2, y2, 1
    field = curve.field
    multiply, square = field.multiply, field.square
    z1_squared = square(z1)
    b = x1 ^ multiply(z1, x2)
    a = y1 ^ multiply(z1_squared, y2)
    if b == 0:
        if a:
            return _INFINITY
        doubled = curve.add(Point(x2, y2), Point(x2, y2))
        return _INFINITY if doubled is None else (*doubled, 1)
    c = multiply(z1, b)
    z3 = square(c)
    e = multiply(c, a)
    x3 = square(a) ^ e ^ multiply(square(b), c ^ z1_squared if curve.a else c)
    f = x3 ^ multiply(x2, z3)
    g = multiply(square(z3), x2_plus_y2)
    return x3, multiply(e ^ z3, f) ^ g, z3


# --- the two curves ---------------------------------------------------------------------------------------------------

# SEC 2 v2.0 3.2.1 and 3.4.1.
SECT163K1: Final = Curve(
    "sect163k1",
    Field(163, (7, 6, 3), 1 << 157 | 1),
    1,
    0x04_00000000_00000000_00020108_A2E0CC0D_99F8A5EF,
    2,
    Point(
        0x02_FE13C053_7BBC11AC_AA07D793_DE4E6D5E_5C94EEE8,
        0x02_89070FB0_5D38FF58_321F2E80_0536D538_CCDAA3D9,
    ),
)
SECT283K1: Final = Curve(
    "sect283k1",
    Field(283, (12, 7, 5), 1 << 271 | 1),
    0,
    0x01FFFFFF_FFFFFFFF_FFFFFFFF_FFFFFFFF_FFFFE9AE_2ED07577_265DFF7F_94451E06_1E163C61,
    4,
    Point(
        0x0503213F_78CA4488_3F1A3B81_62F188E5_53CD265F_23C1567A_16876913_B0C2AC24_58492836,
        0x01CCDA38_0F1C9E31_8D90F95D_07E5426F_E87E45C0_E8184698_E4596236_4E341161_77DD2259,
    ),
)


# --- keys and signatures ----------------------------------------------------------------------------------------------


def new_private_key(curve: Curve, random_octets: RandomOctets) -> int:
    """Return a private key made of `curve.octets` + 8 random octets."""
    # FIPS 186-5 A.2.1: with 64 bits more than the order has, the remainder is as good as evenly spread.
    return int.from_bytes(random_octets(curve.octets + 8), "big") % (curve.order - 1) + 1


def sign(curve: Curve, private_key: int, digest: bytes, random_octets: RandomOctets) -> bytes:
    """Return the ECDSA signature of a digest: r and s, each as long as a private key (SEC 1 v2.0 4.1.3)."""
    message = _message(curve, digest)
    while True:
        secret = new_private_key(curve, random_octets)
        r = curve.public_key(secret).x % curve.order
        s = pow(secret, -1, curve.order) * (message + r * private_key) % curve.order
        if r and s:
            return r.to_bytes(curve.octets, "big") + s.to_bytes(curve.octets, "big")


def verify(curve: Curve, public_key: Point, digest: bytes, signature: bytes) -> bool:
    """Whether an ECDSA signature of a digest was made with the private key of `public_key` (SEC 1 v2.0 4.1.4)."""
    if len(signature) != 2 * curve.octets:
        return False
    r = int.from_bytes(signature[: curve.octets], "big")
    s = int.from_bytes(signature[curve.octets :], "big")
    if not 0 < r < curve.order or not 0 < s < curve.order:
        return False
    inverse = pow(s, -1, curve.order)
    message = _message(curve, digest)
    point = curve.combine((message * inverse, curve.generator), (r * inverse, public_key))
    return point is not None and point.x % curve.order == r


def _message(curve: Curve, digest: bytes) -> int:
    # SEC 1 v2.0 4.1.3 step 5: of a longer digest the leftmost bits, as many as the order has.
    return int.from_bytes(digest, "big") >> max(0, 8 * len(digest) - curve.order.bit_length())
