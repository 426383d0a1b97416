"""Sequences of all that can happen to an Inventory, beside a world that knows what each Device runs."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from harness.smi.devices import DeviceStatus, SmetsFamily
from harness.smi.inventory import Inventory
from harness.smi.options import Options
from harness.smi.plain import event_from_plain, event_to_plain, from_plain, to_plain
from harness.smi.requests import DecommissionDevice, PreNotifyDevice, ReadFirmwareVersion, User, UserRole
from harness.smi.responses import (
    ActivationAlertReceived,
    ActivationOutcome,
    CplLoaded,
    DeviceCommissioned,
    DeviceJoined,
    DeviceLogUpdated,
    FirmwareActivated,
    FirmwareVersionRead,
    RecoveryCompleted,
    RecoveryStarted,
    TransferReported,
)
from harness.smi.rules import RULES
from tests.unit.smi_bench import HUB_1, HUB_2, ROWS, S1, S2, V1, V2, V3, row, update, update_ppmid

ESME, GSME, DUAL, SINGLE = 0x11, 0x12, 0x31, 0x32
HUBS = {S1: HUB_1, S2: HUB_2}
MODELS = {ESME: "ESME-a", GSME: "GSME-a", DUAL: "PPMID-dual", SINGLE: "PPMID-s2"}
METERS = (ESME, GSME)
USERS = {GSME: User(UserRole.GS)}
# V3 of the PPMIDs is on no CPL: a version that a Device can run and the Inventory must not let pass.
FLICKERING = [one for one in ROWS if one.device_type != "CHF"]
HUB_ROWS = [one for one in ROWS if one.device_type == "CHF"]
GONE = ("Decommissioned", "Withdrawn")


@dataclass
class World:
    """What is really so, kept without the Inventory, and the log of what was told to it."""

    options: Options
    inventory: Inventory
    log: list[tuple[float, Any]] = field(default_factory=list)
    ran: dict[int, list[int]] = field(default_factory=lambda: {device: [V1] for device in MODELS})
    # What the status would be, were no Device ever Suspended.
    status: dict[int, str] = field(default_factory=lambda: dict.fromkeys(MODELS, "Pending"))
    hub: dict[int, int | None] = field(default_factory=lambda: dict.fromkeys(MODELS))
    known: dict[int, int] = field(default_factory=lambda: dict.fromkeys(MODELS, V1))
    active: set[tuple[str, int, str]] = field(default_factory=set)

    def tell(self, event: Any) -> list[Any]:
        now = float(len(self.log))
        self.log.append((now, event))
        return self.inventory.apply(event, now)

    def load(self, rows: list[Any]) -> None:
        rows = [*rows, *HUB_ROWS]
        self.active = {(one.model, one.firmware_version, one.smets) for one in rows if one.status == "Active"}
        self.tell(CplLoaded(f"CPL {len(self.log)}", tuple(rows)))

    def step(self, step: tuple[Any, ...]) -> None:
        action, device, *details = step
        getattr(self, action)(device, *details)

    # --- what can happen ---------------------------------------------------------------------------------------

    def publish(self, _: int, kept: int) -> None:
        """A CPL has those rows whose bit is set; of the others, every second one is Withdrawn and not gone."""
        rows = []
        for number, one in enumerate(FLICKERING):
            if kept >> number & 1:
                rows.append(one)
            elif number % 2:
                rows.append(row(one.model, one.firmware_version, one.smets, status="Withdrawn"))
        self.load(rows)

    def upgrade(self, device: int, version: int, received: bool) -> None:
        """The Device runs another version; what it says of that comes in, or is lost."""
        self.ran[device].append(version)
        if device in METERS:
            self.answer(device, ActivationOutcome.SUCCESS, received)
        elif received:
            self.tell(ActivationAlertReceived(device, version, activated=True))
            self.known[device] = version if self.options.secmp0007 == "on" else self.known[device]

    def retry(self, device: int, outcome: int, received: bool) -> None:
        """SR11.3 once more, of a Device that holds no such image."""
        if device in METERS:
            self.answer(device, ActivationOutcome(outcome), received)

    def answer(self, device: int, outcome: ActivationOutcome, received: bool) -> None:
        running = self.ran[device][-1]
        if received:
            self.tell(FirmwareActivated(device, outcome, running))
            if outcome is ActivationOutcome.SUCCESS or self.options.mp105 == "both":
                self.known[device] = running

    def fail(self, device: int, version: int) -> None:
        """A PPMID's activation fails, and its alert names the version that it did not come to run."""
        if device not in METERS:
            self.tell(ActivationAlertReceived(device, version, activated=False))

    def read(self, device: int, received: bool) -> None:
        """SR11.2, and its response where the request passed."""
        (verdict,) = self.tell(ReadFirmwareVersion(USERS.get(device, User(UserRole.IS)), device))
        scope = self.options.mp105 != "before" and (device in METERS or self.options.secmp0007 == "on")
        if self.inventory.device(device).status == "Suspended":
            assert verdict.code == ("I99" if scope else "E5")
        if verdict.code == "I99" and received:
            self.tell(FirmwareVersionRead(device, self.ran[device][-1]))
            self.known[device] = self.ran[device][-1] if scope else self.known[device]

    def distribute(self, device: int, version: int, response: int) -> None:
        """SR11.1 or SR11.4, and what the hub says of the transfer."""
        user = USERS.get(device, User(UserRole.IS))
        self.tell(
            update(device, version=version, user=user)
            if device in METERS
            else update_ppmid(device, version=version)
        )
        if self.hub[device] is not None:
            self.tell(TransferReported(self.hub[device], device, version, response))

    def join(self, device: int, family: SmetsFamily) -> None:
        if self.status[device] in GONE:
            return
        hub, before = HUBS[family], self.inventory.device(device)
        self.tell(DeviceLogUpdated(hub, device, added=True))
        self.tell(DeviceJoined(hub, device))
        moved = self.hub[device] != hub
        if moved or self.status[device] in ("Pending", "Whitelisted"):
            self.status[device] = "InstalledNotCommissioned"
        self.hub[device] = hub
        # MP202: bound by its hub, where that family has an Active row and its own has one at all.
        key = (before.model, before.firmware_version)
        rowed = {one.smets for one in self.inventory.rows() if (one.model, one.firmware_version) == key}
        bound = self.options.mp202 == "on" and len(rowed) == 2 and (*key, family) in self.active
        assert self.inventory.device(device).smets == (family if bound else before.smets)

    def leave(self, device: int) -> None:
        if self.hub[device] is not None and self.status[device] not in GONE:
            self.tell(DeviceLogUpdated(self.hub[device], device, added=False))
            self.hub[device], self.status[device] = None, "Pending"

    def commission(self, device: int) -> None:
        self.tell(DeviceCommissioned(device))
        if self.status[device] not in GONE:
            self.status[device] = "Commissioned"

    def recover(self, device: int, completed: bool) -> None:
        if self.status[device] not in GONE:
            self.tell(RecoveryCompleted(device) if completed else RecoveryStarted(device))
            self.status[device] = "Recovered" if completed else "Recovery"

    def decommission(self, device: int) -> None:
        self.tell(DecommissionDevice(USERS.get(device, User(UserRole.IS)), device))
        self.status[device], self.hub[device] = "Decommissioned", None

    # --- what must hold ----------------------------------------------------------------------------------------

    def judge(self) -> None:
        for number, model in MODELS.items():
            device = self.inventory.device(number)
            assert device.firmware_version in self.ran[number]
            assert device.firmware_version == self.known[number]
            is_active = (model, device.firmware_version, device.smets) in self.active
            assert (device.row is not None) is is_active
            if self.status[number] in GONE:
                assert device.status == self.status[number]
            elif is_active:
                assert (device.status, device.status_before_suspension) == (self.status[number], None)
            else:
                assert (device.status, device.status_before_suspension) == ("Suspended", self.status[number])
            assert device.hub == self.hub[number]
            last = {change.field: change for change in device.history}
            assert len(device.history) <= 16
            for name, change in last.items():
                if name != "status_before_suspension":
                    assert getattr(device, name) == change.after
                assert RULES[change.rule].holds(self.options)


