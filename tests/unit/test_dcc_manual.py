"""Tests of the DCC by hand: what the operator is told, what may be written down, and what comes of it."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from harness.dcc.interface import Outcome
from harness.dcc.manual import AnswerRefused, LeftForTheOperator, ManualDcc
from harness.dcc.manual_files import BY_THE_LAB, read_answer, template_text
from harness.errors import LocalProtocolError, RigError
from harness.smi.devices import DeviceStatus
from harness.smi.requests import (
    Acknowledged,
    ActivateFirmware,
    Code,
    CommissionDevice,
    DeviceLists,
    OtherRequest,
    ReadFirmwareVersion,
    Refused,
    UpdateDeviceLog,
)
from harness.smi.responses import ActivationOutcome, CplLoaded, ImageDelivered
from tests.unit.dcc_bench import CPL, HASH, MOMENT, NOW, distribution, meter_image, premises
from tests.unit.smi_bench import ESME_ID, GS, GSME_ID, HCALCS_ID, HUB_1, IS, PPMID_ID, V1, V2

ESME, HCALCS = "00-00-00-00-00-00-00-11", "00-00-00-00-00-00-00-32"
READ = ReadFirmwareVersion(IS, ESME_ID)
VERSION = "00000200"


class Operator:
    """Answers each request as soon as it is left, as `answers` say: the text behind each key, by request in turn."""

    def __init__(self, folder: Path, *answers: dict[str, str], **options: Any) -> None:
        self.folder = folder
        self.events: list[Any] = []
        self.inventory = premises(**options)
        self._answers = list(answers)
        self.dcc = ManualDcc(
            self.inventory, folder, clock=lambda: NOW, poll_seconds=0.0, on_event=self.take, within=0.05
        )

    def take(self, event: Any) -> None:
        self.events.append(event)
        if isinstance(event, LeftForTheOperator) and self._answers:
            self.write(
                self._answers.pop(0), event.path.with_name(event.path.name.replace("request", "answer"))
            )
        elif isinstance(event, AnswerRefused) and self._answers:
            (path,) = self.folder.glob("*.answer.yaml")
            self.write(self._answers.pop(0), path)

    def write(self, said: dict[str, str], path: Path) -> None:
        lines = path.read_text().splitlines()
        for key, text in said.items():
            (index,) = [index for index, line in enumerate(lines) if line.startswith(f"{key}:")]
            lines[index] = f"{key}: {text}"
        path.write_text("\n".join(lines))

    def ask(self, request: Any, **more: Any) -> Any:
        return asyncio.run(self.dcc.request(request, **more))


ACKNOWLEDGED = {"verdict": "acknowledged", "code": "I99", "done": "yes"}


def test_the_operator_is_told_in_words_and_in_fields(tmp_path):
    """SR11.3: who sends what to which Device, with the hash and the time, what is expected, and where to write."""
    operator = Operator(tmp_path, ACKNOWLEDGED | {"responded": "no"})
    operator.ask(ActivateFirmware(IS, ESME_ID, HASH), at=MOMENT)
    text = (tmp_path / "0001-sr11.3.request.yaml").read_text()
    said = yaml.safe_load(text)
    assert said.pop("what_to_do") == (
        "Send SR11.3 (Activate Firmware) in the lab's DCC tool, as User Role IS. It activates, at 2026-01-01 00:00:00 "
        "UTC, the image whose Manufacturer Image Hash is given. Then fill in 0001-sr11.3.answer.yaml."
    )
    assert said == {
        "request": "0001",
        "service_request": "11.3",
        "user_role": "IS",
        "device": ESME,
        "image_hash": HASH.hex(),
        "device_is": "ESME, Commissioned",
        "at": "2026-01-01T00:00:00Z",
        "expected": "acknowledged with I99",
    }


def test_a_version_read_by_hand_restores_a_suspended_device(tmp_path):
    """The operator's SR11.2 response does what the DSP's would: MP105, on a bench without an emulated DCC."""
    operator = Operator(
        tmp_path, ACKNOWLEDGED | {"responded": "yes", "firmware_version": VERSION, "alerts": "[N29]"}
    )
    rows = tuple(one for one in CPL if (one.model, one.firmware_version) != ("ESME-a", V1))
    operator.dcc.tell(CplLoaded("CPL 2", rows))
    assert operator.inventory.device(ESME_ID).status is DeviceStatus.SUSPENDED
    answer = operator.ask(READ)
    assert (answer.outcome, answer.firmware_version, answer.reported) == (Outcome.DONE, V2, ("N29",))
    assert operator.inventory.device(ESME_ID).status is DeviceStatus.COMMISSIONED
    assert [raised.alert.number for raised in operator.dcc.alerts] == ["N28", "N29"]


def test_a_response_that_did_not_come_is_a_time_out(tmp_path):
    """`responded: no` tells the Inventory nothing."""
    answer = Operator(tmp_path, ACKNOWLEDGED | {"responded": "no"}).ask(READ)
    assert (answer.outcome, answer.responses) == (Outcome.TIMED_OUT, ())


def test_the_labs_verdict_stands_beside_the_one_that_is_expected(tmp_path):
    """Where the lab's DCC refuses what the Inventory lets pass, both verdicts are there, and the Inventory stays."""
    operator = Operator(tmp_path, {"verdict": "refused", "code": "E5", "reason": "Suspended", "done": "yes"})
    answer = operator.ask(distribution(ESME_ID), image=meter_image())
    assert answer.verdict == Refused(Code.INVALID_DEVICE_STATUS, "Suspended", BY_THE_LAB)
    assert (answer.outcome, answer.expected) == (
        Outcome.REFUSED,
        Acknowledged(Code.ACKNOWLEDGED, (ESME_ID,)),
    )
    assert operator.inventory.device(ESME_ID).upgrade is None


