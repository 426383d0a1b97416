"""GBCS as tests speak of it: what the messages of the firmware use cases say, the codes of their alerts, and those with
which a hub refuses.
"""

from __future__ import annotations

from harness.members.device_log import JoinResponse as JoinResponse
from harness.members.hub_values import DeliveryRefusal as DeliveryRefusal
from harness.wire.gbcs import build_message as build_message
from harness.wire.gbcs_names import FIRMWARE_TRANSFER_FAILED as FIRMWARE_TRANSFER_FAILED
from harness.wire.gbcs_names import FIRMWARE_TRANSFERRED as FIRMWARE_TRANSFERRED
from harness.wire.gbcs_names import FIRMWARE_VERIFICATION_FAILED as FIRMWARE_VERIFICATION_FAILED
from harness.wire.gbcs_names import FIRMWARE_VERIFIED as FIRMWARE_VERIFIED
from harness.wire.gbcs_names import FUTURE_DATED_COMMAND_ACTIONED as FUTURE_DATED_COMMAND_ACTIONED
from harness.wire.gbcs_names import FUTURE_DATED_COMMAND_FAILED as FUTURE_DATED_COMMAND_FAILED
from harness.wire.gbcs_names import PPMID_FIRMWARE_ACTIVATION as PPMID_FIRMWARE_ACTIVATION
from harness.wire.gbcs_payloads import NEVER as NEVER
from harness.wire.gbcs_payloads import ActivateFirmware as ActivateFirmware
from harness.wire.gbcs_payloads import ActivateImageResponse as ActivateImageResponse
from harness.wire.gbcs_payloads import ActivationResult as ActivationResult
from harness.wire.gbcs_payloads import CommandAccepted as CommandAccepted
from harness.wire.gbcs_payloads import ExecutionOutcome as ExecutionOutcome
from harness.wire.gbcs_payloads import FirmwareActivated as FirmwareActivated
from harness.wire.gbcs_payloads import FirmwareTransfer as FirmwareTransfer
from harness.wire.gbcs_payloads import FirmwareVersion as FirmwareVersion
from harness.wire.gbcs_payloads import FutureDatedActivation as FutureDatedActivation
from harness.wire.gbcs_payloads import ReadFirmwareVersion as ReadFirmwareVersion
from harness.wire.gbcs_payloads import TransferResponse as TransferResponse
from harness.wire.gbcs_readings import EsmeFirmwareReceipt as EsmeFirmwareReceipt
from harness.wire.gbcs_readings import EsmeFirmwareVersion as EsmeFirmwareVersion
from harness.wire.gbcs_readings import GsmeFirmwareReceipt as GsmeFirmwareReceipt
from harness.wire.gbcs_readings import GsmeFirmwareVersion as GsmeFirmwareVersion
