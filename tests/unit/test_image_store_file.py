"""The hub's images over a power cut: whatever became of the octets, what is whole is back and what is not is told."""

from __future__ import annotations

import dataclasses
import random
import struct
import zlib

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from harness.errors import LocalProtocolError
from harness.members.image_store import ImageStore
from harness.members.image_store_file import ENTRY_LENGTH, HEADER_LENGTH, build_snapshot
from harness.members.image_store_values import (
    ImageLost,
    LossReason,
    SlotGroup,
    SnapshotLost,
    StorePolicy,
    TransferAlert,
)
from harness.members.kinds import DeviceKind
from harness.wire.gbcs_payloads import TransferResponse
from harness.wire.image import OtaImage

ESME, GSME, HCALCS, PPMID, BRIDGE, IHD = DeviceKind
TAKERS = (ESME, GSME, HCALCS, PPMID, BRIDGE)  # an IHD takes no image
POLICY = StorePolicy(groups=(SlotGroup((GSME, HCALCS, PPMID, BRIDGE), slots=4),), transfer_attempts=None)
TARGETS = {0x61: GSME, 0x71: PPMID, 0xB1: BRIDGE}
SIZE = 60  # octets of each image


def filled():
    """Return a store with an image for each target."""
    store = ImageStore(POLICY)
    for version, (target, kind) in enumerate(TARGETS.items(), 1):
        store.receive(OtaImage(0x121D, 0, version, b"firm"), kind, target, 10.0 * version)
    return store


def came_up(data, policy=POLICY):
    """Return a store after a power cut that left it `data`, and what it told."""
    store = ImageStore(policy)
    return store, store.restore(data)


def check_losses(store, events):
    """Each loss that has a name has its alert right behind it, and nothing that is lost is there."""
    for index, event in enumerate(events):
        if isinstance(event, ImageLost) and event.target is not None:
            assert events[index + 1] == TransferAlert(
                0x8F89, TransferResponse.IMAGE_DISCARDED, event.target, event.version
            )
    lost = [event for event in events if isinstance(event, ImageLost)]
    alerts = [event for event in events if isinstance(event, TransferAlert)]
    assert len(alerts) == sum(event.target is not None for event in lost)
    return lost


SNAPSHOT = filled().snapshot()
FULL = filled().waiting


def test_what_was_written_comes_up_again():
    """Targets, kinds, images, times and failures; a transfer under way waits again."""
    store = filled()
    store.failed(0x71)
    store.started(0xB1)
    again, events = came_up(store.snapshot())
    assert events == []
    assert again.get(0x71).failures == 1
    assert not again.get(0xB1).transferring
    assert [(held.kind, held.target, held.image, held.stored_at) for held in again.waiting] == [
        (held.kind, held.target, held.image, held.stored_at) for held in FULL
    ]
    assert came_up(ImageStore(POLICY).snapshot())[1] == []


def test_the_age_of_an_image_outlives_the_power():
    """Retention counts from the delivery, not from the start of the hub."""
    store = ImageStore(StorePolicy(retention_seconds=50.0))
    store.receive(OtaImage(1, 2, 3, b""), PPMID, 0x71, 10.0)
    again, _ = came_up(store.snapshot(), store.policy)
    assert again.next_deadline() == 60.0


