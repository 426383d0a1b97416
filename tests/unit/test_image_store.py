"""The hub's image store: who overwrites whom, what ends the waiting, and what is told of every image that is lost."""

from __future__ import annotations

import dataclasses

import pytest

from harness.errors import LocalProtocolError
from harness.members.image_store import ImageStore
from harness.members.image_store_values import (
    DEFAULT_PRECEDENCE,
    DiscardCause,
    ImageDiscarded,
    ImageExpired,
    ImageRefused,
    ImageStored,
    ImageTransferred,
    RefusalReason,
    SlotGroup,
    StorePolicy,
    TransferAlert,
    TransferFailed,
    Verdict,
    Victim,
)
from harness.members.kinds import DeviceKind
from harness.wire.gbcs_image import UpgradeImage, build_upgrade_image
from harness.wire.gbcs_payloads import TransferResponse
from harness.wire.image import OtaImage, build_image

ESME, GSME, HCALCS, PPMID, BRIDGE, IHD = DeviceKind
TAKERS = (ESME, GSME, HCALCS, PPMID, BRIDGE)  # an IHD takes no image
DEVICES = {ESME: 0xE1, GSME: 0x61, HCALCS: 0xA1, PPMID: 0x71, BRIDGE: 0xB1}
SHARED = (GSME, HCALCS, PPMID, BRIDGE)
STAGES = ("waiting", "just started", "half way", "all octets gone")


def image(version=1, payload=b"firmware", **fields):
    """Build an image of a version."""
    return OtaImage(0x121D, 0, version, payload, **fields)


def forcing(version=1, force_replace=1):
    """Build an image with a trailer, and Force Replace in it."""
    return image(version, build_upgrade_image(UpgradeImage(b"firmware", bytes(64), force_replace)))


def failure(target, version, response=TransferResponse.IMAGE_DISCARDED):
    """Return the alert of an image that did not reach its target."""
    return TransferAlert(0x8F89, response, target, version)


def refusal(events):
    """Return why the one image of these events was refused."""
    (refused,) = [event for event in events if isinstance(event, ImageRefused)]
    return refused.reason


def versions(store):
    """Return what waits, by version, in the order of arrival."""
    return [held.version for held in store.waiting]


