"""Bridges and their images, from the Supplier's side and from the HAN's: who runs what, and what was said of it."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import replace

from harness import Device, Hub, OtaImage, RemoteProtocolError, Rig, hours, minutes
from harness.gbcs import PPMID_FIRMWARE_ACTIVATION, ActivationResult, FirmwareActivated
from harness.zigbee import package as packages

SIZE = 1024  # octets of an image, where its size is nothing to the test
# Whoever missed its Image Notify asks within the hour; a package goes over two hops, and the last may sleep.
WITHIN = hours(3)
ANSWERS_WITHIN = minutes(10)  # of a bridge that sleeps for a minute or more at a time
QUIET = hours(1)  # long enough for whatever was still to be said


def activations(hub: Hub) -> list[tuple[int, int, ActivationResult]]:
    """Every 0x8F8B (CS09) that has come up to the Supplier: whose it is, the version and the result in it."""
    alerts = []
    for received in hub.wan.received:
        payload = received.payload
        if isinstance(payload, FirmwareActivated):
            assert payload.alert_code == PPMID_FIRMWARE_ACTIVATION
            alerts.append((received.source, payload.firmware_version, payload.result))
    return alerts


async def told(hub: Hub, by: Device, *, within: float = WITHIN) -> ActivationResult:
    """Wait for the next 0x8F8B of a bridge, and return the result in it."""
    return (await hub.wan.until(FirmwareActivated, within=within, source=by)).result


async def taken(hub: Hub, bridge: Device, image: OtaImage) -> None:
    """See a bridge through to an image that waits for it at the hub: it runs it, and says so; so do those it feeds."""
    assert await told(hub, bridge) is ActivationResult.SUCCESS
    await all_run((bridge, *bridge.feeds), image.version)


async def all_run(bridges: Iterable[Device], version: int) -> None:
    """See that each of the bridges says over the HAN that it runs a version."""
    assert await versions(bridges) == dict.fromkeys((bridge.name for bridge in bridges), version)


async def versions(bridges: Iterable[Device]) -> dict[str, int | None]:
    """What each bridge says over the HAN that it runs; None of one that does not answer."""
    said: dict[str, int | None] = {}
    for bridge in bridges:
        try:
            said[bridge.name] = await bridge.version(within=ANSWERS_WITHIN)
        except RemoteProtocolError:
            said[bridge.name] = None
    return said


async def unchanged(rig: Rig, bridges: Iterable[Device], *, after: float = QUIET) -> None:
    """See that each of the bridges runs after a while what it ran at first."""
    await rig.sleep(after)
    assert await versions(bridges) == {bridge.name: bridge.version_at_start for bridge in bridges}


async def refuses_mismatched(rig: Rig, hub: Hub, feeder: Device, new_image: Callable[..., OtaImage]) -> None:
    """See that packages that do not match change nothing, that each is told of once, and that a good one is taken."""
    pair, before = (feeder, *feeder.feeds), feeder.version_at_start
    good = new_image(target=feeder, size=SIZE)
    part = new_image(target=feeder.feeds[0], size=SIZE)
    bad = mismatched(good, feeder, part)
    for image in bad:
        await hub.wan.deliver(image, to=feeder)
        assert await told(hub, feeder) is ActivationResult.FAILURE
        await unchanged(rig, pair)
    assert activations(hub) == [(feeder.eui64, before, ActivationResult.FAILURE)] * len(bad)
    successor = new_image(target=feeder, size=SIZE, version=good.version + 1)
    await hub.wan.deliver(successor, to=feeder)
    await taken(hub, feeder, successor)


# --- packages ---------------------------------------------------------------------------------------------------------


def type_of(bridge: Device) -> packages.Bridge:
    """The type of a bridge, as a package names it."""
    return packages.Bridge[bridge.profile.bridge]


def mismatched(image: OtaImage, feeder: Device, part: OtaImage) -> list[OtaImage]:
    """The packages that do not match a feeder and those that it feeds: each without one of them, or for another, too.

    `part` is the image for that other one.
    """
    mine = [type_of(bridge) for bridge in (feeder, *feeder.feeds)]
    strange = [bridge for bridge in packages.Bridge if bridge not in mine]
    return [
        *(lacking(image, bridge) for bridge in mine),
        *(with_part(image, bridge, part) for bridge in strange),
    ]


def lacking(image: OtaImage, bridge: packages.Bridge) -> OtaImage:
    """The package without the image of a bridge."""
    return _repacked(image, [part for part in _parts(image) if part.bridge != bridge])


def with_part(image: OtaImage, bridge: packages.Bridge, part: OtaImage) -> OtaImage:
    """The package with an image for a bridge, in place of the one that it may have."""
    others = [part for part in _parts(image) if part.bridge != bridge]
    return _repacked(image, [*others, packages.PackagePart(bridge, part)])


def _parts(image: OtaImage) -> tuple[packages.PackagePart, ...]:
    return packages.parse_package(image.payload).parts


def _repacked(image: OtaImage, parts: Iterable[packages.PackagePart]) -> OtaImage:
    ascending = tuple(sorted(parts, key=lambda part: part.bridge))
    return replace(image, payload=packages.build_package(packages.Package(ascending)))
