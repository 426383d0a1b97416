"""`harness image`: OTA files made, shown, verified and signed, and one sentence about a file that is bad."""

from __future__ import annotations

import hashlib
import json
import re
import resource
import subprocess
from datetime import UTC, datetime

import pytest
from click.testing import CliRunner
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import encode_dss_signature
from cryptography.x509.oid import NameOID

from harness.cli import main
from harness.wire.image import OtaImage, SubElement, build_image, build_sub_elements, parse_image

SUPPLIER = 0x90B3D51F30010000
PAYLOAD = b"a Manufacturer Image" * 10
NAMES = ("--manufacturer", "121D", "--image-type", "0x84", "--version", "09030A07")
PLAIN = build_image(OtaImage(0x121D, 0x84, 0x09030A07, PAYLOAD))


def key(number, curve=None):
    """A key of ours; the same number gives the same key."""
    return ec.derive_private_key(number, curve or ec.SECP256R1())


def pem(private_key):
    """A key as a file has it."""
    return private_key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )


def certificate(private_key, *, signing=True, attributes=()):
    """A certificate for one use, as a PEM file has it."""
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "A SUPPLIER"), *attributes])
    usage = dict.fromkeys(
        ("content_commitment", "key_encipherment", "data_encipherment", "key_cert_sign", "crl_sign",
         "encipher_only", "decipher_only"),
        False,
    )  # fmt: skip
    builder = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(private_key.public_key())
        .serial_number(1)
        .not_valid_before(datetime(2026, 1, 1, tzinfo=UTC))
        .not_valid_after(datetime(2036, 1, 1, tzinfo=UTC))
        .add_extension(
            x509.KeyUsage(digital_signature=signing, key_agreement=not signing, **usage), critical=True
        )
    )
    return builder.sign(private_key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM)


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """A folder that is the current one, with a payload, a plain image, two keys and a certificate."""
    monkeypatch.chdir(tmp_path)
    for name, content in {
        "payload.bin": PAYLOAD,
        "plain.ota": PLAIN,
        "key.pem": pem(key(1)),
        "other.pem": pem(key(2)),
        "certificate.pem": certificate(key(1)),
    }.items():
        (tmp_path / name).write_bytes(content)
    return tmp_path


def harness(*arguments):
    """The outcome of `harness image` with these arguments."""
    return CliRunner().invoke(main, ["image", *map(str, arguments)])


def done(*arguments):
    """What the command printed; it must succeed."""
    result = harness(*arguments)
    assert result.exit_code == 0, result.output
    return result.output


def refused(*arguments, code=1):
    """The one sentence with which the command is refused."""
    result = harness(*arguments)
    assert (result.exit_code, result.stdout) == (code, "")
    if code == 1:
        assert result.stderr.startswith("Error: ")
        assert result.stderr.count("\n") == 1
    return " ".join(result.stderr.split())


def fields(path, *options):
    """What `show --json` says of a file, and its exit code."""
    result = harness("show", "--json", *options, path)
    return json.loads(result.stdout) | {"exit_code": result.exit_code}


# --- the samples of the DCC ------------------------------------------------------------------------------------------

SAMPLE_HASH = "7542F475E3F12EAE887D81E32C46D313741D67076B13CAEC2F82E00BA5E1BB36"


def test_the_published_esme_image_is_shown_in_every_field(shared_data):
    """The SR11.1 sample: header, Manufacturer Image, Force Replace, signature, hash."""
    path = shared_data / "dcc-samples" / "sr11_1-esme.ota"
    output = done("show", path)
    assert [tuple(re.split(" {2,}", line.strip(), maxsplit=1)) for line in output.splitlines()] == [
        ("file", str(path)),
        ("size", "361"),
        ("header",),
        ("file identifier", "0x0BEEF11E"),
        ("header version", "0x0100"),
        ("header length", "60"),
        ("field control", "0x0004"),
        ("manufacturer", "0x121D"),
        ("image type", "0x0000"),
        ("version", "ACDCACDC"),
        ("stack version", "0x0002"),
        ("header string", "I am a GFI ESME[] firmware image"),
        ("total size", "361"),
        ("hardware min", "0x1111"),
        ("hardware max", "0x1211"),
        ("payload length", "301"),
        ("form", "gbcs"),
        ("manufacturer image length", "235"),
        ("CPL hash", SAMPLE_HASH),
        ("force replace", "0"),
        ("signature", path.read_bytes()[-64:].hex().upper()),
    ]


