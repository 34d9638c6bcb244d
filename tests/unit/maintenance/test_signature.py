"""A backup can be signed, and is restored only as what a key has signed."""

from __future__ import annotations

import base64
import hashlib
import stat

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from elt.errors import ConfigError, DataError
from elt.maintenance import signature

PUBLIC = """\
untrusted comment: minisign public key A0BB19FBDD274526
RWQmRSfd+xm7oH8unAYLue1Y8Q/Pcj1M2/vP3F3hhUKL8ni3PDVCq+df
"""
SIGNED = """\
untrusted comment: signature from minisign secret key
RUQmRSfd+xm7oOEAxCNulaoxGBm4Z0gaDq7RsTuD/lwMPmq3zDU+x0MbrC1zEaAHNhT5jZ/Cd7vWdetzcpCZSkBegVigKdPJowE=
trusted comment: timestamp:1795870277\tfile:f\thashed
cUQ9Ua8TS7Hxd1zl1buZBUKCIjCldlvG0Hl8ycbys/I/8c+X3MAvb5foTtedOGEdEwXCb8MWOtq1SKIlQFVqBQ==
"""
"""What minisign 0.11 made: `minisign -G -W`, and `minisign -S` of a file of the line "hi"."""
PROTECTED = (
    "untrusted comment: minisign encrypted secret key\n" + base64.b64encode(b"EdScB2" + bytes(152)).decode() + "\n"
)


@pytest.fixture
def signed(tmp_path):
    """A file, its signature and its public key."""
    file, public = tmp_path / "file", tmp_path / "key.pub"
    file.write_text("hi\n")
    signature.of_file(file).write_text(SIGNED)
    public.write_text(PUBLIC)
    return file, public


def by_hand(file, number=b"12345678", comment="any words", algorithm=b"ED"):
    """Sign a file as the specification of the format says, and return the public key."""
    secret = Ed25519PrivateKey.generate()
    content = file.read_bytes()
    own = secret.sign(hashlib.blake2b(content).digest() if algorithm == b"ED" else content)
    lines = (
        "untrusted comment: x",
        base64.b64encode(algorithm + number + own).decode(),
        f"trusted comment: {comment}",
        base64.b64encode(secret.sign(own + comment.encode())).decode(),
    )
    signature.of_file(file).write_text("\n".join(lines) + "\n")
    key = base64.b64encode(b"Ed" + number + secret.public_key().public_bytes_raw()).decode()
    return f"untrusted comment: y\n{key}\n"


def test_what_minisign_signed_is_verified(signed):
    assert signature.verify(*signed) == hashlib.blake2b(b"hi\n").digest()


def test_what_was_signed_by_hand_is_verified(signed):
    file, public = signed
    public.write_text(by_hand(file))
    assert signature.verify(file, public)


DAMAGES = {
    "changed": (lambda file, _: file.write_text("ho\n"), "is not what was signed"),
    "longer": (lambda file, _: file.write_text("hi\n\n"), "is not what was signed"),
    "comment": (
        lambda file, _: signature.of_file(file).write_text(SIGNED.replace("1795870277", "1895870277")),
        "is not what was signed",
    ),
    "signature": (
        lambda file, _: signature.of_file(file).write_text(SIGNED.replace("oOEA", "oOEB")),
        "is not what was signed",
    ),
    "by another key": (
        lambda file, _: by_hand(file),
        r"is signed by the key 3837363534333231, and .*key\.pub is A0BB19FBDD274526",
    ),
    "by another key of the same number": (
        lambda file, _: by_hand(file, base64.b64decode(PUBLIC.rsplit(maxsplit=1)[-1])[2:10]),
        "is not what was signed",
    ),
    "old kind": (
        lambda file, public: public.write_text(by_hand(file, algorithm=b"Ed")),
        "minisig is of an old kind: sign anew",
    ),
    "not signed": (
        lambda file, _: signature.of_file(file).unlink(),
        r"is not signed: .*file\.minisig is missing",
    ),
    "empty": (lambda file, _: signature.of_file(file).write_text(""), "is no signature of minisign"),
    "cut off": (lambda file, _: signature.of_file(file).write_text(SIGNED[:150]), "is no signature of minisign"),
    "no comment": (
        lambda file, _: signature.of_file(file).write_text(SIGNED.replace("\ntrusted", "\nTrusted")),
        "is no signature of minisign",
    ),
    "short": (
        lambda file, _: signature.of_file(file).write_text(SIGNED.replace("RUQmRSfd", "")),
        "is no signature of minisign",
    ),
    "binary": (lambda file, _: signature.of_file(file).write_bytes(b"\xff\n" * 4), "is no signature of minisign"),
}


@pytest.mark.parametrize("how", DAMAGES)
def test_what_was_not_signed_so_is_refused(signed, how):
    damage, said = DAMAGES[how]
    damage(*signed)
    with pytest.raises(DataError, match=said):
        signature.verify(*signed)


@pytest.mark.parametrize("content", ["", "x", "x\ny\n", PUBLIC[:-9], PUBLIC.replace("RWQ", "SWQ"), PROTECTED])
def test_what_is_no_public_key_is_refused(signed, content):
    signed[1].write_text(content)
    with pytest.raises(ConfigError, match=r"key\.pub is no public key of minisign"):
        signature.verify(*signed)
    signed[1].unlink()
    with pytest.raises(ConfigError, match=r"key\.pub cannot be read: No such file"):
        signature.verify(*signed)


def test_a_new_key_signs_and_replaces_none(signed):
    file, _ = signed
    key = file.with_name("mine")
    signature.new_key(key)
    assert stat.S_IMODE(key.stat().st_mode) == 0o600
    signature.of_file(file).write_text(signature.load_key(key).sign(file))
    assert signature.verify(file, signature.of_key(key))
    before = key.read_text()
    with pytest.raises(ConfigError, match="mine is there already"):
        signature.new_key(key)
    key.unlink()
    with pytest.raises(ConfigError, match=r"mine\.pub is there already"):
        signature.new_key(key)
    key.write_text(before)
    with pytest.raises(ConfigError, match=r"mine\.pub is no secret key"):
        signature.load_key(signature.of_key(key))


def test_a_key_with_a_password_is_left_to_minisign(tmp_path):
    key = tmp_path / "key"
    key.write_text(PROTECTED)
    with pytest.raises(ConfigError, match=r"is protected by a password.*`minisign -S -s .*key -m FILE`"):
        signature.load_key(key)
