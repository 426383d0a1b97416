"""The server side of the OTA Upgrade cluster as a core: what it offers, and what it answers each client."""

from __future__ import annotations

import math
from collections.abc import Callable

from harness.errors import LocalProtocolError, RemoteProtocolError
from harness.wire import zcl
from harness.wire.image import OtaImage, build_image
from harness.wire.ota_messages import (
    ABORT,
    ANY_VERSION,
    CLOCK_TOLERANCE,
    NO_IMAGE_AVAILABLE,
    SUCCESS,
    UPGRADE_NOW,
    UPGRADE_WAIT,
    BlockRefusal,
    ImageBlock,
    ImageBlockRequest,
    ImageNotify,
    ImagePageRequest,
    Message,
    QueryDeviceSpecificFileRequest,
    QueryDeviceSpecificFileResponse,
    QueryNextImageRequest,
    QueryNextImageResponse,
    UpgradeEndRequest,
    UpgradeEndResponse,
    WaitForData,
    build_message,
    parse_message,
)
from harness.wire.ota_server_values import LARGEST_BLOCK as LARGEST_BLOCK
from harness.wire.ota_server_values import LARGEST_BLOCK_SECURED as LARGEST_BLOCK_SECURED
from harness.wire.ota_server_values import ImageQueried as ImageQueried
from harness.wire.ota_server_values import ImageWithdrawn as ImageWithdrawn
from harness.wire.ota_server_values import Offer as Offer
from harness.wire.ota_server_values import OtaServerConfig as OtaServerConfig
from harness.wire.ota_server_values import RequestRefused as RequestRefused
from harness.wire.ota_server_values import TransferCompleted as TransferCompleted
from harness.wire.ota_server_values import TransferProgressed as TransferProgressed
from harness.wire.ota_server_values import TransferStarted as TransferStarted
from harness.wire.ota_server_values import UpgradeEnded as UpgradeEnded


class _Transfer:
    """One client's way through one file."""

    __slots__ = ("completed", "ended", "key", "last_block", "offer", "offset", "withdrawn")

    def __init__(self, offer: Offer, offset: int) -> None:
        self.offer = offer
        self.key = offer.key
        self.offset = offset
        self.last_block: float | None = None
        self.completed = False
        self.withdrawn = False
        self.ended: int | None = None


class _Page:
    """What is left to send of one page."""

    __slots__ = ("due", "end", "max_size", "offset", "sequence", "spacing", "transfer")

    def __init__(self, transfer: _Transfer, request: ImagePageRequest, sequence: int) -> None:
        self.transfer = transfer
        self.sequence = sequence
        self.offset = request.offset
        self.end = min(request.offset + request.page_size, len(transfer.offer.data))
        self.max_size = request.max_size
        self.spacing = 0.0
        self.due = 0.0