def test_the_published_ppmid_image_is_shown_as_plain(shared_data):
    """The SR11.4 sample has no trailer; its whole payload is the Manufacturer Image, with the same hash."""
    shown = fields(shared_data / "dcc-samples" / "sr11_4-ppmid.ota")
    assert (shown["exit_code"], shown["size"], shown["form"], shown["problems"]) == (0, 295, "plain", [])
    assert shown["header"] == {
        "file_identifier": "0x0BEEF11E",
        "header_version": "0x0100",
        "header_length": 60,
        "field_control": "0x0004",
        "manufacturer": "0x121D",
        "image_type": "0x0084",
        "version": "ACDCACDC",
        "stack_version": "0x0002",
        "header_string": "I am a GFI PPMID firmware image ",
        "total_size": 295,
        "security_credential": None,
        "destination": None,
        "hardware_min": "0x1111",
        "hardware_max": "0x1211",
    }
    assert (shown["manufacturer_image_length"], shown["cpl_hash"]) == (235, SAMPLE_HASH)
    assert (shown["force_replace"], shown["signature"], shown["package"], shown["sub_elements"]) == (
        None, None, None, [],
    )  # fmt: skip


def test_the_published_image_is_verified_with_the_certificate_of_its_supplier(shared_data, folder):
    """Only its own signer's certificate fits, and not once an octet is another."""
    samples = shared_data / "dcc-samples"
    signer, image = samples / "z1-supplier-ds.pem", samples / "sr11_1-esme.ota"
    output = done("verify", "--signer", signer, image)
    assert output == f"{image}: signed by GITTESTSUPPLIER 90-B3-D5-1F-30-01-00-00, CPL hash {SAMPLE_HASH}\n"
    verdict = json.loads(done("verify", "--json", "--signer", signer, image))
    assert verdict["verified"] is True
    assert verdict["signer"]["serial_number"] == "105986833131214866166891566273223584671"
    assert "A SUPPLIER (certificate.pem)" in refused("verify", "--signer", "certificate.pem", image)
    octets = bytearray(image.read_bytes())
    octets[100] ^= 1
    (folder / "changed.ota").write_bytes(octets)
    assert refused("verify", "--signer", signer, "changed.ota").startswith(
        "Error: changed.ota: its signature"
    )
    sentence = refused("verify", "--signer", signer, samples / "sr11_4-ppmid.ota")
    assert "sr11_4-ppmid.ota: Upgrade Image has no signature: 0x72 stands where its length" in sentence


# --- made, signed, verified ------------------------------------------------------------------------------------------


def test_a_plain_image_is_built_with_every_option(folder):
    """Every field of the header comes from its option, and the file is what the wire module makes of them."""
    output = done(
        "build", "payload.bin", *NAMES, "--hardware-min", "0100", "--hardware-max", "0x1ff",
        "--destination", "00-0D-6F-00-0A-90-69-E7", "--header-string", "for a bench", "--security-credential", 2,
        "--out", "new.ota",
    )  # fmt: skip
    data = (folder / "new.ota").read_bytes()
    assert parse_image(data) == OtaImage(
        0x121D, 0x84, 0x09030A07, PAYLOAD, header_string=b"for a bench".ljust(32, b"\0"), security_credential=2,
        destination=0x000D6F000A9069E7, hardware_min=0x0100, hardware_max=0x01FF,
    )  # fmt: skip
    digest = hashlib.sha256(PAYLOAD).hexdigest().upper()
    assert output == f"new.ota: {len(data)} octets, plain, CPL hash {digest}\n"
    shown = fields("new.ota")
    assert (shown["exit_code"], shown["cpl_hash"], shown["form"]) == (0, digest, "plain")
    assert shown["header"]["destination"] == "00-0D-6F-00-0A-90-69-E7"
    assert (shown["header"]["security_credential"], shown["header"]["header_string"]) == (
        "0x02",
        "for a bench",
    )
    assert sorted(path.name for path in folder.iterdir() if "new" in path.name) == ["new.ota"]


