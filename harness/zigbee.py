"""Zigbee as tests speak of it: ZCL frames, the messages of the OTA Upgrade and Tunneling clusters, OTA files, and
the packages in those for Alt HAN bridges.
"""

from __future__ import annotations

from harness.wire import clusters as clusters
from harness.wire import ota_messages as ota
from harness.wire import package as package
from harness.wire import tunnel_messages as tunneling
from harness.wire import zcl as zcl
from harness.wire.image import build_image as build_image

__all__ = ["build_image", "clusters", "ota", "package", "tunneling", "zcl"]
