"""Tests of what the Inventory says of Service Requests: codes, the five lists, and what is no request at all."""

from __future__ import annotations

import pytest

from harness.errors import LocalProtocolError
from harness.smi.alerts import CommsHubAlert, CSPFirmwareDeliveryStatus
from harness.smi.devices import DeviceStatus, DeviceType
from harness.smi.requests import (
    ActivateFirmware,
    CommissionDevice,
    DecommissionDevice,
    DeviceLists,
    OtherRequest,
    PreNotifyDevice,
    ReadFirmwareVersion,
    UpdateDeviceLog,
    UpdateFirmware,
    UpdateInventory,
    User,
    UserRole,
)
from harness.smi.responses import (
    DeviceJoined,
    DeviceLogUpdated,
    FirmwareVerified,
    FirmwareVersionRead,
    HubFirmwareActivated,
    ImageDelivered,
    TransferReported,
    TransferResponse,
)
from tests.unit.smi_bench import (
    ESME_ID,
    GPF_ID,
    GS,
    GSME_ID,
    HCALCS_ID,
    HUB_1,
    HUB_2,
    IS,
    PPMID_ID,
    S2,
    STRANGER,
    SUCCESS,
    V1,
    V2,
    V9,
    image_hash,
    premises,
    update,
    update_ppmid,
    without,
)

HASH = bytes(32)


def user(role: str, **other: bool) -> User:
    """Return a User that the DCC knows and that may send, unless said otherwise."""
    return User(UserRole(role), **other)


@pytest.mark.parametrize(("request_", "code"), [
    (ReadFirmwareVersion(user("IS", known=False), ESME_ID), "E1"),
    (ActivateFirmware(user("OU"), ESME_ID, HASH), "E2"),
    (ActivateFirmware(user("ED"), ESME_ID, HASH), "E2"),
    (ReadFirmwareVersion(user("IS", live=False), ESME_ID), "E3"),
    (ActivateFirmware(user("IS"), GSME_ID, HASH), "E4"),
    (ActivateFirmware(user("GS"), ESME_ID, HASH), "E4"),
    (ReadFirmwareVersion(user("GT"), ESME_ID), "E4"),
    (ActivateFirmware(user("IS"), 0x60, HASH), "E5"),
    (OtherRequest(user("IS"), 0x60, "2.2"), "E5"),
    (CommissionDevice(user("IS"), ESME_ID), "E5"),
    (ActivateFirmware(user("IS"), HUB_2, HASH), "E11"),
    (UpdateDeviceLog(user("IS"), ESME_ID, GSME_ID), "E11"),
    (ReadFirmwareVersion(user("IS"), STRANGER), "E19"),
    (UpdateDeviceLog(user("IS"), HUB_2, STRANGER), "E19"),
    (ReadFirmwareVersion(user("ED"), ESME_ID), "I99"),
    (ReadFirmwareVersion(user("OU"), HUB_2), "I99"),
    (ActivateFirmware(user("GS"), GSME_ID, HASH), "I99"),
    (OtherRequest(user("IS"), ESME_ID, "2.2"), "I99"),
    (UpdateDeviceLog(user("OU"), HUB_2, 0x60), "I99"),
], ids=lambda one: one if isinstance(one, str) else f"SR{one.srv} {one.user.role} {one.device:02X}")  # fmt: skip
def test_each_check_has_its_code(request_, code):
    """F4.3, F2.1: E1 to E5, E11, E19; checking changes nothing, and applying a refused request does not either."""
    made = premises()
    made.pre_notify(0x60, "ESME-a")
    before = [made.inventory.device(one) for one in made.inventory]
    assert made.code(request_) == code
    if code[0] == "E":
        (refused,) = made.apply(request_)
        assert refused.code == code
        assert refused.reason
    assert [made.inventory.device(one) for one in made.inventory] == before


