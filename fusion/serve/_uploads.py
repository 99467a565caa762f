"""Images out of a request: read within limits, into memory only, each taken for what it is, not what it was predicted
as.

Nothing here opens a file. A name in a request is text that is shown again, and leads nowhere.
"""

from __future__ import annotations

import asyncio
import io
import lzma
import zipfile
import zlib
from collections.abc import AsyncGenerator, Callable, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING

from fusion.data.readers import is_image
from fusion.errors import FusionError
from fusion.images.cell import Cell, CellError, make_cell
from fusion.images.decoding import decode_image, pixel_key
from fusion.images.file_headers import Header, read_header
from fusion.io.content_hash import hash_content
from fusion.io.files import printable

if TYPE_CHECKING:
    from starlette.requests import Request

#: Name of the field that holds the images.
FIELD = "files"

#: Letters of a file name that are shown again.
_NAME = 120

#: Bytes of a multipart body beside its images: boundaries and part headers.
_FRAME = 1 << 16

#: How an entry in a zip file's directory begins, and entries for each image that a request may hold: folders, previews.
_MEMBER, _MEMBERS_EACH = b"PK\x01\x02", 20

#: Bytes a second that an upload must have come by on average, after its first seconds: those who send a byte now and
#: then would else hold every place for a minute, and a telephone with a weak signal sends more.
SLOWEST, PATIENCE = 16 << 10, 10.0


class RequestError(FusionError):
    """The request as a whole is refused; ``status`` is its HTTP status."""

    def __init__(self, status: int, what: str, *, found: str = "", expected: str = "", do: str = "") -> None:
        self.status = status
        super().__init__(what, found=found, expected=expected, do=do)


@dataclass(frozen=True)
class Limits:
    """What one request may ask for.

    Attributes
    ----------
    files : images in a request.
    file_bytes, request_bytes : of one file, and of all together.
    pixels, request_pixels : of one image as its header tells, and of all together: a black image of a billion
        pixels is a file of a megabyte.
    seconds : for the images to come, and again for the answer.
    requests : with images, held at a time; together they take at most so many times ``request_bytes`` of memory.
    """

    files: int = 64
    file_bytes: int = 1 << 25
    request_bytes: int = 1 << 26
    pixels: int = 16_000_000
    request_pixels: int = 64_000_000
    seconds: float = 60.0
    requests: int = 16


@dataclass(frozen=True)
class Upload:
    """One file of a request: a name to show, and content; of one out of a zip file the folder there, "" for none."""

    name: str
    content: bytes
    folder: str | None = None


@dataclass(frozen=True, eq=False)
class Found:
    """The cell in an upload, or why there is none.

    Attributes
    ----------
    cell : None where there is a ``reason``.
    stage : "read" or "cell", in which the fault was found.
    keys : of the file and of its pixels, by which a model knows its training images.
    """

    name: str
    cell: Cell | None
    keys: tuple[str, ...]
    stage: str = ""
    reason: str = ""


async def read_uploads(request: Request, limits: Limits) -> list[Upload]:
    """The files of a multipart request, in its order.

    Raises
    ------
    RequestError : 408 too slow, 413 too large or too many, 415 not multipart, 422 no file or another field than FIELD.
    """
    from starlette.datastructures import UploadFile
    from starlette.formparsers import MultiPartException, MultiPartParser

    class InMemory(MultiPartParser):
        # Starlette would write what is larger than a megabyte into a temporary file.
        spool_max_size = limits.request_bytes + _FRAME

    if request.headers.get("content-type", "").partition(";")[0].strip().lower() != "multipart/form-data":
        found = printable(request.headers.get("content-type", "no content type"))[:_NAME]
        raise RequestError(415, "images come as multipart/form-data", found=found)
    started = asyncio.get_running_loop().time()
    deadline = asyncio.timeout_at(started + min(limits.seconds, PATIENCE))

    def extend(seen: int) -> None:
        deadline.reschedule(started + min(limits.seconds, PATIENCE + seen / SLOWEST))

    body = _limited(request, limits.request_bytes + _FRAME, extend)
    # One more than is taken, so that the refusal is ours and says what is allowed.
    parser = InMemory(request.headers, body, max_files=limits.files + 1, max_fields=0, max_part_size=1 << 10)
    try:
        async with deadline:
            form = await parser.parse()
    except TimeoutError as error:
        expected = f"within {limits.seconds:g} s, and {SLOWEST >> 10} kB of them a second"
        raise RequestError(408, "the images came too slowly", expected=expected) from error
    except MultiPartException as error:
        if error.message.startswith("Too many files"):
            raise _too_many(limits) from error
        raise RequestError(422, "the upload cannot be read", found=error.message) from error
    except (KeyError, UnicodeDecodeError) as error:  # a boundary or a charset that there is none of
        raise RequestError(422, "the upload cannot be read", found="its header is damaged") from error
    uploads = []
    for field, value in form.multi_items():
        if field != FIELD or not isinstance(value, UploadFile):
            raise RequestError(422, "the upload has an unknown field", found=shown_name(field), expected=FIELD)
        uploads.append(Upload(shown_name(value.filename or ""), await value.read()))
        await value.close()
    uploads = [each for upload in uploads for each in (_unpacked(upload, limits) if _is_zip(upload) else [upload])]
    if len(uploads) > limits.files:
        raise _too_many(limits)
    if sum(len(upload.content) for upload in uploads) > limits.request_bytes + _FRAME:
        raise RequestError(413, "the upload is too large", expected=f"at most {megabytes(limits.request_bytes)} in all")
    if not uploads:
        raise RequestError(422, "no image in the request", expected=f"one to {limits.files} files in '{FIELD}'")
    return uploads


