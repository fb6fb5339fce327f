"""How a picture was made, inside the picture: written with it, read back by `inspect`, repeated by `--from-image`.

In: a finished request. Out: text chunks of a PNG (EXIF of a JPEG or WebP; a `.json` beside other formats, and
beside a JPEG whose record is longer than it can hold):

    dimoo        JSON: the whole request with every default resolved, seed, checkpoint, versions, seconds
    parameters   the lines that A1111, Forge, SD.Next and Civitai show

Input pictures are recorded by file name and SHA-256, and checked when a request is repeated.
"""

from __future__ import annotations

import dataclasses
import functools
import hashlib
import json
import os
import platform
import re
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from PIL import Image
from PIL.PngImagePlugin import PngInfo

from dimoo.pipeline import Result
from dimoo.sampling.policies import DualCache, MLCache, NoCache, Reuse, RevealAware
from dimoo.sampling.settings import ImageSettings
from dimoo.tasks.base import Defaults, Picture, PictureOptions, Task, TextOptions
from dimoo.tasks.edit import Edit
from dimoo.tasks.paint import Inpaint, Outpaint
from dimoo.tasks.text_to_image import TextToImage
from dimoo.tasks.understand import Message, Understand
from dimoo.tokenizers.resize import open_picture

KEY = "dimoo"
USER_COMMENT, EXIF_IFD = 0x9286, 0x8769
JPEG_ROOM = 65_000  # bytes of EXIF: a JPEG holds 65,533

TASKS: dict[str, type[Any]] = {
    "t2i": TextToImage,
    "edit": Edit,
    "inpaint": Inpaint,
    "outpaint": Outpaint,
    "understand": Understand,
}
POLICIES: dict[str, type[Any]] = {
    "none": NoCache,
    "ml_cache": MLCache,
    "reveal_aware": RevealAware,
    "dual": DualCache,
}
PARTS: dict[str, type[Any]] = {
    "picture_options": PictureOptions,
    "text_options": TextOptions,
    "message": Message,
    "reuse": Reuse,
}
VERSIONS = ("dimoo", "torch", "diffusers", "transformers", "tokenizers", "pillow")


@dataclass(frozen=True, kw_only=True)
class Source:
    """An input picture's file name and the SHA-256 of its bytes."""

    file: str
    sha256: str

    @classmethod
    def of(cls, path: Path) -> Source:
        return cls(file=path.name, sha256=hashlib.sha256(path.read_bytes()).hexdigest())


class Album:
    """The pictures that a run opened, and the files they came from."""

    def __init__(self) -> None:
        self._sources: list[tuple[Picture, Source]] = []

    def open(self, path: str | Path) -> Picture:
        """As `open_picture`; ValueError if it cannot be read."""
        picture = open_picture(path)
        self._sources.append((picture, Source.of(Path(path))))
        return picture

    def source(self, picture: Picture) -> Source:
        for known, source in self._sources:
            if known is picture:
                return source
        return Source(file="", sha256=hashlib.sha256(picture.tobytes()).hexdigest())

    def finder(self, folders: tuple[Path, ...]) -> Callable[[Source], Picture]:
        """Opens a recorded picture: the first file of its name in these folders whose bytes are the recorded ones."""

        def find(source: Source) -> Picture:
            paths = [folder / source.file for folder in folders if source.file and (folder / source.file).is_file()]
            for path in paths:
                if Source.of(path).sha256 == source.sha256:
                    return self.open(path)
            if paths:
                raise ValueError(f"{paths[0]} is not the picture that was used: its bytes have changed")
            if not source.file:
                raise ValueError("the input picture was not a file when this was made: give it on the command line")
            places = ", ".join(str(folder) for folder in folders)
            raise ValueError(f"the input picture {source.file!r} is needed again and lies in none of: {places}")

        return find


