"""A played device with the bench at its ear: what reaches it is noted, and the bench asks questions in its name."""

from __future__ import annotations

from collections.abc import Sequence

from harness.wire.application import SMART_ENERGY_PROFILE, ApsMessage, Behaviour, SimpleDescriptor


class Overheard:
    """Stands between a behaviour and its carrier, and hands on all but the answers to questions of the bench's own.

    An answer is known by its peer, cluster and ZCL sequence number, the payload's second octet (ZCL8 2.4.1).
    """

    def __init__(self, behaviour: Behaviour) -> None:
        self._behaviour = behaviour
        self._records: list[tuple[int, list[ApsMessage]]] = []
        self._question: tuple[int, int, int] | None = None
        self._answers: list[ApsMessage] = []
        self._outgoing: list[ApsMessage] = []

    def record(self, cluster: int) -> list[ApsMessage]:
        """Return a list that grows with every message of a cluster that reaches the device from now on."""
        record: list[ApsMessage] = []
        self._records.append((cluster, record))
        return record

    def ask(self, message: ApsMessage) -> list[ApsMessage]:
        """Send a question at the carrier's next turn, in the place of the one before; the list returned grows."""
        self._question = (message.peer, message.cluster, message.payload[1])
        self._answers = []
        self._outgoing.append(message)
        return self._answers

    def end_question(self) -> None:
        """Let everything that comes go to the behaviour again."""
        self._question = None

    def receive(self, message: ApsMessage, now: float) -> list[object]:
        """Take one message from the HAN."""
        if message.profile == SMART_ENERGY_PROFILE:
            for cluster, record in self._records:
                if cluster == message.cluster:
                    record.append(message)
            if self._question == (message.peer, message.cluster, *message.payload[1:2]):
                self._answers.append(message)
                return []
        return self._behaviour.receive(message, now)

    def messages_to_send(self) -> list[ApsMessage]:
        """Hand over what the behaviour and the bench have to send."""
        outgoing, self._outgoing = self._outgoing, []
        return self._behaviour.messages_to_send() + outgoing

    # --- handed on as it is ---------------------------------------------------------------------------------------

    @property
    def descriptors(self) -> Sequence[SimpleDescriptor]:
        """The endpoints of the behaviour."""
        return self._behaviour.descriptors

    def network_up(self, short: int, now: float) -> list[object]:
        """The network is up."""
        return self._behaviour.network_up(short, now)

    def network_down(self, now: float) -> list[object]:
        """The network is down."""
        return self._behaviour.network_down(now)

    def next_deadline(self) -> float | None:
        """When the behaviour is due."""
        return self._behaviour.next_deadline()

    def on_deadline(self, now: float) -> list[object]:
        """The behaviour is due."""
        return self._behaviour.on_deadline(now)

    def power_cut(self) -> None:
        """The power is gone; nobody waits for an answer any more."""
        self._question = None
        self._outgoing.clear()
        self._behaviour.power_cut()
