"""The HCALCS: a load switch that fetches its image as a PPMID does, and runs it when CS06 says so."""

from __future__ import annotations

from harness.members.device import HanDevice


class Hcalcs(HanDevice):
    """A HAN Connected Auxiliary Load Control Switch."""