def request_to_json(request: Task, source: Callable[[Picture], Source]) -> dict[str, Any]:
    """A request as JSON: {"task": name, field: value, ...}, pictures by their source."""
    names = {kind: name for name, kind in TASKS.items()}
    if type(request) not in names:
        raise ValueError(f"{type(request).__name__} is not one of the tasks {', '.join(TASKS)}")
    return {"task": names[type(request)], **_fields(request, source)}


def request_from_json(
    values: Mapping[str, Any], find: Callable[[Source], Picture], *, instead: Mapping[str, Any] | None = None
) -> Task:
    """The inverse; the fields in `instead` replace recorded ones. ValueError names what is unknown or changed."""
    name = values.get("task")
    if name not in TASKS:
        raise ValueError(f"unknown task {name!r}; known are {', '.join(TASKS)}")
    kept = {key: value for key, value in values.items() if key != "task"}
    return _build(TASKS[name], kept, find, instead or {})


def resolved(request: Task, defaults: Defaults) -> Task:
    """The same request with nothing left to a checkpoint's defaults: it repeats even where those change."""
    if isinstance(request, Understand):
        return dataclasses.replace(request, options=_resolved_text(request.options, defaults))
    if not isinstance(request, TextToImage | Edit | Inpaint | Outpaint):
        return request
    settings = request.options.settings(defaults, edit=isinstance(request, Edit))
    scale, image = defaults.cfg_scale, request.options.cfg_img
    if isinstance(request, Edit):
        scale, image = defaults.edit_cfg_scale, defaults.edit_cfg_img if image is None else image
    options = dataclasses.replace(
        request.options,
        steps=settings.steps,
        noise=settings.noise,
        cfg_scale=scale if request.options.cfg_scale is None else request.options.cfg_scale,
        cfg_img=image,
        top_p=1.0 if settings.top_p is None else settings.top_p,
        schedule=settings.schedule,
        entropy_bound=settings.entropy_bound,
        policy=settings.policy,
        reuse=settings.reuse,
        preset=None,
    )
    request = dataclasses.replace(request, options=options)
    if isinstance(request, Edit):
        request = dataclasses.replace(request, ask_first=request.asked(defaults))
    if isinstance(request, TextToImage):
        size = (request.height or defaults.height, request.width or defaults.width)
        request = dataclasses.replace(request, height=size[0], width=size[1])
    return request


