"""Alt HAN bridges on an emulated air: the base solution and both options of MP170, whole sites with their hub."""

from __future__ import annotations

import random
from dataclasses import replace
from functools import cache

import pytest

from harness.errors import LocalProtocolError
from harness.members.bridge import AltHanBridge
from harness.members.bridge_values import (
    BridgeFailed,
    BridgeUpdated,
    FeedingBegun,
    FeedingEnded,
)
from harness.members.firmware_values import (
    UNSTARTABLE,
    ActivationBegun,
    ActivationEnded,
    ImageHeld,
    ImageRejected,
)
from harness.members.kinds import DeviceKind
from harness.members.security import UnsecuredRefused
from harness.wire.application import SMART_ENERGY_PROFILE, ApsMessage
from harness.wire.image import build_image
from harness.wire.ota_client_values import DownloadCompleted
from harness.wire.ota_messages import OTA_CLUSTER, QueryNextImageRequest, build_message
from harness.wire.ota_server import ImageQueried, TransferProgressed
from harness.wire.package import Bridge
from tests.unit.bridge_site import (
    B1,
    B2,
    B3,
    B4,
    EUI64S,
    HUB,
    MAKER,
    NEW,
    OLD,
    OPTION_A,
    OPTION_B,
    TYPES,
    Site,
    bridge_config,
    image,
    package,
)

FEEDING = {B1: OPTION_B, B3: OPTION_A}
ALL_NEW = dict.fromkeys(Bridge, NEW)
LIMIT = 900.0
IMPATIENT = {B1: {"feeding_limit": LIMIT}, B3: {"feeding_limit": LIMIT}}


@cache
def commissioned(feeder, bridges):
    """What a site remembers whose bridges all have their keys."""
    return Site(FEEDING[feeder], bridges).link().save()


def ready(feeder=B1, bridges=tuple(Bridge), changes=None):
    """A site whose bridges all have their keys: option B, or with B3 as its feeder option A."""
    return Site(FEEDING[feeder], bridges, changes=changes, saved=commissioned(feeder, bridges))


# --- who takes what from whom -----------------------------------------------------------------------------------------


def test_in_the_base_solution_each_bridge_takes_its_own_image_from_the_hub():
    """AH-01, AH-02: four images for four types; each activates by itself and says so with CS09."""
    site = Site({})
    for bridge in Bridge:
        site.offer(image(bridge), bridge)
    assert site.until(lambda: len(site.alerts()) == 4, within=600)
    assert site.versions() == ALL_NEW
    assert sorted(site.alerts()) == [(bridge, NEW, "SUCCESS") for bridge in Bridge]
    assert all(member.behaviour.config.firmware.kind is DeviceKind.BRIDGE for member in site.members.values())


def test_under_option_b_one_package_updates_all_bridges_of_the_site():
    """AH-12: only B1 asks the hub for an image; one CS09, of B1, says that all run the package."""
    site = ready()
    site.offer(package(B1, *Bridge), B1)
    assert site.until(site.alerts, within=600)
    site.run(7200)
    assert site.versions() == ALL_NEW
    assert site.alerts() == [(B1, NEW, "SUCCESS")]
    assert {event.client for event in site.of("hub", ImageQueried)} == {EUI64S[B1]}
    assert site.of(B1, FeedingBegun) == [FeedingBegun(NEW, (B2, B3, B4))]
    assert {event.bridge for event in site.of(B1, BridgeUpdated)} == {B2, B3, B4}
    assert site.of(B1, FeedingEnded) == [FeedingEnded(NEW, ())]


def test_the_one_that_feeds_runs_its_own_image_last():
    """Until all that it feeds run theirs, it keeps the firmware that has shown that it can hand out images."""
    site = ready()
    site.offer(package(B1, *Bridge), B1)
    assert site.until(lambda: site.of(B1, ActivationEnded), within=600)
    order = [who for _, who, event in site.events if isinstance(event, ActivationEnded)]
    assert sorted(order[:3]) == [B2, B3, B4]
    assert order[3:] == [B1]


