"""Tests of the emulated NCP: forming, joining, the trust centre's policy, polling."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from harness.emulation.ncp import NcpConfig
from harness.emulation.ncp_status import EMBER_STATUS, Status
from harness.emulation.node import NodeKind, NodeState
from harness.wire.ezsp import eui64_to_int
from harness.wire.security import install_code_crc
from tests.unit.sticks import (
    ALLOW_JOINS,
    ANY,
    DEVICE,
    HASHED_SECURITY,
    HUB,
    INSTALL_CODE_ONLY,
    LINK_KEY,
    WELL_KNOWN_KEY,
    Device,
    give_key,
    new,
    no_refusals,
    parameters,
    security,
)


@pytest.fixture(autouse=True)
def no_failures() -> Iterator[None]:
    """An NCP that had to refuse a command fails its test; tests of just that clear the list."""
    yield from no_refusals()


def test_forming_takes_security_a_channel_and_a_power_that_the_radio_has() -> None:
    """Each is refused with its own EmberStatus; a second network while one is up, too."""
    host = new(13).start()
    assert host.status("formNetwork", parameters=parameters()) == EMBER_STATUS[Status.SECURITY_STATE_NOT_SET]
    host.status("setInitialSecurityState", state=security())
    assert host.status("formNetwork", parameters=parameters(channel=27)) == 0x8A
    assert host.status("formNetwork", parameters=parameters(power=21)) == 0x8B
    host.form()
    assert host.command("networkState")["status"] == NodeState.JOINED
    assert host.status("formNetwork", parameters=parameters()) == 0x70
    assert host.status("addEndpoint", endpoint=1, profileId=0x0109, deviceId=0, deviceVersion=0, inputClusterCount=0,
                       outputClusterCount=0, inputClusterList=[], outputClusterList=[]) == 0x38  # fmt: skip


@pytest.mark.parametrize(("version", "down"), [(8, 0x91), (14, Status.NETWORK_DOWN)])
def test_nothing_is_sent_while_the_network_is_down(version: int, down: int) -> None:
    """sendUnicast, sendBroadcast and removeDevice say NETWORK_DOWN; permitJoining NOT_JOINED."""
    host = new(version).start()
    assert host.unicast(0x1234, b"x")[0] == down
    assert host.status("removeDevice", destShort=1, destLong=DEVICE, targetLong=DEVICE) == down
    assert host.status("permitJoining", duration=10) == (0x93 if version == 8 else Status.NOT_JOINED)


@pytest.mark.parametrize("version", [8, 13, 14, 19])
def test_a_device_with_an_install_code_joins_and_one_without_is_denied(version: int) -> None:
    """JOINS_USE_INSTALL_CODE_KEY lets in only whom a transient key was given for; the host hears of both."""
    host = new(version).start().form(HASHED_SECURITY)
    assert host.status("setPolicy", policyId=0, decisionId=ALLOW_JOINS | INSTALL_CODE_ONLY) == 0
    give_key(host)
    give_key(host, ANY, WELL_KNOWN_KEY)
    assert host.status("permitJoining", duration=60) == 0
    known, stranger = Device(host.air), Device(host.air, eui64=DEVICE + 1)
    known.join()
    host.run(5.0)
    stranger.join(WELL_KNOWN_KEY)
    host.run(30.0)
    assert known.joined == (True, "")
    assert stranger.joined is not None
    assert not stranger.joined[0]
    joins = {eui64_to_int(join["newNodeEui64"]): join for join in host.called("trustCenterJoinHandler")}
    assert (joins[DEVICE]["status"], joins[DEVICE]["policyDecision"]) == (1, 0)
    assert joins[DEVICE + 1]["policyDecision"] == 2


def test_without_the_install_code_policy_the_wildcard_key_serves_any_joiner() -> None:
    """A transient key for all ones is for devices without a key of their own."""
    host = new(13).start().form(HASHED_SECURITY)
    host.status("setPolicy", policyId=0, decisionId=ALLOW_JOINS)
    give_key(host, ANY, WELL_KNOWN_KEY)
    host.status("permitJoining", duration=60)
    device = Device(host.air)
    device.join(WELL_KNOWN_KEY)
    host.run(10.0)
    assert device.joined == (True, "")


def test_a_transient_key_ends_with_its_time() -> None:
    """After TRANSIENT_KEY_TIMEOUT_S (300 s) a device cannot join with it any more."""
    host = new(13).start().form(HASHED_SECURITY)
    host.status("setPolicy", policyId=0, decisionId=ALLOW_JOINS | INSTALL_CODE_ONLY)
    give_key(host)
    assert host.command("exportTransientKeyByEui", eui64=DEVICE)["key_data"].ttl_in_seconds in (299, 300)
    host.run(301.0)
    assert host.command("exportTransientKeyByEui", eui64=DEVICE)["status"] == Status.NOT_FOUND
    host.status("permitJoining", duration=60)
    device = Device(host.air)
    device.join()
    host.run(30.0)
    assert device.joined is not None
    assert not device.joined[0]


def test_nobody_joins_a_closed_network_and_the_host_hears_it_open_and_close() -> None:
    """permitJoining opens for its seconds: NETWORK_OPENED, NETWORK_CLOSED."""
    host = new(13).start().form(HASHED_SECURITY)
    host.status("setPolicy", policyId=0, decisionId=ALLOW_JOINS | INSTALL_CODE_ONLY)
    give_key(host)
    host.status("permitJoining", duration=5)
    host.run(6.0)
    assert [int(values["status"]) for values in host.called("stackStatusHandler")] == [0x90, 0x9C, 0x9D]
    device = Device(host.air)
    device.join()
    host.run(30.0)
    assert device.joined is not None
    assert not device.joined[0]


def test_an_ncp_joins_another_ncps_network_as_a_router_and_leaves_it() -> None:
    """setInitialSecurityState and joinNetwork: NETWORK_UP; leaveNetwork: NETWORK_DOWN, and the tokens forget it."""
    hub = new(13).start().form(HASHED_SECURITY)
    hub.status("setPolicy", policyId=0, decisionId=ALLOW_JOINS | INSTALL_CODE_ONLY)
    give_key(hub)
    hub.status("permitJoining", duration=60)
    joiner = new(14, air=hub.air, eui64=DEVICE).start()
    assert joiner.status("setInitialSecurityState", state=security(0x0100 | 0x0800, LINK_KEY)) == 0
    assert joiner.status("joinNetwork", nodeType=2, parameters=parameters(extended_pan_id=0)) == 0
    joiner.run(10.0)
    assert [int(values["status"]) for values in joiner.called("stackStatusHandler")] == [Status.NETWORK_UP]
    values = joiner.command("getNetworkParameters")
    assert (values["nodeType"], int(values["parameters"].panId)) == (2, 0x1A62)
    assert eui64_to_int(joiner.command("getCurrentSecurityState")["state"].trustCenterLongAddress) == HUB
    assert joiner.status("leaveNetwork", options=0) == 0
    joiner.run(1.0)
    assert int(joiner.called("stackStatusHandler")[-1]["status"]) == Status.NETWORK_DOWN
    assert joiner.status("networkInit", networkInitBitmask=0) == Status.NOT_JOINED


def test_joining_under_a_wrong_key_ends_in_no_network_key_received() -> None:
    """The trust centre's Transport-Key cannot be read: the host is told so, and there is no network."""
    hub = new(13).start().form(HASHED_SECURITY)
    hub.status("setPolicy", policyId=0, decisionId=ALLOW_JOINS | INSTALL_CODE_ONLY)
    give_key(hub)
    hub.status("permitJoining", duration=60)
    joiner = new(14, air=hub.air, eui64=DEVICE).start()
    joiner.status("setInitialSecurityState", state=security(0x0100, WELL_KNOWN_KEY))
    joiner.status("joinNetwork", nodeType=2, parameters=parameters())
    joiner.run(30.0)
    assert [int(values["status"]) for values in joiner.called("stackStatusHandler")] == [
        Status.NO_NETWORK_KEY_RECEIVED
    ]