def test_a_distribution_leaves_the_image_and_reads_its_lists(tmp_path):
    """The OTA file lies beside the request; lists and deliveries come back by EUI-64, N60 and N61 follow."""
    operator = Operator(
        tmp_path,
        ACKNOWLEDGED | {"not_commissioned": f"[{HCALCS}]", "delivered": f"[{ESME}]", "alerts": "[N60]"},
    )
    answer = operator.ask(distribution(ESME_ID, HCALCS_ID), image=meter_image())
    assert (tmp_path / "0001-sr11.1.image.ota").read_bytes() == meter_image()
    assert answer.verdict == Acknowledged(
        Code.ACKNOWLEDGED, (ESME_ID,), "W110101", DeviceLists(not_commissioned=(HCALCS_ID,))
    )
    assert answer.responses == (ImageDelivered("r1", HUB_1, ESME_ID, V2, delivered=True),)
    assert [raised.alert.number for raised in operator.dcc.alerts] == ["N60"]


def test_the_device_log_and_the_commissioning_are_told_by_hand(tmp_path):
    """SR8.11 and SR8.1.1 say whether they were done."""
    done = ACKNOWLEDGED | {"responded": "yes", "success": "yes"}
    operator = Operator(tmp_path, done, done)
    removed = operator.ask(UpdateDeviceLog(IS, HUB_1, PPMID_ID, add=False))
    assert removed.outcome is Outcome.DONE
    assert operator.inventory.device(PPMID_ID).status is DeviceStatus.PENDING
    operator.ask(CommissionDevice(IS, PPMID_ID))
    assert operator.inventory.device(PPMID_ID).status is DeviceStatus.COMMISSIONED


def test_what_cannot_be_read_is_said_and_waited_for(tmp_path):
    """A slip of the pen does not end a run of hours: the problem lies beside the answer until it is put right."""
    operator = Operator(
        tmp_path,
        ACKNOWLEDGED | {"responded": "ja", "firmware_version": VERSION},
        {"responded": "yes"},
    )
    answer = operator.ask(READ)
    assert answer.firmware_version == V2
    (refused,) = [event for event in operator.events if isinstance(event, AnswerRefused)]
    assert "responded: must be yes or no, not 'ja'" in refused.problem
    assert not (tmp_path / "0001-sr11.2.problem.txt").exists()


