"""What the emulated NCP offers the host of a device: its key with the trust centre, polls, a parent that is gone."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from harness.emulation.ncp_status import EMBER_STATUS, Status
from harness.emulation.node import NodeState
from tests.unit.sticks import (
    ALLOW_JOINS,
    DEVICE,
    HASHED_SECURITY,
    HUB,
    INSTALL_CODE_ONLY,
    LINK_KEY,
    Host,
    give_key,
    new,
    no_refusals,
    parameters,
    security,
)

OTHER_KEY = bytes(range(0x30, 0x40))
ROUTER, SLEEPY = 2, 4
TC_LINK = 2


@pytest.fixture(autouse=True)
def no_failures() -> Iterator[None]:
    """An NCP that had to refuse a command fails its test."""
    yield from no_refusals()


def joined(kind: int, version: int = 14) -> tuple[Host, Host]:
    """A hub's stick, and one that joined it as that EmberNodeType."""
    hub = new(13).start().form(HASHED_SECURITY)
    hub.status("setPolicy", policyId=0, decisionId=ALLOW_JOINS | INSTALL_CODE_ONLY)
    give_key(hub)
    hub.status("permitJoining", duration=60)
    stick = new(version, air=hub.air, eui64=DEVICE).start()
    stick.status("setInitialSecurityState", state=security(0x0100, LINK_KEY))
    stick.status("joinNetwork", nodeType=kind, parameters=parameters())
    stick.run(10.0)
    assert stick.ncp.node.state == NodeState.JOINED
    stick.callbacks.clear()
    return hub, stick


def context() -> dict[str, int]:
    """SecurityManagerContextV13 of the trust centre link key."""
    return {
        "core_key_type": TC_LINK,
        "key_index": 0,
        "derived_type": 0,
        "eui64": 0,
        "multi_network_index": 0,
        "flags": 0,
        "psa_key_alg_permission": 0,
    }


@pytest.mark.parametrize("version", [13, 14])
def test_a_device_changes_its_key_with_the_trust_centre(version: int) -> None:
    """importKey of the type TC_LINK: what the device secures and opens is under it, over a reset, too."""
    hub, stick = joined(ROUTER, version)
    before = stick.ncp.node.link_keys[HUB].outgoing_counter
    assert stick.status("importKey", context=context(), key=OTHER_KEY) == 0
    assert bytes(stick.command("exportKey", context=context())["key"]) == OTHER_KEY
    assert stick.ncp.node.link_keys[HUB].outgoing_counter >= before
    stick.start()
    assert stick.status("networkInit", networkInitBitmask=0) == 0
    assert stick.ncp.node.link_keys[HUB].key == OTHER_KEY
    assert hub.status("importKey", context=context(), key=OTHER_KEY) == Status.NOT_SUPPORTED


def polls(stick: Host) -> list[int]:
    """The statuses of the polls that the host was told of since the last look."""
    statuses = [int(values["status"]) for values in stick.called("pollCompleteHandler")]
    stick.callbacks.clear()
    return statuses


@pytest.mark.parametrize("version", [8, 14])
def test_a_limit_of_failures_spares_the_host_the_polls_that_went_well(version: int) -> None:
    """UG100, pollForData: 0 tells of every poll, another limit of failures from the last one tolerated on only."""
    hub, sleepy = joined(SLEEPY, version)
    no_data = Status.MAC_NO_DATA if version == 14 else EMBER_STATUS[Status.MAC_NO_DATA]
    no_ack = Status.MAC_NO_ACK_RECEIVED if version == 14 else EMBER_STATUS[Status.MAC_NO_ACK_RECEIVED]
    sleepy.run(5.0)
    assert sleepy.status("pollForData", interval=1000, units=1, failureLimit=0) == 0
    sleepy.run(10.5)
    assert polls(sleepy) == [no_data] * 11
    assert sleepy.status("pollForData", interval=1000, units=1, failureLimit=3) == 0
    sleepy.run(10.5)
    assert polls(sleepy) == []
    hub.ncp.node.power_off()
    sleepy.run(10.0)
    assert polls(sleepy) == [no_ack]
    assert sleepy.ncp.node.state == NodeState.JOINED_NO_PARENT


def test_an_end_device_that_does_not_find_its_parent_says_so() -> None:
    """networkInit is taken, and MOVE_FAILED follows; the host may look again, and NETWORK_UP ends that."""
    hub, sleepy = joined(SLEEPY)
    hub.ncp.node.power_off()
    sleepy.start()
    sleepy.callbacks.clear()
    assert sleepy.status("networkInit", networkInitBitmask=2) == 0
    sleepy.run(20.0)
    assert [int(values["status"]) for values in sleepy.called("stackStatusHandler")] == [Status.MOVE_FAILED]
    hub.ncp.node.power_on()
    again = {"haveCurrentNetworkKey": 1, "channelMask": 0, "reason": 0, "nodeType": SLEEPY}
    assert sleepy.status("findAndRejoinNetwork", **again) == 0
    sleepy.run(20.0)
    assert int(sleepy.called("stackStatusHandler")[-1]["status"]) == Status.NETWORK_UP
