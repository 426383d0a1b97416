"""How fast an image gets through bellows: against the serial line that it would need, and zigpy's OTA manager."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable
from pathlib import Path

import zigpy.config
import zigpy.profiles.zha
import zigpy.types
from bellows.zigbee.application import ControllerApplication
from zigpy.ota import OtaImageWithMetadata
from zigpy.ota.image import parse_ota_image
from zigpy.ota.providers import BaseOtaImageMetadata

from harness.clock import VirtualLoop
from harness.emulation.ncp import EmulatedNcp
from harness.emulation.node import Network
from harness.members.hub import Hub
from harness.radio.emulated import plug_in
from harness.radio.values import to_coordinator_info, to_descriptor, to_eui64, to_network_info
from harness.rig.behaviours import hub_of
from harness.rig.bench import EmulatedBench
from harness.rig.open import Rig
from harness.rig.profile import PpmidProfile
from harness.rig.schema import RigFile, load_rig
from harness.wire.application import SMART_ENERGY_PROFILE
from harness.wire.image import OtaImage, SubElement, build_image, build_sub_elements
from harness.wire.ota_client_values import DownloadCompleted, DownloadStarted
from harness.wire.security import link_key_from_install_code
from tests.benchmarks.measure import Figure, Seconds, Stopwatch, best_of

RIG = Path(__file__).resolve().parents[2] / "rigs" / "emulated-devices.yaml"
IMAGE_OCTETS = 64 * 1024
ROUNDS = 5

# A 115200 baud line sends a start bit, eight data bits and a stop bit for each octet.
LINE_OCTETS_PER_SECOND = 115200 / 10


class Transfer:
    """One download of the rig's PPMID, from its first block request to its last block: time, and bytes on the line."""

    def __init__(self) -> None:
        self.completed = asyncio.Event()
        self.line_octets = 0
        self._watch = Stopwatch()
        self._running = False

    @property
    def taken(self) -> Seconds:
        """How long it took."""
        return self._watch.taken

    def note(self, event: object) -> None:
        """Take an event of the PPMID."""
        if isinstance(event, DownloadStarted):
            self._running = True
            self._watch.start()
        elif isinstance(event, DownloadCompleted):
            self._watch.stop()
            self._running = False
            self.completed.set()

    def listen(self, ncp: EmulatedNcp) -> None:
        """Count the bytes of the serial line of `ncp`, both ways, from now on; the host has opened its port."""
        receive, output = ncp.receive, ncp.on_output

        def from_host(data: bytes, now: float) -> None:
            if self._running:
                self.line_octets += len(data)
            receive(data, now)

        def to_host(data: bytes) -> None:
            if self._running:
                self.line_octets += len(data)
            output(data)

        ncp.receive = from_host
        ncp.on_output = to_host


class WatchedRig(Rig):
    """A rig whose PPMID's download is measured."""

    transfer: Transfer

    def note(self, seconds: float, member: str, event: object) -> None:
        super().note(seconds, member, event)
        self.transfer.note(event)


class StockApplication(ControllerApplication):
    """zigpy's application as it comes, with the endpoint that a Smart Energy device looks for.

    zigpy 2.4.0 drops every packet of the Smart Energy profile (zigpy/device.py, `_parse_packet_header`); it gets them
    as Home Automation's here, for the two have the OTA cluster in common. Relabelling costs it next to nothing.
    """

    hub: Hub

    def packet_received(self, packet: zigpy.types.ZigbeePacket) -> None:
        if packet.profile_id == SMART_ENERGY_PROFILE:
            packet.profile_id = zigpy.profiles.zha.PROFILE_ID
        super().packet_received(packet)

    async def register_endpoints(self) -> None:
        for descriptor in self.hub.descriptors:
            await self.add_endpoint(to_descriptor(descriptor))


def image_for(file: RigFile) -> OtaImage:
    """Return the image that both sides push: one version above what the PPMID runs."""
    profile = file.profiles["ppmid"]
    assert isinstance(profile, PpmidProfile)
    return OtaImage(
        manufacturer=profile.manufacturer_code,
        image_type=profile.image_type,
        version=profile.firmware_version + 1,
        # zigpy takes no file whose payload is not in sub-elements; 0x0000 is an upgrade image.
        payload=build_sub_elements([SubElement(0x0000, random.Random(1).randbytes(IMAGE_OCTETS))]),
        hardware_min=profile.hardware_version,
        hardware_max=profile.hardware_version,
    )


async def push_by_harness(file: RigFile) -> Transfer:
    """Push the image as a test does, and see that the PPMID runs it."""
    image = image_for(file)
    rig = WatchedRig(file)
    rig.transfer = transfer = Transfer()
    async with rig:
        ppmid = await rig.joined("ppmid")
        assert rig.hub.ncp is not None
        transfer.listen(rig.hub.ncp)
        await rig.hub.offer(image, to=ppmid)
        await transfer.completed.wait()
        await ppmid.until(running=image.version, within=3600.0)
        rig.check()
    return transfer