def test_nobody_is_waited_for_without_end(tmp_path):
    """RigError says which file nobody filled in."""
    with pytest.raises(RigError, match=r"0001-sr11\.2\.answer\.yaml: nobody has answered within 0\.05 s$"):
        Operator(tmp_path).ask(READ)


def test_numbers_go_on_where_an_earlier_run_stopped(tmp_path):
    """The lab's record of a run before is not written over."""
    for number in (1, 2):
        assert (
            Operator(tmp_path, ACKNOWLEDGED | {"responded": "no"}).ask(READ).detail == f"request 000{number}"
        )
    assert len(list(tmp_path.glob("*.request.yaml"))) == 2


def test_an_image_belongs_to_a_distribution(tmp_path):
    """None without, none elsewhere: LocalProtocolError, and no file is left."""
    operator = Operator(tmp_path)
    for request, image in ((READ, meter_image()), (distribution(ESME_ID), None)):
        with pytest.raises(LocalProtocolError, match="image"):
            operator.ask(request, image=image)
    assert list(tmp_path.iterdir()) == []


# --- reading --------------------------------------------------------------------------------------------------------


def problem(path: Path, request: Any, said: dict[str, str]) -> str:
    """What is said of an answer with these texts behind its keys; what is not given is as a read in order has it."""
    texts = {"verdict": "acknowledged", "code": "I99", "responded": "yes", "firmware_version": VERSION}
    texts |= {"outcome": "success", "done": "yes"} | said
    lines = []
    for line in template_text("0007", request).splitlines():
        key = line.partition(":")[0]
        lines.append(f"{key}: {texts[key]}" if key in texts else line)
    path.write_text("\n".join(lines) + "\n")
    with pytest.raises(RigError) as error:
        read_answer(path, "0007", request, premises())
    return str(error.value).replace(str(path), "F")


ACTIVATE = ActivateFirmware(IS, ESME_ID, HASH)
VERDICT = "F:3: verdict: must be acknowledged or refused, not ''"
UNACKNOWLEDGED = " is not I0 or I99, which an acknowledgement has"
FIVE = f"\nF:4: code: 5{UNACKNOWLEDGED}"


@pytest.mark.parametrize(
    ("request_", "said", "problem_"),
    [
        (READ, {"verdict": "ok"}, "F:3: verdict: must be acknowledged or refused, not 'ok'"),
        (READ, {"code": "5"}, f"F:4: code: '5' is no response code such as I0, I99 or E5{FIVE}"),
        (READ, {"code": "E5"}, f"F:4: code: E5{UNACKNOWLEDGED}"),
        (READ, {"code": ""}, "F:4: code: is missing: an acknowledgement has one"),
        (READ, {"responded": "true"}, "F:6: responded: must be yes or no, not 'true'"),
        (READ, {"firmware_version": "2"}, "F:7: firmware_version: must be 8 hexadecimal digits, not '2'"),
        (READ, {"alerts": "N60"}, "F:8: alerts: must be a list in brackets, such as [N60]"),
        (READ, {"alerts": "[N32]"}, "F:8: alerts: 'N32' is no DCC Alert of the DUIS, such as N60"),
        (READ, {"done": "si"}, "F:9: done: must be yes or no, not 'si'"),
        (READ, {"request": "0008"}, "F:2: request: must be '0007', not '0008'"),
        (READ, {"verdict": "[a]"}, f"{VERDICT}\nF:3: verdict: must be one value, not a list"),
        (READ, {"verdict": "{a: b}"}, f"{VERDICT}\nF:3: verdict: must be text or a list of texts"),
        (READ, {"verdict": '"'}, "F:10: is not YAML: found unexpected end of stream"),
        (
            ACTIVATE,
            {"outcome": "no image held"},
            "F:7: outcome: 'no image held' is none of success, no_image_held, hash_mismatch, activation_failure, "
            "recorded; did you mean no_image_held?",
        ),
        (
            distribution(ESME_ID),
            {"delivered": "[00-11]"},
            "F:11: delivered: '00-11' is no EUI-64 such as 00-0D-6F-00-0A-90-69-E7",
        ),
        (
            distribution(ESME_ID),
            {"delivered": f"[{HCALCS}]"},
            f"F:11: delivered: {HCALCS} is not on the list of the request",
        ),
    ],
)  # fmt: skip
def test_each_slip_has_its_line_and_its_sentence(tmp_path, request_, said, problem_):
    """File, line, key, and what is wrong; the nearest right word where there is one."""
    assert problem(tmp_path / "a.yaml", request_, said) == problem_


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "F:1: must be lines of KEY: VALUE"),
        ("- a\n", "F:1: must be lines of KEY: VALUE"),
        ("done: yes\ndone: yes\n", "F:2: done: is already on line 1"),
        ("verdikt: refused\ndone: yes\n", "F:1: verdikt: no such key; did you mean verdict?"),
        ("done: yes\n", "F: code: is missing"),
    ],
)
def test_a_file_of_another_form_is_refused(tmp_path, text, said):
    """Whatever was deleted or written in another way is said, too."""
    path = tmp_path / "a.yaml"
    path.write_text(text)
    with pytest.raises(RigError) as error:
        read_answer(path, "0007", READ, premises())
    assert said in str(error.value).replace(str(path), "F").splitlines()