def test_under_option_a_three_images_update_four_bridges():
    """AH-11: B4, which sleeps, takes its image from B3, whose package is for both; B1, B2 and B3 send a CS09 each."""
    site = ready(B3)
    site.offer(image(B1), B1)
    site.offer(image(B2), B2)
    site.offer(package(B3, B3, B4), B3)
    assert site.until(lambda: len(site.alerts()) == 3, within=600)
    site.run(7200)
    assert site.versions() == ALL_NEW
    assert sorted(site.alerts()) == [(bridge, NEW, "SUCCESS") for bridge in (B1, B2, B3)]
    assert EUI64S[B4] not in {event.client for event in site.of("hub", ImageQueried)}


def test_a_site_of_two_bridges_takes_a_package_of_two():
    """Most sites have B1 and B2 only: the package matches those."""
    site = ready(bridges=(B1, B2))
    site.offer(package(B1, B1, B2), B1)
    assert site.until(site.alerts, within=600)
    assert site.versions() == {B1: NEW, B2: NEW}
    assert site.alerts() == [(B1, NEW, "SUCCESS")]


# --- a bridge that fails ----------------------------------------------------------------------------------------------

FAILURES = {
    "another type's image": lambda bridge: image(bridge, image_type=0x00FF),
    "hardware excluded": lambda bridge: image(bridge, hardware_min=0x2000, hardware_max=0x2FFF),
    "does not start": lambda bridge: image(bridge, payload=UNSTARTABLE + bytes(100)),
}


@pytest.mark.parametrize(("bridge", "failure"), list(zip((B2, B3, B4), FAILURES, strict=True)))
def test_under_option_b_the_supplier_is_told_of_a_failure_but_not_whose(bridge, failure):
    """AH-13: one CS09 that says failure; the others run the new version; the harness sees which one does not."""
    site = ready()
    site.offer(package(B1, *Bridge, parts={bridge: FAILURES[failure](bridge)}), B1)
    assert site.until(site.alerts, within=600)
    assert site.alerts() == [(B1, NEW, "FAILURE")]
    assert site.versions() == ALL_NEW | {bridge: OLD}
    assert [(event.bridge, event.version) for event in site.of(B1, BridgeFailed)] == [(bridge, NEW)]
    assert site.of(B1, FeedingEnded) == [FeedingEnded(NEW, (bridge,))]


@pytest.mark.parametrize("failure", ["another type's image", "does not start"])
def test_under_option_a_b3_runs_its_image_and_tells_of_b4s_failure(failure):
    """B3 and B4 are one package, and one CS09 tells of both (assumed, as in option B)."""
    site = ready(B3)
    site.offer(package(B3, B3, B4, parts={B4: FAILURES[failure](B4)}), B3)
    assert site.until(site.alerts, within=600)
    assert site.alerts() == [(B3, NEW, "FAILURE")]
    assert site.versions() == {B1: OLD, B2: OLD, B3: NEW, B4: OLD}


@pytest.mark.parametrize("feeder", [B3, B1])
def test_a_bridge_that_stays_dark_has_failed_when_its_time_is_over(feeder):
    """Power cut for good in the middle of its image: the Supplier is told at the limit, not before."""
    site = ready(feeder, changes=IMPATIENT)
    bridges = (B3, B4) if feeder is B3 else tuple(Bridge)
    site.offer(package(feeder, *bridges), feeder)
    assert site.until(lambda: len(progress(site, feeder, B4)) >= 2, within=120, step=0.005)
    begun = next(now for now, _, event in site.events if isinstance(event, FeedingBegun))
    site.members[B4].power_cut()
    site.run(begun + LIMIT - site.now - 1)
    assert site.alerts() == []
    assert site.until(site.alerts, within=60)
    assert site.alerts() == [(feeder, NEW, "FAILURE")]
    assert [event.bridge for event in site.of(feeder, BridgeFailed)] == [B4]
    assert site.behaviour(feeder).running_version == NEW
    assert site.behaviour(B4).running_version == OLD


