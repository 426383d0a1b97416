"""An Inventory and the emulated HAN that it is about, driven together by lists of steps, and what must hold of both."""

from __future__ import annotations

import asyncio
import json
import random
import tempfile
from collections.abc import Callable, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

import yaml

from harness.clock import VirtualLoop
from harness.dcc.interface import Answer, Outcome
from harness.errors import LocalProtocolError, RemoteProtocolError, RigError
from harness.evidence.diagram import as_text
from harness.rig.commissioned import Commissioned, commission
from harness.rig.images import make_image
from harness.rig.open import Rig
from harness.rig.schema import RigFile, load_rig
from harness.smi.devices import DeviceStatus, format_version
from harness.smi.inventory import Inventory
from harness.smi.plain import event_from_plain, event_to_plain, from_plain, to_plain
from harness.smi.requests import CommissionDevice, UpdateDeviceLog, User, UserRole
from harness.smi.responses import FirmwareVersionRead
from harness.store.store import Store
from harness.wire.image import OtaImage
from tests.unit.served import REPOSITORY

Step = tuple[Any, ...]
"""The name of a method of `Premises`, and its arguments."""

METERS = ("esme", "gsme")
DEVICES = (*METERS, "ppmid")
BAD = 4  # the image of this number starts on no device
SIZE = 256  # octets of an image: what is judged here is not the transfer
RESPONSE_SECONDS = 2700  # a GSME looks every 1800 s
JOIN_WITHIN = 600.0  # seconds; the hub lets a device in for 254
BY_STEPS = (
    AssertionError,
    LocalProtocolError,
    RemoteProtocolError,
    RigError,
)  # what a list of steps can fail with
LAST = 40  # steps of the diagram under a failure


@lru_cache
def rig_file(mp105: str) -> RigFile:
    """The emulated rig with nobody but a hub, two meters and a PPMID, all of them nodes, under one form of MP105."""
    content = yaml.safe_load((REPOSITORY / "rigs" / "emulated-devices.yaml").read_text())
    content["members"] = {name: content["members"][name] for name in ("hub", *DEVICES)}
    hub = content["members"]["hub"]
    del hub["radio"], hub["ncp"]
    hub["by"] = "emulation"
    content["dcc"] = {"options": {"mp105": mp105}, "response_seconds": RESPONSE_SECONDS}
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "rig.yaml")
        path.write_text(yaml.safe_dump(content, sort_keys=False))
        return load_rig(path)


@lru_cache
def commissioned_han() -> Commissioned:
    """What its members keep once all have joined: the Inventory's options are none of it."""
    return commission(rig_file("both"))


