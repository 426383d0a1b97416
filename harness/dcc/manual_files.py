"""The files of a manual DCC: a request in plain words and in fields, and the answer that an operator fills in."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, fields
from datetime import datetime
from difflib import get_close_matches
from pathlib import Path
from typing import Any, Final

import yaml

from harness.errors import RigError
from harness.smi.devices import format_eui64, format_version
from harness.smi.inventory import Inventory
from harness.smi.requests import (
    Acknowledged,
    ActivateFirmware,
    Code,
    CommissionDevice,
    DeviceLists,
    Distribution,
    PreNotifyDevice,
    ReadFirmwareVersion,
    Refused,
    ServiceRequest,
    UpdateDeviceLog,
    Verdict,
)
from harness.smi.responses import (
    ActivationOutcome,
    DeviceCommissioned,
    DeviceLogUpdated,
    Event,
    FirmwareActivated,
    FirmwareVersionRead,
    ImageDelivered,
)

BY_THE_LAB = "the lab's DCC"
"""What stands for the rule in a refusal that the operator wrote down."""

_NAMES: Final = {
    "8.1.1": "Commission Device", "8.3": "Decommission Device", "8.4": "Update Inventory",
    "8.11": "Update HAN Device Log", "11.1": "Update Firmware", "11.2": "Read Firmware Version",
    "11.3": "Activate Firmware", "11.4": "Update PPMID Firmware", "12.2": "Device Pre-notification",
}  # fmt: skip
_LISTS = tuple(field.name for field in fields(DeviceLists))
_ALERT = re.compile(r"AD1|N(?:[1-9]|[12][0-9]|3[013-9]|[45][0-9]|6[0-5]|999)")  # DUIS 5.4 has no N32
_CODE = re.compile(r"[IE][0-9]{1,4}")
_YES_NO = {"yes": True, "no": False}


@dataclass(frozen=True, slots=True)
class Entry:
    """A key of an answer file: what stands behind it for the operator, and whether it is a list."""

    hint: str
    is_list: bool = False


_COMMON = {
    "verdict": Entry("acknowledged or refused: what the DCC said to the request at once"),
    "code": Entry("its response code, such as I0, I99 or E5; empty where it has none"),
    "reason": Entry("why it was refused; empty where it was not"),
}
_END = {
    "alerts": Entry("the numbers of the DCC Alerts that came, such as [N28, N60]", is_list=True),
    "done": Entry("yes when all of the above is filled in and the file is saved: the harness goes on then"),
}
_RESPONDED = {"responded": Entry("yes or no: whether the response to the request came")}
_VERSION = {"firmware_version": Entry("the version in the response: 8 hexadecimal digits")}
_SUCCESS = {"success": Entry("yes or no: whether the response says that it was done")}


def entries_for(request: ServiceRequest) -> dict[str, Entry]:
    """Return the keys of the answer to a request, in their order."""
    if isinstance(request, Distribution):
        own = {name: Entry("EUI-64s on this list of the warning", is_list=True) for name in _LISTS}
        own["delivered"] = Entry("EUI-64s whose image reached the hub (N60)", is_list=True)
        own["not_delivered"] = Entry("EUI-64s whose image did not reach it (N61)", is_list=True)
    elif isinstance(request, ActivateFirmware):
        outcomes = ", ".join(outcome.name.lower() for outcome in ActivationOutcome)
        own = {
            **_RESPONDED,
            "outcome": Entry(f"{outcomes}, or recorded for a future date"),
            **_VERSION,
        }
    elif isinstance(request, ReadFirmwareVersion):
        own = {**_RESPONDED, **_VERSION}
    elif isinstance(request, UpdateDeviceLog | CommissionDevice):
        own = {**_RESPONDED, **_SUCCESS}
    else:
        own = {}
    return {**_COMMON, **own, **_END}


# --- the request ----------------------------------------------------------------------------------------------------


def request_text(
    number: str,
    request: ServiceRequest,
    inventory: Inventory,
    *,
    answer: str,
    image: str | None = None,
    at: datetime | None = None,
) -> str:
    """Return the file that tells the operator what to send; `answer` and `image` are the names of files beside it."""
    name = _NAMES.get(request.srv)
    title = f"SR{request.srv}" + (f" ({name})" if name else "")
    expected = inventory.check(request)
    plain = [f"Send {title} in the lab's DCC tool, as User Role {request.user.role}."]
    if image is not None:
        plain.append(f"The OTA image is {image}.")
    if isinstance(request, ReadFirmwareVersion):
        plain.append("Wait for the response: it says which firmware the Device runs.")
    if isinstance(request, ActivateFirmware):
        when = "at once" if at is None else f"at {at:%Y-%m-%d %H:%M:%S} UTC"
        plain.append(f"It activates, {when}, the image whose Manufacturer Image Hash is given.")
    plain.append(f"Then fill in {answer}.")
    said: dict[str, Any] = {
        "what_to_do": " ".join(plain),
        "request": number,
        "service_request": request.srv,
        "user_role": str(request.user.role),
    }
    for field in fields(request):
        value = getattr(request, field.name)
        if field.name != "user" and value is not None and value is not False:
            said[field.name] = _plain(field.name, value)
    device = getattr(request, "device", 0)
    if device in inventory and not isinstance(request, PreNotifyDevice):
        said["device_is"] = f"{inventory.device(device).device_type}, {inventory.device(device).status}"
    if image is not None:
        said["image"] = image
    if at is not None:
        said["at"] = f"{at:%Y-%m-%dT%H:%M:%SZ}"
    said["expected"] = _expected(expected)
    head = f"# Request {number} of the HAN harness, for the lab's DCC tool. The answer goes into {answer}.\n"
    return head + yaml.safe_dump(said, sort_keys=False, allow_unicode=True, width=100)


def _plain(name: str, value: Any) -> Any:
    if isinstance(value, tuple):
        return [_plain(name, part) for part in value]
    if isinstance(value, bytes):
        return value.hex()
    if name == "firmware_version":
        return format_version(value)
    if type(value) is int:
        return format_eui64(value)
    return value if isinstance(value, bool) else str(value)


def _expected(verdict: Verdict) -> str:
    code = "" if verdict.code is None else f" with {verdict.code}"
    if isinstance(verdict, Refused):
        return f"refused{code}: {verdict.reason}"
    warning = "" if verdict.warning is None else f" and warning {verdict.warning}"
    return f"acknowledged{code}{warning}"


def template_text(number: str, request: ServiceRequest) -> str:
    """Return the answer file as the operator finds it: each key with what to write behind it."""
    lines = [f"# The answer to request {number}.", f'request: "{number}"']
    for name, entry in entries_for(request).items():
        value = "no" if name == "done" else "[]" if entry.is_list else ""
        lines.append(f"{name}: {value:<4} # {entry.hint}")
    return "\n".join(lines) + "\n"


# --- the answer -----------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class ManualAnswer:
    """What an operator wrote: the verdict, what the Inventory is to be told, and the numbers of the DCC Alerts."""

    verdict: Verdict
    events: tuple[Event, ...]
    alerts: tuple[str, ...]
    responded: bool


def read_answer(
    path: Path, number: str, request: ServiceRequest, inventory: Inventory
) -> ManualAnswer | None:
    """Read an answer file; None: it does not say `done: yes` yet.

    RigError with a line `FILE:LINE: KEY: PROBLEM` for each thing that is wrong with one that does, or that is no YAML.
    """
    sheet = _Sheet(path, entries_for(request))
    if not sheet.is_done:
        return None
    if sheet.text("request") != number:
        sheet.wrong("request", f"must be {number!r}, not {sheet.text('request')!r}")
    verdict = _verdict(sheet, request)
    alerts = sheet.texts("alerts")
    for alert in alerts:
        if not _ALERT.fullmatch(alert):
            sheet.wrong("alerts", f"{alert!r} is no DCC Alert of the DUIS, such as N60")
    events: tuple[Event, ...] = ()
    responded = True
    if isinstance(verdict, Acknowledged):
        if isinstance(request, Distribution):
            events = _deliveries(sheet, request, inventory)
        elif "responded" in sheet.entries:
            responded = sheet.yes("responded")
            if responded:
                events = _response(sheet, request)
    sheet.check()
    return ManualAnswer(verdict, events, alerts, responded)


def _verdict(sheet: _Sheet, request: ServiceRequest) -> Verdict:
    said, text, reason = sheet.text("verdict"), sheet.text("code"), sheet.text("reason")
    code = next((code for code in Code if code == text), None)
    if text and not _CODE.fullmatch(text):
        sheet.wrong("code", f"{text!r} is no response code such as I0, I99 or E5")
    if said not in ("acknowledged", "refused"):
        sheet.wrong("verdict", f"must be acknowledged or refused, not {said!r}")
    if said != "acknowledged":
        # The DUIS has more codes than the Inventory gives: one that it does not know is kept in words.
        told = reason or "no reason given"
        return Refused(code, f"{text}: {told}" if text and code is None else told, BY_THE_LAB)
    if not text:
        sheet.wrong("code", "is missing: an acknowledgement has one")
    elif code not in (Code.SUCCESS, Code.ACKNOWLEDGED):
        sheet.wrong("code", f"{text} is not I0 or I99, which an acknowledgement has")
    code = code or Code.ACKNOWLEDGED
    if not isinstance(request, Distribution):
        return Acknowledged(code)
    lists = DeviceLists(**{name: sheet.eui64s(name, request.devices) for name in _LISTS})
    listed = [device for name in _LISTS for device in getattr(lists, name)]
    sent_to = tuple(device for device in request.devices if device not in listed)
    return Acknowledged(code, sent_to, request.warning if lists else None, lists)


def _deliveries(sheet: _Sheet, request: Distribution, inventory: Inventory) -> tuple[Event, ...]:
    events = []
    for key, there in (("delivered", True), ("not_delivered", False)):
        for device in sheet.eui64s(key, request.devices):
            hub = inventory.device(device).hub if device in inventory else None
            if hub is None:
                sheet.wrong(key, f"{format_eui64(device)} has no hub in the Inventory")
            else:
                version = request.firmware_version
                events.append(ImageDelivered(request.request_id, hub, device, version, there))
    return tuple(events)


def _response(sheet: _Sheet, request: ServiceRequest) -> tuple[Event, ...]:
    if isinstance(request, ReadFirmwareVersion):
        return (FirmwareVersionRead(request.device, sheet.version("firmware_version")),)
    if isinstance(request, ActivateFirmware):
        said = sheet.text("outcome")
        if said == "recorded":
            return ()
        outcomes = {outcome.name.lower(): outcome for outcome in ActivationOutcome}
        if said not in outcomes:
            near = get_close_matches(said, outcomes, n=1)
            hint = f"; did you mean {near[0]}?" if near else ""
            sheet.wrong("outcome", f"{said!r} is none of {', '.join(outcomes)}, recorded{hint}")
        outcome = outcomes.get(said, ActivationOutcome.SUCCESS)
        return (FirmwareActivated(request.device, outcome, sheet.version("firmware_version")),)
    success = sheet.yes("success")
    if isinstance(request, UpdateDeviceLog):
        return (DeviceLogUpdated(request.device, request.joining, request.add, success),)
    assert isinstance(request, CommissionDevice)
    return (DeviceCommissioned(request.device),) if success else ()


class _Sheet:
    """The keys of one answer file, as text, with what is wrong so far. RigError for a file that is no such mapping."""

    def __init__(self, path: Path, entries: Mapping[str, Entry]) -> None:
        self.path = path
        self.entries = entries
        self._lines: dict[str, int] = {}
        self._values: dict[str, str | tuple[str, ...]] = {}
        self._problems: list[tuple[int, str]] = []
        try:
            # Every scalar is text to this loader: no `no` that is false, no version that is a number.
            node = yaml.compose(path.read_text(encoding="utf-8"), Loader=yaml.BaseLoader)
        except OSError as error:
            raise RigError(f"{path}: cannot be read ({error.strerror})") from error
        except UnicodeDecodeError as error:
            raise RigError(f"{path}: is not UTF-8 text (octet {error.start})") from error
        except yaml.MarkedYAMLError as error:
            mark = error.problem_mark or error.context_mark
            where = f"{path}:{mark.line + 1}" if mark else str(path)
            raise RigError(f"{where}: is not YAML: {error.problem or error.context}") from None
        except yaml.YAMLError as error:
            raise RigError(f"{path}: is not YAML: {error}") from None
        if not isinstance(node, yaml.MappingNode):
            raise RigError(f"{path}:1: must be lines of KEY: VALUE")
        for key, value in node.value:
            self._read(str(key.value), key.start_mark.line + 1, value)
        for name in ("request", *entries):
            if name not in self._lines:
                self._problems.append((0, f"{name}: is missing"))

    def _read(self, name: str, line: int, value: yaml.Node) -> None:
        first = self._lines.setdefault(name, line)
        if name != "request" and name not in self.entries:
            near = get_close_matches(name, self.entries, n=1)
            hint = f"did you mean {near[0]}?" if near else f"known: {', '.join(self.entries)}"
            self._problems.append((line, f"{name}: no such key; {hint}"))
        elif first != line:
            self._problems.append((line, f"{name}: is already on line {first}"))
        elif isinstance(value, yaml.SequenceNode) and all(
            isinstance(part, yaml.ScalarNode) for part in value.value
        ):
            self._values[name] = tuple(str(part.value).strip() for part in value.value)
            if name == "request" or not self.entries[name].is_list:
                self._problems.append((line, f"{name}: must be one value, not a list"))
        elif isinstance(value, yaml.ScalarNode):
            self._values[name] = str(value.value).strip()
            if name != "request" and self.entries[name].is_list and value.value:
                self._problems.append((line, f"{name}: must be a list in brackets, such as [{value.value}]"))
        else:
            self._problems.append((line, f"{name}: must be text or a list of texts"))

    @property
    def is_done(self) -> bool:
        """Whether the operator says that all is filled in."""
        said = self.text("done")
        if said not in ("yes", "no", ""):
            raise RigError(f"{self.path}:{self._lines['done']}: done: must be yes or no, not {said!r}")
        return said == "yes"

    def text(self, name: str) -> str:
        """The text behind a key; empty where there is none."""
        value = self._values.get(name, "")
        return value if isinstance(value, str) else ""

    def texts(self, name: str) -> tuple[str, ...]:
        """The list behind a key."""
        value = self._values.get(name, ())
        return value if isinstance(value, tuple) else ()

    def yes(self, name: str) -> bool:
        """A yes or no."""
        said = self.text(name)
        if said not in _YES_NO:
            self.wrong(name, f"must be yes or no, not {said!r}")
        return _YES_NO.get(said, False)

    def version(self, name: str) -> int:
        """A firmware version."""
        said = self.text(name).removeprefix("0x")
        if not re.fullmatch(r"[0-9A-Fa-f]{8}", said):
            self.wrong(name, f"must be 8 hexadecimal digits, not {self.text(name)!r}")
            return 0
        return int(said, 16)

    def eui64s(self, name: str, known: tuple[int, ...]) -> tuple[int, ...]:
        """A list of EUI-64s, each one that the request names."""
        found = []
        for text in self.texts(name):
            digits = re.sub(r"[:-]", "", text)
            if not re.fullmatch(r"[0-9A-Fa-f]{16}", digits):
                self.wrong(name, f"{text!r} is no EUI-64 such as 00-0D-6F-00-0A-90-69-E7")
            elif int(digits, 16) not in known:
                self.wrong(name, f"{text} is not on the list of the request")
            else:
                found.append(int(digits, 16))
        return tuple(found)

    def wrong(self, name: str, problem: str) -> None:
        """Note what is wrong with a key."""
        self._problems.append((self._lines.get(name, 0), f"{name}: {problem}"))

    def check(self) -> None:
        """Raise all that is wrong, in the order of the file."""
        if self._problems:
            sentences = (
                f"{self.path}{f':{line}' if line else ''}: {text}" for line, text in sorted(self._problems)
            )
            raise RigError("\n".join(dict.fromkeys(sentences)))