def test_an_image_of_its_own_that_does_not_start_is_a_failure_though_all_others_run():
    """B1 comes back with its old firmware; the others keep the new one (assumed)."""
    site = ready()
    site.offer(package(B1, *Bridge, parts={B1: FAILURES["does not start"](B1)}), B1)
    assert site.until(site.alerts, within=600)
    assert site.alerts()[0] == (B1, OLD, "FAILURE")
    assert site.versions() == ALL_NEW | {B1: OLD}


def test_a_bridge_that_failed_is_updated_by_the_next_package():
    """The others take the next version as well, and the Supplier is told of success."""
    site = ready()
    site.offer(package(B1, *Bridge, parts={B3: FAILURES["another type's image"](B3)}), B1)
    assert site.until(site.alerts, within=600)
    site.run(30)
    site.offer(package(B1, *Bridge, version=NEW + 1), B1)
    assert site.until(lambda: len(site.alerts()) == 2, within=1200)
    assert site.alerts()[1] == (B1, NEW + 1, "SUCCESS")
    assert set(site.versions().values()) == {NEW + 1}


# --- packages that do not match ---------------------------------------------------------------------------------------

MISMATCHES = {
    "lacks B3": (B1, tuple(Bridge), lambda: package(B1, B1, B2, B4), "lacks the image of B3"),
    "lacks its own": (B1, tuple(Bridge), lambda: package(B1, B2, B3, B4), "lacks the image of B1"),
    "one too many": (B1, (B1, B2), lambda: package(B1, B1, B2, B3), "has an image for B3"),
    "no package": (B1, (B1, B2), lambda: image(B1), "not a package"),
    "its own of another type": (
        B1,
        (B1, B2),
        lambda: package(B1, B1, B2, parts={B1: image(B2)}),
        "the image of B1 in it is of image type 0x0092",
    ),
    "B3 without B4": (B3, tuple(Bridge), lambda: package(B3, B3), "lacks the image of B4"),
    "B1 in B3's": (B3, tuple(Bridge), lambda: package(B3, B1, B3, B4), "has an image for B1"),
}


@pytest.mark.parametrize("mismatch", MISMATCHES)
def test_a_package_that_does_not_match_the_site_is_refused(mismatch):
    """AH-12: nobody runs any of it; CS09 says failure with the version that runs on."""
    feeder, bridges, offered, reason = MISMATCHES[mismatch]
    site = ready(feeder, bridges)
    site.offer(offered(), feeder)
    assert site.until(site.alerts, within=600)
    assert site.alerts() == [(feeder, OLD, "FAILURE")]
    (rejected,) = site.of(feeder, ImageRejected)
    assert reason in rejected.reason
    assert set(site.versions().values()) == {OLD}
    assert site.of(feeder, FeedingBegun) == []


@pytest.mark.parametrize("other", [B2, B3, B4])
def test_a_bridge_refuses_another_types_image(other):
    """AH-02: it does not fetch it, and if it had it, would not run it."""
    site = Site({}, bridges=(B1,))
    site.offer(image(other), B1)
    site.run(4000)
    assert site.versions() == {B1: OLD}
    assert site.of(B1, DownloadCompleted) == []
    reason = site.behaviour(B1).firmware.examine(build_image(image(other)), NEW)
    assert f"image type {TYPES[other]:#06x}" in reason


# --- power cuts -------------------------------------------------------------------------------------------------------


def progress(site, server, client):
    """How far a server was with the image of a bridge after each block that it sent."""
    return [event.offset for event in site.of(server, TransferProgressed) if event.client == EUI64S[client]]


