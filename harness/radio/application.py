"""zigpy's application as the harness uses it: messages go straight between the NCP and a carrier."""

from __future__ import annotations

from collections.abc import Coroutine
from typing import Any, Protocol

import zigpy.config
import zigpy.exceptions
import zigpy.types
from bellows.config import CONF_EZSP_CONFIG, CONF_USE_THREAD
from bellows.zigbee.application import ControllerApplication

from harness.radio.fragments import ReassemblingEzsp, to_message
from harness.radio.sending import NOT_SENT, Sender
from harness.radio.values import from_eui64, to_descriptor
from harness.wire.application import ApsMessage, SimpleDescriptor


class Carrier(Protocol):
    """Who an application works for."""

    @property
    def descriptors(self) -> tuple[SimpleDescriptor, ...]:
        """The endpoints to register."""

    def now(self) -> float:
        """Seconds on the carrier's clock."""

    def message(self, message: ApsMessage) -> None:
        """A message came from the HAN."""

    def left(self, eui64: int) -> None:
        """A device left the HAN."""

    def lost(self, reason: str) -> None:
        """The NCP is gone."""

    def task(self, work: Coroutine[Any, Any, None]) -> None:
        """Run `work` beside everything else; what it raises is the carrier's to report."""


class Application(ControllerApplication):
    """zigpy's application with its own ideas about devices taken out: the behaviour is the only one who speaks."""

    def __init__(self, carrier: Carrier, config: dict[str, Any]) -> None:
        super().__init__(config)
        self._carrier = carrier
        self.sender = Sender(self._ready, self.get_sequence)

    @property
    def ezsp(self) -> Any:
        """bellows' EZSP object."""
        return self._ezsp

    def _ready(self) -> Any:
        if not self.is_controller_running:
            raise zigpy.exceptions.ControllerException("the NCP is not running")
        return self._ezsp

    async def connect(self) -> None:
        """Open the port, with fragments taken out of bellows' hands."""
        ezsp = ReassemblingEzsp(
            self.config[zigpy.config.CONF_DEVICE], self, self._carrier.message, self._run, self._carrier.now
        )
        self._ezsp: Any = ezsp
        try:
            await ezsp.connect(use_thread=self.config[CONF_USE_THREAD])
            await ezsp.write_config(self.config[CONF_EZSP_CONFIG])
            self._created_device_endpoints.clear()
            await self.register_endpoints()
        except BaseException:  # a time-out cancels: whatever it was, the port is not to stay open behind it
            await ezsp.disconnect()  # type: ignore[no-untyped-call]
            self._ezsp = None
            raise

    async def start_network(self) -> None:
        """Resume the network, and learn what fits a frame."""
        await super().start_network()  # type: ignore[no-untyped-call]
        (self.sender.room,) = await self.ezsp.maximumPayloadLength()

    def _run(self, work: Coroutine[Any, Any, None]) -> None:
        self._carrier.task(self._try(work))

    async def _try(self, work: Coroutine[Any, Any, None]) -> None:
        try:
            await work
        except NOT_SENT:
            return  # an NCP that is gone says so itself, by `connection_lost`; else the sender tries again

    async def register_endpoints(self) -> None:
        """Register the behaviour's endpoints; zigpy's own only where it cannot do without (it needs endpoint 1)."""
        descriptors = self._carrier.descriptors
        if all(descriptor.endpoint != 1 for descriptor in descriptors):
            await super().register_endpoints()
        for descriptor in descriptors:
            await self.add_endpoint(to_descriptor(descriptor))

    def ezsp_callback_handler(self, frame_name: str, args: list[Any]) -> None:
        """Take each message before zigpy's devices do: they drop identical ones within 10 s, and answer OTA."""
        version = self.ezsp.ezsp_version
        if frame_name == "incomingMessageHandler":
            message = to_message(args, version)
            if message is not None and message.peer != self.state.node_info.nwk:
                self._carrier.message(message)
                return
        elif frame_name == "messageSentHandler" and self.sender.sent(args, version):
            return
        super().ezsp_callback_handler(frame_name, args)  # type: ignore[no-untyped-call]

    def handle_join(
        self, nwk: int, ieee: zigpy.types.EUI64, parent_nwk: int, *, handle_rejoin: bool = True
    ) -> None:
        """Leave it: the device has joined when it announces itself, and zigpy is not to interview it."""

    async def cleanup_tc_link_key(self, ieee: zigpy.types.EUI64) -> None:
        """Leave it: at any association it would erase the key agreed with that device; `permit` sees to that."""

    def handle_leave(self, nwk: int, ieee: zigpy.types.EUI64) -> None:
        """Tell the carrier."""
        self._carrier.left(from_eui64(ieee))

    def connection_lost(self, exc: Exception | None) -> None:
        """Tell the carrier."""
        self._carrier.lost(repr(exc))
