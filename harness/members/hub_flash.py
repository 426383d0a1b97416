"""What a Communications Hub keeps without power, and the part of it that makes another hub serve the same HAN."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from harness.errors import LocalProtocolError
from harness.members.hub_values import KnownDevice


class FetchedImage(NamedTuple):
    """An image that a device has whole, and when it was told to upgrade to it (see `OtaServer.offer`)."""

    manufacturer: int
    image_type: int
    version: int
    upgrade_at: int

    @property
    def key(self) -> tuple[int, int, int]:
        """Manufacturer, image type and version: how the commands name the file."""
        return self[:3]


@dataclass(slots=True)
class HubFlash:
    """A hub's non-volatile storage; `devices` and `fetched` by EUI-64. The link keys are its carrier's to keep.

    `images` is `ImageStore.snapshot`, written at each change; None: nothing was ever written. `log` is
    `DeviceLog.snapshot`, and `counter` the originator counter of its last message. `keyed` are the devices that it
    has established a link key with, `removed` those that were removed from the log, and not added since.
    """

    devices: dict[int, KnownDevice] = field(default_factory=dict)
    keyed: list[int] = field(default_factory=list)
    removed: list[int] = field(default_factory=list)
    log: dict[str, object] | None = field(default=None, repr=False)
    images: bytes | None = field(default=None, repr=False)
    fetched: dict[int, FetchedImage] = field(default_factory=dict)
    counter: int = 0

    def take(self, other: HubFlash) -> None:
        """Hold what another one holds, in the same dictionaries and lists, which others know."""
        self.devices.clear()
        self.devices.update(other.devices)
        self.keyed[:] = other.keyed
        self.removed[:] = other.removed
        self.log, self.images, self.counter = other.log, other.images, other.counter
        self.fetched = dict(other.fetched)

    def remember(self) -> dict[str, Any]:
        """Return what commissioning brought about, for JSON. It has keys in it, and no images."""
        return {
            "devices": [
                {"eui64": f"{known.eui64:016X}"}
                | {name: getattr(known, name) for name in _DEVICE_FIELDS if name != "eui64"}
                for known in self.devices.values()
            ],
            "keyed": [f"{eui64:016X}" for eui64 in self.keyed],
            "removed": [f"{eui64:016X}" for eui64 in self.removed],
            "fetched": [
                {"eui64": f"{eui64:016X}"} | fetched._asdict() for eui64, fetched in self.fetched.items()
            ],
            "counter": self.counter,
            "log": self.log,
        }

    @classmethod
    def recalled(cls, saved: object) -> HubFlash:
        """Return a flash with what `remember` gave. LocalProtocolError, which names the field, for anything else.

        Join periods are over: they were of another run's clock.
        """
        if not isinstance(saved, Mapping) or set(saved) != set(_SAVED):
            raise LocalProtocolError(f"hub: what is to be recalled does not have {', '.join(_SAVED)}")
        flash = cls(counter=_number(saved["counter"], "counter", (1 << 64) - 1), log=_ended(saved["log"]))
        for where, item in _items(saved, "devices"):
            values = _record(where, item, _DEVICE_FIELDS)
            known = KnownDevice(**values)
            if known.eui64 in flash.devices:
                raise LocalProtocolError(f"hub: {where}.eui64 is there twice")
            flash.devices[known.eui64] = known
        for name, held in (("keyed", flash.keyed), ("removed", flash.removed)):
            for where, item in _items(saved, name):
                eui64 = _eui64(item, where)
                if eui64 in held:
                    raise LocalProtocolError(f"hub: {where} is there twice")
                held.append(eui64)
        for where, item in _items(saved, "fetched"):
            values = _record(where, item, _FETCHED_FIELDS)
            eui64 = values.pop("eui64")
            flash.fetched[eui64] = FetchedImage(**values)
        return flash


_SAVED = ("devices", "keyed", "removed", "fetched", "counter", "log")


def _ended(log: object) -> dict[str, object] | None:
    """Return a Device Log's snapshot with no join period in it; whether it is one, the log itself finds out."""
    if log is None:
        return None
    if not isinstance(log, dict):
        raise LocalProtocolError("hub: log is no snapshot of a Device Log")
    entries = log.get("entries")
    if not isinstance(entries, list):
        return log
    over = {"join_until": None, "historic_key": None, "historic_until": None}
    return log | {
        "entries": [
            entry | over if isinstance(entry, dict) and over.keys() <= entry.keys() else entry
            for entry in entries
        ]
    }


def _items(saved: Mapping[str, Any], name: str) -> list[tuple[str, object]]:
    items = saved[name]
    if not isinstance(items, list):
        raise LocalProtocolError(f"hub: {name} is no list")
    return [(f"{name}[{index}]", item) for index, item in enumerate(items)]


def _record(where: str, item: object, shape: Mapping[str, Callable[[object, str], Any]]) -> dict[str, Any]:
    if not isinstance(item, Mapping) or set(item) != set(shape):
        raise LocalProtocolError(f"hub: {where} does not have the fields {', '.join(shape)}, and no other")
    return {name: read(item[name], f"{where}.{name}") for name, read in shape.items()}


def _number(value: object, where: str, most: int) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value <= most:
        raise LocalProtocolError(f"hub: {where} is {value!r}, not a number from 0 to {most}")
    return value


def _eui64(value: object, where: str) -> int:
    try:
        if isinstance(value, str) and len(value) == 16:
            octets = bytes.fromhex(value)
            if len(octets) == 8:  # fewer: there are blanks between the digits
                return int.from_bytes(octets, "big")
    except ValueError:
        pass
    raise LocalProtocolError(f"hub: {where} is {value!r}, not an EUI-64 of 16 digits")


def _up_to(most: int) -> Callable[[object, str], int]:
    return lambda value, where: _number(value, where, most)


def _if_known(most: int) -> Callable[[object, str], int | None]:
    return lambda value, where: None if value is None else _number(value, where, most)


_DEVICE_FIELDS: dict[str, Callable[[object, str], Any]] = {
    "eui64": _eui64,
    "short": _up_to(0xFFF7),  # Zigbee PRO table 3.59: those above are broadcasts and reserved
    "endpoint": _if_known(0xFE),
    "key_endpoint": _up_to(0xFE),
    "tunnel_endpoint": _if_known(0xFE),
    "hardware": _if_known(0xFFFF),
}
_FETCHED_FIELDS: dict[str, Callable[[object, str], Any]] = {
    "eui64": _eui64,
    "manufacturer": _up_to(0xFFFF),
    "image_type": _up_to(0xFFFF),
    "version": _up_to(0xFFFFFFFF),
    "upgrade_at": _up_to(0xFFFFFFFF),
}