DEVICES = st.sampled_from(list(MODELS))
VERSIONS = st.sampled_from([V1, V2, V3])
FAMILIES = st.sampled_from(list(SmetsFamily))
ROW_SETS = st.integers(0, (1 << len(FLICKERING)) - 1) | st.just((1 << len(FLICKERING)) - 1)
STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("publish"), DEVICES, ROW_SETS),
        st.tuples(st.just("upgrade"), DEVICES, VERSIONS, st.booleans()),
        st.tuples(st.just("retry"), DEVICES, st.integers(1, 3), st.booleans()),
        st.tuples(st.just("fail"), DEVICES, VERSIONS),
        st.tuples(st.just("read"), DEVICES, st.booleans()),
        st.tuples(st.just("distribute"), DEVICES, VERSIONS, st.integers(0, 3)),
        st.tuples(st.just("join"), DEVICES, FAMILIES),
        st.tuples(st.just("leave"), DEVICES),
        st.tuples(st.just("commission"), DEVICES),
        st.tuples(st.just("recover"), DEVICES, st.booleans()),
        st.tuples(st.just("decommission"), DEVICES),
    ),
    max_size=25,
)
OPTIONS = st.builds(
    Options,
    mp105=st.sampled_from(["before", "sr11_2", "both"]),
    mp202=st.sampled_from(["off", "on"]),
    smets1_ota=st.sampled_from(["refused", "allowed"]),
    secmp0007=st.sampled_from(["off", "on"]),
)


