"""Decodes spoilt images one after the other. A script, so that a crash of a decoder is one failed test.

Arguments: how many, a seed. The last line of the output tells, for each format, what became of its images, and the
most memory that was taken.
"""

import collections
import json
import random
import signal
import struct
import sys
import zlib

from fusion.images.decoding import CellError, decode_image, decode_mask
from tests.builders.mutants import images, spoil
from tests.faults.peak_memory import peak_bytes

#: Seconds that one image may take.
HANGS = 10

FORMATS = ("bmp", "png", "jpeg", "tiff")


def chunks(content):
    """(kind, data) of every part of a PNG, as far as lengths lead."""
    at = 8
    while at + 12 <= len(content):
        (size,) = struct.unpack_from(">I", content, at)
        yield content[at + 4 : at + 8], content[at + 8 : at + 8 + size]
        at += size + 12


def as_png(parts):
    """A PNG whose checksums fit: whoever spoils one on purpose can compute them."""
    pieces = [
        struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data)) for kind, data in parts
    ]
    return b"\x89PNG\r\n\x1a\n" + b"".join(pieces)


def inside(content, rng):
    """A PNG with other bytes behind its compression, or elsewhere in its parts."""
    parts = list(chunks(content))
    rows = zlib.decompress(b"".join(data for kind, data in parts if kind == b"IDAT"))
    packed = (b"IDAT", zlib.compress(lightly(rows, rng), 1))
    before = [part for part in parts if part[0] in (b"IHDR", b"PLTE", b"tRNS", b"eXIf")]
    made = [*before, packed, (b"IEND", b"")]
    if rng.random() < 0.2:
        at = rng.randrange(len(made))
        made[at] = (made[at][0], lightly(made[at][1] or b"\0", rng))
    return as_png(made)


def lightly(content, rng):
    """One to three bytes changed, anywhere: often only pixels."""
    data = bytearray(content)
    for _ in range(rng.choice([1, 1, 2, 3])):
        data[rng.randrange(len(data))] = rng.randrange(256)
    return bytes(data)


count, seed = int(sys.argv[1]), int(sys.argv[2])
rng = random.Random(seed)
originals = [(name, content) for name, content in images().items() if name.split()[0] in FORMATS]
# Several pages or frames are refused however whole they are: they are among them, but not most.
originals += [each for each in originals if not each[0].endswith(("pages", "animated"))] * 3
outcomes = {name: collections.Counter() for name in FORMATS}
reasons = collections.Counter()
for at in range(count):
    name, content = originals[at % len(originals)]
    spoilt = rng.choice([spoil, lightly, lightly, lightly])(content, rng)
    if name.startswith("png"):
        spoilt = inside(content, rng) if rng.random() < 0.7 else as_png(chunks(spoilt))
    kind = name.split()[0]
    signal.alarm(HANGS)
    try:
        image = rng.choice([decode_image, decode_image, decode_mask])(spoilt)
        assert image.ndim in (2, 3), image.shape
        outcomes[kind]["decoded"] += 1
    except CellError as error:
        outcomes[kind]["refused"] += 1
        reasons[error.what] += 1
    signal.alarm(0)
assert all(len(reason.splitlines()) == 1 for reason in reasons), reasons
megabytes = peak_bytes() >> 20
print(json.dumps({"outcomes": outcomes, "reasons": len(reasons), "megabytes": megabytes}))
