"""The APS link keys of a HAN in its NCP: given to join with, established, restored, and kept over resets."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import zigpy.types
from bellows.types import (
    SecurityManagerContextFlags,
    SecurityManagerContextV13,
    SecurityManagerDerivedKeyTypeV13,
    SecurityManagerKeyType,
    sl_Status,
)

from harness.radio.values import from_eui64, to_eui64
from harness.wire.mac import format_eui64

# UG100: findKeyTableEntry finds the first empty entry for an address of zeros, and answers 0xFF for none.
_EMPTY = 0
_NOT_FOUND = 0xFF
# From this EZSP version on keys go through the security manager's commands (UG100).
_SECURITY_MANAGER = 13


class LinkKeys:
    """Writes link keys to the key table of an NCP, one at a time, and remembers which key was before each.

    `ezsp` gives bellows' EZSP object of the moment; `on_key` gets each key and a label. The methods return why the NCP
    did not take a key, None where it did; errors of bellows' pass through, and `renew` writes the key again later.

    `of_device`: the NCP is a device's, whose key with its trust centre has a place beside the key table.
    """

    def __init__(
        self,
        ezsp: Callable[[], Any],
        on_key: Callable[[bytes, str], None] | None,
        *,
        of_device: bool = False,
    ) -> None:
        self._ezsp = ezsp
        self._on_key = on_key
        self._of_device = of_device
        self._pre_configured: bytes | None = None  # what the NCP of a device has joined under
        self._turn = asyncio.Lock()
        self._to_join: dict[int, bytes] = {}  # in the NCP's RAM only: lost with a reset, and after 300 s
        self._current: dict[int, bytes] = {}
        self._previous: dict[int, bytes] = {}
        self._unwritten: dict[int, bytes] = {}

    @property
    def settled(self) -> bool:
        """Whether the NCP has what it was given so far."""
        return not self._turn.locked()

    async def settle(self) -> None:
        """Wait until it has."""
        async with self._turn:
            pass

    async def give(self, eui64: int, key: bytes) -> str | None:
        """Let a device join under its pre-configured `key`; one that was agreed with it before is forgotten."""
        async with self._turn:
            ezsp = self._ezsp()
            address = to_eui64(eui64)
            if self._current.get(eui64) != key:
                # A joiner has only its pre-configured key: another in the table would be used, and end the attempt.
                await self._erase(ezsp, eui64)
                self._to_join[eui64] = key
            self._tell(eui64, key)
            return _refusal(await ezsp.add_transient_link_key(address, zigpy.types.KeyData(key)))

    async def forget(self, eui64: int) -> None:
        """A device is no member any more: drop every key with it."""
        async with self._turn:
            ezsp = self._ezsp()
            if self._to_join.pop(eui64, None) is not None:
                # No command takes one transient key back.
                await ezsp.clearTransientLinkKeys()
                await self._give_again(ezsp)
            await self._erase(ezsp, eui64)

    def joining(self, eui64: int, key: bytes) -> None:
        """The NCP, which is the device `eui64`, is about to join under `key`: those from before are void."""
        for keys in (self._current, self._previous, self._unwritten):
            keys.clear()
        self._pre_configured = key
        self._tell(eui64, key)

    def awaits(self, eui64: int) -> bool:
        """Whether the key of a device is yet to be kept, once the device is in."""
        return eui64 in self._to_join

    async def keep(self, eui64: int) -> str | None:
        """A device joined under the key that it was given: keep that for good."""
        async with self._turn:
            key = self._to_join.get(eui64)
            return None if key is None else await self._write(eui64, key)

    async def establish(self, partner: int, key: bytes) -> str | None:
        """Let `key` be the one with a device from now on."""
        async with self._turn:
            before = self._previous.pop(partner, None)
            previous = self._current.get(partner) or self._to_join.get(partner) or self._pre_configured
            if previous is not None:
                self._previous[partner] = previous
            refusal = await self._write(partner, key)
            if refusal is not None:
                self._previous.pop(partner, None)
                if before is not None:
                    self._previous[partner] = before
            return refusal

    async def restore(self, partner: int) -> str | None:
        """Let the key before the last one be that with a device again."""
        async with self._turn:
            previous = self._previous.get(partner)
            if previous is None:
                return "the key before it is not known here"
            refusal = await self._write(partner, previous)
            if refusal is None:
                del self._previous[partner]
            return refusal

    async def renew(self) -> list[tuple[int, str]]:
        """Give the NCP what it lost by a reset or by time, or did not get; return whose keys it refuses, and why."""
        refused: list[tuple[int, str]] = []
        async with self._turn:
            await self._give_again(self._ezsp())
            for eui64, key in tuple(self._unwritten.items()):
                refusal = await self._write(eui64, key)
                if refusal is not None:
                    refused.append((eui64, refusal))
        return refused

    async def _give_again(self, ezsp: Any) -> None:
        for eui64, key in tuple(self._to_join.items()):
            await ezsp.add_transient_link_key(to_eui64(eui64), zigpy.types.KeyData(key))

    async def _write(self, partner: int, key: bytes) -> str | None:
        self._tell(partner, key)
        self._unwritten[partner] = key  # until the NCP has answered
        if self._of_device and await self._is_trust_center(partner):
            refusal = await self._write_own(key)
        else:
            refusal = await self._write_to_table(partner, key)
        del self._unwritten[partner]
        if refusal is None:
            self._to_join.pop(partner, None)
            self._current[partner] = key
        return refusal

    async def _is_trust_center(self, partner: int) -> bool:
        # Before the security manager no command writes that place, but a key in the table goes before it: assumed, as
        # no public document says which of the two counts.
        ezsp = self._ezsp()
        if ezsp.ezsp_version < _SECURITY_MANAGER:
            return False
        _, state = await ezsp.getCurrentSecurityState()
        return from_eui64(state.trustCenterLongAddress) == partner

    async def _write_own(self, key: bytes) -> str | None:
        # SiSDK, sl_zigbee_sec_man_import_key: for this type of key neither index nor address count.
        context = SecurityManagerContextV13(
            core_key_type=SecurityManagerKeyType.TC_LINK,
            key_index=0,
            derived_type=SecurityManagerDerivedKeyTypeV13.NONE,
            eui64=to_eui64(_EMPTY),
            multi_network_index=0,
            flags=SecurityManagerContextFlags.NONE,
            psa_key_alg_permission=0,
        )
        status, *_ = await self._ezsp().importKey(context=context, key=zigpy.types.KeyData(key))
        return _refusal(status)

    async def _write_to_table(self, partner: int, key: bytes) -> str | None:
        ezsp = self._ezsp()
        address, data = to_eui64(partner), zigpy.types.KeyData(key)
        if ezsp.ezsp_version < _SECURITY_MANAGER:
            (status,) = await ezsp.addOrUpdateKeyTableEntry(address=address, linkKey=True, keyData=data)
            return _refusal(status)
        (index,) = await ezsp.findKeyTableEntry(address=address, linkKey=True)
        if index == _NOT_FOUND:
            (index,) = await ezsp.findKeyTableEntry(address=to_eui64(_EMPTY), linkKey=True)
        if index == _NOT_FOUND:
            return "the key table is full"
        (status,) = await ezsp.importLinkKey(index=index, address=address, key=data)
        return _refusal(status)

    async def _erase(self, ezsp: Any, partner: int) -> None:
        (index,) = await ezsp.findKeyTableEntry(address=to_eui64(partner), linkKey=True)
        if index != _NOT_FOUND:
            await ezsp.eraseKeyTableEntry(index=index)
        for keys in (self._current, self._previous, self._unwritten):
            keys.pop(partner, None)

    def _tell(self, partner: int, key: bytes) -> None:
        if self._on_key is not None:
            self._on_key(key, f"link key of {format_eui64(partner)}")


def _refusal(answered: Any) -> str | None:
    """Say in words what an NCP answered to a key, None for OK."""
    status = sl_Status.from_ember_status(answered)
    if status == sl_Status.OK:
        return None
    return "the key table is full" if status == sl_Status.FULL else repr(status)