def _is_zip(upload: Upload) -> bool:
    return upload.content[:4] == b"PK\x03\x04"


def _unpacked(upload: Upload, limits: Limits) -> list[Upload]:
    """The images in a zip file, in memory: what it says of their size is counted and not believed.

    Raises
    ------
    RequestError : 413 more than a request may hold, 422 a file that is damaged, encrypted, or without images.
    """
    damaged = RequestError(422, "the zip file cannot be read", found=upload.name, do="Send the images themselves.")
    too_large = RequestError(
        413,
        "the zip file is too large",
        found=upload.name,
        expected=f"at most {megabytes(limits.request_bytes)} in all",
    )
    # Before it is opened: a directory of a million entries is read whole.
    if upload.content.count(_MEMBER) > _MEMBERS_EACH * limits.files:
        raise _too_many(limits)
    found, room = [], limits.request_bytes
    try:
        with zipfile.ZipFile(io.BytesIO(upload.content)) as archive:
            members = [each for each in archive.infolist() if _is_image_in_zip(each.filename)]
            if len(members) > limits.files:
                raise _too_many(limits)
            for member in members:
                with archive.open(member) as stream:
                    content = stream.read(room + 1)
                if len(content) > room:
                    raise too_large
                room -= len(content)
                found.append(Upload(shown_name(member.filename), content, member.filename.rpartition("/")[0]))
    except RequestError:
        raise
    except (
        zipfile.BadZipFile,
        RuntimeError,
        NotImplementedError,
        EOFError,
        OSError,
        ValueError,
        zlib.error,
        lzma.LZMAError,
    ) as error:
        raise damaged from error
    if not found:
        raise RequestError(422, "no image in the zip file", found=upload.name)
    return found


def _is_image_in_zip(name: str) -> bool:
    """Whether a member is called like an image, and is none of what macOS adds to each."""
    path = PurePosixPath(name)
    return is_image(Path(path.name)) and not name.endswith("/") and "__MACOSX" not in path.parts and path.name[0] != "."


def _too_many(limits: Limits) -> RequestError:
    return RequestError(413, "too many images in one request", expected=f"at most {limits.files}")


async def _limited(request: Request, limit: int, came: Callable[[int], None]) -> AsyncGenerator[bytes, None]:
    """The body, whose length is counted and not believed; ``came`` is told how much of it has come."""
    refusal = RequestError(413, "the upload is too large", expected=f"at most {megabytes(limit)} in all")
    announced = request.headers.get("content-length", "")
    if announced.isdigit() and int(announced) > limit:
        raise refusal
    seen = 0
    async for piece in request.stream():
        seen += len(piece)
        if seen > limit:
            raise refusal
        came(seen)
        yield piece


def shown_name(name: str) -> str:
    """The last part of a file name, as text that can be shown: no folder, no control character, not endless."""
    last = printable(name.replace("\\", "/").rstrip("/").rpartition("/")[2].encode("utf-8", "replace").decode())
    return (last if len(last) <= _NAME else f"{last[: _NAME // 2]}...{last[-_NAME // 2 + 3 :]}") or "without a name"


def megabytes(count: int) -> str:
    """Bytes as a person reads them."""
    return f"{count / (1 << 20):.0f} MB"


def find_cells(
    uploads: Sequence[Upload], limits: Limits, check: Callable[[], None], *, red_cells: bool = False
) -> list[Found]:
    """The cell in each upload, in order, and the red cells around it where asked for; a bad one stops no other.

    ``check`` is called before each, and may raise to end the work.
    """
    found, pixels = [], 0
    for upload in uploads:
        check()
        keys: tuple[str, ...] = (hash_content(upload.content),)
        header = read_header(upload.content)
        pixels += min(header.pixels, limits.pixels)
        try:
            _check(upload, header, pixels, limits)
            rgb = decode_image(upload.content)
            keys = (*keys, pixel_key(upload.content))
        except CellError as error:
            found.append(Found(upload.name, None, keys, "read", format_error(error)))
            continue
        try:
            found.append(Found(upload.name, make_cell(rgb, red_cells=red_cells), keys))
        except CellError as error:
            # Its advice, to give a mask, is for the command line.
            found.append(Found(upload.name, None, keys, "cell", format_error(CellError(error.what, found=error.found))))
    return found


def _check(upload: Upload, header: Header, pixels: int, limits: Limits) -> None:
    if len(upload.content) > limits.file_bytes:
        raise CellError(
            "the file is too large", found=megabytes(len(upload.content)), expected=megabytes(limits.file_bytes)
        )
    if header.pixels > limits.pixels:
        raise CellError(
            "too large for an image of a cell",
            found=f"{header.width} x {header.height} pixels",
            expected=f"at most {limits.pixels / 1e6:.0f} million",
        )
    if pixels > limits.request_pixels:
        raise CellError("too many pixels in one request", do="Send this image in another one.")


def format_error(error: FusionError) -> str:
    """An error in one line."""
    parts = [error.what, error.found and f"found {error.found}", error.expected and f"expected {error.expected}"]
    return "; ".join(part for part in parts if part) + (f". {error.do}" if error.do else "")
