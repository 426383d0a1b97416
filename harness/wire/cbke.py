"""Certificate-based key establishment (Key Establishment cluster 0x0800): initiator and responder in one core."""

from __future__ import annotations

from collections.abc import Iterable

from harness.errors import LocalProtocolError, RemoteProtocolError
from harness.wire import zcl
from harness.wire.cbke_messages import (
    CONFIRM_KEY_DATA,
    EPHEMERAL_DATA,
    INITIATE,
    KEY_ESTABLISHMENT_SUITE,
    LONGEST_TIME,
    TERMINATE,
    ConfirmKeyData,
    EphemeralData,
    Initiate,
    Message,
    Terminate,
    TerminateStatus,
    build_message,
    command_name,
    parse_message,
    suite_mask,
)
from harness.wire.cbke_values import (
    KeyEstablished,
    KeyEstablishmentConfig,
    KeyEstablishmentFailed,
    KeyRejected,
)
from harness.wire.certificates import (
    Credentials,
    build_certificate,
    certified_key,
    check_certificate,
    parse_certificate,
)
from harness.wire.curves import Point, RandomOctets
from harness.wire.key_agreement import (
    Confirmation,
    DerivedKeys,
    EphemeralKey,
    confirm,
    derive_keys,
    new_ephemeral_key,
    shared_secret,
)
from harness.wire.mac import format_eui64
from harness.wire.ota_messages import CLOCK_TOLERANCE

_DEFAULT = KeyEstablishmentConfig()


class _Refused(Exception):
    """What the partner sent ends the key establishment with this status."""

    def __init__(self, status: TerminateStatus, reason: str) -> None:
        super().__init__(reason)
        self.status = status


class _Session:
    """One key establishment under way. `awaits` is what the partner has to send next; None: its suites."""

    __slots__ = (
        "awaits", "confirm_time", "confirmation", "credentials", "deadline", "ephemeral", "initiator", "keys",
        "partner", "partner_key", "sequence", "yielded",
    )  # fmt: skip

    credentials: Credentials
    ephemeral: EphemeralKey
    partner_key: Point
    confirm_time: int
    confirmation: Confirmation
    keys: DerivedKeys

    def __init__(self, partner: int, *, initiator: bool, sequence: int, deadline: float) -> None:
        self.partner = partner
        self.initiator = initiator
        self.sequence = sequence
        self.deadline = deadline
        self.awaits: int | None = None
        self.yielded = False