def test_what_is_not_done_is_not_judged(tmp_path):
    """A template as it was left, or half filled in, is simply not there yet."""
    path = tmp_path / "a.yaml"
    path.write_text(template_text("0007", READ))
    assert read_answer(path, "0007", READ, premises()) is None
    path.write_text(template_text("0007", READ).replace("verdict:", "verdict: hm"))
    assert read_answer(path, "0007", READ, premises()) is None


def test_a_recorded_activation_tells_the_inventory_nothing(tmp_path):
    """The response to a future-dated SR11.3 has no version; a refusal at once has no response at all."""
    operator = Operator(
        tmp_path,
        ACKNOWLEDGED | {"responded": "yes", "outcome": "recorded"},
        ACKNOWLEDGED | {"responded": "yes", "outcome": "no_image_held", "firmware_version": VERSION},
    )
    recorded = operator.ask(ActivateFirmware(IS, ESME_ID, HASH), at=MOMENT)
    assert (recorded.outcome, recorded.responses) == (Outcome.DONE, ())
    retried = operator.ask(ActivateFirmware(GS, GSME_ID, HASH))
    assert (retried.activation, retried.firmware_version) == (ActivationOutcome.NO_IMAGE_HELD, V2)
    assert operator.inventory.device(GSME_ID).firmware_version == V2


def test_a_code_that_the_inventory_never_gives_is_kept_in_words(tmp_path):
    """The DUIS has more response codes than are modelled: E12 stands in the reason."""
    answer = Operator(tmp_path, {"verdict": "refused", "code": "E12", "done": "yes"}).ask(READ)
    assert answer.verdict == Refused(None, "E12: no reason given", BY_THE_LAB)


def test_a_request_that_the_inventory_knows_nothing_of_can_be_sent(tmp_path):
    """A top-up has a verdict and no more."""
    operator = Operator(tmp_path, ACKNOWLEDGED)
    assert operator.ask(OtherRequest(IS, ESME_ID, "2.2")).outcome is Outcome.DONE


@given(st.binary(max_size=60) | st.text(max_size=60).map(str.encode))
@settings(max_examples=150)
def test_whatever_stands_in_the_file_is_read_or_refused(tmp_path_factory, octets):
    """No octets make anything but an answer, nothing yet, or a RigError."""
    path = tmp_path_factory.mktemp("answer") / "a.yaml"
    path.write_bytes(template_text("0007", READ).encode().replace(b"verdict:", b"verdict: " + octets))
    try:
        read_answer(path, "0007", READ, premises())
    except RigError as error:
        assert str(path) in str(error)  # noqa: PT017 - either is right