LAST = -(-image(B4).total_size // 56)  # blocks of a bridge's image
CUTS = {
    "A: B3 from the hub": (B3, "hub", B3, B3, {1: 3.0, 7: 120.0, 14: 3.0}),
    "A: B3 while it feeds B4": (B3, B3, B4, B3, {1: 120.0, 3: 3.0, 5: 120.0, LAST: 3.0}),
    "A: B4": (B3, B3, B4, B4, {1: 3.0, 3: 120.0, LAST: 3.0}),
    "B: B1 from the hub": (B1, "hub", B1, B1, {1: 120.0, 13: 3.0, 26: 120.0}),
    "B: B1 while it feeds B2": (B1, B1, B2, B1, {1: 3.0, 2: 120.0, 4: 120.0, LAST: 3.0}),
    "B: B3": (B1, B1, B3, B3, {1: 3.0, 2: 120.0, 5: 3.0, LAST: 120.0}),
}


@pytest.mark.parametrize(("cut", "block"), [(cut, block) for cut, row in CUTS.items() for block in row[-1]])
def test_a_power_cut_at_any_block_on_either_hop_is_survived(cut, block):
    """FW-09: what has come is kept without power; who waits for a short time resumes, for two minutes begins again."""
    feeder, server, client, victim, darks = CUTS[cut]
    site = ready(feeder)
    bridges = (B3, B4) if feeder is B3 else tuple(Bridge)
    site.offer(package(feeder, *bridges), feeder)
    assert site.until(lambda: len(progress(site, server, client)) >= block, within=120, step=0.005)
    before = progress(site, server, client)
    assert site.behaviour(victim).running_version == OLD
    site.cut(victim, darks[block])
    assert site.until(site.alerts, within=2 * 3700)
    assert site.alerts() == [(feeder, NEW, "SUCCESS")]
    assert {site.behaviour(bridge).running_version for bridge in bridges} == {NEW}
    assert len(site.of(feeder, FeedingBegun)) == 1
    after = progress(site, server, client)[len(before) :]
    if victim == client or darks[block] == 3.0:
        # What was on its way when the power went is asked for again.
        assert all(offset >= before[-1] for offset in after)
    else:
        assert after[0] == 56


def test_a_power_cut_while_the_feeder_changes_its_firmware_changes_nothing():
    """The boot loader finishes what it began; the Supplier is told once."""
    site = ready()
    site.offer(package(B1, *Bridge), B1)
    assert site.until(lambda: site.of(B1, ActivationBegun), within=600, step=0.1)
    for _ in range(3):
        site.cut(B1, 0.5)
        site.run(0.01)
    assert site.until(site.alerts, within=600)
    site.run(600)
    assert site.alerts() == [(B1, NEW, "SUCCESS")]
    assert site.versions() == ALL_NEW


def test_a_newer_package_takes_the_place_of_one_that_is_being_handed_out():
    """B4 was dark for the first one; after the second all run that, and the Supplier is told of the second alone."""
    site = ready()
    site.members[B4].power_cut()
    site.offer(package(B1, *Bridge), B1)
    assert site.until(lambda: len(site.of(B1, BridgeUpdated)) == 2, within=600)
    site.offer(package(B1, *Bridge, version=NEW + 1), B1)
    assert site.until(lambda: len(site.of(B1, ImageHeld)) == 2, within=600, step=0.1)
    assert not site.behaviour(B1).known.package
    assert site.until(lambda: len(site.of(B1, FeedingBegun)) == 2, within=600)
    site.members[B4].power_on()
    assert site.until(site.alerts, within=2 * 3700)
    site.run(600)
    assert site.alerts() == [(B1, NEW + 1, "SUCCESS")]
    assert set(site.versions().values()) == {NEW + 1}


# --- keys -------------------------------------------------------------------------------------------------------------


def test_bridges_speak_under_a_link_key_of_their_own():
    """Each pair has a key that neither has with the hub; without it an image is not even asked for."""
    site = ready()
    feeder = site.members[B1].node.link_keys
    for bridge in (B2, B3, B4):
        fed = site.members[bridge].node.link_keys
        assert fed[EUI64S[B1]].key == feeder[EUI64S[bridge]].key
        assert fed[EUI64S[B1]].key != fed[HUB].key
    assert len({entry.key for entry in feeder.values()}) == 4
    query = build_message(QueryNextImageRequest(MAKER, TYPES[B2], OLD, None), 7)
    asks = ApsMessage(site.members[B1].node.short, SMART_ENERGY_PROFILE, OTA_CLUSTER, 1, 1, query)
    seen = len(site.of(B1, ImageQueried))
    site.members[B2].node.send(asks)
    site.run(1)
    assert [event.eui64 for event in site.of(B1, UnsecuredRefused)] == [EUI64S[B2]]
    assert len(site.of(B1, ImageQueried)) == seen


def test_a_bridge_that_is_not_on_the_list_gets_no_key_and_no_image():
    """B3 takes B1 for its feeder, which feeds B2 only."""
    changes = {B3: {"fed_by": B1}}
    site = Site({B1: (B2,)}, bridges=(B1, B2, B3), changes=changes)
    site.run(120)
    site.offer(package(B1, B1, B2), B1)
    assert site.until(site.alerts, within=600)
    assert site.versions() == {B1: NEW, B2: NEW, B3: OLD}
    assert EUI64S[B3] not in site.members[B1].node.link_keys
    assert site.behaviour(B3).client.server is None


def test_a_fed_bridge_finds_a_feeder_that_has_forgotten_its_key():
    """Assumed, as with a Trust Center that is lost: the key is established anew."""
    site = ready(bridges=(B1, B2))
    feeder = site.behaviour(B1)
    first = site.members[B2].node.link_keys[EUI64S[B1]].key
    feeder.known.keyed.remove(EUI64S[B2])
    feeder.known.partners.clear()
    site.members[B1].node.forget_link_key(EUI64S[B2])
    site.offer(package(B1, B1, B2), B1)
    assert site.until(site.alerts, within=2 * 3700)
    assert site.alerts() == [(B1, NEW, "SUCCESS")]
    assert site.members[B2].node.link_keys[EUI64S[B1]].key != first


# --- what is remembered -----------------------------------------------------------------------------------------------


def test_a_commissioned_site_needs_neither_search_nor_key_establishment():
    """What each bridge remembers, by way of JSON, lets it fetch and feed at once."""
    first = Site(OPTION_B).link()
    site = Site(OPTION_B, saved=first.save())
    for bridge in Bridge:
        remembered = first.behaviour(bridge).remember()["bridges"]
        assert site.behaviour(bridge).remember()["bridges"] == remembered
        assert remembered["keyed"]
    site.offer(package(B1, *Bridge), B1)
    assert site.until(site.alerts, within=600)
    assert site.versions() == ALL_NEW
    assert "KeyEstablished" not in {type(event).__name__ for _, _, event in site.events}


@pytest.mark.parametrize(
    "bridges",
    [None, {}, {"keyed": [1]}, {"keyed": [1], "partners": [[1, 2]]}, {"keyed": "x", "partners": []}],
)
def test_what_no_bridge_remembered_is_not_recalled(bridges):
    """A state file of something else stops the run with an error of the bench."""
    behaviour = AltHanBridge(bridge_config(B2, fed_by=B1), random.Random(1))
    saved = behaviour.remember()
    with pytest.raises(LocalProtocolError):
        behaviour.recall({**saved, "bridges": bridges})
    with pytest.raises(LocalProtocolError, match="nothing of other bridges"):
        behaviour.recall({name: value for name, value in saved.items() if name != "bridges"})


@pytest.mark.parametrize(
    ("fields", "wrong"),
    [
        ({"feeds": {B1: EUI64S[B1]}}, "B1 cannot feed itself"),
        ({"fed_by": EUI64S[B1]}, "B1 cannot feed itself"),
        ({"feeds": {B2: EUI64S[B2]}, "fed_by": EUI64S[B3]}, "not from 00-0D-6F-00-0A-90-B0-03"),
        ({"feeds": {B2: EUI64S[B2]}, "credentials": ()}, "needs a certificate"),
        ({"fed_by": EUI64S[B2], "secured": False}, "needs a certificate"),
    ],
)
def test_a_bridge_that_cannot_be_is_not_configured(fields, wrong):
    """Whoever writes a site down wrongly is told so."""
    with pytest.raises(LocalProtocolError, match=wrong):
        replace(bridge_config(B1), **fields)