@pytest.mark.parametrize("role", UserRole)
@pytest.mark.parametrize(("srv", "roles"), [
    ("11.1", {"IS", "GS"}), ("11.4", {"IS", "GS"}), ("11.3", {"IS", "GS"}), ("8.11", {"IS", "GS", "OU"}),
    ("11.2", {"IS", "ES", "GS", "RSA", "ED", "GT", "OU"}),
])  # fmt: skip
def test_each_service_request_has_its_user_roles(srv, roles, role):
    """F2.1, F7: the roles of the matrix; E2 for the others and for no one else."""
    made = premises()
    who = User(role)
    request = {
        "11.1": UpdateFirmware("r1", who, V2, (ESME_ID,)),
        "11.4": update_ppmid(PPMID_ID).__class__("r1", who, V2, (PPMID_ID,)),
        "11.3": ActivateFirmware(who, ESME_ID, HASH),
        "8.11": UpdateDeviceLog(who, HUB_2, ESME_ID),
        "11.2": ReadFirmwareVersion(who, ESME_ID),
    }[srv]
    assert (made.code(request) == "E2") is (role not in roles)


# --- FW-14 and FW-15 -------------------------------------------------------------------------------------------------


def test_the_five_lists_name_each_device_that_gets_nothing():
    """FW-14: unknown, not commissioned, not applicable, other request in progress, hub's GBCS version."""
    made = premises()
    made.pre_notify(0x60, "ESME-a")
    made.commission(0x61, "ESME-a", HUB_2)
    made.apply(update(0x61, number="earlier"))
    made.commission(0x70, "CHF-old")
    made.commission(HCALCS_ID, "HCALCS-a", 0x70)
    made.commission(PPMID_ID, "PPMID-s2", HUB_2)
    (verdict,) = made.apply(update(STRANGER, 0x60, 0x61, HCALCS_ID, PPMID_ID, ESME_ID, GSME_ID))
    assert verdict.warning == "W110101"
    assert verdict.sent_to == (ESME_ID,)
    assert verdict.lists == DeviceLists(
        invalid_device_ids=(STRANGER, GSME_ID),  # a GSME is not this Supplier's
        not_commissioned=(0x60,),
        not_applicable_firmware=(PPMID_ID,),
        other_request_in_progress=(0x61,),
        invalid_gbcs_version=(HCALCS_ID,),
    )
    assert made.inventory.device(0x61).upgrade.request_id == "earlier"


@pytest.mark.parametrize(("version", "digest", "applicable"), [
    (V2, image_hash("ESME-a", V2), True),
    (V2, None, True),
    (V2, image_hash("ESME-b", V2), False),
    (V9, None, False),
])  # fmt: skip
def test_an_image_is_applicable_by_its_active_row_and_hash(version, digest, applicable):
    """FW-14: the version is an Active row of the Device's model, and the image is the row's."""
    made = premises()
    (verdict,) = made.apply(update(ESME_ID, version=version, image_hash=digest))
    assert verdict.sent_to == ((ESME_ID,) if applicable else ())
    assert verdict.lists.not_applicable_firmware == (() if applicable else (ESME_ID,))


def test_there_is_no_request_for_ppmids_before_secmp0007():
    """F3: SR11.4 came with it, and so did HCALCS in SR11.1."""
    made = premises(secmp0007="off")
    made.commission(PPMID_ID, "PPMID-s2", HUB_2)
    made.commission(HCALCS_ID, "HCALCS-a", HUB_2)
    (verdict,) = made.apply(update_ppmid(PPMID_ID))
    assert (verdict.code, verdict.rule) == (None, "secmp0007.ppmid_request")
    assert made.apply(update(HCALCS_ID))[0].lists.not_applicable_firmware == (HCALCS_ID,)


@pytest.mark.parametrize(("delivered", "number"), [(True, "N60"), (False, "N61")])
def test_delivery_to_the_hub_is_alerted(delivered, number):
    """FW-15: and a Device whose image did not reach its hub is free for another request."""
    made = premises()
    made.apply(update(ESME_ID))
    (alert,) = made.apply(ImageDelivered("r1", HUB_2, ESME_ID, V2, delivered))
    assert alert == CSPFirmwareDeliveryStatus("r1", HUB_2, ESME_ID, V2, delivered)
    assert (alert.number, alert.mark) == (number, "S")
    (again,) = made.apply(update(ESME_ID, number="r2"))
    assert again.sent_to == (() if delivered else (ESME_ID,))


