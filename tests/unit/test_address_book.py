"""The address map of a node: one-to-one, bounded, told of conflicts."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from harness.emulation.address_book import AddressBook


def test_a_pair_is_found_both_ways():
    """By short address and by EUI-64, until it is forgotten."""
    book = AddressBook()
    assert not book.learn(1, 0xA)
    assert (book.eui64s, book.shorts) == ({1: 0xA}, {0xA: 1})
    book.forget(1)
    assert (book.eui64s, book.shorts) == ({}, {})


def test_a_device_moves_and_an_address_changes_hands():
    """A device has its latest address only; an address that was another's is a conflict."""
    book = AddressBook()
    book.learn(1, 0xA)
    assert not book.learn(2, 0xA)
    assert book.eui64s == {2: 0xA}
    assert book.learn(2, 0xB)
    assert book.eui64s == {2: 0xB}
    assert book.shorts == {0xB: 2}


@given(st.lists(st.tuples(st.integers(0, 400), st.integers(0, 400), st.booleans()), max_size=600))
def test_it_stays_one_to_one_and_bounded(steps):
    """Whatever is learnt and forgotten, both directions agree and 256 entries are the limit."""
    book = AddressBook()
    for short, eui64, forget in steps:
        if forget:
            book.forget(short)
        else:
            book.learn(short, eui64)
            assert book.eui64s[short] == eui64
    assert {eui64: short for short, eui64 in book.eui64s.items()} == book.shorts
    assert len(book.shorts) == len(book.eui64s) <= 256