def begin(options: Options, pre_notified: SmetsFamily = S2) -> World:
    """Return a world with two hubs and four pre-notified Devices."""
    world = World(options, Inventory(options))
    world.load(FLICKERING)
    user = User(UserRole.IS)
    world.tell(PreNotifyDevice(user, HUB_1, "CHF", "Acme", "CHF-s1", S1, V1))
    world.tell(PreNotifyDevice(user, HUB_2, "CHF", "Acme", "CHF-s2", S2, V1))
    for device, model in MODELS.items():
        family = pre_notified if device == DUAL else S2
        world.tell(PreNotifyDevice(user, device, model.split("-")[0], "Acme", model, family, V1))
    return world


@given(OPTIONS, FAMILIES, STEPS)
@settings(max_examples=150, deadline=None)
def test_the_inventory_says_what_follows_from_what_it_was_told_and_nothing_else(options, pre_notified, steps):
    """No Device both Suspended and on an Active row; a version always one that it ran; the status held before."""
    world = begin(options, pre_notified)
    for step in steps:
        world.step(step)
        world.judge()


@given(OPTIONS, STEPS)
@settings(max_examples=60, deadline=None)
def test_a_log_applied_again_and_a_snapshot_make_the_same_inventory(options, steps):
    """A store keeps either: both through JSON."""
    world = begin(options)
    for step in steps:
        world.step(step)
    written = json.dumps([(now, event_to_plain(event)) for now, event in world.log])
    again = Inventory(options)
    for now, plain in json.loads(written):
        again.apply(event_from_plain(plain), now)
    snapshot = to_plain(world.inventory)
    assert to_plain(again) == snapshot
    assert to_plain(from_plain(json.loads(json.dumps(snapshot)))) == json.loads(json.dumps(snapshot))


@given(
    st.sampled_from(["sr11_2", "both"]), st.lists(st.tuples(DEVICES, VERSIONS, st.booleans()), max_size=10)
)
@settings(max_examples=60, deadline=None)
def test_once_read_after_the_modification_every_device_is_aligned(mp105, upgrades):
    """SU-04, SU-12: whatever was lost before, one reading each is enough."""
    world = begin(Options(mp105=mp105))
    for device in MODELS:
        world.join(device, S2)
        world.commission(device)
    for device, version, received in upgrades:
        world.upgrade(device, version, received)
    for device in MODELS:
        world.read(device, received=True)
        assert world.inventory.device(device).firmware_version == world.ran[device][-1]
    world.judge()


def test_a_recovery_is_remembered_by_a_suspended_device():
    """The world's own check: a sequence that ends Suspended and comes back, by hand."""
    world = begin(Options())
    for step in (
        ("join", ESME, S2), ("commission", ESME), ("publish", ESME, 0), ("recover", ESME, False),
        ("upgrade", ESME, V3, False),
        ("publish", ESME, 1 << len(FLICKERING) - 1), ("read", ESME, True),
    ):  # fmt: skip
        world.step(step)
        world.judge()
    assert world.inventory.device(ESME).status == DeviceStatus.SUSPENDED
    world.step(("publish", ESME, (1 << len(FLICKERING)) - 1))
    world.judge()
    assert world.inventory.device(ESME).status == DeviceStatus.RECOVERY