@pytest.mark.parametrize("response", TransferResponse)
def test_what_the_hub_says_of_the_transfer_is_handed_on_and_ends_it(response):
    """F2.3: CCS08; an image that was discarded, or failed, makes room for another request, as one that arrived."""
    made = premises()
    made.apply(update(ESME_ID))
    report = TransferReported(HUB_2, ESME_ID, V2, response)
    assert made.apply(report) == [CommsHubAlert(HUB_2, ESME_ID, V2, response, "r1")]
    assert made.apply(update(ESME_ID, number="r2"))[0].sent_to == (ESME_ID,)


def test_a_report_of_another_version_is_handed_on_and_ends_nothing():
    """CCS08 names a version: what is said of another image is not said of this one."""
    made = premises()
    made.apply(update(ESME_ID))
    report = TransferReported(HUB_2, ESME_ID, V9, TransferResponse.IMAGE_DISCARDED)
    assert made.apply(report) == [CommsHubAlert(HUB_2, ESME_ID, V9, TransferResponse.IMAGE_DISCARDED, None)]
    assert made.apply(update(ESME_ID, number="r2"))[0].lists.other_request_in_progress == (ESME_ID,)


def test_a_delivery_of_an_earlier_request_says_nothing_of_this_one():
    """FW-15: the report names its request."""
    made = premises()
    made.apply(update(ESME_ID, number="r2"))
    assert made.apply(ImageDelivered("r1", HUB_2, ESME_ID, V2, False))[0].number == "N61"
    assert made.inventory.device(ESME_ID).upgrade.request_id == "r2"


@pytest.mark.parametrize("valid", [True, False])
def test_a_device_that_has_verified_its_image_takes_another(valid):
    """F2.4: 0x8F72 and 0x8F1C: the image is at the Device, or nowhere."""
    made = premises()
    made.apply(update(ESME_ID))
    assert made.apply(FirmwareVerified(ESME_ID, valid)) == []
    assert (made.inventory.device(ESME_ID).upgrade is not None) is valid
    assert made.apply(update(ESME_ID, number="r2"))[0].sent_to == (ESME_ID,)


def test_an_image_that_runs_is_no_longer_on_its_way():
    """F2.1: neither by the successful activation, nor by a retry that tells the version."""
    made = premises()
    for outcome in (SUCCESS, 1):
        made.apply(update(ESME_ID))
        made.activated(ESME_ID, outcome, V2)
        assert made.inventory.device(ESME_ID).upgrade is None


# --- what is no request, or no event ------------------------------------------------------------------------------


@pytest.mark.parametrize("eui64", ["00-11", 0, -1, 1 << 64, 0xFFFF_FFFF_FFFF_FFFF, 17.5, None, True])
def test_an_eui64_in_the_wrong_form_is_a_clear_error(eui64):
    """Bad input: the message has the value; nothing changed."""
    made = premises()
    before = [made.inventory.device(one) for one in made.inventory]
    for event in (
        ReadFirmwareVersion(IS, eui64),
        FirmwareVersionRead(eui64, V2),
        DeviceLogUpdated(HUB_2, eui64, True),
    ):
        with pytest.raises(LocalProtocolError, match="EUI-64"):
            made.apply(event)
    for make in (
        lambda: PreNotifyDevice(IS, eui64, DeviceType.ESME, "Acme", "ESME-a", S2),
        lambda: update(eui64),
    ):
        with pytest.raises(LocalProtocolError, match="EUI-64"):
            make()
    assert [made.inventory.device(one) for one in made.inventory] == before


@pytest.mark.parametrize("event", [
    FirmwareVersionRead(STRANGER, V2), HubFirmwareActivated(STRANGER, V2), TransferReported(HUB_2, STRANGER, V2, 0),
    ImageDelivered("r1", STRANGER, ESME_ID, V2, True), DeviceLogUpdated(HUB_2, STRANGER, True),
], ids=lambda event: type(event).__name__)  # fmt: skip
def test_a_response_of_an_unknown_device_is_a_clear_error(event):
    """Bad input: it is named; nothing changed."""
    made = premises()
    with pytest.raises(LocalProtocolError, match="00-00-00-00-00-00-00-77 is not in the Inventory"):
        made.apply(event)
    assert STRANGER not in made.inventory