class WatchedRig(Rig):
    """A rig that writes down which versions its devices run, one after the other, without asking the Inventory."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.ran: dict[str, list[int]] = {name: [self.device(name).version_at_start] for name in DEVICES}

    def note(self, seconds: float, member: str, event: object) -> None:
        """Look at every event what they run by now."""
        for name, ran in self.ran.items():
            behaviour = self.device(name).behaviour
            if behaviour is not None and behaviour.running_version != ran[-1]:
                ran.append(behaviour.running_version)
        super().note(seconds, member, event)


class Premises:
    """An open rig, its Inventory, and what is known of both without asking that.

    `spoil` is done to each Inventory: a test of this bench breaks it so.
    """

    def __init__(self, rig: WatchedRig, spoil: Callable[[Inventory], None]) -> None:
        self.rig = rig
        self.dcc = rig.dcc
        self._spoil = spoil
        self._images: dict[tuple[str, int], OtaImage] = {}
        self.active = {(name, rig.device(name).version_at_start) for name in DEVICES}
        """What the CPL has an Active row of, by device and version."""
        self.read_at: dict[str, int] = {}
        """By device, how many versions it had run when one of them was last read."""
        self._log: list[tuple[float, Any]] = []
        self._snapshot: dict[str, Any] = {}

    async def begin(self) -> None:
        """Power and enrol all."""
        for name in DEVICES:
            await self.rig.joined(name)
            await self.rig.sleep(5)
        await self.dcc.enrol()
        self._keep(self.dcc.inventory)

    def image(self, name: str, number: int) -> OtaImage:
        """The image of that number for a device; 1 has the version that it runs at first, 2 the next."""
        device = self.rig.device(name)
        if (name, number) not in self._images:
            new_image = make_image(random.Random(f"{name} {number}"))
            version = device.version_at_start + number - 1
            self._images[name, number] = new_image(
                target=device, size=SIZE, version=version, starts=number != BAD
            )
        return self._images[name, number]

    # --- what can happen ----------------------------------------------------------------------------------------------

    async def publish(self, name: str, number: int) -> None:
        """The CPL gets an Active row of an image; and so has the version that it came with, by 1."""
        image = self.image(name, number)
        self.dcc.list_image(image, target=self.rig.device(name))
        self.active.add((name, image.version))

    async def withdraw(self, name: str, number: int) -> None:
        """The CPL row of an image is Withdrawn, where there is one."""
        version = self.image(name, number).version
        if (name, version) in self.active:
            self.dcc.withdraw(version, of=self.rig.device(name))
            self.active.discard((name, version))

    async def update(self, name: str, number: int) -> None:
        """SR11.1 or SR11.4, whether its image is on the CPL or not."""
        await self.dcc.update_firmware(self.image(name, number), self.rig.device(name))

    async def activate(self, name: str, number: int | None) -> None:
        """SR11.3 with the hash of an image, or with one of no image."""
        found = bytes(32) if number is None else self.image(name, number)
        await self.dcc.activate(found, on=self.rig.device(name))

    async def read(self, name: str) -> None:
        """SR11.2."""
        self._read(name, await self.dcc.read_version(self.rig.device(name)))

    async def read_gpf(self) -> None:
        """SR11.2 to the GPF, which changes no GSME."""
        await self.dcc.read_version_of_gpf()

    def _read(self, name: str, answer: Answer) -> None:
        if answer.outcome is not Outcome.DONE or self.dcc.inventory.options.mp105 == "before":
            return
        if any(isinstance(response, FirmwareVersionRead) for response in answer.responses):
            self.read_at[name] = len(self.rig.ran[name])

    async def lose_request(self, name: str) -> None:
        """The next image or command for a device is lost on the WAN."""
        self.dcc.lose_next_request(to=self.rig.device(name))

    async def lose_response(self, name: str) -> None:
        """The next response of a device is lost on the WAN."""
        self.dcc.lose_next_response(of=self.rig.device(name))

    async def dark(self, name: str) -> None:
        """A member loses its power, whatever it is doing."""
        if name != "hub":
            await self.rig.device(name).power_off()
        else:
            self.rig.hub.carrier.power_cut()

    async def lit(self, name: str) -> None:
        """It has power again."""
        if name != "hub":
            await self.rig.device(name).power_on()
        else:
            self.rig.hub.carrier.power_on()

    async def leave(self, name: str) -> None:
        """SR8.11: a device is taken off the hub's Device Log."""
        await self._device_log(name, add=False)

    async def join(self, name: str) -> None:
        """SR8.11, somebody starts the device anew, and when it has joined SR8.1.1 or SR8.7.x commissions it."""
        await self._device_log(name, add=True)
        device = self.rig.device(name)
        if not device.joined:
            await device.power_off()
            await device.power_on()
        try:
            await device.until(joined=True, within=JOIN_WITHIN)
        except RemoteProtocolError:
            return  # its hub has no power
        await self.dcc.request(CommissionDevice(_user(name), device.eui64))

    async def _device_log(self, name: str, *, add: bool) -> None:
        hub, device = self.rig.hub.eui64, self.rig.device(name).eui64
        await self.dcc.request(UpdateDeviceLog(_user(name), hub, device, add))

    async def wait(self, minutes: int) -> None:
        """Nobody does anything."""
        await self.rig.sleep(60 * minutes)

    async def restart(self, through: str) -> None:
        """The Inventory is written and read back: as plain data, or by a store's snapshot and its log since."""
        before = json.loads(json.dumps(to_plain(self.dcc.inventory)))
        again = from_plain(before) if through == "snapshot" else self._through_a_store()
        after = json.loads(json.dumps(to_plain(again)))
        differing = [name for name in before if after[name] != before[name]]
        assert not differing, f"a restart by {through} changed {', '.join(differing)}"
        self._keep(again)

    def _through_a_store(self) -> Inventory:
        with Store("sqlite://") as store:
            with store.inventory("premises") as log:
                log.snapshot(self._snapshot)
                for now, event in self._log:
                    log.append(event_to_plain(event), now)
            kept = store.kept("premises")
        assert kept.snapshot is not None
        again = from_plain(kept.snapshot)
        for now, plain in kept.events:
            again.apply(event_from_plain(plain), now)
        return again

    def _keep(self, inventory: Inventory) -> None:
        """Go on with this Inventory, and write down what it is told from now on."""
        self._spoil(inventory)
        self._snapshot, self._log = to_plain(inventory), []
        apply = inventory.apply

        def noted(event: Any, now: float) -> Any:
            consequences = apply(event, now)
            self._log.append((now, event))
            return consequences

        inventory.apply = noted
        dcc = self.dcc
        dcc.inventory = dcc.system.inventory = dcc.system.dsp.inventory = inventory
        dcc._divergence._inventory = inventory

    # --- what must hold -----------------------------------------------------------------------------------------------

    async def judge(self) -> None:
        """Raise AssertionError for what does not hold, and whatever went wrong inside."""
        self.rig.check()
        inventory = self.dcc.inventory
        differing = {}
        for name, ran in self.rig.ran.items():
            device = self.rig.device(name)
            record = inventory.device(device.eui64)
            says = record.firmware_version
            shown = f"{name} runs {format_version(ran[-1])}, the Inventory says {format_version(says)}, {record.status}"
            assert says in ran, f"{shown}: it never ran that"
            active = (name, says) in self.active
            assert (record.row is not None) is active, f"{shown}: its row is {record.row}"
            assert not (record.status is DeviceStatus.SUSPENDED and active), (
                f"{shown}: that is an Active row, and it is Suspended"
            )
            assert record.status is DeviceStatus.SUSPENDED or active, f"{shown}: that is no Active row"
            strange = [
                change
                for change in record.history
                if isinstance(change.event, FirmwareVersionRead) and change.event.device != device.eui64
            ]
            assert not strange, f"{shown}: another's answer changed it: {strange}"
            if self.read_at.get(name) == len(ran):
                assert says == ran[-1], f"{shown}: the version that it runs was read since it runs it"
            if says != ran[-1]:
                differing[device.eui64] = (ran[-1], says)
        found = {one.device: (one.runs, one.says) for one in await self.dcc.divergence()}
        assert found == differing, f"divergence is {found}, and is in truth {differing}"


