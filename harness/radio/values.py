"""What crosses between the harness' values and zigpy's: networks, descriptors, addresses."""

# zigpy's integer types take any int and check its range when they are made; its annotations ask for the types.
# mypy: disable-error-code="arg-type, no-untyped-call"

from __future__ import annotations

from typing import Any

import zigpy.state
import zigpy.types
import zigpy.zdo.types

from harness.emulation.node import Network
from harness.wire.application import SimpleDescriptor

_UNKNOWN = zigpy.types.EUI64.convert("FF:FF:FF:FF:FF:FF:FF:FF")


def to_network_info(network: Network) -> zigpy.state.NetworkInfo:
    """Return the settings that make an NCP form this network."""
    return zigpy.state.NetworkInfo(
        extended_pan_id=zigpy.types.ExtendedPanId(network.extended_pan_id.to_bytes(8, "little")),
        pan_id=zigpy.types.PanId(network.pan_id),
        nwk_update_id=network.update_id,
        nwk_manager_id=zigpy.types.NWK(0),
        channel=network.channel,
        channel_mask=zigpy.types.Channels(1 << network.channel),
        security_level=5,
        network_key=zigpy.state.Key(
            key=zigpy.types.KeyData(network.network_key), tx_counter=0, rx_counter=0, seq=network.key_sequence
        ),
        tc_link_key=zigpy.state.Key(
            key=zigpy.types.KeyData(b"ZigBeeAlliance09"),
            tx_counter=0,
            rx_counter=0,
            seq=0,
            partner_ieee=_UNKNOWN,
        ),
        # Devices get keys of their own hashed from this one if they ask; drawn from the network key, not at random, so
        # that the same rig gives the same HAN.
        stack_specific={"ezsp": {"hashed_tclk": network.network_key[::-1].hex()}},
    )


def identity(info: zigpy.state.NetworkInfo) -> tuple[Any, ...]:
    """Return what makes two networks the same one."""
    return (info.extended_pan_id, info.pan_id, info.channel, info.network_key.key)


def to_eui64(eui64: int) -> zigpy.types.EUI64:
    """Return an EUI-64 as zigpy has it."""
    return zigpy.types.EUI64.deserialize(eui64.to_bytes(8, "little"))[0]


def from_eui64(eui64: zigpy.types.EUI64) -> int:
    """Return an EUI-64 as the number that it is."""
    return int.from_bytes(eui64.serialize(), "little")


def to_coordinator_info() -> zigpy.state.NodeInfo:
    """Return the settings that leave an NCP its own EUI-64."""
    return zigpy.state.NodeInfo(
        nwk=zigpy.types.NWK(0), ieee=_UNKNOWN, logical_type=zigpy.zdo.types.LogicalType.Coordinator
    )


def to_descriptor(descriptor: SimpleDescriptor) -> zigpy.zdo.types.SimpleDescriptor:
    """Return an endpoint's description as zigpy has it."""
    return zigpy.zdo.types.SimpleDescriptor(
        endpoint=descriptor.endpoint,
        profile=descriptor.profile,
        device_type=descriptor.device,
        device_version=descriptor.device_version,
        input_clusters=list(descriptor.server_clusters),
        output_clusters=list(descriptor.client_clusters),
    )
