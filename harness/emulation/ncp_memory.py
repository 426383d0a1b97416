"""What an emulated NCP remembers, as values: its tokens, and the rows of its tables."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from harness.wire.ezsp import EzspAps

NO_EUI64 = 0xFFFF_FFFF_FFFF_FFFF
NULL_NODE_ID = 0xFFFF  # EmberNodeId of nobody: an entry not in use, an address not known

# EmberInitialSecurityBitmask (UG100); the low octet is also EmberCurrentSecurityBitmask.
HASHED_LINK_KEY = 0x0084
HAVE_PRECONFIGURED_KEY = 0x0100
HAVE_NETWORK_KEY = 0x0200
NO_FRAME_COUNTER_RESET = 0x1000
PRECONFIGURED_KEY_FROM_INSTALL_CODE = 0x2000


@dataclass(frozen=True, slots=True)
class SecurityState:
    """What setInitialSecurityState set: `bitmask` of EmberInitialSecurityBitmask, keys, the trust centre's EUI-64."""

    bitmask: int = 0
    preconfigured_key: bytes = field(default=bytes(16), repr=False)
    network_key: bytes = field(default=bytes(16), repr=False)
    key_sequence: int = 0
    trust_center: int = 0

    @property
    def hashed(self) -> bool:
        """Whether the preconfigured key is a secret from which each device's own key is made."""
        return self.bitmask & HASHED_LINK_KEY == HASHED_LINK_KEY


@dataclass(slots=True)
class Tokens:
    """What lasts over a reset, and over a power cycle where there is a file.

    `node` is `Node.save()`'s, {} for a node that never had a network; `network_changes` are fields of its network that
    the host has written as tokens and that come into force with the next reset; `nwk_counter` is that of a new node.
    """

    manufacturing: dict[int, bytes] = field(default_factory=dict, repr=False)
    restored_eui64: int = NO_EUI64
    tx_power: int = 8
    channel_mask: int = 0x07FFF800
    security: SecurityState | None = None
    key_table: dict[int, int] = field(default_factory=dict)
    child_flags: dict[int, int] = field(default_factory=dict)
    aps_counter: int = 0
    nwk_counter: int = 0
    boots: int = 0
    network_changes: dict[str, int] = field(default_factory=dict)
    node: dict[str, Any] = field(default_factory=dict, repr=False)

    def to_json(self) -> dict[str, Any]:
        """As JSON keeps it."""
        security = self.security
        return {
            "manufacturing": {str(token): value.hex() for token, value in self.manufacturing.items()},
            "restored_eui64": self.restored_eui64,
            "tx_power": self.tx_power,
            "channel_mask": self.channel_mask,
            "security": None
            if security is None
            else [
                security.bitmask,
                security.preconfigured_key.hex(),
                security.network_key.hex(),
                security.key_sequence,
                security.trust_center,
            ],
            "key_table": {str(index): eui64 for index, eui64 in self.key_table.items()},
            "child_flags": {str(eui64): flags for eui64, flags in self.child_flags.items()},
            "aps_counter": self.aps_counter,
            "nwk_counter": self.nwk_counter,
            "network_changes": self.network_changes,
            "boots": self.boots,
            "node": self.node,
        }

    @classmethod
    def from_json(cls, saved: Mapping[str, Any]) -> Tokens:
        """The tokens that `to_json` gave; KeyError, TypeError or ValueError on anything else."""
        security = saved["security"]
        if security is not None:
            bitmask, link_key, network_key, sequence, trust_center = security
            security = SecurityState(
                int(bitmask),
                bytes.fromhex(link_key),
                bytes.fromhex(network_key),
                int(sequence),
                int(trust_center),
            )
        return cls(
            manufacturing={
                int(token): bytes.fromhex(value) for token, value in saved["manufacturing"].items()
            },
            restored_eui64=int(saved["restored_eui64"]),
            tx_power=int(saved["tx_power"]),
            channel_mask=int(saved["channel_mask"]),
            security=security,
            key_table={int(index): int(eui64) for index, eui64 in saved["key_table"].items()},
            child_flags={int(eui64): int(flags) for eui64, flags in saved["child_flags"].items()},
            aps_counter=int(saved["aps_counter"]),
            nwk_counter=int(saved["nwk_counter"]),
            network_changes={str(name): int(value) for name, value in saved["network_changes"].items()},
            boots=int(saved["boots"]),
            node=dict(saved["node"]),
        )


# What `Tokens.from_json` raises for what is none.
NO_TOKENS = (KeyError, TypeError, ValueError, AttributeError)


def wrong_field(saved: Mapping[str, Any]) -> str:
    """Say which field of tokens that are none is wrong: with that of a new stick in its place they are right."""
    for name, value in Tokens().to_json().items():
        try:
            Tokens.from_json({**saved, name: value})
        except NO_TOKENS:
            continue
        return f"{name} is wrong" if name in saved else f"there is no {name}"
    return "more than one field is wrong"


@dataclass(slots=True)
class AddressEntry:
    """One row of the address table; `eui64` NO_EUI64: not in use."""

    eui64: int = NO_EUI64
    short: int = NULL_NODE_ID


@dataclass(slots=True)
class MulticastEntry:
    """One row of the multicast table; `endpoint` 0: not in use."""

    group: int = 0
    endpoint: int = 0
    network_index: int = 0


@dataclass(frozen=True, slots=True)
class Pending:
    """A message of the host's on its way: what messageSentHandler will repeat."""

    kind: int
    destination: int
    aps: EzspAps
    tag: int
