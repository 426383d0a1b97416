"""The hub's image store under any policy and any sequence: no image is in two places, none goes without a word."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from harness.members.image_store import ImageStore
from harness.members.image_store_values import (
    DEFAULT_PRECEDENCE,
    ImageDiscarded,
    ImageExpired,
    ImageRefused,
    ImageStored,
    ImageTransferred,
    SlotGroup,
    StorePolicy,
    TransferAlert,
    Verdict,
    Victim,
)
from harness.members.kinds import DeviceKind
from harness.wire.gbcs_image import UpgradeImage, build_upgrade_image
from harness.wire.gbcs_payloads import TransferResponse
from harness.wire.image import OtaImage

ESME, GSME, HCALCS, PPMID, BRIDGE, IHD = DeviceKind
TAKERS = (ESME, GSME, HCALCS, PPMID, BRIDGE)  # an IHD takes no image
SHARED = (GSME, HCALCS, PPMID, BRIDGE)


def image(version, payload=b"firmware", **fields):
    """Build an image of a version."""
    return OtaImage(0x121D, 0, version, payload, **fields)


def forcing(version, force_replace):
    """Build an image with a trailer, and Force Replace in it."""
    return image(version, build_upgrade_image(UpgradeImage(b"firmware", bytes(64), force_replace)))


POLICIES = st.builds(
    StorePolicy,
    groups=st.sampled_from(
        [
            StorePolicy().groups,
            (SlotGroup(SHARED, slots=2),),
            (SlotGroup((GSME,)), SlotGroup((HCALCS, PPMID, BRIDGE), slots=3), SlotGroup((ESME,), slots=2)),
        ]
    ),
    precedence=st.fixed_dictionaries({pair: st.sampled_from(Verdict) for pair in DEFAULT_PRECEDENCE}),
    victim=st.sampled_from(Victim),
    same_target=st.sampled_from(Verdict),
    same_target_newer_only=st.booleans(),
    force_replace_forces=st.booleans(),
    checks_trailer=st.booleans(),
    size_limit=st.sampled_from([None, 100, 130]),
    checks_hardware=st.booleans(),
    retention_seconds=st.sampled_from([None, 5.0]),
    expires_during_transfer=st.booleans(),
    transfer_attempts=st.sampled_from([None, 1, 2]),
)
TARGETS = dict(enumerate((*TAKERS, *TAKERS, BRIDGE, BRIDGE)))
ACTIONS = st.tuples(
    st.sampled_from(
        ["receive"] * 4 + ["start", "progress", "transfer", "fail", "expire", "learn", "cut", "withdraw"]
    ),
    st.sampled_from(sorted(TARGETS)),
    st.integers(0, 3),
)
ENDS = (ImageRefused, ImageDiscarded, ImageExpired, ImageTransferred)


def act(store, action, target, choice, version, now):
    """Do one thing to a store; return the store, which a power cut replaces, and the events."""
    if action == "receive":
        made = (
            image(version),
            forcing(version, choice),
            image(version, bytes(61)),
            image(version, hardware_min=1, hardware_max=2),
        )[choice]
        return store, store.receive(made, TARGETS[target], target, now, hardware=choice)
    if action == "expire":
        return store, store.expire(now)
    if action == "learn":
        return store, store.hardware_learned(target, choice)
    if action == "cut":
        again = ImageStore(store.policy)
        return again, again.restore(store.snapshot())
    if store.get(target) is None:
        return store, []
    if action == "start":
        store.started(target)
    elif action == "progress":
        store.progressed(target, choice)
    else:
        return store, {"transfer": store.transferred, "fail": store.failed, "withdraw": store.withdraw}[
            action
        ](target)
    return store, []


@settings(max_examples=150, deadline=None)
@given(POLICIES, st.lists(ACTIONS, max_size=30))
def test_every_image_that_came_in_has_exactly_one_end(policy, actions):
    """Whatever the policy and the sequence: no more images than slots; an alert for each end, and for that only."""
    store, now = ImageStore(policy), 0.0
    came, stored, ended = set(), set(), []
    for version, (action, target, choice) in enumerate(actions, 1):
        now += 1.0
        store, events = act(store, action, target, choice, version, now)
        if action == "receive":
            came.add((target, version))
        stored |= {(event.target, event.version) for event in events if isinstance(event, ImageStored)}
        ends = [event for event in events if isinstance(event, ENDS)]
        alerts = [event for event in events if isinstance(event, TransferAlert)]
        ended += [(event.target, event.version) for event in ends]
        assert [(end.target, end.version) for end in ends] == [(told.target, told.version) for told in alerts]
        for end, told in zip(ends, alerts, strict=True):
            success = isinstance(end, ImageTransferred)
            assert (told.alert_code == 0x8F8A) == success == (told.response is TransferResponse.SUCCESS)
        waiting = [(held.target, held.version) for held in store.waiting]
        assert sorted(ended + waiting) == sorted(came)  # a list against a set: none twice, none missing
        assert set(waiting) <= stored
        for group in policy.groups:
            assert sum(held.kind in group.kinds for held in store.waiting) <= group.slots