class KeyEstablishment:
    """Establishes link keys with one partner at a time, each known by its EUI-64. Times in seconds.

    It takes the commands of the Key Establishment cluster, and the Read Attributes Responses and Default Responses
    on it; attributes that a partner reads are the member's to answer (`key_establishment_attributes`). A partner that
    comes while another is served is told NO_RESOURCES.

    When this device and its partner both begin at once, the one with the lower EUI-64 stays initiator and does not
    answer the other's request; the other drops its own and answers. A partner that knows another rule lets one side
    or both fail, by Terminate or by time-out, and either may try again.

    `credentials` are those of one device, one for each suite that it shall have; `random_octets` is where its ephemeral
    keys come from. LocalProtocolError when there are no credentials, two of one suite, or some of another device.
    """

    def __init__(
        self,
        credentials: Iterable[Credentials],
        random_octets: RandomOctets,
        config: KeyEstablishmentConfig = _DEFAULT,
    ) -> None:
        self._credentials: dict[int, Credentials] = {}
        subjects: dict[int, None] = {}
        for own in credentials:
            if own.suite in self._credentials:
                raise LocalProtocolError(f"two certificates of suite {own.suite} are given")
            self._credentials[own.suite] = own
            subjects[own.certificate.subject] = None
        if len(subjects) != 1:
            raise LocalProtocolError(
                f"key establishment needs the certificates of one device, not of {len(subjects)}"
            )
        (self.eui64,) = subjects
        self.config = config
        self._random_octets = random_octets
        self._session: _Session | None = None
        # The last message that took a key establishment further.
        self._last: tuple[int, zcl.Frame] | None = None
        # The last initiator, and until when it may still object.
        self._unconfirmed: tuple[int, float] | None = None
        self._outgoing: list[tuple[int, bytes]] = []
        self._sequence = 0

    @property
    def suites(self) -> tuple[int, ...]:
        """The suites that this device has credentials of, the best first."""
        return tuple(sorted(self._credentials, reverse=True))

    @property
    def partner(self) -> int | None:
        """Whom a key is being established with; None: nobody."""
        return None if self._session is None else self._session.partner

    # --- what it is asked to do ---------------------------------------------------------------------------------

    def start(self, partner: int, now: float, *, suite: int | None = None) -> None:
        """Begin with a partner (EUI-64): ask for its suites first, or take its having `suite` for granted.

        LocalProtocolError while another key is being established, or when this device does not have the suite.
        """
        if self._session is not None:
            raise LocalProtocolError(
                f"a key is being established with {format_eui64(self._session.partner)}: one at a time"
            )
        if partner == self.eui64:
            raise LocalProtocolError(f"{format_eui64(partner)} cannot establish a key with itself")
        if suite is not None and suite not in self._credentials:
            raise LocalProtocolError(f"this device has no certificate of suite {suite}")
        session = self._begin(partner, now, initiator=True, sequence=0)
        if suite is not None:
            self._initiate(session, suite, now)
            return
        session.sequence = self._next_sequence()
        read = zcl.build_read((KEY_ESTABLISHMENT_SUITE,))
        frame = zcl.Frame(0, None, session.sequence, zcl.READ_ATTRIBUTES, read)
        self._outgoing.append((partner, zcl.build_frame(frame)))

    def reset(self) -> None:
        """Forget a key establishment under way, as a power cut does."""
        self._session = self._last = self._unconfirmed = None
        self._outgoing.clear()

    def frames_to_send(self) -> list[tuple[int, bytes]]:
        """What waits to be sent, as (partner, ZCL frame), each once."""
        outgoing = self._outgoing
        if outgoing:
            self._outgoing = []
        return outgoing

    def next_deadline(self) -> float | None:
        """When the partner's silence has lasted too long."""
        return None if self._session is None else self._session.deadline

    def on_deadline(self, now: float) -> list[object]:
        """Give up on a partner whose time is over."""
        session = self._session
        if session is None or now + CLOCK_TOLERANCE < session.deadline:
            return []
        told = self.config.terminates_on_silence and session.awaits is not None
        if told:
            self._send_terminate(
                session.partner, TerminateStatus.BAD_MESSAGE, from_server=not session.initiator
            )
        return self._ended(session, None, f"no {_awaited(session)} in time")

    # --- what partners say --------------------------------------------------------------------------------------

    def receive(
        self, partner: int, frame: zcl.Frame | bytes, now: float, *, unicast: bool = True
    ) -> list[object]:
        """Take one frame of the cluster from a partner (EUI-64). What was broadcast is ignored."""
        if not unicast or partner == self.eui64:
            return []
        if isinstance(frame, bytes):
            try:
                frame = zcl.parse_frame(frame)
            except RemoteProtocolError:
                return []  # without a header there is nothing to answer to
        if not frame.control & zcl.CLUSTER_COMMAND:
            return self._general(partner, frame, now)
        if frame.manufacturer is not None or frame.command > TERMINATE:
            status = (
                zcl.Status.UNSUP_CLUSTER_COMMAND
                if frame.manufacturer is None
                else zcl.Status.UNSUP_MANUF_CLUSTER_COMMAND
            )
            self._outgoing.append((partner, zcl.default_response(frame, status)))
            return []
        if frame.command == TERMINATE:
            return self._terminated(partner, frame, now)
        if self._last == (partner, frame):
            return []  # the APS acknowledgement was lost, and the stack below let the repetition through
        from_server = bool(frame.control & zcl.FROM_SERVER)
        session = self._session
        ours = session is not None and session.partner == partner
        try:
            message = parse_message(frame)
        except RemoteProtocolError as error:
            return self._bad_message(partner, frame, str(error))
        if isinstance(message, Initiate) and not from_server:
            return self._initiate_request(partner, message, frame, now)
        if session is None or not ours or from_server != session.initiator or frame.command != session.awaits:
            return self._bad_message(partner, frame, "out of order")
        self._last = (partner, frame)
        if not from_server:
            session.sequence = frame.sequence
        try:
            if isinstance(message, Initiate):
                return self._initiate_response(session, message, now)
            if isinstance(message, EphemeralData):
                return self._ephemeral_data(session, message, now)
            assert isinstance(message, ConfirmKeyData)  # Terminate went its own way
            return self._confirm_key_data(session, message, frame, now)
        except _Refused as refusal:
            return self._refuse(session, refusal)

    def _general(self, partner: int, frame: zcl.Frame, now: float) -> list[object]:
        session = self._session
        if session is None or session.partner != partner or frame.sequence != session.sequence:
            return []
        if frame.command == zcl.DEFAULT_RESPONSE:
            return self._default_response(session, frame)
        if frame.command != zcl.READ_ATTRIBUTES_RESPONSE or session.awaits is not None:
            return []
        try:
            records = zcl.parse_read_response(frame.payload)
        except RemoteProtocolError as error:
            return self._ended(session, TerminateStatus.BAD_MESSAGE, str(error))
        mask = next((record.value for record in records if record.attribute == KEY_ESTABLISHMENT_SUITE), None)
        theirs = mask if isinstance(mask, int) else 0
        suite = next((suite for suite in self.suites if theirs & suite), None)
        if suite is None:
            # The partner knows of no key establishment yet: there is nothing to terminate.
            have = suite_mask(self.suites)
            reason = f"its suites are {theirs:#06x}, this device's {have:#06x}"
            return self._ended(session, TerminateStatus.UNSUPPORTED_SUITE, reason)
        self._initiate(session, suite, now)
        return []

    def _default_response(self, session: _Session, frame: zcl.Frame) -> list[object]:
        try:
            command, status = zcl.parse_default_response(frame.payload)
        except RemoteProtocolError:
            return []
        if status == zcl.Status.SUCCESS:
            return []
        reason = f"it answered command {command:#04x} with {zcl.status_name(status)}"
        if session.awaits is None:
            return self._ended(session, None, reason, by_us=False)
        return self._refuse(session, _Refused(TerminateStatus.BAD_MESSAGE, reason))

    def _terminated(self, partner: int, frame: zcl.Frame, now: float) -> list[object]:
        session = self._session
        ours = session is not None and session.partner == partner
        try:
            message = parse_message(frame)
            assert isinstance(message, Terminate)
            status = TerminateStatus(message.status)
            wait, reason = float(message.wait_time), f"it sent Terminate with {status.name}"
        except (RemoteProtocolError, ValueError):
            # Whatever it meant, it meant the end; and one Terminate is not answered with another.
            status, wait = TerminateStatus.BAD_MESSAGE, self.config.own_wait_time
            reason = f"it sent a Terminate that says {frame.payload.hex() or 'nothing'}"
        if zcl.default_response_due(frame, zcl.Status.SUCCESS, unicast=True):
            self._outgoing.append((partner, zcl.default_response(frame, zcl.Status.SUCCESS)))
        from_server = bool(frame.control & zcl.FROM_SERVER)
        if session is not None and ours:
            # Stacks of the market are not careful about a Terminate's direction, so both count; but one from a server
            # may be for the request that was withdrawn when two began at once.
            if session.yielded and from_server and session.awaits == EPHEMERAL_DATA:
                return []
            return self._ended(session, status, reason, by_us=False, retry_after=wait)
        if self._unconfirmed is not None and self._unconfirmed[0] == partner:
            _, until = self._unconfirmed
            self._unconfirmed = None
            if now <= until:
                return [KeyRejected(partner, status, wait, reason)]
        return []

    def _bad_message(self, partner: int, frame: zcl.Frame, problem: str) -> list[object]:
        session = self._session
        name = command_name(frame.command, from_server=bool(frame.control & zcl.FROM_SERVER))
        if session is None or session.partner != partner:
            return self._turn_away(partner, frame, TerminateStatus.BAD_MESSAGE, f"{name}: {problem}")
        reason = f"{name} where {_awaited(session)} was due: {problem}"
        return self._refuse(session, _Refused(TerminateStatus.BAD_MESSAGE, reason))

    def _turn_away(
        self, partner: int, frame: zcl.Frame, status: TerminateStatus, reason: str
    ) -> list[object]:
        """Terminate what a partner that is not being served would begin or go on with."""
        from_server = not frame.control & zcl.FROM_SERVER
        sequence = frame.sequence if from_server else None
        self._send_terminate(partner, status, from_server=from_server, sequence=sequence)
        return [KeyEstablishmentFailed(partner, status, True, self.config.own_wait_time, reason)]

    # --- the steps ----------------------------------------------------------------------------------------------

    def _initiate(self, session: _Session, suite: int, now: float) -> None:
        session.credentials = self._credentials[suite]
        self._send(session, self._own_initiate(suite))
        self._await(session, INITIATE, now)

    def _initiate_request(
        self, partner: int, message: Initiate, frame: zcl.Frame, now: float
    ) -> list[object]:
        session = self._session
        crossed = False
        if session is not None:
            if session.partner != partner:
                reason = f"a key is being established with {format_eui64(session.partner)}"
                return self._turn_away(partner, frame, TerminateStatus.NO_RESOURCES, reason)
            crossed = session.initiator and session.awaits == INITIATE
            if crossed and self.eui64 < partner:
                return []
            if not crossed and not (session.initiator and session.awaits is None):
                return self._bad_message(partner, frame, "out of order")
        session = self._begin(partner, now, initiator=False, sequence=frame.sequence)
        session.yielded = crossed
        self._last = (partner, frame)
        try:
            if message.suite not in self._credentials:
                raise _Refused(TerminateStatus.UNSUPPORTED_SUITE, f"it asks for suite {message.suite:#06x}")
            session.credentials = self._credentials[message.suite]
            self._take_certificate(session, message)
        except _Refused as refusal:
            return self._refuse(session, refusal)
        self._send(session, self._own_initiate(message.suite))
        self._await(session, EPHEMERAL_DATA, now, message.ephemeral_time)
        return []

    def _initiate_response(self, session: _Session, message: Initiate, now: float) -> list[object]:
        if message.suite != session.credentials.suite:
            raise _Refused(TerminateStatus.UNSUPPORTED_SUITE, f"it answers with suite {message.suite:#06x}")
        self._take_certificate(session, message)
        session.ephemeral = new_ephemeral_key(session.credentials.curve, self._random_octets)
        self._send(session, EphemeralData(session.ephemeral.octets))
        self._await(session, EPHEMERAL_DATA, now, message.ephemeral_time)
        return []

    def _take_certificate(self, session: _Session, message: Initiate) -> None:
        own = session.credentials
        if max(message.ephemeral_time, message.confirm_time) > LONGEST_TIME:
            raise _Refused(TerminateStatus.BAD_MESSAGE, "it asks for 255 s, which is no valid time")
        try:
            certificate = parse_certificate(message.certificate)
            check_certificate(certificate)
            if certificate.issuer != own.certificate.issuer:
                raise _Refused(
                    TerminateStatus.UNKNOWN_ISSUER,
                    f"its certificate is issued by {format_eui64(certificate.issuer)},"
                    f" this device's by {format_eui64(own.certificate.issuer)}",
                )
            if certificate.subject != session.partner:
                raise _Refused(
                    TerminateStatus.BAD_MESSAGE,
                    f"its certificate is that of {format_eui64(certificate.subject)}",
                )
            session.partner_key = certified_key(certificate, own.ca_public_key)
        except RemoteProtocolError as error:
            raise _Refused(TerminateStatus.INVALID_CERTIFICATE, str(error)) from None
        session.confirm_time = message.confirm_time

    def _ephemeral_data(self, session: _Session, message: EphemeralData, now: float) -> list[object]:
        curve = session.credentials.curve
        try:
            point = curve.decompress(message.point)
        except RemoteProtocolError as error:
            raise _Refused(TerminateStatus.BAD_MESSAGE, str(error)) from None
        if not session.initiator:
            session.ephemeral = new_ephemeral_key(curve, self._random_octets)
        own, theirs = session.ephemeral, message.point
        secret = shared_secret(curve, session.credentials.private_key, own, session.partner_key, point)
        if secret is None:
            raise _Refused(TerminateStatus.BAD_MESSAGE, "its keys make the point at infinity")
        session.keys = derive_keys(secret)
        parties = (self.eui64, session.partner, own.octets, theirs)
        if not session.initiator:
            parties = (session.partner, self.eui64, theirs, own.octets)
        session.confirmation = confirm(session.keys.mac_key, *parties)
        if session.initiator:
            self._send(session, ConfirmKeyData(session.confirmation.from_initiator))
        else:
            self._send(session, EphemeralData(own.octets))
        self._await(session, CONFIRM_KEY_DATA, now, session.confirm_time)
        return []

    def _confirm_key_data(
        self, session: _Session, message: ConfirmKeyData, frame: zcl.Frame, now: float
    ) -> list[object]:
        own, theirs = session.confirmation
        if not session.initiator:
            own, theirs = theirs, own
        if message.mac != theirs:
            raise _Refused(TerminateStatus.BAD_KEY_CONFIRM, "its key is not the same")
        self._session = None
        if not session.initiator:
            self._send(session, ConfirmKeyData(own))
            self._unconfirmed = (session.partner, now + session.confirm_time + self.config.slack)
        elif zcl.default_response_due(frame, zcl.Status.SUCCESS, unicast=True):
            self._outgoing.append((session.partner, zcl.default_response(frame, zcl.Status.SUCCESS)))
        return [
            KeyEstablished(
                session.partner, session.keys.link_key, session.credentials.suite, session.initiator
            )
        ]

    # --- helpers ------------------------------------------------------------------------------------------------

    def _begin(self, partner: int, now: float, *, initiator: bool, sequence: int) -> _Session:
        self._last = self._unconfirmed = None
        session = _Session(partner, initiator=initiator, sequence=sequence, deadline=now + self.config.slack)
        self._session = session
        return session

    def _await(self, session: _Session, command: int, now: float, needed: int = 0) -> None:
        session.awaits = command
        session.deadline = now + needed + self.config.slack

    def _own_initiate(self, suite: int) -> Initiate:
        own = self._credentials[suite].certificate
        times = self.config.ephemeral_time[suite], self.config.confirm_time[suite]
        return Initiate(suite, *times, build_certificate(own))

    def _refuse(self, session: _Session, refusal: _Refused) -> list[object]:
        self._send_terminate(
            session.partner,
            refusal.status,
            from_server=not session.initiator,
            sequence=None if session.initiator else session.sequence,
        )
        return self._ended(session, refusal.status, str(refusal))

    def _ended(
        self,
        session: _Session,
        status: TerminateStatus | None,
        reason: str,
        *,
        by_us: bool = True,
        retry_after: float | None = None,
    ) -> list[object]:
        # The partner's next try may begin with the very octets of this one.
        self._session = self._last = None
        wait = self.config.own_wait_time if retry_after is None else retry_after
        return [KeyEstablishmentFailed(session.partner, status, by_us, wait, reason)]

    def _send(self, session: _Session, message: Message) -> None:
        if session.initiator:
            session.sequence = self._next_sequence()
        frame = build_message(message, session.sequence, from_server=not session.initiator)
        self._outgoing.append((session.partner, frame))

    def _send_terminate(
        self, partner: int, status: TerminateStatus, *, from_server: bool, sequence: int | None = None
    ) -> None:
        message = Terminate(status, self.config.wait_time, suite_mask(self.suites))
        number = self._next_sequence() if sequence is None else sequence
        self._outgoing.append((partner, build_message(message, number, from_server=from_server)))

    def _next_sequence(self) -> int:
        self._sequence = (self._sequence + 1) & 0xFF
        return self._sequence


def _awaited(session: _Session) -> str:
    if session.awaits is None:
        return "answer about its suites"
    return command_name(session.awaits, from_server=session.initiator)