def test_building_signed_and_signing_what_was_built_plain_give_the_same_file(folder, openssl):
    """RFC 6979: one signature for one key and image; and openssl, which knows nothing of us, verifies it."""
    done(
        "build", "payload.bin", *NAMES, "--gbcs", "--force-replace", 1, "--signer-key", "key.pem",
        "--out", "built.ota",
    )  # fmt: skip
    done("sign", "--key", "key.pem", "plain.ota", "--force-replace", 1, "--out", "signed.ota")
    data = (folder / "signed.ota").read_bytes()
    assert data == (folder / "built.ota").read_bytes()
    assert parse_image(data).payload[:-64] == PAYLOAD + b"\x01\x40"
    assert "signed by A SUPPLIER" in done("verify", "--signer", "certificate.pem", "signed.ota")
    r, s = int.from_bytes(data[-64:-32], "big"), int.from_bytes(data[-32:], "big")
    (folder / "signature.der").write_bytes(encode_dss_signature(r, s))
    public = key(1).public_key()
    (folder / "public.pem").write_bytes(
        public.public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)
    )
    command = [
        openssl,
        "dgst",
        "-sha256",
        "-verify",
        "public.pem",
        "-signature",
        "signature.der",
        "payload.bin",
    ]
    assert subprocess.run(command, check=True, capture_output=True, text=True).stdout == "Verified OK\n"


def test_an_image_without_signature_is_shown_as_such_and_can_be_signed(folder):
    """Zeros keep the place of the signature; the Force Replace that was built stays unless another is given."""
    output = done("build", "payload.bin", *NAMES, "--gbcs", "--force-replace", 7, "--out", "unsigned.ota")
    assert output.endswith(", not signed\n")
    shown = fields("unsigned.ota")
    assert (shown["exit_code"], shown["form"], shown["force_replace"]) == (1, "gbcs", 7)
    assert shown["problems"] == ["it is not signed: the place of its signature is filled with zeros"]
    assert "not that of A SUPPLIER" in refused("verify", "--signer", "certificate.pem", "unsigned.ota")
    done("sign", "--key", "key.pem", "unsigned.ota", "--out", "signed.ota")
    done("sign", "--key", "key.pem", "unsigned.ota", "--force-replace", 0, "--out", "again.ota")
    assert [fields(name)["force_replace"] for name in ("signed.ota", "again.ota")] == [7, 0]
    result = harness("verify", "--json", "--signer", "certificate.pem", "signed.ota")
    assert (result.exit_code, json.loads(result.stdout)["verified"]) == (0, True)


def test_the_form_can_be_told_where_the_heuristic_is_wrong(folder):
    """A plain payload with 0x40 by chance at 65 from its end, and a GBCS image whose length octet is damaged."""
    chance = b"plain" * 20 + b"\0\x40" + bytes(range(1, 65))
    (folder / "chance.ota").write_bytes(build_image(OtaImage(1, 2, 3, chance)))
    assert (fields("chance.ota")["form"], fields("chance.ota")["force_replace"]) == ("gbcs", 0)
    told = fields("chance.ota", "--form", "plain")
    assert (told["form"], told["manufacturer_image_length"], told["exit_code"]) == ("plain", len(chance), 0)
    assert "--form plain" in refused("sign", "--key", "key.pem", "chance.ota", "--out", "signed.ota")
    done("sign", "--form", "plain", "--key", "key.pem", "chance.ota", "--out", "signed.ota")
    assert parse_image((folder / "signed.ota").read_bytes()).payload[:-66] == chance
    told = fields("plain.ota", "--form", "gbcs")
    assert (told["exit_code"], told["cpl_hash"]) == (1, None)
    assert "0x40, should" in told["problems"][0]


def test_a_package_is_built_and_shown_with_the_image_of_each_bridge(folder):
    """Option A: one file for B3 and B4, in whatever order they are given."""
    for name, payload in (("b3.ota", b"three" * 9), ("b4.ota", b"four" * 9)):
        (folder / name).write_bytes(build_image(OtaImage(0x121D, 0x93, 2, payload)))
    done("build", *NAMES, "--bridge", "B4=b4.ota", "--bridge", "B3=b3.ota", "--out", "package.ota")
    shown = fields("package.ota")
    assert (shown["exit_code"], shown["form"]) == (0, "plain")
    assert [(part["bridge"], part["cpl_hash"]) for part in shown["package"]] == [
        ("B3", hashlib.sha256(b"three" * 9).hexdigest().upper()),
        ("B4", hashlib.sha256(b"four" * 9).hexdigest().upper()),
    ]
    assert re.findall(r"^  bridge +(B\d)$", done("show", "package.ota"), re.M) == ["B3", "B4"]


def test_sub_elements_are_listed(folder):
    """Where tags and lengths fill the payload exactly."""
    payload = build_sub_elements(
        [SubElement(0, b"firmware"), SubElement(5, bytes(80)), SubElement(0xF001, b"x")]
    )
    (folder / "elements.ota").write_bytes(build_image(OtaImage(1, 2, 3, payload)))
    assert fields("elements.ota")["sub_elements"] == [
        {"tag": "0x0000", "name": "upgrade image", "length": 8},
        {"tag": "0x0005", "name": "signature, suite 2", "length": 80},
        {"tag": "0xF001", "name": "manufacturer's own", "length": 1},
    ]
    assert "signature, suite 2" in done("show", "elements.ota")