def bring(store, target, stage):
    """Let the transfer to a target come as far as `stage`."""
    if stage != "waiting":
        size = store.get(target).image.total_size
        store.started(target)
        store.progressed(target, {"just started": 0, "half way": size // 2, "all octets gone": size}[stage])


def test_an_image_waits_for_its_target():
    """What is stored is what was delivered, as a file or as a value, with the time of its delivery."""
    for delivered in (image(7), build_image(image(7))):
        store = ImageStore(StorePolicy())
        assert store.receive(delivered, PPMID, 0x71, 5.0) == [ImageStored(0x71, 7)]
        (held,) = store.waiting
        assert (held.kind, held.target, held.version, held.stored_at) == (PPMID, 0x71, 7, 5.0)
        assert build_image(held.image) == build_image(image(7))
        assert store.get(0x71) is held
        assert not held.transferring


@pytest.mark.parametrize("stage", STAGES)
@pytest.mark.parametrize(
    ("arriving", "waiting"),
    [(GSME, PPMID), (GSME, BRIDGE), (PPMID, HCALCS), (HCALCS, PPMID), (BRIDGE, HCALCS), (HCALCS, BRIDGE)],
)
def test_what_is_documented_to_overwrite_does_so_at_any_point(arriving, waiting, stage):
    """MP170 Working Group, July 2022; the loss is told by CCS08, Image Discarded."""
    store = ImageStore(StorePolicy())
    loser, winner = DEVICES[waiting], DEVICES[arriving]
    store.receive(image(1), waiting, loser, 0.0)
    bring(store, loser, stage)
    offset = store.get(loser).offset
    assert store.receive(image(2), arriving, winner, 1.0) == [
        ImageDiscarded(loser, 1, DiscardCause.OVERWRITTEN, by=winner, offset=offset),
        failure(loser, 1),
        ImageStored(winner, 2),
    ]
    assert versions(store) == [2]


@pytest.mark.parametrize("stage", STAGES)
@pytest.mark.parametrize("arriving", [PPMID, BRIDGE, HCALCS])
def test_a_waiting_gsme_image_is_not_affected(arriving, stage):
    """Assumed from "GSME has priority": the other is refused, and that it is gone is told."""
    store = ImageStore(StorePolicy())
    store.receive(image(1), GSME, 0x61, 0.0)
    bring(store, 0x61, stage)
    before = store.waiting
    events = store.receive(image(2), arriving, DEVICES[arriving], 1.0)
    assert refusal(events) is RefusalReason.PRECEDENCE
    assert events[1:] == [failure(DEVICES[arriving], 2)]
    assert store.waiting == before


def test_an_esme_image_waits_beside_the_others():
    """By default it has a slot of its own (assumed)."""
    store = ImageStore(StorePolicy())
    store.receive(image(1), ESME, 0xE1, 0.0)
    for version, kind in enumerate((PPMID, GSME), 2):
        store.receive(image(version), kind, DEVICES[kind], 0.0)
    assert versions(store) == [1, 3]


@pytest.mark.parametrize("arriving", SHARED)
@pytest.mark.parametrize("waiting", SHARED)
@pytest.mark.parametrize("verdict", Verdict)
@pytest.mark.parametrize("stage", STAGES)
def test_every_cell_of_the_precedence_table_is_obeyed(arriving, waiting, verdict, stage):
    """For each ordered pair, verdict and stage: the one device's image or the other's is there after, never both."""
    table = {**DEFAULT_PRECEDENCE, (arriving, waiting): verdict}
    store = ImageStore(StorePolicy(precedence=table))
    store.receive(image(1), waiting, 0x01, 0.0)
    bring(store, 0x01, stage)
    events = store.receive(image(2), arriving, 0x02, 1.0)
    overwrites = verdict is Verdict.OVERWRITE or (verdict is Verdict.OVERWRITE_WAITING and stage == "waiting")
    assert versions(store) == ([2] if overwrites else [1])
    if not overwrites:
        reasons = {Verdict.REFUSE: RefusalReason.PRECEDENCE}
        assert refusal(events) is reasons.get(verdict, RefusalReason.TRANSFER_UNDER_WAY)


@pytest.mark.parametrize("stage", STAGES)
@pytest.mark.parametrize("verdict", Verdict)
def test_a_second_image_for_the_same_target_goes_by_its_own_rule(verdict, stage):
    """Replaced, replaced as long as it only waits, or kept; the precedence table has no say, nor have free slots."""
    policy = StorePolicy(
        groups=(SlotGroup(SHARED, slots=2),),
        precedence=dict.fromkeys(DEFAULT_PRECEDENCE, Verdict.REFUSE),
        same_target=verdict,
    )
    store = ImageStore(policy)
    store.receive(image(1), PPMID, 0x71, 0.0)
    bring(store, 0x71, stage)
    events = store.receive(image(2), PPMID, 0x71, 1.0)
    if verdict.yields(transferring=stage != "waiting"):
        assert versions(store) == [2]
        assert events[1] == failure(0x71, 1)
    else:
        assert versions(store) == [1]
        transferring = verdict is Verdict.OVERWRITE_WAITING
        assert refusal(events) is (
            RefusalReason.TRANSFER_UNDER_WAY if transferring else RefusalReason.SAME_TARGET
        )


@pytest.mark.parametrize(("version", "stored"), [(4, False), (5, False), (6, True)])
def test_a_hub_may_take_only_newer_images_in_place_of_one(version, stored):
    """Between two images for one target; the default takes older ones, too."""
    for newer_only in (True, False):
        store = ImageStore(StorePolicy(same_target_newer_only=newer_only))
        store.receive(image(5), PPMID, 0x71, 0.0)
        events = store.receive(image(version), PPMID, 0x71, 1.0)
        if stored or not newer_only:
            assert versions(store) == [version]
        else:
            assert refusal(events) is RefusalReason.NOT_NEWER
            assert versions(store) == [5]


@pytest.mark.parametrize(("victim", "left"), [(Victim.OLDEST, [2, 3]), (Victim.NEWEST, [1, 3])])
def test_of_several_that_may_give_way_the_policy_says_which(victim, left):
    """Two slots, full: the third image takes the place of the oldest, or of the newest."""
    store = ImageStore(StorePolicy(groups=(SlotGroup(SHARED, slots=2),), victim=victim))
    for version in (1, 2, 3):
        store.receive(image(version), BRIDGE, 0xB0 + version, 0.0)
    assert versions(store) == left


def test_only_what_may_be_overwritten_is():
    """With a GSME's image the oldest of two, the other is the one that gives way."""
    store = ImageStore(StorePolicy(groups=(SlotGroup(SHARED, slots=2),)))
    store.receive(image(1), GSME, 0x61, 0.0)
    store.receive(image(2), PPMID, 0x71, 0.0)
    store.receive(image(3), HCALCS, 0xA1, 0.0)
    assert versions(store) == [1, 3]


def test_a_hub_without_a_slot_for_a_kind_refuses_its_images():
    """A hub from before SECMP0007 keeps nothing for a PPMID."""
    store = ImageStore(StorePolicy(groups=(SlotGroup((GSME,)), SlotGroup((ESME,)))))
    assert refusal(store.receive(image(), PPMID, 0x71, 0.0)) is RefusalReason.NO_SLOT


def test_two_hubs_differ_by_policy_alone():
    """The same deliveries, side by side: one slot for all, or a slot for each kind and no overwriting."""
    apart = StorePolicy(groups=tuple(SlotGroup((kind,)) for kind in TAKERS), same_target=Verdict.REFUSE)
    every_pair = {(one, other): Verdict.OVERWRITE for one in TAKERS for other in TAKERS}
    single = StorePolicy(groups=(SlotGroup(tuple(TAKERS)),), precedence=every_pair)
    stores = ImageStore(apart), ImageStore(single)
    for store in stores:
        for version, kind in enumerate((*TAKERS, ESME), 1):
            store.receive(image(version), kind, DEVICES[kind], 0.0)
    assert versions(stores[0]) == [1, 2, 3, 4, 5]
    assert versions(stores[1]) == [6]


# --- what is refused for itself ----------------------------------------------------------------------------------


@pytest.mark.parametrize(("more", "stored"), [(-1, True), (0, True), (1, False)])
def test_the_size_limit_is_the_largest_file_that_is_stored(more, stored):
    """One octet less and the limit itself go in, one more does not; header and trailer count."""
    limit = 1000
    store = ImageStore(StorePolicy(size_limit=limit))
    data = build_image(image(9, bytes(limit + more - 56)))
    assert len(data) == limit + more
    events = store.receive(data, PPMID, 0x71, 0.0)
    if stored:
        assert events == [ImageStored(0x71, 9)]
    else:
        assert refusal(events) is RefusalReason.TOO_LARGE
        assert events[1:] == [failure(0x71, 9)]
    unlimited = ImageStore(StorePolicy(size_limit=None))
    assert unlimited.receive(data, PPMID, 0x71, 0.0) == [ImageStored(0x71, 9)]


def test_a_refused_image_leaves_what_waits_alone():
    """One that is too large overwrites nothing, not even one for the same target."""
    store = ImageStore(StorePolicy(size_limit=100))
    store.receive(image(1), PPMID, 0x71, 0.0)
    store.receive(image(2, bytes(100)), PPMID, 0x71, 0.0)
    store.receive(image(3, bytes(100)), GSME, 0x61, 0.0)
    assert versions(store) == [1]


@pytest.mark.parametrize(
    ("hardware", "fits"), [(0x1110, False), (0x1111, True), (0x1211, True), (0x1212, False)]
)
def test_a_hardware_range_that_excludes_the_target_is_told_by_its_own_code(hardware, fits):
    """CCS08 response code 2; both ends of the range fit; found when delivered, or when the device says what it is."""
    ranged = image(3, hardware_min=0x1111, hardware_max=0x1211)
    mismatch = failure(0x71, 3, TransferResponse.HARDWARE_VERSION_MISMATCH)
    known, later = ImageStore(StorePolicy(alerts_refusals=False)), ImageStore(StorePolicy())
    events = known.receive(ranged, PPMID, 0x71, 0.0, hardware=hardware)
    later.receive(ranged, PPMID, 0x71, 0.0)
    learned = later.hardware_learned(0x71, hardware)
    if fits:
        assert events == [ImageStored(0x71, 3)]
        assert learned == []
    else:
        assert refusal(events) is RefusalReason.HARDWARE_VERSION_MISMATCH
        assert events[1:] == [mismatch]
        assert learned == [ImageDiscarded(0x71, 3, DiscardCause.HARDWARE_VERSION_MISMATCH), mismatch]
        assert later.waiting == ()
    blind = ImageStore(StorePolicy(checks_hardware=False))
    assert blind.receive(ranged, PPMID, 0x71, 0.0, hardware=hardware) == [ImageStored(0x71, 3)]
    assert blind.hardware_learned(0x71, hardware) == []


def test_an_image_without_a_range_fits_every_hardware():
    """And a device that no image waits for changes nothing by what it is."""
    store = ImageStore(StorePolicy())
    assert store.hardware_learned(0x71, 5) == []
    assert store.receive(image(), PPMID, 0x71, 0.0, hardware=0xFFFF) == [ImageStored(0x71, 1)]


@pytest.mark.parametrize("force_replace", [0, 1, 0xFF])
@pytest.mark.parametrize("forces", [False, True])
def test_force_replace_forces_where_the_policy_says_so(force_replace, forces):
    """An HCALCS's image over a GSME's that is half way, and an older one over that: refused unless forced."""
    store = ImageStore(
        StorePolicy(force_replace_forces=forces, same_target=Verdict.REFUSE, same_target_newer_only=True)
    )
    store.receive(image(1), GSME, 0x61, 0.0)
    bring(store, 0x61, "half way")
    store.receive(forcing(5, force_replace), HCALCS, 0xA1, 1.0)
    forced = forces and force_replace != 0
    assert versions(store) == ([5] if forced else [1])
    store.receive(forcing(4, force_replace), HCALCS, 0xA1, 2.0)
    assert versions(store) == ([4] if forced else [1])


def test_a_ppmid_image_has_no_force_replace():
    """What stands in that place of a plain image is firmware, unless a policy says that PPMIDs have trailers, too."""
    for kinds, left in ((StorePolicy().trailer_kinds, [1]), (tuple(TAKERS), [2])):
        store = ImageStore(StorePolicy(force_replace_forces=True, trailer_kinds=kinds))
        store.receive(image(1), GSME, 0x61, 0.0)
        store.receive(forcing(2), PPMID, 0x71, 1.0)
        assert versions(store) == left


@pytest.mark.parametrize("payload", [b"", b"short", bytes(300)])
def test_a_missing_trailer_is_the_devices_business_unless_the_hub_checks(payload):
    """A hub that checks refuses it; one that does not stores it, and takes it as not forcing."""
    careful = ImageStore(StorePolicy(checks_trailer=True))
    assert refusal(careful.receive(image(1, payload), GSME, 0x61, 0.0)) is RefusalReason.NO_TRAILER
    assert careful.receive(image(1, payload), PPMID, 0x71, 0.0) == [ImageStored(0x71, 1)]
    assert careful.receive(forcing(1, 0), ESME, 0xE1, 0.0) == [ImageStored(0xE1, 1)]
    easy = ImageStore(StorePolicy(force_replace_forces=True))
    assert easy.receive(image(1, payload), GSME, 0x61, 0.0) == [ImageStored(0x61, 1)]


def test_a_file_that_is_none_is_refused_whatever_is_wrong():
    """Cut short anywhere, or with an octet too many; the version is told from the octet that completes it on."""
    store = ImageStore(StorePolicy())
    whole = build_image(image(0x01020304))
    for length in range(len(whole)):
        events = store.receive(whole[:length], PPMID, 0x71, 0.0)
        assert refusal(events) is RefusalReason.MALFORMED
        assert events[1:] == ([failure(0x71, 0x01020304)] if length >= 18 else [])
    assert "trailing" in store.receive(whole + b"\0", PPMID, 0x71, 0.0)[0].detail
    assert store.receive(b"\0" * 80, PPMID, 0x71, 0.0)[1:] == []
    assert store.waiting == ()


def test_refusals_may_be_silent():
    """A policy whose hub says nothing of what it never kept."""
    store = ImageStore(StorePolicy(alerts_refusals=False, size_limit=60))
    assert len(store.receive(image(), PPMID, 0x71, 0.0)) == 1


# --- the transfer and the time -----------------------------------------------------------------------------------


def test_a_transfer_that_succeeds_ends_the_waiting():
    """CCS08: alert code 0x8F8A, response code 0; the slot is free after it."""
    store = ImageStore(StorePolicy())
    store.receive(image(1), GSME, 0x61, 0.0)
    bring(store, 0x61, "all octets gone")
    assert store.transferred(0x61) == [
        ImageTransferred(0x61, 1),
        TransferAlert(0x8F8A, TransferResponse.SUCCESS, 0x61, 1),
    ]
    assert store.receive(image(2), PPMID, 0x71, 1.0) == [ImageStored(0x71, 2)]


def test_a_transfer_that_fails_is_tried_as_often_as_the_policy_says():
    """CCS08 response code 3 comes when the image is given up."""
    given_up = failure(0x71, 1, TransferResponse.FILE_TRANSFER_FAILURE)
    for attempts in (1, 3):
        store = ImageStore(StorePolicy(transfer_attempts=attempts))
        store.receive(image(1), PPMID, 0x71, 0.0)
        for failures in range(1, attempts):
            store.started(0x71)
            assert store.failed(0x71) == [TransferFailed(0x71, 1, failures)]
            assert not store.get(0x71).transferring
        store.started(0x71)
        assert store.failed(0x71) == [
            ImageDiscarded(0x71, 1, DiscardCause.TRANSFER_FAILED, offset=0),
            given_up,
        ]
        assert store.waiting == ()
    patient = ImageStore(StorePolicy(transfer_attempts=None))
    patient.receive(image(1), PPMID, 0x71, 0.0)
    for failures in range(1, 20):
        assert patient.failed(0x71) == [TransferFailed(0x71, 1, failures)]


def test_retention_ends_the_waiting_to_the_second():
    """At the limit, not before; the deadline is told ahead; without a limit there is none."""
    store = ImageStore(StorePolicy(retention_seconds=100.0))
    store.receive(image(1), PPMID, 0x71, 5.0)
    store.receive(image(2), ESME, 0xE1, 6.0)
    assert store.next_deadline() == 105.0
    assert store.expire(104.9) == []
    assert store.expire(105.0) == [ImageExpired(0x71, 1), failure(0x71, 1)]
    assert store.next_deadline() == 106.0
    assert store.expire(1000.0) == [ImageExpired(0xE1, 2), failure(0xE1, 2)]
    assert store.next_deadline() is None
    kept = ImageStore(StorePolicy())
    kept.receive(image(1), PPMID, 0x71, 5.0)
    assert kept.next_deadline() is None
    assert kept.expire(1e12) == []


@pytest.mark.parametrize("expires", [False, True])
def test_a_transfer_under_way_expires_only_where_the_policy_says_so(expires):
    """Otherwise it may finish; once it failed, the time that has passed counts."""
    policy = StorePolicy(retention_seconds=100.0, expires_during_transfer=expires, transfer_attempts=None)
    store = ImageStore(policy)
    store.receive(image(1), PPMID, 0x71, 0.0)
    bring(store, 0x71, "just started")
    assert store.next_deadline() == (100.0 if expires else None)
    expected = [ImageExpired(0x71, 1, 0), failure(0x71, 1)] if expires else []
    assert store.expire(100.0) == expected
    if not expires:
        store.failed(0x71)
        assert store.expire(100.0) == [ImageExpired(0x71, 1), failure(0x71, 1)]


def test_an_image_can_be_withdrawn():
    """The operator's word; the loss is told as any other."""
    store = ImageStore(StorePolicy())
    store.receive(image(1), PPMID, 0x71, 0.0)
    assert store.withdraw(0x71) == [ImageDiscarded(0x71, 1, DiscardCause.WITHDRAWN), failure(0x71, 1)]


def test_what_makes_no_sense_is_the_callers_error():
    """A transfer of nothing, of too much, to no EUI-64, or to a device that changed its kind."""
    store = ImageStore(StorePolicy())
    for call in (store.started, store.transferred, store.failed, store.withdraw):
        with pytest.raises(LocalProtocolError, match="no image waits"):
            call(0x71)
    with pytest.raises(LocalProtocolError, match="no EUI-64"):
        store.receive(image(), PPMID, 1 << 64, 0.0)
    store.receive(image(), PPMID, 0x71, 0.0)
    with pytest.raises(LocalProtocolError, match="is gsme, and was ppmid"):
        store.receive(image(), GSME, 0x71, 0.0)
    for offset in (-1, image().total_size + 1):
        with pytest.raises(LocalProtocolError, match="octets"):
            store.progressed(0x71, offset)


@pytest.mark.parametrize(
    ("fields", "problem"),
    [
        ({"groups": (SlotGroup((ESME, GSME)),)}, "no precedence says"),
        ({"groups": (SlotGroup((ESME,)), SlotGroup((ESME,)))}, "slots twice"),
        ({"groups": (SlotGroup((ESME,), slots=0),)}, "0 slots"),
        ({"size_limit": 0}, "size limit"),
        ({"retention_seconds": 0.0}, "retention"),
        ({"retention_seconds": float("nan")}, "retention"),
        ({"transfer_attempts": 0}, "attempts"),
    ],
)
def test_a_policy_that_leaves_a_case_open_is_refused(fields, problem):
    """A policy is checked when it is made, not when the case comes."""
    with pytest.raises(LocalProtocolError, match=problem):
        StorePolicy(**fields)


def test_a_policy_does_not_change_with_the_table_it_was_made_of():
    """Two stores of one policy stay of one policy."""
    table = dict(DEFAULT_PRECEDENCE)
    policy = StorePolicy(precedence=table)
    table.clear()
    assert policy == StorePolicy()
    assert dataclasses.replace(policy, victim=Victim.NEWEST) != policy
