"""What happened on a rig as a sequence: the journal's entries as arrows between its members and the WAN."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from enum import IntEnum
from typing import Any, Final, TypeAlias

from harness.dcc.csp import CommandDown, DeviceLogDown, ImageDown, Logged, LostOnTheWan, Up
from harness.dcc.interface import Alerted
from harness.errors import RemoteProtocolError
from harness.evidence.diagram import Arrow, Kind, Note, Step, lifelines
from harness.evidence.journal import Entry
from harness.members import bridge_values as bridge
from harness.members import device_log as log
from harness.members import firmware_values as firmware
from harness.members import hub_values as hub
from harness.members import image_store_values as store
from harness.members.reads import AttributeRead, ReadFailed
from harness.members.security import UnsecuredRefused
from harness.members.tunnels import MessageReceived
from harness.radio.runner import DeliveryFailed, RadioLost, RadioRestarted
from harness.rig.nouns import PowerCut, PowerRestored
from harness.rig.wan import CommandDelivered, ImageDelivered
from harness.wire import ota_client_values as client
from harness.wire import ota_server_values as server
from harness.wire.cbke_values import KeyEstablished, KeyEstablishmentFailed, KeyRejected
from harness.wire.clusters import CURRENT_FILE_VERSION
from harness.wire.gbcs import Cra, parse_message
from harness.wire.gbcs_names import (
    FIRMWARE_TRANSFER_FAILED,
    FIRMWARE_VERIFICATION_FAILED,
    FUTURE_DATED_COMMAND_FAILED,
    alert_name,
    use_case_name,
)
from harness.wire.gbcs_payloads import parse_payload
from harness.wire.keep_alive import TrustCenterLost
from harness.wire.mac import format_eui64
from harness.wire.ota_messages import OTA_CLUSTER, SUCCESS
from harness.wire.tunnel import MessageLost
from harness.wire.tunnel_messages import TRANSFER_DATA_TO_CLIENT, TRANSFER_DATA_TO_SERVER, TUNNELING_CLUSTER
from harness.wire.zcl import status_name

WAN: Final = "WAN"
"""The lifeline of whoever is above the hub: Supplier, Access Control Broker, DSP, CSP."""

_TUNNEL_DATA: Final = (bytes((TRANSFER_DATA_TO_CLIENT,)), bytes((TRANSFER_DATA_TO_SERVER,)))
_BAD_ALERTS: Final = (FIRMWARE_VERIFICATION_FAILED, FUTURE_DATED_COMMAND_FAILED, FIRMWARE_TRANSFER_FAILED)


@dataclass(frozen=True, slots=True)
class Parties:
    """Who is on a rig: each member's name by its EUI-64, in the order of the file, and which of them is the hub.

    `shorts` are NWK addresses by member name, as far as known before the journal says. `fed_by` names each fed bridge's
    feeder. `silent` are the members by equipment: of what they do the journal has only what others saw.
    """

    names: Mapping[int, str]
    hub: str
    shorts: Mapping[str, int] = field(default_factory=dict)
    fed_by: Mapping[str, str] = field(default_factory=dict)
    silent: frozenset[str] = frozenset()

    @property
    def lifelines(self) -> tuple[str, ...]:
        """The WAN, the hub, and the other members in their order."""
        others = (name for name in self.names.values() if name != self.hub)
        return (WAN, self.hub, *others)


def sequence_of(entries: Iterable[Entry], parties: Parties) -> tuple[list[Step], list[str]]:
    """Draw up what happened: its steps, and the lifelines of those who took part in it.

    The upkeep of the network is left out, and who took no other part.
    """
    scene = _Scene(parties)
    for entry in entries:
        scene.take(entry)
    acting = lifelines(scene.steps)
    known = [name for name in parties.lifelines if name in acting]
    return scene.steps, lifelines(scene.steps, known)  # behind them strangers, by EUI-64


class _Scene:
    """The steps so far, and what it takes to name their parties."""

    def __init__(self, parties: Parties) -> None:
        self.parties = parties
        self.steps: list[Step] = []
        self.me = ""
        self._seconds = 0.0
        self._by_short = {short: name for name, short in parties.shorts.items()} | {0: parties.hub}
        self._joining: set[int] = set()
        self._dark: set[str] = set()
        self._away: set[str] = (
            set()
        )  # who went dark, or restarts: any other is a member that announces itself again
        self._previous: object = None

    def take(self, entry: Entry) -> None:
        event = entry.event
        self.me, self._seconds = entry.member, entry.seconds
        if isinstance(event, BaseException):
            self.note(f"{type(event).__name__}: {event}", "failure")
        elif (row := _ROWS.get(type(event))) is not None:
            row(self, event)
        self._previous = event

    # --- steps --------------------------------------------------------------------------------------------------------

    def note(self, text: str, kind: Kind = "message") -> None:
        self.steps.append(Note(self._seconds, self.me, text, kind))

    def arrow(self, source: str, target: str, text: str, kind: Kind = "message") -> None:
        self.steps.append(Arrow(self._seconds, source, target, text, kind))

    def to_me(self, eui64: int, text: str, kind: Kind = "message") -> None:
        self.arrow(self.name(eui64), self.me, text, kind)

    def from_me(self, eui64: int, text: str, kind: Kind = "message") -> None:
        self.arrow(self.me, self.name(eui64), text, kind)

    # --- names --------------------------------------------------------------------------------------------------------

    def name(self, eui64: int) -> str:
        return self.parties.names.get(eui64) or format_eui64(eui64)

    def of_short(self, short: int) -> str:
        return self._by_short.get(short, f"{short:#06x}")

    @property
    def my_server(self) -> str:
        return self.parties.fed_by.get(self.me, self.parties.hub)

    def whose(self, version: int | None, target: int | None) -> str:
        what = "an image" if version is None else f"{version:#010x}"
        return what if target is None else f"{what} for {self.name(target)}"

    # --- events that take more than a line ----------------------------------------------------------------------------

    def joined(self, event: hub.DeviceJoined) -> None:
        name = self.name(event.eui64)
        self._by_short[event.short] = name
        if event.eui64 in self._joining:
            self._joining.discard(event.eui64)
            self.arrow(name, self.me, f"joins as {event.short:#06x}", "join")
        elif name in self._away or name in self.parties.silent:
            self._away.discard(name)
            self.arrow(name, self.me, f"is back as {event.short:#06x}", "join")

    def added(self, event: log.EntryAdded) -> None:
        self._joining.add(event.eui64)
        self.arrow(
            WAN, self.me, f"add {self.name(event.eui64)} ({event.kind}) to the Device Log (CCS01)", "join"
        )

    def up(self, event: hub.WanMessage) -> None:
        text, kind = self.message(event.octets)
        source = self.name(event.source)
        if source != self.me:
            self.arrow(source, self.me, text, kind)
        self.arrow(self.me, WAN, text, kind)

    def undelivered(self, event: DeliveryFailed) -> None:
        message, payload = event.message, event.message.payload
        # A ZCL header of 3 octets, then the tunnel: anything else that got lost is asked for or sent again.
        if message.cluster == TUNNELING_CLUSTER and payload[2:3] in _TUNNEL_DATA:
            self.arrow(self.me, self.of_short(message.peer), self.message(payload[5:])[0], "lost")

    def lost_on_the_wan(self, event: LostOnTheWan) -> None:
        what = event.what
        if isinstance(what, Up | Logged):
            text = self.message(what.octets)[0] if isinstance(what, Up) else "answer to SR8.11"
            who = what.source if isinstance(what, Up) else what.target
            self.arrow(self.parties.hub, WAN, f"{text}, of {self.name(who)}: lost on the WAN", "lost")
            return
        text = (
            f"{self.message(what.octets)[0]}, for"
            if isinstance(what, CommandDown)
            else _LOST_DOWN[type(what)]
        )
        self.arrow(WAN, self.parties.hub, f"{text} {self.name(what.target)}: lost on the WAN", "lost")

    def alerted(self, event: Alerted) -> None:
        alert = event.alert
        what = type(alert).__name__ if alert.number is None else f"{alert.number} {type(alert).__name__}"
        text = f"DCC Alert {what}: {self.name(alert.device)}"
        self.steps.append(Note(self._seconds, WAN, text))

    def message(self, octets: bytes) -> tuple[str, Kind]:
        """What a GBCS message says, as far as it can be read."""
        try:
            message = parse_message(octets)
            payload = parse_payload(message)
        except RemoteProtocolError as error:
            return f"{len(octets)} octets that are no GBCS message: {error}", "failure"
        words = [use_case_name(message.message_code)]
        if message.cra is Cra.RESPONSE:
            words.append("Response")
        details, good = self._details(payload)
        return " ".join(words) + (
            f": {', '.join(details)}" if details else ""
        ), "message" if good else "failure"

    def _details(self, payload: object) -> tuple[list[str], bool]:
        """The fields of a payload that a reader looks for, whichever kind of payload has them; whether all is well."""
        details, good = [], True
        if (target := getattr(payload, "target", None)) is not None:
            details.append(self.name(target))
        outcome = getattr(payload, "outcome", payload)
        version = getattr(outcome, "firmware_version", getattr(outcome, "version", None))
        if version is not None:
            details.append(f"{version:#010x}")
        for name in ("response", "result"):
            value = getattr(outcome, name, None)
            if isinstance(value, IntEnum):
                details.append(value.name)
                good = value == 0  # success, in all of them
        if (time := getattr(payload, "execution_time", None)) is not None:
            details.append(f"at {time:%Y-%m-%d %H:%M:%S}")
        if (code := getattr(payload, "alert_code", None)) is not None:
            # What the code says matters where nothing else says how it went.
            details.insert(0, f"{code:#06x}" if details else f"{code:#06x} {alert_name(code)}")
            good = good and code not in _BAD_ALERTS
        return details, good

    def keyed(self, event: KeyEstablished) -> None:
        partner = self.name(event.partner)
        # Both sides tell of it; the side that was asked tells it first, unless it is mute.
        if not event.initiator:
            self.arrow(partner, self.me, f"establishes a link key (CBKE, suite {event.suite})", "join")
        elif partner in self.parties.silent:
            self.arrow(self.me, partner, f"establishes a link key (CBKE, suite {event.suite})", "join")

    def downloads(self, event: client.DownloadStarted) -> None:
        if self.my_server in self.parties.silent:  # else the server tells of it
            self.arrow(self.me, self.my_server, _blocks(event.version, event.offset, event.size), "image")

    def downloaded(self, event: client.DownloadCompleted) -> None:
        if self.my_server in self.parties.silent:
            self.arrow(self.my_server, self.me, f"blocks: the whole of {event.version:#010x}", "image")

    def scheduled(self, event: client.UpgradeScheduled) -> None:
        when = "wait" if event.seconds is None else f"in {event.seconds:g} s"
        self.arrow(
            self.my_server, self.me, f"Upgrade End Response: run {event.version:#010x}, {when}", "image"
        )

    def discarded(self, event: store.ImageDiscarded) -> None:
        by = "" if event.by is None else f" by that for {self.name(event.by)}"
        offset = "" if event.offset is None else f", {event.offset} octets into its transfer"
        self.note(f"{self.whose(event.version, event.target)}: {event.cause}{by}{offset}", "failure")

    def withdrawn(self, event: server.ImageWithdrawn) -> None:
        if isinstance(self._previous, (store.ImageDiscarded, store.ImageExpired, store.ImageTransferred)):
            return  # that has said it
        self.note(f"takes back {self.whose(event.version, event.client)} after {event.offset} octets")

    def dark(self, event: PowerCut) -> None:
        self._dark.add(self.me)
        self._away.add(self.me)
        self.note("power off", "failure")

    def lit(self, event: PowerRestored) -> None:
        if self.me in self._dark:  # else it is no more than the bench's way to begin
            self._dark.discard(self.me)
            self.note("power on")

    def fed(self, event: bridge.FeedingEnded) -> None:
        failed = ", ".join(one.name for one in event.failed)
        self.note(f"has fed {event.version:#010x}" + (f", but for {failed}" if failed else ""))

    def activates(self, event: firmware.ActivationBegun) -> None:
        self._away.add(self.me)
        self.note(f"restarts to run {event.version:#010x}")

    def activated(self, event: firmware.ActivationEnded) -> None:
        good = event.running_version == event.version
        reason = "" if good else f", not {event.version:#010x}: {event.response.name}"
        self.note(f"runs {event.running_version:#010x}{reason}", "message" if good else "failure")

    def read(self, event: AttributeRead) -> None:
        known = (event.cluster, event.attribute) == (OTA_CLUSTER, CURRENT_FILE_VERSION)
        what = "CurrentFileVersion" if known else f"attribute {event.attribute:#06x} of {event.cluster:#06x}"
        value = f"{event.value:#010x}" if known and isinstance(event.value, int) else str(event.value)
        said = value if event.status == SUCCESS else status_name(event.status)
        self.arrow(self.of_short(event.short), self.me, f"{what}: {said}")


def _blocks(version: int, offset: int, total: int) -> str:
    return f"Image Block Requests: {version:#010x} from {offset} of {total} octets"


def _status(status: int) -> str:
    return "SUCCESS" if status == SUCCESS else status_name(status)


def _good(status: int) -> Kind:
    return "image" if status == SUCCESS else "failure"


_LOST_DOWN: Final[Mapping[type, str]] = {ImageDown: "an image for", DeviceLogDown: "SR8.11 about"}
_Row: TypeAlias = Callable[[_Scene, Any], None]

_ROWS: Final[Mapping[type, _Row]] = {
    # the WAN and the hub
    ImageDelivered: lambda s, e: s.arrow(
        WAN, s.me, f"delivers {s.whose(e.version, e.target)}, {e.size} octets", "image"
    ),
    CommandDelivered: lambda s, e: s.arrow(WAN, s.me, f"{s.message(e.octets)[0]}, for {s.name(e.recipient)}"),
    hub.DeliveryRefused: lambda s, e: s.note(f"refuses it: {e.reason}", "failure"),
    hub.WanMessage: _Scene.up,
    hub.GsmeDataRefused: lambda s, e: s.note(f"refuses what {s.name(e.eui64)} put in: {e.reason}", "failure"),
    hub.CommandNotRetrieved: lambda s, e: s.from_me(
        e.eui64, f"{s.message(e.octets)[0]}: not fetched in time ({e.alert_code:#06x})", "lost"
    ),
    # the DCC
    LostOnTheWan: _Scene.lost_on_the_wan,
    Alerted: _Scene.alerted,
    # its image store
    store.ImageStored: lambda s, e: s.note(f"keeps {s.whose(e.version, e.target)}", "image"),
    store.ImageRefused: lambda s, e: s.note(f"refuses {s.whose(e.version, e.target)}: {e.detail}", "failure"),
    store.ImageDiscarded: _Scene.discarded,
    store.ImageExpired: lambda s, e: s.note(f"{s.whose(e.version, e.target)}: expired", "failure"),
    store.TransferFailed: lambda s, e: s.note(
        f"{s.whose(e.version, e.target)}: transfer failed, the {e.failures}. time", "failure"
    ),
    store.ImageLost: lambda s, e: s.note(f"{s.whose(e.version, e.target)}: lost, {e.reason}", "failure"),
    store.SnapshotLost: lambda s, e: s.note(f"its image store is lost, {e.octets} octets", "failure"),
    # OTA, at the hub or at a bridge that feeds others
    server.ImageQueried: lambda s, e: s.to_me(
        e.client, f"Query Next Image, runs {e.version:#010x}: {_status(e.status)}", "image"
    ),
    server.TransferStarted: lambda s, e: s.to_me(e.client, _blocks(e.version, e.offset, e.total), "image"),
    server.TransferCompleted: lambda s, e: s.from_me(
        e.client, f"blocks: the whole of {e.version:#010x}", "image"
    ),
    server.UpgradeEnded: lambda s, e: s.to_me(
        e.client, f"Upgrade End Request for {e.version:#010x}: {_status(e.status)}", _good(e.status)
    ),
    server.ImageWithdrawn: _Scene.withdrawn,
    server.RequestRefused: lambda s, e: s.from_me(
        e.client, f"refuses OTA command {e.command:#04x}: {status_name(e.status)}", "failure"
    ),
    # ... and at the device
    client.DownloadStarted: _Scene.downloads,
    client.DownloadCompleted: _Scene.downloaded,
    client.UpgradeScheduled: _Scene.scheduled,
    client.DownloadAborted: lambda s, e: s.note(
        f"drops {e.version:#010x} after {e.offset} octets: {e.reason}", "failure"
    ),
    client.ImageRefused: lambda s, e: s.note(f"takes no {e.version:#010x}: {e.reason}", "failure"),
    # what the device makes of it
    firmware.ImageHeld: lambda s, e: s.note(f"holds {e.version:#010x}", "image"),
    firmware.ImageRejected: lambda s, e: s.note(f"discards {e.version:#010x}: {e.reason}", "failure"),
    firmware.ActivationBegun: _Scene.activates,
    firmware.ActivationEnded: _Scene.activated,
    firmware.ActivationScheduled: lambda s, e: s.note(f"activates at {e.execution_time:%Y-%m-%d %H:%M:%S}"),
    firmware.ActivationCancelled: lambda s, e: s.note("activates it no more"),
    firmware.CommandRefused: lambda s, e: s.note(f"does not obey: {e.reason}", "failure"),
    MessageReceived: lambda s, e: s.to_me(e.eui64, s.message(e.octets)[0]),
    DeliveryFailed: _Scene.undelivered,
    MessageLost: lambda s, e: s.from_me(e.peer, s.message(e.data)[0], "lost"),
    # bridges that feed bridges
    bridge.FeedingBegun: lambda s, e: s.note(
        f"feeds {e.version:#010x} to {', '.join(one.name for one in e.to)}", "image"
    ),
    bridge.BridgeUpdated: lambda s, e: s.note(f"{e.bridge.name} runs {e.version:#010x}"),
    bridge.BridgeFailed: lambda s, e: s.note(
        f"{e.bridge.name} does not run {e.version:#010x}: {e.reason}", "failure"
    ),
    bridge.FeedingEnded: _Scene.fed,
    # joining, keys, power
    log.EntryAdded: _Scene.added,
    log.EntryDuplicate: lambda s, e: s.arrow(WAN, s.me, f"add {s.name(e.eui64)} again", "join"),
    log.EntryRefused: lambda s, e: s.note(
        f"does not admit {s.name(e.eui64)}: {e.response.name}, {e.detail}", "failure"
    ),
    log.EntryRemoved: lambda s, e: s.arrow(
        WAN, s.me, f"take {s.name(e.eui64)} off the Device Log (CCS02)", "join"
    ),
    log.RemovalRefused: lambda s, e: s.note(f"{s.name(e.eui64)} is not in the Device Log", "failure"),
    log.JoinPeriodEnded: lambda s, e: s.note(f"{s.name(e.eui64)} may join no more", "failure"),
    hub.DeviceJoined: _Scene.joined,
    hub.DeviceLeft: lambda s, e: s.to_me(e.eui64, "leaves", "join"),
    KeyEstablished: _Scene.keyed,
    KeyRejected: lambda s, e: s.to_me(e.partner, f"rejects the link key: {e.reason}", "failure"),
    KeyEstablishmentFailed: lambda s, e: s.note(
        f"no link key with {s.name(e.partner)}: {e.reason}", "failure"
    ),
    UnsecuredRefused: lambda s, e: s.arrow(
        s.of_short(e.peer), s.me, f"not under the link key: cluster {e.cluster:#06x} is not for it", "failure"
    ),
    TrustCenterLost: lambda s, e: s.note("has lost its Trust Center", "failure"),
    PowerCut: _Scene.dark,
    PowerRestored: _Scene.lit,
    RadioLost: lambda s, e: s.note(f"its radio is lost: {e.reason}", "failure"),
    RadioRestarted: lambda s, e: s.note("its radio is back"),
    # reads over the HAN
    AttributeRead: _Scene.read,
    ReadFailed: lambda s, e: s.arrow(s.me, s.of_short(e.short), f"read: {e.reason}", "lost"),
}
"""What is drawn of an event. Left out is what another event says already, and the upkeep of network and tunnels."""
