"""The client side of the OTA Upgrade cluster as a core: it asks, fetches, verifies, and says when to upgrade."""

from __future__ import annotations

import random
from collections.abc import Callable

from harness.errors import RemoteProtocolError
from harness.wire import zcl
from harness.wire.ota_client_values import (
    EXPECTED,
    NO_SERVER,
    SMALLEST_FILE,
    ClientState,
    DownloadAborted,
    DownloadCompleted,
    DownloadStarted,
    ImageRefused,
    ImageVerified,
    OtaClientConfig,
    OtaStorage,
    ServerLost,
    UpgradeDue,
    UpgradeScheduled,
    upgrade_status,
)
from harness.wire.ota_messages import (
    ABORT,
    ANY_IMAGE_TYPE,
    ANY_MANUFACTURER,
    ANY_VERSION,
    CLOCK_TOLERANCE,
    IMAGE_BLOCK_REQUEST,
    IMAGE_NOTIFY,
    IMAGE_PAGE_REQUEST,
    NO_IMAGE_AVAILABLE,
    QUERY_NEXT_IMAGE_REQUEST,
    SUCCESS,
    UPGRADE_END_REQUEST,
    UPGRADE_WAIT,
    BlockRefusal,
    ImageBlock,
    ImageBlockRequest,
    ImageNotify,
    ImagePageRequest,
    Message,
    QueryNextImageRequest,
    QueryNextImageResponse,
    UpgradeEndRequest,
    UpgradeEndResponse,
    WaitForData,
    build_message,
    parse_message,
)


