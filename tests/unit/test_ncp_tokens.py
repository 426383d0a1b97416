"""Tests of the emulated NCP: tables, tokens, resets and power cycles."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from harness.emulation.ncp import NcpConfig, NvStore
from harness.emulation.ncp_config import (
    KEY_TABLE_SIZE,
    MFG_CUSTOM_EUI_64,
    VALUE_APS_FRAME_COUNTER,
    VALUE_NWK_FRAME_COUNTER,
)
from harness.emulation.ncp_memory import Tokens
from harness.emulation.ncp_status import EMBER_STATUS, Status
from harness.emulation.ncp_tokens import STACK_APS_FRAME_COUNTER
from harness.emulation.node import NodeKind, NodeState
from harness.errors import RigError
from harness.wire.ash import Failed, Reset
from harness.wire.ezsp import eui64_to_int
from harness.wire.security import install_code_crc
from tests.unit.sticks import (
    ALLOW_JOINS,
    ANY,
    DEVICE,
    ENCRYPTION,
    HUB,
    LINK_KEY,
    RETRY,
    WELL_KNOWN_KEY,
    Device,
    aps_frame,
    new,
    no_refusals,
    with_device,
)


@pytest.fixture(autouse=True)
def no_failures() -> Iterator[None]:
    """An NCP that had to refuse a command fails its test; tests of just that clear the list."""
    yield from no_refusals()


def test_the_key_table_is_as_long_as_configured() -> None:
    """KEY_TABLE_SIZE 2: the third partner gets TABLE_FULL, an index beyond the end INDEX_OUT_OF_RANGE."""
    host = new(8).start()
    assert host.status("setConfigurationValue", configId=KEY_TABLE_SIZE, value=2) == 0
    host.form()
    for partner, status in enumerate((0, 0, 0xB4)):
        args = {"address": DEVICE + partner, "linkKey": 1, "keyData": LINK_KEY}
        assert host.status("addOrUpdateKeyTableEntry", **args) == status
    assert host.status("getKeyTableEntry", index=2) == 0xB1
    assert host.command("findKeyTableEntry", address=DEVICE + 1, linkKey=1)["index"] == 1
    assert host.status("eraseKeyTableEntry", index=0) == 0
    assert host.status("getKeyTableEntry", index=0) == EMBER_STATUS[Status.NOT_FOUND]
    assert bytes(host.command("getKeyTableEntry", index=1)["keyStruct"].key) == LINK_KEY


def test_tables_cannot_be_resized_while_the_network_is_up() -> None:
    """EZSP_ERROR_INVALID_CALL; out of range is EZSP_ERROR_INVALID_VALUE."""
    host = new(13).start()
    assert host.status("setConfigurationValue", configId=KEY_TABLE_SIZE, value=128) == 0x36
    host.form()
    assert host.status("setConfigurationValue", configId=KEY_TABLE_SIZE, value=4) == 0x38


def test_the_address_and_multicast_tables_end_where_configured() -> None:
    """Beyond the last index each says so."""
    host = new(13).start().form()
    entry = {"newEui64": DEVICE, "newId": 0x1234, "newExtendedTimeout": 1}
    assert host.status("replaceAddressTableEntry", addressTableIndex=15, **entry) == 0
    assert host.status("replaceAddressTableEntry", addressTableIndex=16, **entry) == 0x6A
    assert host.command("lookupNodeIdByEui64", eui64=DEVICE)["nodeId"] == 0x1234
    assert host.command("getExtendedTimeout", remoteEui64=DEVICE)["extendedTimeout"] == 1
    value = {"multicastId": 1, "endpoint": 1, "networkIndex": 0}
    assert host.status("setMulticastTableEntry", index=7, value=value) == 0
    assert host.status("setMulticastTableEntry", index=8, value=value) == 0xB1


def test_as_many_sleepy_children_join_as_configured() -> None:
    """MAX_END_DEVICE_CHILDREN 1: the second end device finds no room."""
    host = new(13).start()
    assert host.status("setConfigurationValue", configId=0x11, value=1) == 0
    host.form()
    host.status("setPolicy", policyId=0, decisionId=ALLOW_JOINS)
    host.status("permitJoining", duration=60)
    first, second = (Device(host.air, DEVICE + index, NodeKind.SLEEPY_END_DEVICE) for index in range(2))
    first.join(WELL_KNOWN_KEY)
    host.run(10.0)
    second.join(WELL_KNOWN_KEY)
    host.run(10.0)
    assert first.joined == (True, "")
    assert second.joined is not None
    assert not second.joined[0]
    child = host.command("getChildData", index=0)
    assert eui64_to_int(child["child_data"].eui64) == DEVICE
    assert host.command("getChildData", index=1)["status"] == 0x93


def test_a_reset_keeps_the_network_and_loses_what_is_in_ram() -> None:
    """After RST: no network until networkInit, then the same one; endpoints, policies and tables are as new."""
    host, device = with_device()
    before = host.command("getNetworkParameters")["parameters"]
    counter = host.ncp.node.nwk_counter
    host.start()
    assert host.command("networkState")["status"] == 0
    assert host.command("getPolicy", policyId=0)["decisionId"] == 0
    assert host.status("networkInit", networkInitBitmask=0) == 0
    host.run(0.1)
    assert host.command("getNetworkParameters")["parameters"] == before
    assert host.ncp.node.nwk_counter >= counter
    assert host.unicast(device.node.short, b"still here")[0] == 0
    host.run(1.0)
    assert device.received[-1].payload == b"still here"


def test_a_reset_of_its_own_is_announced() -> None:
    """`reset` sends an unsolicited RSTACK with the reason; commands under way are gone."""
    host = new(13).start().form()
    host.ncp.reset(0x03)
    host.run(0.1)
    assert host.links[-1] == Reset(0x03)
    assert host.ncp.node.state == NodeState.NO_NETWORK


def test_a_failed_ncp_says_error_until_it_is_reset() -> None:
    """`fail` sends ERROR; RST brings the NCP back."""
    host = new(13).start()
    host.ncp.fail(0x51)
    host.run(0.1)
    assert host.links[-1] == Failed(0x51)
    host.start()


def test_reset_node_restarts_after_its_answer() -> None:
    """The command is answered, then RSTACK comes."""
    host = new(13).start()
    host.command("resetNode")
    host.run(0.1)
    assert isinstance(host.links[-1], Reset)


def test_a_power_cycle_keeps_the_network_only_with_a_file(tmp_path: Path) -> None:
    """With an NvStore networkInit finds the network, also in a new NCP on the same file; without, it finds none."""
    store = NvStore(tmp_path / "hub.json")
    kept, lost = new(13, nv=store).start().form(), new(13).start().form()
    broadcast = {"destination": 0xFFFD, "apsFrame": aps_frame(options=0), "radius": 30, "messageTag": 1}
    assert kept.status("sendBroadcast", **broadcast, messageContents=b"x") == 0
    kept.run(1.0)
    counter = kept.ncp.node.nwk_counter
    for host, found in ((kept, 0), (lost, 0x93)):
        host.ncp.power_cycle()
        host.run(0.1)
        assert host.links[-1] == Reset(0x02)
        host.start()
        assert host.status("networkInit", networkInitBitmask=0) == found
    kept.run(0.1)
    other = new(13, nv=NvStore(tmp_path / "hub.json")).start()
    assert other.status("networkInit", networkInitBitmask=0) == 0
    other.run(0.1)
    assert (
        other.command("getNetworkParameters")["parameters"]
        == kept.command("getNetworkParameters")["parameters"]
    )
    assert other.ncp.node.nwk_counter >= counter > 0
    assert [path.name for path in tmp_path.iterdir()] == ["hub.json"]


@pytest.mark.parametrize(
    "damage",
    ["", "{", "[]", '{"format": "harness.ncp/1"}', '{"format": "harness.ncp/1", "tokens": {"a": 1}}'],
)
def test_a_damaged_token_file_is_a_fault_of_the_rig_that_names_it(tmp_path: Path, damage: str) -> None:
    """A file cut short, or not ours, raises RigError with its name."""
    path = tmp_path / "hub.json"
    path.write_text(damage)
    with pytest.raises(RigError, match=r"hub\.json"):
        new(13, nv=NvStore(path))


def test_a_token_file_whose_node_is_damaged_is_a_fault_of_the_rig_that_names_it(tmp_path: Path) -> None:
    """The tokens are whole but for the node's own state: RigError with the file's name, and no key in it."""
    path = tmp_path / "hub.json"
    new(13, nv=NvStore(path)).start().form(key=LINK_KEY)
    content = json.loads(path.read_text())
    del content["tokens"]["node"]["short"]
    path.write_text(json.dumps(content))
    with pytest.raises(RigError, match=r"hub\.json") as failure:
        new(13, nv=NvStore(path))
    assert LINK_KEY.hex() not in str(failure.value)


def test_no_repr_shows_a_key() -> None:
    """NcpConfig's install code, and the tokens' node and manufacturing tokens, stay out of failed assertions."""
    code = bytes.fromhex("83FED3407A93")
    config = NcpConfig(install_code=code + install_code_crc(code).to_bytes(2, "little"))
    host = new(13, config=config).start().form(key=LINK_KEY)
    host.ncp.node.set_link_key(DEVICE, LINK_KEY)
    tokens = Tokens(manufacturing={0: code}, node=host.ncp.node.save())
    for text in (repr(config), repr(tokens)):
        assert repr(code)[2:-1] not in text
        assert LINK_KEY.hex() not in text


def test_a_custom_eui64_is_burnt_once_and_in_force_after_a_reset() -> None:
    """setMfgToken: the second time the flash refuses."""
    host = new(8).start()
    token = (DEVICE).to_bytes(8, "little")
    assert host.status("setMfgToken", tokenId=MFG_CUSTOM_EUI_64, tokenData=token) == 0
    assert host.ncp.node.eui64 == HUB
    host.start()
    assert eui64_to_int(host.command("getEui64")["eui64"]) == DEVICE
    assert host.status("setMfgToken", tokenId=MFG_CUSTOM_EUI_64, tokenData=token) == 0x47
    assert bytes(host.command("getMfgToken", tokenId=MFG_CUSTOM_EUI_64)["tokenData"]) == token


def test_the_restored_eui64_token_can_be_written_again_and_again() -> None:
    """0xE12A: another address, then the stick's own again; each in force after a reset."""
    host = new(13).start()
    for eui64 in (DEVICE, ANY, DEVICE):
        token = host.command("setTokenData", token=0xE12A, index=0, token_data=eui64.to_bytes(8, "little"))
        assert token["status"] == 0
        host.start()
        expected = HUB if eui64 == ANY else eui64
        assert eui64_to_int(host.command("getEui64")["eui64"]) == expected
        host.form()
        host.status("leaveNetwork")
        host.run(1.0)