def test_the_preconfigured_key_comes_from_the_install_code_token_on_request() -> None:
    """GET_PRECONFIGURED_KEY_FROM_INSTALL_CODE: refused on a stick without one, taken on one with."""
    code = bytes.fromhex("83FED3407A93")
    with_code = NcpConfig(install_code=code + install_code_crc(code).to_bytes(2, "little"))
    assert new(13).start().status("setInitialSecurityState", state=security(0x2000)) == 0xB7
    assert new(13, config=with_code).start().status("setInitialSecurityState", state=security(0x2000)) == 0


def test_a_sleepy_ncp_polls_when_its_host_says_so() -> None:
    """pollForData: pollCompleteHandler after each poll; a message waits at the parent until then."""
    hub = new(13).start().form(HASHED_SECURITY)
    hub.status("setPolicy", policyId=0, decisionId=ALLOW_JOINS | INSTALL_CODE_ONLY)
    give_key(hub)
    hub.status("permitJoining", duration=60)
    sleepy = new(14, air=hub.air, eui64=DEVICE).start()
    sleepy.status("setInitialSecurityState", state=security(0x0100, LINK_KEY))
    sleepy.status("joinNetwork", nodeType=4, parameters=parameters())
    sleepy.run(10.0)
    assert sleepy.ncp.node.kind == NodeKind.SLEEPY_END_DEVICE
    short = int(sleepy.command("getNodeId")["nodeId"])
    sleepy.callbacks.clear()
    assert hub.unicast(short, b"wake up")[0] == 0
    hub.run(2.0)
    assert sleepy.called("incomingMessageHandler") == []
    assert sleepy.status("pollForData", interval=0, units=0, failureLimit=0) == 0
    hub.run(1.0)
    assert [bytes(values["message"]) for values in sleepy.called("incomingMessageHandler")] == [b"wake up"]
    assert sleepy.called("pollCompleteHandler")
