"""What the tests of the emulated NCP share: an EZSP host of our own, and emulated devices that join."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from harness.emulation.air import Air
from harness.emulation.ncp import EmulatedNcp, NcpConfig, NvStore
from harness.emulation.node import Node, NodeKind, NodeListener, SentStatus
from harness.wire.application import ApsMessage, SimpleDescriptor
from harness.wire.ash import AshHost, Failed, FrameReceived, Reset
from harness.wire.ezsp import EzspCodec, Response

HUB = 0x000D6F000A9069E7
DEVICE = 0x00155F0001020304
ANY = 0xFFFFFFFFFFFFFFFF
LINK_KEY = bytes(range(16))
WELL_KNOWN_KEY = b"ZigBeeAlliance09"

# EmberInitialSecurityBitmask: global link key, preconfigured key and network key given, counters kept.
SECURITY = 0x0004 | 0x0100 | 0x0200 | 0x0800 | 0x1000
HASHED_SECURITY = SECURITY | 0x0084
ENCRYPTION = 0x0020
RETRY = 0x0040
FRAGMENT = 0x8000
ALLOW_JOINS = 0x01
INSTALL_CODE_ONLY = 0x10


MADE: list[EmulatedNcp] = []


def no_refusals() -> Iterator[None]:
    """What an autouse fixture runs: an NCP that had to refuse a command fails its test, as in a rig."""
    MADE.clear()
    yield
    assert [failure for ncp in MADE for failure in ncp.failures] == []


class Host:
    """An EZSP host: our ASH and EZSP cores on the other end of the NCP's line, in the air's time."""

    def __init__(self, air: Air, ncp: EmulatedNcp) -> None:
        self.air = air
        self.ncp = ncp
        self.codec = EzspCodec(ncp.ezsp_version)
        self.ash = AshHost()
        self.responses: dict[int, Response] = {}
        self.callbacks: list[Response] = []
        self.frames: list[bytes] = []
        self.links: list[object] = []
        self.sequence = 0
        self._at: int | None = None
        ncp.on_output = self.take

    def take(self, data: bytes) -> None:
        for event in self.ash.receive(data, self.air.now / 1e6):
            if isinstance(event, FrameReceived):
                self.frames.append(event.data)
                response = self.codec.parse_response(event.data)
                if response.is_callback:
                    self.callbacks.append(response)
                else:
                    self.responses[response.sequence] = response
            elif isinstance(event, Reset | Failed):
                self.links.append(event)
        self.air.post(self.air.now, self.flush)

    def flush(self) -> None:
        data = self.ash.data_to_send(self.air.now / 1e6)
        if data:
            self.ncp.receive(data, self.air.now / 1e6)
        deadline = self.ash.next_deadline()
        if deadline is not None:
            self.air.post(int(deadline * 1e6) + 1, self.due)

    def due(self) -> None:
        now = self.air.now / 1e6
        deadline = self.ash.next_deadline()
        if deadline is not None and deadline <= now:
            self.ash.on_deadline(now)
            self.flush()

    def run(self, seconds: float) -> None:
        self.air.advance(self.air.now + round(seconds * 1e6))

    def start(self) -> Host:
        """Reset the NCP and agree on the version."""
        self.ash.reset(self.air.now / 1e6)
        self.flush()
        self.run(0.1)
        assert self.links[-1:] == [Reset(0x0B)]
        self.responses.clear()
        self.sequence = 0
        version = self.codec.version
        first = self._exchange(self.codec.build_command(0, "version", legacy=True, desiredProtocolVersion=4))
        assert (first.legacy, first.values["protocolVersion"]) == (True, version)
        assert self.command("version", desiredProtocolVersion=version)["protocolVersion"] == version
        return self

    def _exchange(self, frame: bytes) -> Response:
        sequence = frame[0]
        self.responses.pop(sequence, None)
        self.ash.send(frame)
        self.flush()
        for _ in range(200):
            if sequence in self.responses:
                break
            self.run(0.1)
        self.sequence = (sequence + 1) % 256
        return self.responses.pop(sequence)

    def raw(self, frame_id: int, parameters: bytes) -> Response:
        return self._exchange(bytes([self.sequence, 0, 1, frame_id & 0xFF, frame_id >> 8]) + parameters)

    def command(self, name: str, **args: Any) -> dict[str, Any]:
        """One command; its answer's values. An answer of another kind fails."""
        response = self._exchange(self.codec.build_command(self.sequence, name, **args))
        assert response.name == name, f"{name} was answered by {response}"
        return response.values

    def status(self, name: str, **args: Any) -> int:
        return int(self.command(name, **args)["status"])

    def called(self, name: str) -> list[dict[str, Any]]:
        return [callback.values for callback in self.callbacks if callback.name == name]

    def form(self, bitmask: int = SECURITY, key: bytes = WELL_KNOWN_KEY) -> Host:
        """Form a network on channel 15."""
        assert self.status("setInitialSecurityState", state=security(bitmask, key)) == 0
        assert self.status("formNetwork", parameters=parameters()) == 0
        self.run(0.1)
        return self

    def unicast(self, short: int, payload: bytes, *, options: int = RETRY, tag: int = 7) -> tuple[int, int]:
        """Status and APS counter of a unicast."""
        aps = aps_frame(options=options)
        if self.codec.version >= 14:
            values = self.command(
                "sendUnicast", message_type=0, nwk=short, aps_frame=aps, message_tag=tag, message=payload
            )
        else:
            values = self.command(
                "sendUnicast",
                type=0,
                indexOrDestination=short,
                apsFrame=aps,
                messageTag=tag,
                messageContents=payload,
            )
        return int(values["status"]), int(values["sequence"])