def test_a_factory_reset_takes_effect_with_the_next_reset() -> None:
    """tokenFactoryReset: the network stays up until then, afterwards networkInit finds none."""
    host = new(13).start().form()
    host.command("tokenFactoryReset", excludeOutgoingFC=0, excludeBootCounter=0)
    assert host.command("networkState")["status"] == 2
    host.start()
    assert host.status("networkInit", networkInitBitmask=0) == 0x93


def test_every_token_that_is_listed_can_be_read() -> None:
    """getTokenCount, getTokenInfo and getTokenData agree on sizes."""
    host = new(13).start().form()
    for index in range(host.command("getTokenCount")["count"]):
        info = host.command("getTokenInfo", index=index)["token_info"]
        data = host.command("getTokenData", token=int(info.nvm3Key), index=0)
        assert (int(data["status"]), len(data["value"])) == (0, info.size)


def test_frame_counters_are_written_before_a_network_is_formed() -> None:
    """setValue(NWK_FRAME_COUNTER) for a restored backup: refused while the network is up."""
    host = new(13).start()
    assert host.status("setValue", valueId=0x23, value=(5000).to_bytes(4, "little")) == 0
    host.form()
    assert host.command("getNetworkKeyInfo")["network_key_info"].network_key_frame_counter >= 5000
    assert host.status("setValue", valueId=0x23, value=bytes(4)) == 0x38


