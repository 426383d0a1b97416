"""Other people's programs on a served NCP: bellows, by command and as a library, and the Silicon Labs flasher."""

from __future__ import annotations

import asyncio
import re
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
import zigpy.config
import zigpy.types
import zigpy.util
from bellows.zigbee.application import ControllerApplication

from harness.rig.schema import load_rig
from harness.wire.ezsp import VERSIONS
from tests.unit.served import STANDING_RIG, installed, rig_of_version, served

TOO_LONG = 45.0  # seconds for one program; a PPMID that finds no HAN at first tries again after 20 s

# The highest of the usual channels: a scan that began before the HAN was formed still comes to it.
CHANNEL = 25


@pytest.fixture(scope="module")
def run(outside_reader: Callable[[str], str]) -> Callable[..., str]:
    """Return a function that runs a program to its end, which must be a good one, and returns all that it printed."""

    def run(program: str, *arguments: str) -> str:
        done = subprocess.run(
            [installed(program) or outside_reader(program), *arguments],
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=TOO_LONG, check=False,
        )  # fmt: skip
        assert done.returncode == 0, f"{program} {' '.join(arguments)}: {done.stdout}"
        return done.stdout

    return run


async def described(application: ControllerApplication, eui64: zigpy.types.EUI64) -> Any:
    """Return the device, as soon as zigpy has the simple descriptor of its endpoint 1."""
    while True:
        device = application.devices.get(eui64)
        if device is not None and 1 in device.endpoints and device.endpoints[1].profile_id is not None:
            return device
        await asyncio.sleep(0.05)


def test_the_bellows_command_line_works_on_a_served_ncp(
    run: Callable[..., str], tmp_path: Path, check_capture: Callable[..., Any]
) -> None:
    """`bellows` forms a network over tcp://, reads it back, lists the stick's configuration and opens the network.

    Each command is a process of its own: the NCP keeps its network from one to the next.
    """
    database = tmp_path / "bellows.db"
    database.touch()
    with served("tcp:127.0.0.1:0", pcap=tmp_path / "han.pcap") as url:
        device = ("-d", url)
        run(
            "bellows", *device, "form", "-D", str(database), "-c", str(CHANNEL), "-P", "4660"
        )  # 4660 is 0x1234
        info = run("bellows", *device, "info")
        assert "00:0d:6f:00:0a:90:69:e7" in info
        assert "EmberNetworkStatus.JOINED_NETWORK" in info
        assert f"panId=0x1234, radioTxPower=8, radioChannel={CHANNEL}" in info
        assert re.search(r"EmberZNet version: 7\.4\.\d", info)
        assert "CONFIG_SECURITY_LEVEL=5" in run("bellows", *device, "config", "-a")
        assert "Joins are permitted" in run("bellows", *device, "permit", "-D", str(database), "-t", "1")
    capture = check_capture(tmp_path / "han.pcap", tmp_path)
    opened = capture.fields("zbee_zdp.duration", where="zbee_aps.zdp_cluster == 0x0036")
    assert "1" in {duration for (duration,) in opened}


@pytest.mark.parametrize(
    ("version", "listen", "emberznet"),
    [(13, "tcp:127.0.0.1:0", r"7\.4\.\d"), (VERSIONS[-1], "pty:{folder}/stick", r"\d+\.\d+\.\d")],
)
def test_the_silicon_labs_flasher_finds_an_emberznet_stick(
    version: int, listen: str, emberznet: str, run: Callable[..., str], tmp_path: Path
) -> None:
    """`universal-silabs-flasher probe` takes the served NCP for a stick: it says EZSP, and its EmberZNet version."""
    with served(listen.format(folder=tmp_path), rig=rig_of_version(tmp_path, version)) as url:
        said = run("universal-silabs-flasher", "--device", url, "--probe-methods", "ezsp:115200", "probe")
    assert re.search(rf"Detected ApplicationType\.EZSP, version '{emberznet}", said), said


async def test_a_ppmid_joins_the_network_of_another_programs_zigpy_in_real_time(
    tmp_path: Path, check_capture: Callable[..., Any]
) -> None:
    """Unmodified zigpy forms, starts and permits; the rig's PPMID joins with its install code and is interviewed.

    zigpy leaves Smart Energy messages alone, so what it learns is what the ZDO says. tshark reads the whole of it.
    """
    settings = load_rig(STANDING_RIG).members["ppmid"]
    assert settings.eui64 is not None
    assert settings.install_code is not None
    eui64 = zigpy.types.EUI64(settings.eui64.to_bytes(8, "little"))
    # Alone with the hub: whoever else has power would try to join, too.
    content = yaml.safe_load(STANDING_RIG.read_text())
    content["members"] = {name: content["members"][name] for name in ("hub", "ppmid")}
    rig = tmp_path / "rig.yaml"
    rig.write_text(yaml.safe_dump(content, sort_keys=False))
    with served("tcp:127.0.0.1:0", rig=rig, pcap=tmp_path / "han.pcap") as url:
        application = ControllerApplication(
            {
                zigpy.config.CONF_DEVICE: {zigpy.config.CONF_DEVICE_PATH: url},
                zigpy.config.CONF_NWK: {zigpy.config.CONF_NWK_CHANNEL: CHANNEL},
                zigpy.config.CONF_NWK_BACKUP_ENABLED: False,
                zigpy.config.CONF_TOPO_SCAN_ENABLED: False,
                "use_thread": False,
            }
        )
        try:
            async with asyncio.timeout(TOO_LONG):
                await application.startup(auto_form=True)
                key = zigpy.util.convert_install_code(settings.install_code)
                await application.permit_with_link_key(eui64, key, 60)
                device = await described(application, eui64)
                status, _, endpoints = await device.zdo.Active_EP_req(device.nwk)
        finally:
            await application.shutdown()
    assert device.node_desc.manufacturer_code == 0x121D
    assert device.node_desc.logical_type == zigpy.types.uint8_t(2), "an end device"
    assert (device.endpoints[1].profile_id, device.endpoints[1].device_type) == (0x0109, 0x0502)
    assert (status, list(endpoints)) == (0, [1])
    capture = check_capture(tmp_path / "han.pcap", tmp_path)
    assert capture.count("zbee_aps.cmd.id == 0x05") == 1, "the network key goes to the joiner once"
