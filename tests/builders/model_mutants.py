"""Forged files of models: values of JSON and arrays of safetensors, changed by what they are."""

import copy
import json

import numpy as np
from safetensors.numpy import load, save

from tests.builders.mutants import spoil

NUMBERS = [0, 1, -1, 2, 3, 2**31 - 1, 2**31, -(2**31), 2**63, 10**30, 0.5, 1.06, -0.0, 1e-320, 1e38, 1e300, True, None]
TEXTS = ["", "1", "-1", "1e999", "nan", "../x", "/etc/passwd", "C:\\x", "\x1b[2J", "9" * 400, "pretrained", "cnn"]
TEXTS += ["texture", "neural", "xgb", "svm", "logreg", "isotonic", "a.b", "local-dir:/etc", "x.safetensors"]


def leaves(value, path=()):
    """Every place of a JSON document, by the keys that lead there; of long lists some."""
    yield path
    if isinstance(value, dict):
        for key in value:
            yield from leaves(value[key], (*path, key))
    elif isinstance(value, list):
        for at in range(min(len(value), 4)):
            yield from leaves(value[at], (*path, at))


def at_place(value, path):
    for key in path:
        value = value[key]
    return value


def change_json(text, rng):
    """The text with one to three places changed: value, kind, key, order or number of things."""
    document = json.loads(text)
    for _ in range(rng.choice([1, 1, 1, 2, 3])):
        places = [path for path in leaves(document) if path]
        if not places:
            return text
        # By depth first: the small values that matter are outnumbered by names of columns.
        depth = rng.choice(sorted({len(path) for path in places}))
        path = rng.choice([path for path in places if len(path) == depth])
        holder, key = at_place(document, path[:-1]), path[-1]
        old = holder[key]
        kind = rng.randrange(8)
        if kind == 0 and isinstance(holder, dict):
            del holder[key]
        elif kind == 1 and isinstance(holder, dict):
            holder[rng.choice([*TEXTS, key + "_"])] = copy.deepcopy(old)
        elif kind == 2:
            holder[key] = rng.choice([[], {}, [old], {"file": "../x"}, {"file": "layer.safetensors"}, [[[]]], [None]])
        elif kind == 3 and isinstance(old, list) and old:
            holder[key] = rng.choice([old[:-1], old[::-1], old + old[:1000], []])
        elif kind == 4 and isinstance(old, (int, float)) and not isinstance(old, bool):
            holder[key] = rng.choice([old + 1, old - 1, -old, old * 1000, float(old), str(old)])
        elif kind == 5:
            holder[key] = rng.choice(TEXTS)
        else:
            holder[key] = rng.choice(NUMBERS)
    return json.dumps(document).encode()


def change_text(text, rng):
    """What parsers disagree about: keys twice or spelt otherwise, NaN, huge numbers, depth, encodings, ends."""
    keys = [part for part in set(text.split(b'"')) if part.replace(b"_", b"").isalpha()] or [b"x"]
    key = rng.choice(sorted(keys))
    quoted, escaped = b'"' + key + b'"', b'"\\u%04x' % key[0] + key[1:] + b'"'
    hostile = rng.choice([b"[1000000000,-1,-1]", b"{}", b"null", b'"1"', b"-1", b"9" * 400])
    return rng.choice(
        [
            lambda: text.replace(quoted, quoted + b":" + hostile + b"," + quoted, 1),
            lambda: text.replace(quoted, quoted + b":" + hostile + b"," + escaped, 1),
            lambda: text.replace(quoted, escaped + b":" + hostile + b"," + quoted, 1),
            lambda: text.replace(b"0.", rng.choice([b"NaN+0.", b"Infinity,0.", b"1e400,0.", b"00.", b"0x1."]), 1),
            lambda: b"[" * rng.choice([10, 900, 100_000]) + text,
            lambda: b"\xef\xbb\xbf" + text,
            lambda: text + rng.choice([b"\0", b"{}", b"//", b",", text]),
            lambda: text.decode("latin-1").encode("utf-16"),
            lambda: text[: rng.randrange(len(text))],
        ]
    )()


def change_arrays(content, rng):
    """A safetensors file with one array or its header changed."""
    if rng.random() < 0.35:
        end = 8 + int.from_bytes(content[:8], "little")
        header = (change_text if rng.random() < 0.4 else change_json)(content[8:end], rng)
        length = rng.choice([len(header), len(header), len(header), 0, 2**63, len(content)])
        return length.to_bytes(8, "little") + header + content[end:]
    arrays = dict(load(content))
    name = rng.choice(sorted(arrays))
    array = arrays.pop(name)
    kind = rng.randrange(7)
    if kind == 0:
        pass
    elif kind == 1:
        arrays[name + rng.choice("ab.")] = array
    elif kind == 2:
        arrays[name] = array.astype(rng.choice([np.float32, np.float16, np.int64, np.int32, np.uint8, np.bool_]))
    elif kind == 3:
        axis = rng.randrange(array.ndim) if array.ndim else 0
        arrays[name] = np.concatenate([array, array], axis) if array.ndim else array[None]
    elif kind == 4:
        arrays[name] = array[: rng.randrange(len(array) + 1)] if array.ndim else array
    elif kind == 5:
        arrays[name] = array.reshape(rng.choice([(-1,), (1, -1), (-1, 1)]))
    else:
        changed = array.copy().reshape(-1)
        if changed.size:
            with np.errstate(all="ignore"):
                value = rng.choice([np.nan, np.inf, -np.inf, 1e300, 1e99, -1e99, -1, 0, 2**40, 1e-310])
                changed[rng.randrange(changed.size)] = np.array(value).astype(changed.dtype)
        arrays[name] = changed.reshape(array.shape)
    return save({key: np.ascontiguousarray(value) for key, value in arrays.items()})


def mutant(path, content, rng):
    """The file changed by what it is, or by bytes."""
    if rng.random() < 0.1 or path.suffix not in (".json", ".safetensors"):
        return spoil(content, rng)
    if path.suffix == ".json":
        return (change_json if rng.random() < 0.75 else change_text)(content, rng)
    return change_arrays(content, rng)