def record(
    result: Result,
    *,
    defaults: Defaults,
    checkpoint: Mapping[str, str],
    source: Callable[[Picture], Source],
    extra: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """Everything about a finished request that is worth keeping, as JSON."""
    assert isinstance(result.settings, ImageSettings) or result.text is not None, "a picture has picture settings"
    size = {} if result.picture is None else {"height": result.picture.height, "width": result.picture.width}
    return {
        "request": request_to_json(resolved(result.request, defaults), source),
        "checkpoint": dict(checkpoint),
        **size,
        "steps": result.steps,
        "seconds": round(result.seconds, 3),
        **(extra or {}),
        "versions": dict(versions()),
    }


@functools.cache
def versions() -> Mapping[str, str]:
    """Of what a picture depends on; looked up once, because looking takes milliseconds."""
    found = {"python": platform.python_version()}
    for name in VERSIONS:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            from dimoo import __version__

            found[name] = __version__ if name == "dimoo" else "not installed"
    return found


def fingerprint(folder: Path) -> str:
    """A checkpoint's identity, quick for any size: SHA-256 of names, sizes and both ends of its weight files."""
    digest = hashlib.sha256()
    for file in sorted([*folder.glob("*.safetensors"), *folder.glob("vqvae/*.safetensors")]):
        size = file.stat().st_size
        digest.update(f"{file.relative_to(folder)} {size}\n".encode())
        with file.open("rb") as opened:
            digest.update(opened.read(1 << 20))
            opened.seek(max(0, size - (1 << 20)))
            digest.update(opened.read())
    return digest.hexdigest()[:16]


def parameters_line(made: Mapping[str, Any]) -> str:
    """The lines of A1111's `parameters`: the prompt, then `key: value` pairs."""
    request = made["request"]
    options = request.get("options") or {}
    pairs = {
        "Steps": options.get("steps"),
        "Sampler": f"DiMOO {options.get('schedule', '')}".strip(),
        "CFG scale": options.get("cfg_scale"),
        "Image CFG scale": options.get("cfg_img"),
        "Seed": request.get("seed"),
        "Size": f"{made['width']}x{made['height']}",
        "Model hash": made["checkpoint"].get("fingerprint"),
        "Model": made["checkpoint"].get("name"),
        "Version": f"dimoo {made['versions']['dimoo']}",
    }
    listed = ", ".join(f"{key}: {_quoted(value)}" for key, value in pairs.items() if value is not None)
    return f"{request.get('prompt', '')}\n{listed}"


def save_picture(picture: Picture, path: Path, made: Mapping[str, Any] | None = None) -> None:
    """Write a picture whole or not at all. `made` goes inside, or beside it where the format holds no text."""
    suffix = path.suffix.lower()
    if suffix not in Image.registered_extensions():
        raise ValueError(f"{path}: pictures are written as .png, .jpg or .webp, not {suffix or 'without a suffix'}")
    values: dict[str, Any] = {}
    beside = made is not None and suffix not in (".png", ".jpg", ".jpeg", ".webp")
    if suffix in (".jpg", ".jpeg"):
        values["quality"] = 95
        picture = picture.convert("RGB")
    elif suffix == ".webp":
        values["lossless"] = True
    if made is not None and suffix == ".png":
        values["pnginfo"] = _chunks(made)
    elif made is not None and not beside:
        exif = _exif(picture, made)
        beside = suffix != ".webp" and len(exif.tobytes()) > JPEG_ROOM
        values |= {} if beside else {"exif": exif}
    with replacing(path) as partial:
        picture.save(partial, format=Image.registered_extensions()[suffix], **values)
    companion = path.with_name(path.name + ".json")
    if beside:
        write_text(companion, json.dumps(made, indent=1, ensure_ascii=False) + "\n")
    elif companion.is_file() and _holds_record(companion):  # of the picture that was here before
        companion.unlink()


def read_record(path: Path) -> dict[str, Any]:
    """What `record` kept. ValueError if the file is no picture or holds no record."""
    open_picture(path)  # the usual errors of a file that is no picture
    with Image.open(path) as opened:
        text = opened.info.get(KEY)
        comment = opened.getexif().get_ifd(EXIF_IFD).get(USER_COMMENT)
    if text is None and isinstance(comment, bytes) and comment.startswith(b"UNICODE\0"):
        text = _from_comment(comment)
    beside = path.with_name(path.name + ".json")
    if text is None and beside.is_file():
        text = beside.read_text()
    if text is None:
        raise ValueError(f"{path} holds no record of how it was made")
    try:
        made = json.loads(text)
    except json.JSONDecodeError as error:
        raise ValueError(f"{path}: the record is damaged: {error}") from error
    if not isinstance(made, dict) or not isinstance(made.get("request"), dict):
        raise ValueError(f"{path}: the record holds no request")
    return made


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """A temporary file in the same folder, renamed to `path` if all goes well and removed if not."""
    check_writable(path.parent)
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.stem[:80]}.", suffix=path.suffix)
    os.close(handle)
    partial = Path(name)
    try:
        yield partial
        mask = os.umask(0)
        os.umask(mask)
        partial.chmod(0o666 & ~mask)  # mkstemp allows the owner only
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)


def _holds_record(file: Path) -> bool:
    try:
        found = json.loads(file.read_text())
    except ValueError:
        return False
    return isinstance(found, dict) and {"request", "checkpoint", "versions"} <= set(found)


def write_text(path: Path, text: str) -> None:
    with replacing(path) as partial:
        partial.write_text(text)


