"""Sign files and verify signatures, in the formats of minisign (https://jedisct1.github.io/minisign).

The BLAKE2b-512 of the file is signed by Ed25519; so `minisign -V` verifies what this signs, and the other way round.
The signature of FILE is FILE.minisig.
"""

from __future__ import annotations

import base64
import hashlib
import secrets
import time
import typing as t
from dataclasses import dataclass

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from elt.atomic import atomic_write
from elt.errors import ConfigError, DataError

if t.TYPE_CHECKING:
    from pathlib import Path

PURE, PREHASHED = b"Ed", b"ED"
"""Names of algorithms: of keys and of signatures before 2015; of signatures of a file's hash."""
NO_PASSWORD, CHECKSUM = b"\0\0", b"B2"
UNTRUSTED, TRUSTED = "untrusted comment: ", "trusted comment: "
ID_BYTES, KEY_BYTES, SIGNATURE_BYTES = 8, 32, 64
PUBLIC_BYTES = len(PURE) + ID_BYTES + KEY_BYTES
SECRET_HEAD_BYTES = 54
"""Bytes of the algorithms of signature, password and checksum, and of the salt and costs of the password."""
SECRET_BYTES = SECRET_HEAD_BYTES + ID_BYTES + 2 * KEY_BYTES + 32
"""Bytes of a secret key with its checksum, which is all zeros without a password."""


@dataclass(frozen=True)
class Key:
    """Hold a secret key, and the number by which its signatures name it."""

    number: bytes
    secret: Ed25519PrivateKey

    def sign(self, path: Path) -> str:
        """Return the content of the signature file of a file."""
        signature = self.secret.sign(digest(path))
        comment = f"timestamp:{time.time():.0f}\thashed"
        overall = self.secret.sign(signature + comment.encode())
        head = _base64(PREHASHED + self.number + signature)
        return f"{UNTRUSTED}signature of elt backup\n{head}\n{TRUSTED}{comment}\n{_base64(overall)}\n"


def new_key(path: Path) -> None:
    """Create a pair of keys: a secret one without a password, readable by this user only, and PATH.pub.

    Raises:
        ConfigError: one of the two exists already.
    """
    public = of_key(path)
    for one in (path, public):
        if one.exists():
            raise ConfigError(f"backup: {one} is there already: a new key needs another name")
    secret, number = Ed25519PrivateKey.generate(), secrets.token_bytes(ID_BYTES)
    pair = secret.private_bytes_raw() + secret.public_key().public_bytes_raw()
    head = (PURE + NO_PASSWORD + CHECKSUM).ljust(SECRET_HEAD_BYTES, b"\0")
    packed = (head + number + pair).ljust(SECRET_BYTES, b"\0")
    with atomic_write(path, 0o600) as file, atomic_write(public) as other:
        file.write_text(f"{UNTRUSTED}secret key of elt backup\n{_base64(packed)}\n")
        other.write_text(f"{UNTRUSTED}public key {named(number)}\n{_base64(PURE + number + pair[KEY_BYTES:])}\n")


def of_file(path: Path) -> Path:
    """Return the path of the signature of a file."""
    return path.with_name(f"{path.name}.minisig")


def of_key(path: Path) -> Path:
    """Return the path of the public key to a new secret one."""
    return path.with_name(f"{path.name}.pub")


def load_key(path: Path) -> Key:
    """Read a secret key.

    Raises:
        ConfigError: it does not exist, is invalid, or is protected by a password.
    """
    packed = _packed(path, SECRET_BYTES, "secret")
    if packed[2:4] != NO_PASSWORD:
        raise ConfigError(
            f"backup: {path} is protected by a password, for which only minisign asks: leave out --sign, and sign by "
            f"`minisign -S -s {path} -m FILE`"
        )
    number, secret = packed[SECRET_HEAD_BYTES:][:ID_BYTES], packed[SECRET_HEAD_BYTES + ID_BYTES :][:KEY_BYTES]
    return Key(number, Ed25519PrivateKey.from_private_bytes(secret))


def verify(path: Path, public: Path) -> bytes:
    """Verify the signature of a file, and return the digest that was verified.

    Args:
        path: the file, beside which its signature lies.
        public: the file of the public key.

    Raises:
        ConfigError: there is no public key.
        DataError: there is no signature, it is of another key, or the file is not what was signed.
    """
    packed = _packed(public, PUBLIC_BYTES, "public")
    number, key = packed[2:][:ID_BYTES], Ed25519PublicKey.from_public_bytes(packed[-KEY_BYTES:])
    place = of_file(path)
    if not place.exists():
        raise DataError(f"restore: {path} is not signed: {place} is missing")
    algorithm, signer, signature, comment, overall = _signature(place)
    if signer != number:
        raise DataError(f"restore: {path} is signed by the key {named(signer)}, and {public} is {named(number)}")
    if algorithm != PREHASHED:
        raise DataError(f"restore: {place} is of an old kind: sign anew by `minisign -S` 0.11 or newer")
    found = digest(path)
    try:
        key.verify(signature, found)
        key.verify(overall, signature + comment)
    except InvalidSignature:
        raise DataError(f"restore: {path} is not what was signed: it, or {place}, was changed") from None
    return found


def digest(path: Path) -> bytes:
    """Return the digest of a file, which is signed."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, hashlib.blake2b).digest()


def named(number: bytes) -> str:
    """Format the number of a key as minisign does."""
    return number[::-1].hex().upper()


def _packed(path: Path, size: int, kind: str) -> bytes:
    """Read the bytes of a key file.

    Raises:
        ConfigError: it holds no key of that size.
    """
    try:
        line = path.read_bytes().splitlines()[1]
        packed = base64.b64decode(line, validate=True)
    except OSError as error:
        raise ConfigError(f"{path} cannot be read: {error.strerror}") from None
    except (IndexError, ValueError):
        packed = b""
    if len(packed) != size or not packed.startswith(PURE):
        raise ConfigError(f"{path} is no {kind} key of minisign")
    return packed


def _signature(place: Path) -> tuple[bytes, bytes, bytes, bytes, bytes]:
    """Read a signature: algorithm, number of the key, signature of the file, comment, and signature of both.

    Raises:
        DataError: the file is no signature.
    """
    try:
        _, head, comment_line, overall = place.read_bytes().splitlines()
        packed, whole = base64.b64decode(head, validate=True), base64.b64decode(overall, validate=True)
        is_whole = len(packed) == 2 + ID_BYTES + SIGNATURE_BYTES and comment_line.startswith(TRUSTED.encode())
    except ValueError:
        is_whole = False
    if not is_whole:
        raise DataError(f"restore: {place} is no signature of minisign")
    return (
        packed[:2],
        packed[2:][:ID_BYTES],
        packed[-SIGNATURE_BYTES:],
        comment_line.removeprefix(TRUSTED.encode()),
        whole,
    )


def _base64(content: bytes) -> str:
    return base64.b64encode(content).decode()