def test_a_hub_is_in_no_device_log():
    """Bad input: neither by request nor by response; nothing changed."""
    made = premises()
    assert made.code(UpdateDeviceLog(IS, HUB_2, HUB_1)) == "E11"
    for event in (DeviceLogUpdated(HUB_2, HUB_1, True), DeviceJoined(HUB_2, HUB_1)):
        with pytest.raises(
            LocalProtocolError, match="CHF 00-00-00-00-00-00-00-21 has no place in a Device Log"
        ):
            made.apply(event)
    assert HUB_1 not in [one.device for one in made.inventory.system(HUB_2).devices]


def test_what_only_a_hub_says_is_not_taken_from_another():
    """Bad input: an ESME has no Device Log and no Smart Metering System."""
    made = premises()
    for wrong in (DeviceLogUpdated(ESME_ID, GSME_ID, True), HubFirmwareActivated(ESME_ID, V2)):
        with pytest.raises(LocalProtocolError, match="ESME 00-00-00-00-00-00-00-11 is no Communications Hub"):
            made.apply(wrong)
    with pytest.raises(LocalProtocolError, match="no Communications Hub"):
        made.inventory.system(ESME_ID)


@pytest.mark.parametrize("version", [-1, 1 << 32, "0100", None])
def test_a_version_that_is_none_is_a_clear_error(version):
    """F1.2: four octets on the wire."""
    made = premises()
    with pytest.raises(LocalProtocolError, match="firmware version"):
        made.apply(FirmwareVersionRead(ESME_ID, version))
    assert made.version(ESME_ID) == V1
    assert made.status(ESME_ID) == "Commissioned"


def test_what_the_inventory_does_not_know_is_not_applied():
    """Bad input: an event of another kind is named."""
    made = premises()
    with pytest.raises(LocalProtocolError, match="does not know of str: 'reset'"):
        made.apply("reset")
    with pytest.raises(LocalProtocolError, match="no Service Request"):
        made.inventory.check(FirmwareVersionRead(ESME_ID, V2))


def pre_notification(device_type: str, smets: str = "SMETS2", **other: object) -> PreNotifyDevice:
    """Return an SR12.2 for 00-...-80."""
    return PreNotifyDevice(IS, 0x80, device_type, "Acme", "x", smets, **other)


@pytest.mark.parametrize(("message", "make"), [
    ("'XX' is no User Role", lambda: User("XX")),
    ("0 Devices, of at most 50000", lambda: update()),
    ("00-00-00-00-00-00-00-11 stands there twice", lambda: update(ESME_ID, ESME_ID)),
    ("50001 Devices, of at most 50000", lambda: update(*range(1, 50_002))),
    ("Hash of 5 octets, not 32", lambda: ActivateFirmware(IS, ESME_ID, b"short")),
    ("device_type 'TOASTER' is none of ESME", lambda: pre_notification("TOASTER")),
    ("smets 'SMETS3' is none of SMETS1, SMETS2", lambda: pre_notification("ESME", "SMETS3")),
    ("ESME .* cannot have a PPMIDVariant", lambda: pre_notification("ESME", ppmid_variant="B1")),
    ("ppmid_variant 'B5' is none of PPMID, B1", lambda: pre_notification("PPMID", ppmid_variant="B5")),
    ("ESME .* cannot have a GPF", lambda: pre_notification("ESME", associated_gpf=GPF_ID)),
    ("CHF and GPF are both 00-00-00-00-00-00-00-80", lambda: pre_notification("CHF", associated_gpf=0x80)),
    ("SR8.4 changes one thing", lambda: UpdateInventory(IS, ESME_ID)),
    ("status 'Asleep' is none of Pending", lambda: UpdateInventory(IS, ESME_ID, status="Asleep")),
    ("SR8.4 changes one thing.*", lambda: UpdateInventory(IS, ESME_ID, status="Pending", delete=True)),
], ids=lambda one: one if isinstance(one, str) else "")  # fmt: skip
def test_a_request_that_says_nothing_possible_cannot_be_made(message, make):
    """Bad input: wrong role, wrong type, one Device twice, more than 50,000 (F2.1), a hash of another length."""
    with pytest.raises(LocalProtocolError, match=message):
        make()