def check_writable(folder: Path) -> None:
    """Make the folder. ValueError if it can't be made or written to."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ValueError(f"the output folder {folder} can't be made: {error.strerror}") from error
    if not os.access(folder, os.W_OK | os.X_OK):
        raise ValueError(f"the output folder {folder} can't be written to")


def _fields(value: Any, source: Callable[[Picture], Source]) -> dict[str, Any]:
    return {field.name: _to_json(getattr(value, field.name), source) for field in dataclasses.fields(value)}


def _to_json(value: Any, source: Callable[[Picture], Source]) -> Any:
    if isinstance(value, Image.Image):
        return dataclasses.asdict(source(value))
    if isinstance(value, tuple | list):
        return [_to_json(part, source) for part in value]
    if not dataclasses.is_dataclass(value) or isinstance(value, type):
        return value
    for kinds, key in ((POLICIES, "cache"), (PARTS, "part")):
        for name, kind in kinds.items():
            if type(value) is kind:
                return {key: name, **_fields(value, source)}
    raise ValueError(f"{type(value).__name__} can't be recorded")


def _build(
    kind: type[Any], values: Mapping[str, Any], find: Callable[[Source], Picture], instead: Mapping[str, Any]
) -> Any:
    known = {field.name for field in dataclasses.fields(kind)}
    if unknown := set(values) - known:
        raise ValueError(f"{kind.__name__} has no {', '.join(sorted(unknown))}; it has {', '.join(sorted(known))}")
    try:
        kept = {key: _from_json(value, find) for key, value in values.items() if key not in instead}
        return kind(**kept, **instead)
    except TypeError as error:
        raise ValueError(f"the record of a {kind.__name__} is incomplete: {error}") from error


def _from_json(value: Any, find: Callable[[Source], Picture]) -> Any:
    if isinstance(value, list):
        return tuple(_from_json(part, find) for part in value)
    if not isinstance(value, dict):
        return value
    if set(value) == {"file", "sha256"}:
        return find(Source(**value))
    for kinds, key in ((POLICIES, "cache"), (PARTS, "part")):
        if key in value:
            name = value[key]
            if name not in kinds:
                raise ValueError(f"unknown {key} {name!r}; known are {', '.join(kinds)}")
            return _build(kinds[name], {name: part for name, part in value.items() if name != key}, find, {})
    raise ValueError(f"a record can't hold {value!r}")


def _resolved_text(options: TextOptions, defaults: Defaults) -> TextOptions:
    settings = options.settings(defaults)
    return dataclasses.replace(
        options,
        answer_length=options.length(defaults),
        block_length=settings.block_length,
        steps=settings.steps,
        threshold=settings.threshold,
        policy=settings.policy,
        preset=None,
    )


def _quoted(value: Any) -> str:
    """Values that hold a comma, a colon or a line break are JSON strings, as those programs read them."""
    text = str(value)
    return json.dumps(text, ensure_ascii=False) if re.search(r"[,:\n]", text) else text


def _chunks(made: Mapping[str, Any]) -> PngInfo:
    chunks = PngInfo()
    chunks.add_text("parameters", parameters_line(made))
    chunks.add_itxt(KEY, json.dumps(made, ensure_ascii=False))
    return chunks


def _exif(picture: Picture, made: Mapping[str, Any]) -> Image.Exif:
    """The lines of `parameters` with the record after them, as UserComment: other programs read the former."""
    exif = Image.Exif()
    text = f"{parameters_line(made)}\n{KEY}: {json.dumps(made, ensure_ascii=False)}"
    exif.get_ifd(EXIF_IFD)[USER_COMMENT] = b"UNICODE\0" + text.encode("utf-16-be")
    return exif


def _from_comment(comment: bytes) -> str | None:
    text = comment[8:].decode("utf-16-be", errors="replace")
    _, found, record_text = text.rpartition(f"\n{KEY}: ")
    return record_text if found else None
