"""The meters: the ESME, which its hub reaches at any time, and the GSME, which sleeps and asks when it wakes up."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from harness.errors import LocalProtocolError, RemoteProtocolError
from harness.members.device import HanDevice
from harness.members.device_values import DeviceConfig
from harness.members.reads import AttributeRead, Reads
from harness.members.security import soonest
from harness.wire import clusters, zcl
from harness.wire.application import ApsMessage
from harness.wire.ota_messages import CLOCK_TOLERANCE, OTA_CLUSTER
from harness.wire.tunnel import TunnelClient, TunnelClientConfig
from harness.wire.tunnel_mailbox import Get, GetResponse, Put, build_gsme_data, parse_gsme_data
from harness.wire.tunnel_messages import TUNNELING_CLUSTER

METERING_DEVICE: Final = 0x0501  # ZSE table 5-13
_PREPAYMENT: Final = 1 << 1  # ZSE D.7: of the Payment Control Configuration
_HOUR: Final = 3600.0


@dataclass(frozen=True, slots=True)
class MeterConfig(DeviceConfig):
    """One model of meter. Its register counts kWh or cubic metres and rises for ever."""

    device: int = METERING_DEVICE
    summation: int = 1000  # assumed: what the register shows at now = 0
    rate: float = 0.5  # assumed: what it rises by in an hour
    prepayment: bool = False  # whether it is in prepayment mode
    credit: int = 0  # CreditRemaining


@dataclass(frozen=True, slots=True)
class GsmeConfig(MeterConfig):
    """One model of GSME. Times in seconds.

    Its `ota` is not `unprompted`: a GSME asks for an image when a flag of its hub says that one waits.
    """

    wake_interval: float = 1800.0  # SL: the mirror report interval
    read_timeout: float = 15.0  # assumed: as of a hub's reads
    own_tunnel: TunnelClientConfig = TunnelClientConfig()

    def __post_init__(self) -> None:
        if self.wake_interval <= 0:
            raise LocalProtocolError(f"a GSME that wakes up every {self.wake_interval:g} s")
        if self.ota is None or self.ota.unprompted:
            raise LocalProtocolError("a GSME has an OTA client, which asks when told so and never unprompted")


class Meter(HanDevice):
    """What both meters are: a register, and an account of what is paid."""

    config: MeterConfig
    measures: int
    """The MeteringDeviceType."""

    def served(self) -> dict[int, zcl.AttributeTable]:
        """Metering and Prepayment."""
        config = self.config
        return {
            clusters.METERING_CLUSTER: clusters.metering_attributes(self.measures, self.summation),
            clusters.PREPAYMENT_CLUSTER: clusters.prepayment_attributes(
                _PREPAYMENT if config.prepayment else 0, lambda now: config.credit
            ),
        }

    def summation(self, now: float) -> int:
        """What the register shows."""
        return self.config.summation + int(self.config.rate * now / _HOUR)


class Esme(Meter):
    """An Electricity Smart Metering Equipment: the hub opens a tunnel to it and tells it of images."""

    measures = clusters.ELECTRIC_METERING


class Gsme(Meter):
    """A Gas Smart Metering Equipment: it wakes up, reads what its hub has for it, and fetches that.

    It opens its tunnel itself, and what goes through that has a header: GET, GET-RESPONSE and PUT (GBCS 10.2.2).
    """

    config: GsmeConfig
    tunnels: TunnelClient
    measures = clusters.GAS_METERING
    opens_tunnel = True

    def new_tunnels(self) -> TunnelClient:
        """The client's end of the tunnel."""
        return TunnelClient(self.config.own_tunnel)

    # --- waking up --------------------------------------------------------------------------------------------------

    def _boot(self) -> None:
        self._wakes_at: float | None = None
        self._reads = Reads()
        self._fetches = False  # whether a GET is to go, once there is a tunnel
        super()._boot()

    def network_down(self, now: float) -> list[object]:
        """Off the network: there is nobody to wake up for."""
        self._wakes_at = None
        self._reads.clear()
        self._fetches = False
        return super().network_down(now)

    def hub_found(self, eui64: int, now: float) -> None:
        """It can ask its hub from now on.

        One that has just started does at once; one that was commissioned earlier is anywhere in its cycle.
        """
        super().hub_found(eui64, now)
        if self._wakes_at is None:
            spread = 0.0 if self._known is None else self.config.wake_interval
            self._wakes_at = now + self._random.uniform(0.0, spread)

    def next_deadline(self) -> float | None:
        """When it wakes up, or a device's other business is due."""
        return soonest(super().next_deadline(), self._wakes_at, self._reads.next_deadline())

    def on_deadline(self, now: float) -> list[object]:
        """Wake up, if it is time, and read the flags."""
        events = self._reads.on_deadline(now)
        if self._wakes_at is not None and now + CLOCK_TOLERANCE >= self._wakes_at:
            self._wakes_at = now + self.config.wake_interval
            self._wake_up(now)
        return events + super().on_deadline(now)

    def _wake_up(self, now: float) -> None:
        config = self.config
        # Assumed: the mirror is on the endpoint of the hub's OTA server.
        endpoint = self._discovery.endpoints.get(OTA_CLUSTER)
        if endpoint is None:
            return  # it looks for its hub, that is enough for now
        _, frame = self._reads.begin(
            config.hub,
            clusters.METERING_CLUSTER,
            clusters.FUNCTIONAL_NOTIFICATION_FLAGS,
            now + config.read_timeout,
            from_server=True,
        )
        self.send(config.hub, clusters.METERING_CLUSTER, endpoint, frame)
        self._open_tunnel(now)

    def other_frame(
        self, message: ApsMessage, frame: zcl.Frame, now: float, *, unicast: bool
    ) -> list[object]:
        """Take the flags, or a reader's question."""
        if frame.command not in (zcl.READ_ATTRIBUTES_RESPONSE, zcl.DEFAULT_RESPONSE):
            return super().other_frame(message, frame, now, unicast=unicast)
        events = self._reads.answered(message, frame)
        for event in events:
            if isinstance(event, AttributeRead) and isinstance(event.value, int):
                self._flagged(event.value, now)
        return events

    def _flagged(self, flags: int, now: float) -> None:
        if flags & clusters.NEW_OTA_FIRMWARE:
            self.client.ask(now)
            self._take_frames(None)
        if flags & clusters.TUNNEL_MESSAGE_PENDING:
            self._fetches = True
            self._take_session_frames(now)

    # --- the tunnel -------------------------------------------------------------------------------------------------

    def into_tunnel(self, octets: bytes) -> bytes:
        """PUT."""
        return build_gsme_data(Put(octets))

    def out_of_tunnel(self, octets: bytes, now: float) -> bytes | None:
        """The message of a GET-RESPONSE. RemoteProtocolError for what is none."""
        data = parse_gsme_data(octets)
        if not isinstance(data, GetResponse):
            raise RemoteProtocolError(f"{type(data).__name__.upper()} is what a GSME says, not its hub")
        self._fetches = data.remaining > 0
        return data.message or None

    def _discovered(self, now: float) -> None:
        super()._discovered(now)
        self._open_tunnel(now)

    def _open_tunnel(self, now: float) -> None:
        hub = self._hub_eui64
        if hub in self.flash.keyed and TUNNELING_CLUSTER in self._discovery.endpoints:
            self.tunnels.open(hub, now)
            self._take_session_frames(now)

    def _take_session_frames(self, now: float) -> None:
        hub = self._hub_eui64
        if self._fetches and hub is not None and self.tunnel_ready(hub):
            self._fetches = False
            self.tunnels.send(hub, build_gsme_data(Get()), now)
        super()._take_session_frames(now)