def security(bitmask: int = SECURITY, key: bytes = WELL_KNOWN_KEY) -> dict[str, Any]:
    """EmberInitialSecurityState."""
    return {
        "bitmask": bitmask,
        "preconfiguredKey": key,
        "networkKey": bytes(range(0x40, 0x50)),
        "networkKeySequenceNumber": 0,
        "preconfiguredTrustCenterEui64": 0,
    }


def parameters(
    channel: int = 15, power: int = 8, extended_pan_id: int = 0xDDDDDDDDDDDDDDDD
) -> dict[str, Any]:
    """EmberNetworkParameters."""
    return {
        "extendedPanId": extended_pan_id,
        "panId": 0x1A62,
        "radioTxPower": power,
        "radioChannel": channel,
        "joinMethod": 0,
        "nwkManagerId": 0,
        "nwkUpdateId": 0,
        "channels": 0x07FFF800,
    }


def aps_frame(*, options: int = RETRY, group: int = 0, sequence: int = 0) -> dict[str, Any]:
    """EmberApsFrame, for the OTA cluster between endpoints 1."""
    return {
        "profileId": 0x0109,
        "clusterId": 0x0019,
        "sourceEndpoint": 1,
        "destinationEndpoint": 1,
        "options": options,
        "groupId": group,
        "sequence": sequence,
    }


def new(version: int = 13, *, config: NcpConfig | None = None, nv: NvStore | None = None, air: Air | None = None,
        eui64: int = HUB) -> Host:  # fmt: skip
    """A new stick and its host."""
    air = air or Air(seed=1)
    ncp = EmulatedNcp(air, eui64, ezsp_version=version, config=config, nv=nv)
    MADE.append(ncp)
    return Host(air, ncp)


class Device(NodeListener):
    """An emulated device that joins, remembers what it is sent, and says what became of what it sends."""

    def __init__(self, air: Air, eui64: int = DEVICE, kind: NodeKind = NodeKind.ROUTER) -> None:
        self.node = Node(air, eui64, kind, self)
        self.node.descriptors = (SimpleDescriptor(1, 0x0109, 0x0507, 0, (0x0019,), ()),)
        self.received: list[ApsMessage] = []
        self.sent: list[SentStatus] = []
        self.joined: tuple[bool, str] | None = None

    def join(self, key: bytes = LINK_KEY) -> None:
        self.node.join(link_key=key, done=lambda ok, reason: setattr(self, "joined", (ok, reason)))

    def message_received(self, message: ApsMessage, aps_counter: int, lqi: int, rssi: float) -> None:
        self.received.append(message)

    def message_sent(self, tag: int, message: ApsMessage, status: SentStatus) -> None:
        self.sent.append(status)

    def send(self, payload: bytes, *, secured: bool = False) -> None:
        self.node.send(ApsMessage(0, 0x0109, 0x0019, 1, 1, payload, secured=secured))


def give_key(host: Host, eui64: int = DEVICE, key: bytes = LINK_KEY) -> None:
    """Let a device join under that transient key."""
    if host.codec.version >= 13:
        assert host.status("importTransientKey", eui64=eui64, plaintext_key=key, flags=0) == 0
    else:
        assert host.status("addTransientLinkKey", partner=eui64, transientKey=key) == 0


def with_device(
    version: int = 13, *, config: NcpConfig | None = None, kind: NodeKind = NodeKind.ROUTER
) -> tuple[Host, Device]:
    """A formed network and a device that joined it with its install code's key."""
    host = new(version, config=config).start().form(HASHED_SECURITY)
    host.status("setPolicy", policyId=0, decisionId=ALLOW_JOINS | INSTALL_CODE_ONLY)
    give_key(host)
    host.status("permitJoining", duration=60)
    device = Device(host.air, kind=kind)
    device.join()
    host.run(5.0)
    assert device.joined == (True, "")
    host.callbacks.clear()
    return host, device