class OtaClient:
    """Fetches images for one device. Takes and gives ZCL frames; the server is known by its NWK short address.

    `storage` outlives this object: a client made on what another left goes on where that one stopped. `verify` gets the
    whole file and says whether the device can run it.
    """

    def __init__(
        self,
        config: OtaClientConfig,
        storage: OtaStorage,
        running_version: int,
        verify: Callable[[bytes], bool],
        generator: random.Random,
    ) -> None:
        self.config = config
        self.storage = storage
        self.running_version = running_version
        self.state = ClientState.OFFLINE
        self.server: int | None = None
        self.server_eui64 = NO_SERVER
        self.block_period_ms = 0
        self._verify = verify
        self._random = generator
        self._deadline: float | None = None
        self._outstanding = False  # whether a request waits for its answer
        self._errors = 0
        self._last_request = 0.0
        self._pages = config.page_size > 0
        self._paging = False  # whether the blocks of a page are on their way
        self._page_end = 0  # that page, or the one whose holes are being filled, ends here
        self._ahead: dict[int, bytes] = {}  # blocks of that page behind a hole
        self._told_to_wait = False
        self._outgoing: list[tuple[int, bytes]] = []
        self._sequence = 0

    def start(self, server: int, server_eui64: int, now: float) -> None:
        """The network is up and the server known: go on with what storage holds, or query, after the jitter."""
        self.server = server
        self.server_eui64 = server_eui64
        self._errors = 0
        self.state = self.storage.begins
        if self.state == ClientState.IDLE and not self.config.unprompted:
            self._wait(None)
            return
        self._wait(now + self._random.uniform(0.0, self.config.start_jitter))

    def ask(self, now: float) -> None:
        """Query now, unless a query or a transfer is under way: also while an image here waits for its activation."""
        if self._at_rest:
            self._errors = 0
            self._query(now)

    @property
    def _at_rest(self) -> bool:
        # DUE lasts where the device does not upgrade at the server's word: a meter's image waits for its CS06.
        waits = self._told_to_wait and self.state == ClientState.ENDING
        return waits or self.state in (ClientState.IDLE, ClientState.DUE)

    def stop(self) -> None:
        """The network is gone: ask for nothing until the next start."""
        self.state = ClientState.OFFLINE
        self.server = None
        self._deadline = None
        self._outstanding = False
        self._told_to_wait = False
        self._paging = False
        self._page_end = 0
        self._ahead.clear()
        self._outgoing.clear()

    def frames_to_send(self) -> list[tuple[int, bytes]]:
        """What waits to be sent, as (short address, ZCL frame), each once."""
        outgoing = self._outgoing
        if outgoing:
            self._outgoing = []
        return outgoing

    def next_deadline(self) -> float | None:
        """When the next request, time-out or upgrade is due."""
        return self._deadline

    @property
    def upgrade_status(self) -> int:
        """ImageUpgradeStatus (0x0006)."""
        return upgrade_status(self.state, self.storage, told_to_wait=self._told_to_wait)

    def receive(self, source: int, frame: zcl.Frame, now: float, *, unicast: bool = True) -> list[object]:
        """Take one frame of the cluster, from the server to this client: a command, or a Default Response."""
        events: list[object] = []
        if not frame.control & zcl.CLUSTER_COMMAND:
            if source == self.server and frame.command == zcl.DEFAULT_RESPONSE:
                self._default_response(frame, now, events)
            return events
        if source != self.server:
            self._respond(source, frame, zcl.Status.NOT_AUTHORIZED, unicast)
            return events
        if frame.command == IMAGE_NOTIFY and unicast:
            # ZCL8 11.13.3.5.1: after a unicast notification a client asks, whatever is in it.
            self.ask(now)
            self._respond(source, frame, zcl.Status.SUCCESS, unicast)
            return events
        try:
            message = parse_message(frame)
        except RemoteProtocolError:
            self._respond(source, frame, zcl.Status.MALFORMED_COMMAND, unicast)
            return events
        if type(message) is ImageNotify:
            self._notified(message, now)
        elif unicast:
            self._respond(source, frame, self._answered(message, frame, now, events), unicast)
        return events

    def _answered(self, message: Message | None, frame: zcl.Frame, now: float, events: list[object]) -> int:
        """Act on the server's answer, and return the status of having done so."""
        expected = EXPECTED.get(type(message))
        if expected is None:
            own = frame.manufacturer is not None
            return zcl.Status.UNSUP_MANUF_CLUSTER_COMMAND if own else zcl.Status.UNSUP_CLUSTER_COMMAND
        if self.state not in expected:
            return zcl.Status.FAILURE
        if type(message) is ImageBlock:
            return self._block(message, now, events)
        if type(message) is WaitForData:
            self._wait_for_data(message, now)
            return SUCCESS
        if type(message) is BlockRefusal:
            if message.status not in (ABORT, NO_IMAGE_AVAILABLE):
                return zcl.Status.INVALID_VALUE
            self._abort(message.status, now, events)
            return SUCCESS
        if type(message) is QueryNextImageResponse:
            return self._offered(message, now, events)
        assert type(message) is UpgradeEndResponse  # the last row of the table
        return self._told(message, now, events)

    def on_deadline(self, now: float) -> list[object]:
        """Do what is due: ask again, count a time-out, verify, upgrade."""
        events: list[object] = []
        if self._deadline is None or now + CLOCK_TOLERANCE < self._deadline:
            return events
        state = self.state
        if state == ClientState.VERIFYING:
            self._check(now, events)
        elif state == ClientState.COUNTDOWN:
            self._due(events)
        elif not self._outstanding:
            if state == ClientState.DOWNLOADING:
                self._request(now)
            elif state == ClientState.ENDING:
                self._end(SUCCESS, now)
            else:
                self._query(now)
        elif state == ClientState.ENDING:
            self._end_unanswered(now, events)
        else:
            self._failed("no answer", now, events)
        return events

    # --- asking for an image -------------------------------------------------------------------------------------

    def _query(self, now: float) -> None:
        self.state = ClientState.QUERYING
        config = self.config
        self._send(
            QueryNextImageRequest(
                config.manufacturer, config.image_type, self.running_version, config.hardware_version
            )
        )
        self._await_answer(now)

    def _notified(self, message: ImageNotify, now: float) -> None:
        """ZCL8 11.13.3.5: a broadcast notification is for those that it fits, and for a part of them."""
        config = self.config
        if (
            self._at_rest
            and 1 <= message.jitter <= 100
            and message.manufacturer in (config.manufacturer, ANY_MANUFACTURER)
            and message.image_type in (config.image_type, ANY_IMAGE_TYPE)
            and message.version not in (self.running_version, self.storage.version)
            and self._random.randint(1, 100) <= message.jitter
        ):
            self.ask(now)

    def _offered(self, message: QueryNextImageResponse, now: float, events: list[object]) -> int:
        config = self.config
        if message.status == zcl.Status.NOT_AUTHORIZED:
            self._failed("not authorised", now, events)
            return SUCCESS
        if message.status != SUCCESS:
            self._found_nothing(now)
            return SUCCESS
        named = (message.manufacturer, message.image_type)
        if named != (config.manufacturer, config.image_type) or message.size < SMALLEST_FILE:
            return zcl.Status.INVALID_VALUE
        refusal = config.refusal(self.running_version, message.version, message.size)
        if refusal is not None:
            events.append(ImageRefused(message.version, refusal))
            self._found_nothing(now)
            return zcl.Status.INSUFFICIENT_SPACE if message.size > config.storage_limit else SUCCESS
        storage = self.storage
        if storage.verified and (storage.version, storage.size) == (message.version, message.size):
            self._found_nothing(now)  # it is here already; assumed: no other file has its version and size
            return SUCCESS
        self._told_to_wait = False
        storage.begin(message.version, message.size)
        self.state = ClientState.DOWNLOADING
        self._errors = 0
        events.append(DownloadStarted(message.version, message.size, len(storage.data)))
        self._request(now)
        return SUCCESS

    # --- fetching it ---------------------------------------------------------------------------------------------

    def _request(self, now: float) -> None:
        """Ask for the next octets, a page or a block of them."""
        config, storage = self.config, self.storage
        offset = len(storage.data)
        file = (config.manufacturer, config.image_type, storage.version or 0)
        self._last_request = now
        self._await_answer(now)
        if self._pages and offset >= self._page_end:
            size = min(config.page_size, storage.size - offset)
            self._page_end = offset + size
            self._paging = True
            self._ahead.clear()
            spacing = config.page_spacing_ms
            self._send(ImagePageRequest(*file, offset, config.block_size, size, spacing))
            return
        period = self.block_period_ms if config.keeps_block_period else None
        self._send(ImageBlockRequest(*file, offset, config.block_size, None, period))

    def _block(self, message: ImageBlock, now: float, events: list[object]) -> int:
        manufacturer, image_type, version, offset, data = message
        storage, config = self.storage, self.config
        if (
            version != storage.version
            or manufacturer != config.manufacturer
            or image_type != config.image_type
        ):
            return zcl.Status.INVALID_VALUE
        size = len(data)
        if not 0 < size <= config.block_size or offset + size > storage.size:
            return zcl.Status.INVALID_VALUE
        have = len(storage.data)
        if offset != have:
            # Not what was asked for: passed over (Ember), unless it is a later block of the page on its way.
            if have < offset < self._page_end:
                self._ahead[offset] = data
                if self._paging and offset + size >= self._page_end:
                    self._paging = False  # the page is through; its holes are filled block by block
                    self._request(now)
                elif self._paging:
                    self._await_page(now)
            return SUCCESS
        storage.data += data
        have += size
        while self._ahead and (piece := self._ahead.pop(have, None)) is not None:
            storage.data += piece
            have += len(piece)
        self._errors = 0
        if have == storage.size:
            self.state = ClientState.VERIFYING
            self._wait(now + config.verify_seconds)
            events.append(DownloadCompleted(version))
        elif self._paging and have < self._page_end:
            self._await_page(now)
        elif self.block_period_ms and now < (due := self._last_request + self.block_period_ms / 1000):
            self._wait(due)
        else:
            self._request(now)
        return SUCCESS

    def _wait_for_data(self, message: WaitForData, now: float) -> None:
        """ZCL8 11.13.8.4.2: come back later, or keep a slower pace."""
        config = self.config
        if config.keeps_block_period:
            self.block_period_ms = message.block_period
        self._errors = 0
        self._paging = False
        self._page_end = 0
        seconds = message.request_time - message.current_time
        if seconds < 0:
            self._wait(now + config.wait_after_bad_time)
        elif seconds > 0:
            self._wait(now + min(seconds, config.longest_wait))
        elif message.block_period:
            self._wait(max(now, self._last_request + message.block_period / 1000))
        else:
            self._wait(now + config.back_off)

    def _default_response(self, frame: zcl.Frame, now: float, events: list[object]) -> None:
        try:
            command, status = zcl.parse_default_response(frame.payload)
        except RemoteProtocolError:
            return
        state = self.state
        taken_back = status in (ABORT, NO_IMAGE_AVAILABLE)
        if status == SUCCESS:
            return
        if command == QUERY_NEXT_IMAGE_REQUEST and state == ClientState.QUERYING:
            self._failed(zcl.status_name(status), now, events)
        elif command == UPGRADE_END_REQUEST:
            # OTA-TC-14C: ABORT to the Upgrade End Request takes the image back.
            if taken_back and state in EXPECTED[UpgradeEndResponse]:
                self._abort(status, now, events)
        elif command in (IMAGE_BLOCK_REQUEST, IMAGE_PAGE_REQUEST) and state == ClientState.DOWNLOADING:
            if taken_back:
                self._abort(status, now, events)
            elif command == IMAGE_PAGE_REQUEST and status == zcl.Status.UNSUP_CLUSTER_COMMAND:
                self._pages = self._paging = False
                self._request(now)
            else:
                self._failed(zcl.status_name(status), now, events)

    def _failed(self, reason: str, now: float, events: list[object]) -> None:
        """Count one failure: try again after the back-off, or give up at the threshold."""
        self._errors += 1
        self._paging = False
        if self._errors < self.config.error_threshold:
            self._wait(now + self.config.back_off)
        elif self.state == ClientState.DOWNLOADING:
            self._end(ABORT, now)
            self._drop(f"{self._errors} failures in a row, the last: {reason}", now, events)
        else:
            self.stop()
            events.append(ServerLost())

    def _abort(self, status: int, now: float, events: list[object]) -> None:
        self._drop(f"the server answered {zcl.status_name(status)}", now, events)

    def _drop(self, reason: str, now: float, events: list[object]) -> None:
        """Drop what has come and ask again: the device keeps running what it ran."""
        events.append(DownloadAborted(self.storage.version or 0, len(self.storage.data), reason))
        self.storage.clear()
        self._rest(now + self.config.requery_delay)

    # --- ending --------------------------------------------------------------------------------------------------

    def _check(self, now: float, events: list[object]) -> None:
        version = self.storage.version or 0
        good = self._verify(bytes(self.storage.data))
        events.append(ImageVerified(version, good))
        if good:
            self.storage.verified = True
            self._errors = 0
            self._end(SUCCESS, now)
            return
        # ZCL8 11.13.9.3: says so, does not upgrade, drops the file.
        self._end(zcl.Status.INVALID_IMAGE, now)
        self.storage.clear()
        self._found_nothing(now)

    def _end(self, status: int, now: float) -> None:
        config = self.config
        self.state = ClientState.ENDING
        self._send(
            UpgradeEndRequest(status, config.manufacturer, config.image_type, self.storage.version or 0)
        )
        self._await_answer(now)

    def _end_unanswered(self, now: float, events: list[object]) -> None:
        config = self.config
        self._errors += 1
        if self._errors < config.wait_threshold:
            self._wait(now + config.end_retry)
        elif config.upgrades_unanswered:
            self._due(events)
        else:
            self._errors = 0
            self._wait(now + config.wait_interval)

    def _told(self, message: UpgradeEndResponse, now: float, events: list[object]) -> int:
        config, version = self.config, self.storage.version
        if (
            version is None
            or message.manufacturer not in (config.manufacturer, ANY_MANUFACTURER)
            or message.image_type not in (config.image_type, ANY_IMAGE_TYPE)
            or message.version not in (version, ANY_VERSION)
        ):
            return zcl.Status.INVALID_VALUE
        self._errors = 0
        seconds = message.upgrade_time - message.current_time
        if message.upgrade_time == UPGRADE_WAIT or seconds < 0:
            # A time in the past is asked about again, as the wait is (Ember).
            self._hold(now)
            events.append(UpgradeScheduled(version, None))
        else:
            delay = max(float(seconds), config.activation_delay)
            self.state = ClientState.COUNTDOWN
            self._wait(now + delay)
            events.append(UpgradeScheduled(version, delay))
        return SUCCESS

    def _due(self, events: list[object]) -> None:
        self.state = ClientState.DUE
        self._outstanding = False
        self._deadline = None
        events.append(UpgradeDue(self.storage.version or 0))

    # --- time and frames -----------------------------------------------------------------------------------------

    def _found_nothing(self, now: float) -> None:
        """Wait for the next query, or with an image that waits for its activation, go on waiting for that."""
        if self.storage.verified:
            self._hold(now)
        else:
            self._rest(now + self.config.query_interval if self.config.unprompted else None)

    def _hold(self, now: float) -> None:
        self.state = ClientState.ENDING
        self._told_to_wait = True
        self._wait(now + self.config.wait_interval)

    def _rest(self, until: float | None) -> None:
        self.state = ClientState.IDLE
        self._told_to_wait = False
        self._paging = False
        self._page_end = 0
        self._errors = 0
        self._ahead.clear()
        self._wait(until)

    def _wait(self, until: float | None) -> None:
        self._outstanding = False
        self._deadline = until

    def _await_answer(self, now: float) -> None:
        self._outstanding = True
        self._deadline = now + self.config.response_timeout

    def _await_page(self, now: float) -> None:
        self._outstanding = True
        self._deadline = now + self.config.response_timeout + self.config.page_spacing_ms / 1000

    def _send(self, message: Message) -> None:
        if self.server is not None:
            self._sequence = (self._sequence + 1) & 0xFF
            self._outgoing.append((self.server, build_message(message, self._sequence)))

    def _respond(self, source: int, frame: zcl.Frame, status: int, unicast: bool) -> None:
        if zcl.default_response_due(frame, status, unicast=unicast):
            self._outgoing.append((source, zcl.default_response(frame, status)))