# --- bad input -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("octets", "sentences", "version"),
    [
        (b"", ["it is truncated: 0 octets, it ends before its file identifier does"], None),
        (PLAIN[:20], ["it is truncated: 20 octets, it ends before its header string does"], "09030A07"),
        (PLAIN[:-1], ["it is truncated: 255 of the 256 octets that its header states"], "09030A07"),
        (PLAIN + b"ab", ["2 trailing octets: 258 where its header states 256"], "09030A07"),
        (
            b"\0" + PLAIN[1:5] + b"\2" + PLAIN[6:-5],
            ["the identifier 0x0beef100", "header version 0x0200", "251 of the 256 octets"],
            "09030A07",
        ),
        (PLAIN[:6] + b"\x3c" + PLAIN[7:], ["header length 60 is wrong", ], "09030A07"),
        (PLAIN[:9] + b"\x80" + PLAIN[10:], ["0x8000 announces unknown fields"], "09030A07"),
        (PLAIN[:52] + bytes(4) + PLAIN[56:], ["total image size 0 is less than its header"], "09030A07"),
        (build_image(OtaImage(1, 2, 3, b"")), ["its Manufacturer Image is empty"], "00000003"),
        (
            build_image(OtaImage(1, 2, 3, b"x", hardware_min=2, hardware_max=1)),
            ["minimum hardware version 0x0002 is above its maximum 0x0001"],
            "00000003",
        ),
        (
            build_image(OtaImage(1, 2, 3, b"x\0\x40" + b"\xff" * 64)),
            ["its signature is nobody's"],
            "00000003",
        ),
    ],
)  # fmt: skip
def test_a_damaged_file_is_shown_as_far_as_it_goes(octets, sentences, version, folder):
    """What can be read is printed, each thing that is wrong is a sentence with the file's name, exit code 1."""
    (folder / "bad.ota").write_bytes(octets)
    shown = fields("bad.ota")
    assert (shown["exit_code"], shown["header"]["version"]) == (1, version)
    assert len(shown["problems"]) == len(sentences)
    for problem, sentence in zip(shown["problems"], sentences, strict=True):
        assert sentence in problem
    result = harness("show", "bad.ota")
    assert result.exit_code == 1
    assert result.stderr == "".join(f"Error: bad.ota: {problem}\n" for problem in shown["problems"])
    assert version is None or version in result.stdout


def test_a_hostile_header_string_writes_no_control_characters(folder):
    """Escape sequences and text that is not ASCII are printed as their octets."""
    (folder / "hostile.ota").write_bytes(build_image(OtaImage(1, 2, 3, b"x", header_string=b"\x1b[2J\n\xe4")))
    assert "header string                    \\x1b[2J\\x0a\\xe4\n" in done("show", "hostile.ota")


@pytest.mark.parametrize(
    ("octets", "sentence"),
    [
        (PLAIN[:-1], "truncated: 255 of the 256"),
        (PLAIN + b"\0", "1 trailing octets"),
        (b"MZ" + PLAIN, "not an OTA file"),
        (build_image(OtaImage(1, 2, 3, bytes(65))), "Upgrade Image of 65 octets"),
    ],
)
def test_a_bad_image_is_neither_verified_nor_signed(octets, sentence, folder):
    """One sentence with its name, and no file."""
    (folder / "bad.ota").write_bytes(octets)
    start = "Error: bad.ota: "
    output = refused("verify", "--signer", "certificate.pem", "bad.ota")
    assert (output.startswith(start), sentence in output) == (True, True)
    output = refused("sign", "--form", "gbcs", "--key", "key.pem", "bad.ota", "--out", "new.ota")
    assert (output.startswith(start), sentence in output) == (True, True)
    assert not (folder / "new.ota").exists()


