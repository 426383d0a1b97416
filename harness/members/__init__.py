"""What each party of a HAN does, over APS messages; no I/O; runs on an emulated node or over an NCP."""