def test_a_snapshot_cut_short_anywhere_gives_what_is_whole_and_names_the_rest():
    """Power lost at each octet of the writing: whole and lost make three, all named once the entries are out."""
    named_from = HEADER_LENGTH + 3 * ENTRY_LENGTH
    assert len(SNAPSHOT) == named_from + 3 * SIZE
    for length in range(len(SNAPSHOT)):
        store, events = came_up(SNAPSHOT[:length])
        lost = check_losses(store, events)
        assert store.waiting == FULL[: max(0, length - named_from) // SIZE]
        if length < HEADER_LENGTH // 2:
            assert events == [SnapshotLost(length)]
            continue
        assert len(store.waiting) + len(lost) == 3
        assert {loss.reason for loss in lost} == {LossReason.CUT_SHORT}
        if length >= named_from:
            assert [loss.target for loss in lost] == list(TARGETS)[len(store.waiting) :]


def test_a_flipped_bit_costs_nothing_or_the_one_image_that_it_is_in():
    """Every bit of a snapshot: header and entries have their copy, an image is lost by name, its neighbours stay."""
    bodies = HEADER_LENGTH + 3 * ENTRY_LENGTH
    for bit in range(8 * len(SNAPSHOT)):
        data = bytearray(SNAPSHOT)
        data[bit // 8] ^= 1 << bit % 8
        store, events = came_up(bytes(data))
        lost = check_losses(store, events)
        if bit // 8 < bodies:
            assert events == []
            assert store.waiting == FULL
        else:
            hit = FULL[(bit // 8 - bodies) // SIZE]
            assert lost == [ImageLost(hit.target, hit.version, LossReason.DAMAGED)]
            assert store.waiting == tuple(held for held in FULL if held is not hit)


def test_an_image_whose_entry_is_lost_in_both_copies_is_lost_without_a_name():
    """No alert can be sent for it; that one is lost is known all the same."""
    start = HEADER_LENGTH + ENTRY_LENGTH
    data = SNAPSHOT[:start] + bytes(ENTRY_LENGTH) + SNAPSHOT[start + ENTRY_LENGTH :]
    store, events = came_up(data)
    assert events == [ImageLost(None, None, LossReason.DAMAGED)]
    assert store.waiting == (FULL[0], FULL[2])


def test_without_its_header_what_is_whole_is_back():
    """How many there were is not known; that is what is told."""
    store, events = came_up(bytes(HEADER_LENGTH) + SNAPSHOT[HEADER_LENGTH:])
    assert events == [SnapshotLost(len(SNAPSHOT))]
    assert store.waiting == FULL


def test_octets_behind_a_snapshot_lose_nothing():
    """A longer snapshot was there before, and its end still is."""
    store, events = came_up(SNAPSHOT + SNAPSHOT)
    assert events == []
    assert store.waiting == FULL


def test_what_has_no_room_under_another_policy_is_lost_by_name():
    """Four slots when written, one when read: the first stays."""
    store, events = came_up(SNAPSHOT, StorePolicy())
    assert store.waiting == FULL[:1]
    assert [loss.reason for loss in check_losses(store, events)] == [LossReason.NO_ROOM] * 2
    store, events = came_up(SNAPSHOT, StorePolicy(groups=(SlotGroup((ESME,)),)))
    assert len(check_losses(store, events)) == 3


@pytest.mark.parametrize(
    ("offset", "octets"),
    [(0, b"\x09"), (9, b"\x09"), (13, struct.pack("<d", float("nan"))), (23, b"\xff" * 8), (35, bytes(32))],
    ids=["kind", "version", "time", "offset", "digest"],
)
def test_an_entry_that_lies_under_a_right_checksum_is_refused(offset, octets):
    """Kind, version, time, place and digest are checked for what they say, too."""
    half = ENTRY_LENGTH // 2
    entry = bytearray(SNAPSHOT[HEADER_LENGTH : HEADER_LENGTH + half - 4])
    entry[offset : offset + len(octets)] = octets
    checked = bytes(entry) + struct.pack("<I", zlib.crc32(entry))
    assert len(checked) == half
    store, events = came_up(SNAPSHOT[:HEADER_LENGTH] + checked * 2 + SNAPSHOT[HEADER_LENGTH + ENTRY_LENGTH :])
    assert len(check_losses(store, events)) == 1
    assert store.waiting == FULL[1:]


def test_two_images_for_one_target_never_come_up():
    """No store writes them; a file that has them gives the first."""
    store, events = came_up(build_snapshot((FULL[0], FULL[1], FULL[0])))
    assert store.waiting == FULL[:2]
    assert [loss.reason for loss in check_losses(store, events)] == [LossReason.NO_ROOM]


def test_a_transfer_that_never_succeeds_can_still_be_written_down():
    """A hub that tries for ever counts further than the file does."""
    store, events = came_up(build_snapshot([dataclasses.replace(FULL[0], failures=100_000)]))
    assert events == []
    assert store.waiting[0].failures == 0xFFFF


def test_a_store_that_holds_images_is_not_restored_over():
    """It would lose them without a word."""
    with pytest.raises(LocalProtocolError, match="3 images"):
        filled().restore(SNAPSHOT)


@settings(max_examples=200, deadline=None)
@given(st.binary(max_size=200) | st.binary(max_size=200).map(lambda tail: SNAPSHOT[:HEADER_LENGTH] + tail))
def test_no_octets_make_a_store_fail_to_come_up(data):
    """Random ones, and a header that promises what does not follow."""
    store, events = came_up(data)
    check_losses(store, events)
    assert store.waiting == ()
    assert events


@settings(max_examples=200, deadline=None)
@given(st.integers(0, 2**32), st.integers(1, 40), st.integers(0, len(SNAPSHOT)))
def test_however_a_snapshot_is_damaged_nothing_false_comes_up(seed, damages, length):
    """Octets changed in many places and the end gone: what is back is one of those that were there, as it was."""
    source = random.Random(seed)
    data = bytearray(SNAPSHOT[:length])
    for _ in range(damages if data else 0):
        data[source.randrange(len(data))] = source.randrange(256)
    store, events = came_up(bytes(data))
    lost = check_losses(store, events)
    assert set(store.waiting) <= set(FULL)
    if not any(isinstance(event, SnapshotLost) for event in events):
        assert len(store.waiting) + len(lost) == 3