def test_a_bad_certificate_or_key_is_named(folder):
    """For another use, on another curve, no certificate, no key, not there: named, and nothing is written."""
    (folder / "agreement.pem").write_bytes(certificate(key(1), signing=False))
    (folder / "p384.pem").write_bytes(pem(key(1, ec.SECP384R1())))
    (folder / "p384-certificate.pem").write_bytes(certificate(key(1, ec.SECP384R1())))
    for name, sentence in {
        "agreement.pem": "the certificate's key is not for digital signature",
        "p384-certificate.pem": "the certificate's key is not on the curve P-256",
        "payload.bin": "not a certificate in PEM or DER",
        "none.pem": "cannot be read (No such file or directory)",
    }.items():
        assert refused("verify", "--signer", name, "plain.ota").startswith(f"Error: {name}: {sentence}")
    for name, sentence in {
        "p384.pem": "the private key is not on the curve P-256",
        "certificate.pem": "not a private key in PEM or DER without password",
        "none.pem": "cannot be read (No such file or directory)",
    }.items():
        expected = f"Error: {name}: {sentence}"
        assert refused("sign", "--key", name, "plain.ota", "--out", "new.ota") == expected
        assert (
            refused("build", "payload.bin", *NAMES, "--gbcs", "--signer-key", name, "--out", "new.ota")
            == expected
        )
    assert not (folder / "new.ota").exists()


def test_no_file_is_overwritten_and_none_is_left_half_written(folder):
    """A file that is there stays as it was; where nothing can be written nothing is."""
    before = {path.name: path.read_bytes() for path in folder.iterdir()}
    sentence = "Error: key.pem: is there already, and images are not overwritten"
    assert refused("build", "payload.bin", *NAMES, "--out", "key.pem") == sentence
    assert refused("sign", "--key", "key.pem", "plain.ota", "--out", "key.pem") == sentence
    sentence = refused("sign", "--key", "key.pem", "plain.ota", "--out", "none/new.ota")
    assert sentence == "Error: none/new.ota: cannot be written (No such file or directory)"
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100, hard))
    try:
        result = harness("build", "payload.bin", *NAMES, "--out", "new.ota")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert (result.exit_code, result.stderr) == (1, "Error: new.ota: cannot be written (File too large)\n")
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == before


def test_who_signed_stays_and_empty_images_are_not_signed(folder):
    """A signed image is not signed again; nor is one without a Manufacturer Image built or signed."""
    done("sign", "--key", "key.pem", "plain.ota", "--out", "signed.ota")
    assert "signed.ota: it is signed already" in refused(
        "sign", "--key", "other.pem", "signed.ota", "--out", "new.ota"
    )
    (folder / "empty").write_bytes(b"")
    (folder / "empty.ota").write_bytes(build_image(OtaImage(1, 2, 3, b"")))
    assert refused("build", "empty", *NAMES, "--out", "new.ota") == "Error: empty: the payload is empty"
    sentence = refused("sign", "--key", "key.pem", "empty.ota", "--out", "new.ota")
    assert sentence == "Error: empty.ota: its Manufacturer Image is empty"


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        ([], "either PAYLOAD or --bridge"),
        (["payload.bin", "--bridge", "B1=plain.ota"], "either PAYLOAD or --bridge"),
        (["--gbcs", "--bridge", "B1=plain.ota"], "exclude one another"),
        (["--bridge", "B5=plain.ota"], "'B5=plain.ota' is not B1=FILE"),
        (["--bridge", "B1="], "'B1=' is not B1=FILE"),
        (["--bridge", "B1=plain.ota", "--bridge", "B1=plain.ota"], "B1 has two files"),
        (["payload.bin", "--force-replace", "1"], "need --gbcs"),
        (["payload.bin", "--gbcs", "--force-replace", "256"], "256 is not in the range"),
        (["payload.bin", "--hardware-min", "0001"], "need one another"),
        (
            ["payload.bin", "--hardware-min", "0002", "--hardware-max", "0001"],
            "0002 is above --hardware-max 0001",
        ),
        (["payload.bin", "--manufacturer", "463"], "'463' is not 4 hexadecimal digits"),
        (["payload.bin", "--version", "0x123456789"], "not 8 hexadecimal digits"),
        (["payload.bin", "--destination", "00-0D"], "00-0D"),
    ],
)
def test_a_wrong_option_is_refused(arguments, sentence, folder):
    """Before anything is read or written."""
    assert sentence in refused("build", *NAMES, *arguments, "--out", "new.ota", code=2)
    assert not (folder / "new.ota").exists()


def test_a_value_or_a_part_that_cannot_go_into_the_file_is_refused(folder):
    """A header string that is too long, and a part that is no OTA file, with the part's name."""
    assert "33 octets, 32 are the most" in refused(
        "build", "payload.bin", *NAMES, "--header-string", "x" * 33, "--out", "new.ota"
    )
    sentence = refused("build", *NAMES, "--bridge", "B1=payload.bin", "--out", "new.ota")
    assert sentence.startswith("Error: payload.bin: not an OTA file")
    assert not (folder / "new.ota").exists()