class OtaServer:
    """Serves images to clients, each known by its EUI-64. Takes ZCL frames, gives ZCL frames; times in seconds.

    `authorized` says whether a client may be served at all; the others are answered NOT_AUTHORIZED.
    """

    def __init__(
        self,
        config: OtaServerConfig = OtaServerConfig(),
        authorized: Callable[[int], bool] = lambda client: True,
    ) -> None:
        self.config = config
        self.block_period_ms = config.block_period_ms
        self._authorized = authorized
        self._offers: list[Offer] = []  # the newest first
        self._transfers: dict[int, _Transfer] = {}
        self._pages: dict[int, _Page] = {}
        self._holds: dict[int, float] = {}
        self._settled: dict[int, tuple[tuple[int, int, int], int]] = {}
        self._outgoing: list[tuple[int, bytes]] = []
        self._sequence = 0

    def offer(self, image: OtaImage, client: int | None = None, *, upgrade_at: int = UPGRADE_NOW) -> Offer:
        """Let an image wait for one client, or for all.

        `upgrade_at`: UPGRADE_NOW, UPGRADE_WAIT (until `release`), or a time in UTC seconds since 2000 (without a clock:
        a delay in seconds). LocalProtocolError when the image does not build.
        """
        made = Offer(image, build_image(image), client, upgrade_at)
        self._offers.insert(0, made)
        return made

    def withdraw(self, offer: Offer) -> list[object]:
        """Take an image back. A client in the middle of it is told ABORT when it asks next.

        A client that ended its transfer with success has the image: it keeps being told its time, and no event says
        that anything was lost. LocalProtocolError when the image is not on offer.
        """
        if offer not in self._offers:
            raise LocalProtocolError(f"image version {offer.image.version:#010x} is not on offer")
        self._offers.remove(offer)
        begun = [
            (client, transfer) for client, transfer in self._transfers.items() if transfer.offer is offer
        ]
        if not begun:
            return [ImageWithdrawn(offer.client, offer.image.version, 0)]
        events: list[object] = []
        for client, transfer in begun:
            if transfer.ended != SUCCESS:
                transfer.withdrawn = True
                events.append(ImageWithdrawn(client, offer.image.version, transfer.offset))
        return events

    def settle(self, client: int, key: tuple[int, int, int], upgrade_at: int) -> None:
        """Go on telling a client `upgrade_at` of a file that it has whole, and that is on offer no more.

        It outlives `forget` and is to be given anew after a restart: a client that waits asks every hour, and one that
        is told that there is no such image throws its own away.
        """
        self._settled[client] = (key, upgrade_at)

    def unsettle(self, client: int) -> None:
        """Tell a client nothing more of what it was settled to have."""
        self._settled.pop(client, None)

    def fetching(self, client: int) -> Offer | None:
        """The offer that a client last fetched something of; None: of none, or it was taken back before the end."""
        transfer = self._transfers.get(client)
        return None if transfer is None or transfer.withdrawn else transfer.offer

    def fetched(self, client: int, offer: Offer) -> bool:
        """Whether a client said last that it has this image whole."""
        transfer = self._transfers.get(client)
        return transfer is not None and transfer.offer is offer and transfer.ended == SUCCESS

    def release(self, offer: Offer, now: float) -> None:
        """Send every client that was told to wait with this image an Upgrade End Response that says now."""
        current = self._utc(now)
        for client, transfer in self._transfers.items():
            if transfer.offer is offer and transfer.ended == SUCCESS:
                self._send(client, UpgradeEndResponse(*offer.key, current, current), self._next_sequence())

    def notify(self, client: int, offer: Offer, *, payload_type: int = 3, jitter: int = 100) -> None:
        """Tell a client by a unicast Image Notify that an image waits (payload types: ZCL8 11.13.3)."""
        self._send(client, ImageNotify(payload_type, jitter, *offer.key), self._next_sequence())

    def hold(self, client: int, until: float) -> None:
        """Answer this client's block requests WAIT_FOR_DATA up to a time on the carrier's clock."""
        self._holds[client] = until

    def forget(self, client: int) -> None:
        """Drop what is known of a client's transfers; what is offered to it stays."""
        for table in (self._transfers, self._pages, self._holds):
            table.pop(client, None)

    def frames_to_send(self) -> list[tuple[int, bytes]]:
        """What waits to be sent, as (client, ZCL frame), each once."""
        outgoing = self._outgoing
        if outgoing:
            self._outgoing = []
        return outgoing

    def next_deadline(self) -> float | None:
        """When the next block of a page is due."""
        if not self._pages:
            return None
        return min(page.due for page in self._pages.values())

    def on_deadline(self, now: float) -> list[object]:
        """Send the blocks of pages that are due."""
        events: list[object] = []
        for client in [*self._pages]:
            self._continue_page(client, now, events)
        return events

    def receive(self, client: int, frame: zcl.Frame, now: float) -> list[object]:
        """Take one cluster-specific frame that a client sent to this server alone."""
        events: list[object] = []
        if not self._authorized(client):
            self._refuse(client, frame, zcl.Status.NOT_AUTHORIZED, events)
            return events
        try:
            message = parse_message(frame)
        except RemoteProtocolError:
            self._refuse(client, frame, zcl.Status.MALFORMED_COMMAND, events)
            return events
        if type(message) is ImageBlockRequest:
            self._block(client, message, frame, now, events)
        elif type(message) is ImagePageRequest:
            self._page(client, message, frame, now, events)
        elif type(message) is QueryNextImageRequest:
            self._query(client, message, frame, events)
        elif type(message) is UpgradeEndRequest:
            self._end(client, message, frame, now, events)
        elif type(message) is QueryDeviceSpecificFileRequest:
            self._query_specific(client, message, frame)
        elif frame.manufacturer is not None:
            self._refuse(client, frame, zcl.Status.UNSUP_MANUF_CLUSTER_COMMAND, events)
        else:
            self._refuse(client, frame, zcl.Status.UNSUP_CLUSTER_COMMAND, events)
        return events

    def _query(
        self, client: int, request: QueryNextImageRequest, frame: zcl.Frame, events: list[object]
    ) -> None:
        stale = self._transfers.get(client)
        if stale is not None and stale.withdrawn:
            self.forget(client)
        found = next((offer for offer in self._offers if self._fits(offer, client, request)), None)
        if found is None:
            response = QueryNextImageResponse(NO_IMAGE_AVAILABLE)
        else:
            response = QueryNextImageResponse(SUCCESS, *found.key, len(found.data))
        self._send(client, response, frame.sequence)
        events.append(ImageQueried(client, *request, response.status))

    def _fits(self, offer: Offer, client: int, request: QueryNextImageRequest) -> bool:
        image = offer.image
        return (
            offer.client in (None, client)
            and image.destination in (None, client)
            and (image.manufacturer, image.image_type) == (request.manufacturer, request.image_type)
            and self.config.version_policy.allows(request.version, image.version)
            # A client that does not tell its hardware version is left to check the header itself.
            and (request.hardware is None or image.fits_hardware(request.hardware))
        )

    def _query_specific(self, client: int, request: QueryDeviceSpecificFileRequest, frame: zcl.Frame) -> None:
        for offer in self._offers:
            image = offer.image
            if (
                offer.client in (None, client)
                and image.destination == request.node
                and (image.manufacturer, image.image_type) == (request.manufacturer, request.image_type)
                and request.version in (image.version, ANY_VERSION)
            ):
                found = QueryDeviceSpecificFileResponse(SUCCESS, *offer.key, len(offer.data))
                self._send(client, found, frame.sequence)
                return
        self._send(client, QueryDeviceSpecificFileResponse(NO_IMAGE_AVAILABLE), frame.sequence)

    def _transfer(
        self, client: int, request: ImageBlockRequest | ImagePageRequest, events: list[object]
    ) -> _Transfer | None:
        """The client's transfer of the file that it names; None when that file is not on offer to it."""
        key = request[:3]
        transfer = self._transfers.get(client)
        if transfer is not None and transfer.key == key:
            over = transfer.ended is not None and not transfer.withdrawn
            if not (
                over and request.offset == 0
            ):  # from the beginning after the end: the client wants it anew
                return transfer
        for offer in self._offers:
            if (
                offer.key == key
                and offer.client in (None, client)
                and offer.image.destination in (None, client)
            ):
                transfer = self._transfers[client] = _Transfer(offer, request.offset)
                self._pages.pop(client, None)
                events.append(TransferStarted(client, offer.image.version, request.offset, len(offer.data)))
                return transfer
        return None

    def _block(
        self, client: int, request: ImageBlockRequest, frame: zcl.Frame, now: float, events: list[object]
    ) -> None:
        transfer = self._transfer(client, request, events)
        if transfer is None:
            self._refuse(client, frame, NO_IMAGE_AVAILABLE, events)
            return
        if transfer.withdrawn:
            self._send(client, BlockRefusal(ABORT), frame.sequence)
            return
        offset = request.offset
        if offset >= len(transfer.offer.data) or request.max_size == 0:
            self._refuse(client, frame, zcl.Status.MALFORMED_COMMAND, events)
            return
        if self.block_period_ms or self._holds:
            wait = self._wait(client, transfer, request.block_period, now)
            if wait is not None:
                self._send(client, wait, frame.sequence)
                return
        self._serve(client, transfer, offset, request.max_size, frame.sequence, now, events)

    def _serve(
        self,
        client: int,
        transfer: _Transfer,
        offset: int,
        most: int,
        sequence: int,
        now: float,
        events: list[object],
    ) -> int:
        """Send one block, and return the offset behind it."""
        data = transfer.offer.data
        end = min(offset + min(most, self.config.block_size), len(data))
        manufacturer, image_type, version = transfer.key
        self._send(client, ImageBlock(manufacturer, image_type, version, offset, data[offset:end]), sequence)
        transfer.last_block = now
        transfer.offset = end
        events.append(TransferProgressed(client, version, end, len(data)))
        if end == len(data) and not transfer.completed:
            transfer.completed = True
            events.append(TransferCompleted(client, version))
        return end

    def _wait(self, client: int, transfer: _Transfer, told: int | None, now: float) -> WaitForData | None:
        """What to send a client that must wait; `told` is the MinimumBlockPeriod that it says it keeps (ms)."""
        utc = self._utc(now)
        held = self._holds.get(client, now)
        if held > now:
            return WaitForData(utc, utc + math.ceil(held - now), self.block_period_ms)
        period = self.block_period_ms
        if told is not None:
            # ZCL8 11.13.8.4.2: equal times, the period alone is what the client is to keep.
            return WaitForData(utc, utc, period) if told < period else None
        if transfer.last_block is None or now >= transfer.last_block + period / 1000:
            return None
        return WaitForData(utc, utc + math.ceil(transfer.last_block + period / 1000 - now), period)

    def _page(
        self, client: int, request: ImagePageRequest, frame: zcl.Frame, now: float, events: list[object]
    ) -> None:
        if not self.config.page_requests:
            self._refuse(client, frame, zcl.Status.UNSUP_CLUSTER_COMMAND, events)
            return
        transfer = self._transfer(client, request, events)
        if transfer is None:
            self._refuse(client, frame, NO_IMAGE_AVAILABLE, events)
            return
        if request.offset >= len(transfer.offer.data) or 0 in (request.max_size, request.page_size):
            self._refuse(client, frame, zcl.Status.MALFORMED_COMMAND, events)
            return
        wait = None if transfer.withdrawn else self._wait(client, transfer, self.block_period_ms, now)
        if wait is not None:
            self._send(client, wait, frame.sequence)
            return
        page = self._pages[client] = _Page(transfer, request, frame.sequence)
        page.spacing = max(request.spacing / 1000, self.block_period_ms / 1000, self.config.shortest_spacing)
        page.due = now
        self._continue_page(client, now, events)

    def _continue_page(self, client: int, now: float, events: list[object]) -> None:
        page = self._pages[client]
        while page.due <= now + CLOCK_TOLERANCE:
            if page.transfer.withdrawn:
                self._send(client, BlockRefusal(ABORT), page.sequence)
                del self._pages[client]
                return
            most = min(page.max_size, page.end - page.offset)
            page.offset = self._serve(client, page.transfer, page.offset, most, page.sequence, now, events)
            page.due += page.spacing
            if page.offset >= page.end:
                del self._pages[client]
                return

    def _end(
        self, client: int, request: UpgradeEndRequest, frame: zcl.Frame, now: float, events: list[object]
    ) -> None:
        key = (request.manufacturer, request.image_type, request.version)
        self._pages.pop(client, None)
        transfer = self._transfers.get(client)
        if transfer is None or transfer.key != key:
            # A server that came back after a restart knows the offer, not the transfer.
            for offer in self._offers:
                if offer.key == key and offer.client in (None, client):
                    transfer = self._transfers[client] = _Transfer(offer, len(offer.data))
                    break
            else:
                settled = self._settled.get(client)
                if settled is not None and settled[0] == key and request.status == SUCCESS:
                    self._tell(client, key, settled[1], frame, now)
                else:
                    self._refuse(client, frame, NO_IMAGE_AVAILABLE, events)
                return
        if transfer.ended != request.status:
            transfer.ended = request.status
            events.append(UpgradeEnded(client, *key, request.status))
        if request.status != SUCCESS:
            # ZCL8 11.13.9.4: only success is answered with a response of its own.
            self._outgoing.append((client, zcl.default_response(frame, SUCCESS)))
        elif transfer.withdrawn:
            self._refuse(client, frame, ABORT, events)
        else:
            self._tell(client, key, transfer.offer.upgrade_at, frame, now)

    def _tell(self, client: int, key: tuple[int, int, int], at: int, frame: zcl.Frame, now: float) -> None:
        """Answer an Upgrade End Request of success."""
        current = self._utc(now)
        due = at if at == UPGRADE_WAIT else max(at, current)
        self._send(client, UpgradeEndResponse(*key, current, due), frame.sequence)

    def _utc(self, now: float) -> int:
        return 0 if self.config.utc_at_zero is None else self.config.utc_at_zero + int(now)

    def _next_sequence(self) -> int:
        self._sequence = (self._sequence + 1) & 0xFF
        return self._sequence

    def _send(self, client: int, message: Message, sequence: int) -> None:
        self._outgoing.append((client, build_message(message, sequence)))

    def _refuse(self, client: int, frame: zcl.Frame, status: int, events: list[object]) -> None:
        self._outgoing.append((client, zcl.default_response(frame, status)))
        events.append(RequestRefused(client, frame.command, status))