def test_the_aps_frame_counter_is_the_one_in_use() -> None:
    """getValue(APS_FRAME_COUNTER) follows what is sent under a link key, as the token 0xE123 does."""
    host, device = with_device()
    before = host.ncp.node.link_keys[DEVICE].outgoing_counter
    host.unicast(device.node.short, b"x", options=RETRY | ENCRYPTION)
    host.run(1.0)
    value = host.command("getValue", valueId=VALUE_APS_FRAME_COUNTER)["value"]
    token = host.command("getTokenData", token=STACK_APS_FRAME_COUNTER, index=0)["value"]
    assert int.from_bytes(value, "little") > before
    assert bytes(value) == bytes(token)


@pytest.mark.parametrize("number", [VALUE_NWK_FRAME_COUNTER, VALUE_APS_FRAME_COUNTER])
def test_a_frame_counter_that_would_soon_be_spent_is_refused(number: int) -> None:
    """0xFFFFFFFF is EZSP_ERROR_INVALID_VALUE; the highest that is taken can be read back while the node sends."""
    host = new(13).start()
    assert host.status("setValue", valueId=number, value=b"\xff" * 4) == 0x36
    assert host.status("setValue", valueId=number, value=(0xFFFE_FFFF).to_bytes(4, "little")) == 0
    host.form()
    host.run(60.0)
    value = int.from_bytes(host.command("getValue", valueId=number)["value"], "little")
    assert 0xFFFE_FFFF <= value < 0xFFFF_FFFF