def _zigpy_config(url: str) -> dict[str, object]:
    return {
        zigpy.config.CONF_DEVICE: {zigpy.config.CONF_DEVICE_PATH: url},
        "use_thread": False,
        zigpy.config.CONF_WATCHDOG_ENABLED: False,
        zigpy.config.CONF_NWK_BACKUP_ENABLED: False,
        zigpy.config.CONF_TOPO_SCAN_ENABLED: False,
        zigpy.config.CONF_OTA: {zigpy.config.CONF_OTA_ENABLED: False},
    }


async def push_by_zigpy(file: RigFile) -> Transfer:
    """Let zigpy interview the PPMID of the same rig and push the same image with its own OTA manager."""
    transfer = Transfer()
    loop = asyncio.get_running_loop()
    assert isinstance(loop, VirtualLoop)
    ppmid, url = file.members["ppmid"], file.members[file.hub].radio
    epid = file.extended_pan_id
    assert None not in (url, epid, ppmid.eui64, ppmid.install_code)
    with EmulatedBench(file, lambda seconds, member, event: transfer.note(event)) as bench:
        ncp = bench.hub_ncp()
        loop.attach(bench.air)
        plug_in(loop, url, ncp, bench.air)
        application = StockApplication(_zigpy_config(url))
        application.hub = hub_of(file)
        network = Network(file.network.channel, file.network.pan_id, epid, file.network_key)
        await application.connect()
        await application.write_network_info(
            network_info=to_network_info(network), node_info=to_coordinator_info()
        )
        await application.start_network()
        transfer.listen(ncp)
        eui64 = to_eui64(ppmid.eui64)
        link_key = zigpy.types.KeyData(link_key_from_install_code(ppmid.install_code))
        await application.permit_with_link_key(eui64, link_key)
        bench.power_on()
        await asyncio.sleep(60.0)  # zigpy has interviewed it, and what its own Image Notify led to is over
        device = application.devices[eui64]
        assert device.is_initialized, "zigpy has not interviewed the PPMID within a minute"
        status = await device.update_firmware(zigpy_image(image_for(file)))
        assert status == 0, f"zigpy's OTA manager ended with {status!r}"
        assert bench.nodes["ppmid"].behaviour.running_version == image_for(file).version
        await application.shutdown()
        assert not ncp.failures, ncp.failures[0]
        loop.detach(bench.air)
    return transfer


def zigpy_image(image: OtaImage) -> OtaImageWithMetadata:
    """Return an image as zigpy wants it."""
    firmware, _ = parse_ota_image(build_image(image))
    return OtaImageWithMetadata(
        metadata=BaseOtaImageMetadata(
            file_version=image.version, manufacturer_id=image.manufacturer, image_type=image.image_type
        ),
        firmware=firmware,
    )


def small_rig() -> RigFile:
    """Return the standing rig with its hub and its PPMID alone."""
    file = load_rig(RIG)
    for name in [name for name in file.members if name not in (file.hub, "ppmid")]:
        del file.members[name], file.profiles[name]
    return file


def plain_rig() -> RigFile:
    """Return the same without key establishment, which zigpy does not know."""
    file = small_rig()
    for name, profile in file.profiles.items():
        file.profiles[name] = profile.model_copy(update={"secured": False})
    return file


def _run(push: Callable[[RigFile], object], file: RigFile, seen: list[Transfer]) -> Seconds:
    with asyncio.Runner(loop_factory=VirtualLoop) as runner:
        transfer = runner.run(push(file))
    seen.append(transfer)
    return transfer.taken


def ota_over_uart_floor() -> Figure:
    """Our server's transfer, over the least time in which a half-duplex 115200 baud line carries its bytes."""
    seen: list[Transfer] = []
    (taken,) = best_of(ROUNDS, lambda: _run(push_by_harness, small_rig(), seen))
    octets = seen[0].line_octets
    assert all(transfer.line_octets == octets for transfer in seen), "the same rig and seed, other bytes"
    floor = octets / LINE_OCTETS_PER_SECOND
    rate = IMAGE_OCTETS / 1024 / taken.wall
    return Figure(
        floor / taken.wall,
        f"{rate:.0f} KiB/s by the clock ({taken.cpu:.3f} s of CPU) for {IMAGE_OCTETS // 1024} KiB; the {octets} octets "
        f"on the line take {floor:.1f} s at 115200 baud",
    )


def ota_over_zigpy_manager() -> Figure:
    """The same transfer through our server and through zigpy's OTA manager, in CPU time."""
    ours_seen: list[Transfer] = []
    theirs_seen: list[Transfer] = []
    ours, theirs = best_of(
        ROUNDS,
        lambda: _run(push_by_harness, plain_rig(), ours_seen),
        lambda: _run(push_by_zigpy, plain_rig(), theirs_seen),
    )
    return Figure(
        theirs.cpu / ours.cpu,
        f"{IMAGE_OCTETS // 1024} KiB in {ours.cpu:.3f} s of CPU ({ours_seen[0].line_octets} octets on the line), "
        f"by zigpy's manager in {theirs.cpu:.3f} s ({theirs_seen[0].line_octets})",
    )
