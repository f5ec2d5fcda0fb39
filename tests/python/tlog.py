"""A verifier of vouchsafe's audit log that shares no code with it: RFC 6962 by its definition, C2SP's forms by hand,
Ed25519 by the `cryptography` package.

    tlog.py log VKEY SOCKET [WITNESS...]     fetches checkpoint, entries and tiles over the admin socket, and compares
    tlog.py proof VKEY FILE [WITNESS...]     verifies the proof of one record, and prints the record

Each witness whose key is given must have cosigned.
"""

import base64
import hashlib
import http.client
import socket
import struct
import sys

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey


def leaf(entry):
    return hashlib.sha256(b"\0" + entry).digest()


def node(left, right):
    return hashlib.sha256(b"\1" + left + right).digest()


def split(count):
    k = 1
    while k * 2 < count:
        k *= 2
    return k


def root(hashes):
    if not hashes:
        return hashlib.sha256(b"").digest()
    if len(hashes) == 1:
        return hashes[0]
    k = split(len(hashes))
    return node(root(hashes[:k]), root(hashes[k:]))


def along(index, count, value, proof):
    """The root that a proof leads to: the last hash of it stands beside the topmost node."""
    if count == 1:
        assert not proof, "the proof is too long"
        return value
    k = split(count)
    if index < k:
        return node(along(index, k, value, proof[:-1]), proof[-1])
    return node(proof[-1], along(index - k, count - k, value, proof[:-1]))


def signed(note, vkey, kind):
    """The text of a note that the key has signed, or cosigned."""
    name, key_id, key = vkey.split("+", 2)
    key = base64.b64decode(key, validate=True)
    assert key[0] == kind, "a key of another kind"
    assert hashlib.sha256(name.encode() + b"\n" + key).digest()[:4].hex() == key_id
    text, signatures = note.rsplit("\n\n", 1)
    text += "\n"
    valid = 0
    for line in signatures.splitlines():
        dash, by, signature = line.split(" ")
        assert dash == "\u2014"
        signature = base64.b64decode(signature, validate=True)
        if by == name and signature[:4].hex() == key_id:
            what, signature = text, signature[4:]
            if kind == 4:
                (time,) = struct.unpack(">Q", signature[:8])
                what, signature = f"cosignature/v1\ntime {time}\n{text}", signature[8:]
            Ed25519PublicKey.from_public_bytes(key[1:]).verify(signature, what.encode())
            valid += 1
    assert valid == 1, f"not signed by {name}"
    return text


def opened(note, vkey, witnesses):
    """The size and root of a checkpoint that the key and every witness have signed."""
    text = signed(note, vkey, 1)
    for witness in witnesses:
        signed(note, witness, 4)
    origin, size, top = text.splitlines()
    assert origin == vkey.split("+", 1)[0]
    return int(size), base64.b64decode(top, validate=True)


def fetch(path, where):
    connection = http.client.HTTPConnection("localhost")
    connection.sock = socket.socket(socket.AF_UNIX)
    connection.sock.connect(path)
    connection.request("GET", "/v1/audit/log/" + where)
    answer = connection.getresponse()
    body = answer.read()
    assert answer.status == 200, (where, answer.status, body)
    connection.close()
    return body


def tile(number, width):
    name = f"{number % 1000:03}"
    while number >= 1000:
        number //= 1000
        name = f"x{number % 1000:03}/{name}"
    return name if width == 256 else f"{name}.p/{width}"


def whole_log(vkey, path, *witnesses):
    size, top = opened(fetch(path, "cosigned" if witnesses else "checkpoint").decode(), vkey, witnesses)
    hashes = []
    for number in range((size + 255) // 256):
        width = min(256, size - number * 256)
        bundle, entries = fetch(path, "tile/entries/" + tile(number, width)), []
        while bundle:
            (length,) = struct.unpack(">H", bundle[:2])
            entries.append(bundle[2 : 2 + length])
            bundle = bundle[2 + length :]
        row = [leaf(entry) for entry in entries]
        assert len(row) == width
        assert fetch(path, "tile/0/" + tile(number, width)) == b"".join(row), "level 0"
        hashes += row
    assert root(hashes) == top, "the entries are not those that were signed"
    full = [root(hashes[at : at + 256]) for at in range(0, size - size % 256, 256)]
    if full:
        assert fetch(path, "tile/1/" + tile(0, min(256, len(full)))) == b"".join(full[:256]), "level 1"
    print(size)


def proof(vkey, path, *witnesses):
    with open(path, encoding="utf-8", newline="") as file:
        first, rest = file.read().split("\n", 1)
    assert first == "c2sp.org/tlog-proof@v1"
    head, note = rest.split("\n\n", 1)
    lines = head.split("\n")
    assert lines[0].startswith("extra ") and lines[1].startswith("index ")
    record = base64.b64decode(lines[0][6:], validate=True)
    hashes = [base64.b64decode(line, validate=True) for line in lines[2:]]
    size, top = opened(note, vkey, witnesses)
    index = int(lines[1][6:])
    assert 0 <= index < size
    assert along(index, size, leaf(record), hashes) == top, "the record is not in the log"
    print(record.decode())


if __name__ == "__main__":
    {"log": whole_log, "proof": proof}[sys.argv[1]](*sys.argv[2:])