def _user(name: str) -> User:
    return User(UserRole.GS if name == "gsme" else UserRole.IS)


def _intact(_: Inventory) -> None:
    """Do nothing to it."""


def prove(
    steps: Sequence[Step], mp105: str = "both", spoil: Callable[[Inventory], None] = _intact
) -> WatchedRig:
    """Play these steps; where that fails, raise what the shortest list fails with that is left of them.

    Any list of steps can be played: they are left out one by one. Hypothesis, which shrinks the choices that the steps
    were made from, takes minutes for it.
    """
    try:
        return play(steps, mp105, spoil)
    except BY_STEPS as error:
        raise _shortest(list(steps), mp105, spoil, error) from None


def _shortest(
    steps: list[Step], mp105: str, spoil: Callable[[Inventory], None], error: Exception
) -> Exception:
    place = len(steps)
    while place:
        place -= 1
        fewer = steps[:place] + steps[place + 1 :]
        try:
            play(fewer, mp105, spoil)
        except type(error) as same:
            # What is behind it may be needless now.
            steps, error, place = fewer, same, len(fewer)
        except BY_STEPS:
            pass  # that is another defect
    return error


def play(
    steps: Sequence[Step], mp105: str = "both", spoil: Callable[[Inventory], None] = _intact
) -> WatchedRig:
    """Take these steps on a premises of its own, and judge it after each; return the rig as it was left.

    What does not hold is told with the steps until then, a line each, and the end of their sequence diagram.
    """
    rig = WatchedRig(rig_file(mp105), commissioned=commissioned_han())
    with asyncio.Runner(loop_factory=VirtualLoop) as runner:
        runner.run(_play(rig, steps, spoil))
    return rig


async def _play(rig: WatchedRig, steps: Sequence[Step], spoil: Callable[[Inventory], None]) -> None:
    async with rig:
        premises = Premises(rig, spoil)
        await premises.begin()
        begun = len(rig.sequence()[0])
        taken: list[Step] = []
        try:
            await premises.judge()
            for step in steps:
                taken.append(step)
                action, *details = step
                await getattr(premises, action)(*details)
                await premises.judge()
        except AssertionError as error:
            error.args = (f"{error}\n\n{_story(rig, taken, begun)}",)
            raise
        except Exception as error:
            error.add_note(_story(rig, taken, begun))
            raise


def _story(rig: Rig, taken: Sequence[Step], begun: int) -> str:
    drawn, lifelines = rig.sequence()
    lines = [f"with mp105 {rig.inventory.options.mp105}, after:", *(f"  {line(step)}" for step in taken), ""]
    return "\n".join([*lines, as_text(drawn[begun:], lifelines, last=LAST)])


def line(step: Step) -> str:
    """One step as a line."""
    return " ".join(str(part) for part in step)
