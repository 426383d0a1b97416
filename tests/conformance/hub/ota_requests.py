"""Questions to the hub's OTA server that no device of a rig would ask, in a played device's name."""

from __future__ import annotations

from harness import Device, minutes, seconds
from harness.zigbee import clusters, ota, zcl

BLOCK = 48  # octets that fit a frame under a link key
LONGEST_WAIT = minutes(5)  # that a hub which nobody holds up may ask for
# Numbers that a device's own conversations, which begin at 0, do not come to in a test.
_FIRST_SEQUENCE = 0xA0


class Questioner:
    """Asks in a device's name, each question under a sequence number of its own."""

    def __init__(self, device: Device) -> None:
        self.device, self.profile = device, device.profile
        self._sequence = _FIRST_SEQUENCE

    def query(self, **changes: int | None) -> ota.QueryNextImageRequest:
        """The Query Next Image Request that the device would make, but for the changes."""
        profile = self.profile
        own = ota.QueryNextImageRequest(
            profile.manufacturer_code,
            profile.image_type,
            self.device.version_at_start,
            profile.hardware_version,
        )
        return own._replace(**changes)

    async def ask(
        self,
        question: ota.Message | bytes,
        *,
        answers: int = 1,
        secured: bool = True,
        within: float = seconds(15),
    ) -> list[ota.Message | tuple[int, int]]:
        """Ask, and return the answers; a Default Response as (command, status). `bytes` are command and payload."""
        self._sequence += 1
        assert self._sequence <= 0xFF, "so many questions were not foreseen"
        if isinstance(question, bytes):
            frame = bytes((zcl.CLUSTER_COMMAND | zcl.NO_DEFAULT_RESPONSE, self._sequence)) + question
        else:
            frame = ota.build_message(question, self._sequence)
        came = await self.device.request(
            ota.OTA_CLUSTER, frame, answers=answers, secured=secured, within=within
        )
        return [_read(message.payload) for message in came]

    async def ask_once(
        self, question: ota.Message | bytes, *, secured: bool = True
    ) -> ota.Message | tuple[int, int]:
        """The answer to a question that has one."""
        (answer,) = await self.ask(question, secured=secured)
        return answer

    async def block(self, version: int, offset: int, most: int = BLOCK) -> ota.Message | tuple[int, int]:
        """The answer to an Image Block Request for a file of the device's own type, asked again when told to wait."""
        while True:
            answer = await self.block_once(version, offset, most)
            if not isinstance(answer, ota.WaitForData):
                return answer
            wait = answer.request_time - answer.current_time
            assert 0 <= wait <= LONGEST_WAIT, f"told to wait {wait} s"
            await self.device.rig.sleep(max(wait, answer.block_period / 1000, seconds(0.1)))

    async def block_once(self, version: int, offset: int, most: int = BLOCK) -> ota.Message | tuple[int, int]:
        """The answer to one Image Block Request for a file of the device's own type, be it WAIT_FOR_DATA."""
        profile = self.profile
        return await self.ask_once(
            ota.ImageBlockRequest(profile.manufacturer_code, profile.image_type, version, offset, most)
        )

    async def fetch(self, version: int, size: int) -> bytes:
        """A whole file, block by block."""
        data = b""
        while len(data) < size:
            block = await self.block(version, len(data))
            assert isinstance(block, ota.ImageBlock), f"{block} for the octets from {len(data)}"
            assert block[:4] == (self.profile.manufacturer_code, self.profile.image_type, version, len(data))
            assert 0 < len(block.data) <= BLOCK
            data += block.data
        return data

    async def flags(self) -> int:
        """The hub's Functional Notification Flags for this device, which its mirror has as a client (GBCS 10.2.2)."""
        self._sequence += 1
        control = zcl.FROM_SERVER | zcl.NO_DEFAULT_RESPONSE
        read = zcl.build_read((clusters.FUNCTIONAL_NOTIFICATION_FLAGS,))
        frame = zcl.Frame(control, None, self._sequence, zcl.READ_ATTRIBUTES, read)
        (answer,) = await self.device.request(clusters.METERING_CLUSTER, zcl.build_frame(frame))
        (record,) = zcl.parse_read_response(zcl.parse_frame(answer.payload).payload)
        assert record.status == zcl.Status.SUCCESS
        assert isinstance(record.value, int)
        return record.value


def _read(payload: bytes) -> ota.Message | tuple[int, int]:
    frame = zcl.parse_frame(payload)
    if frame.control & zcl.CLUSTER_COMMAND:
        message = ota.parse_message(frame)
        assert message is not None, f"OTA command {frame.command:#04x} is none of a server's"
        return message
    assert frame.command == zcl.DEFAULT_RESPONSE
    return zcl.parse_default_response(frame.payload)
