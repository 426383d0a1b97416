"""Tests of the Supplier of a bench: its key from a seed, and its key files with what can be wrong with them."""

from __future__ import annotations

import random
from pathlib import Path

import pytest
import yaml
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec

from harness.errors import RigError
from harness.members.firmware_values import TEST_SUPPLIER
from harness.rig.schema import RigFile, load_rig
from harness.rig.supplier import supplier_of
from harness.wire.gbcs_image import sign_image, verify_image
from harness.wire.gbcs_security import PrivateKey
from tests.unit.served import STANDING_RIG
from tests.unit.test_gbcs_security import certificate


def rig_with(folder: Path, seed: int = 1, **files: bytes) -> RigFile:
    """The standing rig with another seed, and a Supplier whose files hold this, where any are given."""
    content = yaml.safe_load(STANDING_RIG.read_text()) | {"seed": seed}
    if files:
        content["supplier"] = {"eui64": "90-B3-D5-1F-30-01-00-05"}
        for key, octets in files.items():
            (folder / f"{key}.pem").write_bytes(octets)
            content["supplier"][key] = f"{key}.pem"
    path = folder / "rig.yaml"
    path.write_text(yaml.safe_dump(content, sort_keys=False))
    return load_rig(path)


def pem(key: PrivateKey) -> bytes:
    """A private key as OpenSSL writes it."""
    return key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )


def certified(key: PrivateKey) -> bytes:
    """Its certificate, PEM."""
    return certificate(key).public_bytes(serialization.Encoding.PEM)


def new_key(number: int) -> PrivateKey:
    """The same key in every run."""
    return ec.derive_private_key(random.Random(number).getrandbits(200), ec.SECP256R1())


def test_a_test_supplier_follows_from_the_seed(tmp_path: Path) -> None:
    """The same seed gives the same key in every run, another seed another; no key shows when it is printed."""
    one, same, other = (supplier_of(rig_with(tmp_path, seed)) for seed in (1, 1, 2))
    assert one is not None
    assert same is not None
    assert other is not None
    assert one.eui64 == TEST_SUPPLIER
    assert one.public_key == same.public_key
    assert one.public_key != other.public_key
    assert "key" not in repr(one)
    upgrade = sign_image(bytes(range(200)), one.private_key)
    assert verify_image(upgrade, one.public_key)
    assert not verify_image(upgrade, other.public_key)


def test_key_files_are_read_beside_the_rig(tmp_path: Path) -> None:
    """A Supplier of a lab's own is its EUI-64 and the key of its certificate."""
    key = new_key(1)
    found = supplier_of(rig_with(tmp_path, certificate=certified(key), private_key=pem(key)))
    assert found is not None
    assert found.eui64 == 0x90B3D51F30010005
    assert found.public_key == key.public_key()


def test_a_key_that_does_not_belong_to_the_certificate_is_refused(tmp_path: Path) -> None:
    """Nothing that it signs would be obeyed: that is said with both files, before anything is signed."""
    file = rig_with(tmp_path, certificate=certified(new_key(1)), private_key=pem(new_key(2)))
    with pytest.raises(RigError) as caught:
        supplier_of(file)
    assert str(caught.value) == (
        f"{tmp_path / 'private_key.pem'}: is not the key of {tmp_path / 'certificate.pem'}"
    )


@pytest.mark.parametrize("which", ["certificate", "private_key"])
@pytest.mark.parametrize("content", [b"", b"no PEM", b"\x30\x03\x02\x01\x01", "the other"])
def test_a_wrong_key_file_is_one_sentence_with_its_name(
    which: str, content: bytes | str, tmp_path: Path
) -> None:
    """Empty, something else, or the certificate in the place of the key; no octet of it is shown."""
    key = new_key(1)
    files = {"certificate": certified(key), "private_key": pem(key)}
    other = files["private_key" if which == "certificate" else "certificate"]
    files[which] = other if isinstance(content, str) else content
    with pytest.raises(RigError) as caught:
        supplier_of(rig_with(tmp_path, **files))
    assert str(caught.value).startswith(f"{tmp_path / which}.pem: ")
    assert "\n" not in str(caught.value)
    assert "MI" not in str(caught.value)


def test_a_missing_key_file_is_one_sentence(tmp_path: Path) -> None:
    """Its name, and why it cannot be read."""
    key = new_key(1)
    file = rig_with(tmp_path, certificate=certified(key), private_key=pem(key))
    (tmp_path / "private_key.pem").unlink()
    with pytest.raises(RigError, match=r"private_key\.pem: cannot be read \(No such file"):
        supplier_of(file)