# --- pre-notification and SR8.4 -----------------------------------------------------------------------------------


@pytest.mark.parametrize(("model", "version"), [("ESME-a", V9), ("ESME-unknown", V1), ("ESME-unknown", None)])
def test_a_device_whose_row_is_not_active_is_not_pre_notified(model, version):
    """F4.2: a model and version that are on the CPL; assumed, and the rule says so."""
    made = premises()
    (verdict,) = made.pre_notify(0x80, model, version=version)
    assert (verdict.code, verdict.rule) == (None, "base.pre_notified")
    assert 0x80 not in made.inventory


def test_a_device_that_is_there_is_not_pre_notified_again():
    """Neither by itself nor as the GPF of a hub."""
    made = premises()
    assert "already" in made.pre_notify(ESME_ID, "ESME-a")[0].reason
    assert "already" in made.pre_notify(0x80, "CHF-s2", gpf=GPF_ID)[0].reason
    assert 0x80 not in made.inventory


@pytest.mark.parametrize("status", DeviceStatus)
def test_a_user_sets_only_the_statuses_of_the_schema(status):
    """F4.1: a hub Commissioned, Withdrawn or InstalledNotCommissioned, another Device Pending or the last."""
    for device, settable in (
        (HUB_1, {"Commissioned", "Withdrawn", "InstalledNotCommissioned"}),
        (ESME_ID, {"Pending", "InstalledNotCommissioned"}),
    ):
        made = premises()
        (verdict,) = made.apply(UpdateInventory(IS, device, status=status))
        assert (verdict.code == "I0") is (status in settable)
        assert made.status(device) == (status if status in settable else "Commissioned")


def test_a_user_sets_the_version_of_a_device_that_has_not_joined():
    """F4.1: UpdateDeviceDetails; once it has, only the Device says what it runs, and only an Active row is taken."""
    made = premises()
    made.pre_notify(0x80, "ESME-a")
    assert made.apply(UpdateInventory(IS, 0x80, firmware_version=V9))[0].code is None
    assert made.apply(UpdateInventory(IS, 0x80, firmware_version=V2))[0].code == "I0"
    assert made.version(0x80) == V2
    made.join(0x80, HUB_2)
    assert made.apply(UpdateInventory(IS, 0x80, firmware_version=V1))[0].code is None
    assert made.version(0x80) == V2


def test_a_suspended_device_is_not_changed_by_sr8_4():
    """SU-10: it is not on the exception list."""
    made = premises()
    made.load(without("ESME-a", V1))
    assert made.code(UpdateInventory(IS, ESME_ID, status=DeviceStatus.PENDING)) == "E5"
    assert made.code(DecommissionDevice(IS, ESME_ID)) == "I0"


def test_a_user_deletes_a_device_that_is_not_in_use():
    """F4.1: DeleteDevice. Then it is not known, and can be pre-notified again."""
    made = premises()
    assert made.apply(UpdateInventory(IS, ESME_ID, delete=True))[0].code is None
    made.apply(DecommissionDevice(IS, ESME_ID))
    assert made.apply(UpdateInventory(IS, ESME_ID, delete=True))[0].code == "I0"
    assert ESME_ID not in made.inventory
    assert made.code(ReadFirmwareVersion(IS, ESME_ID)) == "E19"
    made.commission(ESME_ID, "ESME-a", HUB_2)


def test_a_device_is_removed_only_from_the_device_log_that_it_is_in():
    """F7: CCS02."""
    made = premises()
    assert made.code(UpdateDeviceLog(IS, HUB_2, ESME_ID, add=False)) == "I99"
    assert (
        made.inventory.check(UpdateDeviceLog(IS, HUB_1, ESME_ID, add=False)).rule
        == "base.added_to_device_log"
    )
    assert made.code(UpdateDeviceLog(GS, HUB_2, GSME_ID)) == "I99"
