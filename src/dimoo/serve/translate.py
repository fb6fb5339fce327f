"""From bodies to tasks: what a request means for this checkpoint, within the server's limits.

In: a validated body and its decoded pictures. Out: tasks of the package, one a picture or answer wanted. What cannot
be met is an `ApiError` that names the parameter.
"""

from __future__ import annotations

import logging
import re
import secrets
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from PIL import Image

from dimoo.sampling.policies import MLCache
from dimoo.serve.conversation import Conversation
from dimoo.serve.errors import invalid
from dimoo.serve.pictures import normalise_mask
from dimoo.serve.schema import SEED_MAX, ChatBody, EditBody, GenerationBody, Sampling
from dimoo.serve.settings import Limits
from dimoo.tasks.base import Defaults, PictureOptions, TextOptions, Tools
from dimoo.tasks.controls import canny
from dimoo.tasks.edit import EDIT_TYPES, Edit
from dimoo.tasks.paint import Inpaint, Outpaint
from dimoo.tasks.text_to_image import TextToImage
from dimoo.tasks.understand import Understand
from dimoo.tokenizers.resize import fit

log = logging.getLogger(__name__)
AnyTask = TextToImage | Edit | Inpaint | Outpaint | Understand

# Share of the checkpoint's own steps that a quality takes.
QUALITY_STEPS = {"low": 0.25, "medium": 0.5, "high": 1, "auto": 1, "standard": 1, "hd": 2, "xhigh": 2, "max": 2}
_SIZE = re.compile(r"([1-9]\d{0,4})x([1-9]\d{0,4})", re.ASCII)


def task_name(task: object) -> str:
    """The name of a task in metrics and metadata."""
    match task:
        case TextToImage():
            return "text_to_image"
        case Edit():
            return "edit"
        case Inpaint():
            return "inpaint"
        case Outpaint():
            return "outpaint"
        case Understand():
            return "understand"
    raise AssertionError(f"the server makes no {type(task).__name__}")


@dataclass(frozen=True, kw_only=True, eq=False)
class Translator:
    """Knows the checkpoint and the limits."""

    tools: Tools
    limits: Limits

    @property
    def defaults(self) -> Defaults:
        return self.tools.defaults

    @property
    def output_pixels(self) -> int:
        return self.limits.output_pixels or 4 * self.defaults.height * self.defaults.width

    def generation(self, body: GenerationBody) -> list[AnyTask]:
        self.check_words(body.prompt)
        height, width = self.size(body)
        if height is None:
            self.check_size(self.defaults.height, self.defaults.width, "size")
        task = TextToImage(prompt=body.prompt, height=height, width=width, options=self.options(body))
        return self.seeds(task, body.seed, body.n)

    def edit(self, body: EditBody, pictures: Sequence[Image.Image], mask: Image.Image | None) -> list[AnyTask]:
        """Outpainting if `expand` is given, inpainting if a mask, a box or (without a type) the picture's own
        transparency says where, else an edit of the named type."""
        self.check_words(body.prompt)
        if not pictures:
            raise invalid("an edit needs a picture in the field 'image'", "image", "missing_image")
        first = pictures[0]
        own = first.mode == "RGBA" and first.getchannel("A").getextrema()[0] == 0 and body.edit_type is None
        painted = "expand" if body.expand is not None else "box" if body.box is not None else "mask"
        if (body.expand is not None or body.box is not None or mask is not None) and body.edit_type is not None:
            raise invalid(f"{painted} says what is drawn anew: leave edit_type out", "edit_type")
        if body.expand is not None:
            return self.seeds(self._outpaint(body, pictures, mask), body.seed, body.n)
        if mask is not None or body.box is not None or (own and len(pictures) == 1):
            return self.seeds(self._inpaint(body, pictures, mask), body.seed, body.n)
        return self.seeds(self._edit(body, pictures), body.seed, body.n)

    def _outpaint(self, body: EditBody, pictures: Sequence[Image.Image], mask: Image.Image | None) -> Outpaint:
        assert body.expand is not None, "outpainting is told how far"
        if mask is not None or body.box is not None or len(pictures) != 1:
            raise invalid("outpainting takes one picture and no mask or box", "expand")
        if self.size(body) != (None, None):
            raise invalid("expand says how large the picture becomes: leave the size out", "size")
        if min(body.expand) < 0 or max(body.expand) > 65536:
            raise invalid(f"expand {body.expand}: each side must lie in 0 .. 65536", "expand")
        picture = pictures[0]
        top, bottom, left, right = body.expand
        self.check_size(picture.height + top + bottom, picture.width + left + right, "expand")
        return Outpaint(
            picture=picture.convert("RGB"),
            prompt=body.prompt,
            expand=body.expand,
            softness=body.softness,
            paste=body.paste,
            options=self.options(body),
        )

    def _inpaint(self, body: EditBody, pictures: Sequence[Image.Image], mask: Image.Image | None) -> Inpaint:
        if len(pictures) != 1:
            raise invalid("a mask goes with one picture", "image", "too_many_images")
        if mask is not None and body.box is not None:
            raise invalid("give a mask or a box, not both", "box")
        picture = pictures[0]
        if mask is None and body.box is None:
            mask = picture
        if mask is not None and mask.size != picture.size:
            raise invalid(
                f"the mask is {mask.width}x{mask.height}, the picture {picture.width}x{picture.height}: "
                "they must be of one size",
                "mask",
                "mask_size_mismatch",
            )
        white = None if mask is None else normalise_mask(mask, body.mask_polarity)
        picture = picture.convert("RGB")
        height, width = self.size(body)
        if height is not None and width is not None and (height, width) != (picture.height, picture.width):
            if body.box is not None:
                raise invalid("a box counts the picture's own pixels: leave the size out", "size")
            picture = fit(picture, height, width)
            white = None if white is None else fit(white, height, width)
        self.check_size(picture.height, picture.width, "image")
        if white is not None and white.getextrema()[1] == 0:  # type: ignore[operator]
            raise invalid("the mask marks nothing: transparent (or white) pixels are drawn anew", "mask", "empty_mask")
        return Inpaint(
            picture=picture,
            prompt=body.prompt,
            mask=white,
            box=body.box,
            dilation=body.dilation,
            softness=body.softness,
            paste=body.paste,
            options=self.options(body),
        )

    def _edit(self, body: EditBody, pictures: Sequence[Image.Image]) -> Edit:
        kind = body.edit_type or ("image_ref_transfer" if len(pictures) == 2 else "edit")
        if kind not in EDIT_TYPES:
            raise invalid(f"unknown edit_type {kind!r}; known are {', '.join(EDIT_TYPES)}", "edit_type")
        wanted = EDIT_TYPES[kind].pictures
        if len(pictures) != wanted:
            raise invalid(f"{kind} takes {wanted} pictures, got {len(pictures)}", "image", "wrong_number_of_images")
        if EDIT_TYPES[kind].words is None and not body.prompt.strip():
            raise invalid(f"{kind} needs an instruction", "prompt", "missing_prompt")
        picture = pictures[0]
        if body.from_photo:
            if kind != "canny_control":
                raise invalid("from_photo makes edge maps: it goes with edit_type canny_control", "from_photo")
            try:
                picture = canny(picture)
            except ValueError as error:  # without OpenCV
                raise invalid(str(error), "from_photo", "unsupported_parameter") from error
        height, width = self.size(body)
        if height is None:
            self.check_size(self.defaults.edit_area, self.defaults.edit_area, "size")
        return Edit(
            picture=picture,
            prompt=body.prompt,
            type=kind,
            reference=pictures[1] if wanted == 2 else None,
            height=height,
            width=width,
            options=self.options(body, edit=True),
        )

    def chat_text(self, body: ChatBody, talk: Conversation) -> list[AnyTask]:
        question, history = talk.words, talk.history
        if talk.system and history:
            history = (replace(history[0], words=self.after_system(talk.system, history[0].words)), *history[1:])
        elif talk.system:
            question = self.after_system(talk.system, question)
        task = Understand(
            question=question,
            pictures=talk.pictures,
            history=history,
            interleaved=body.interleaved,
            options=self.text_options(body),
        )
        return self.seeds(task, body.seed, body.n)

    def after_system(self, system: str, words: str) -> str:
        """Words with those of a system message before them; where both are too long for a prompt, these are cut."""
        text = self.tools.text
        room = self.defaults.prompt_limit - len(self.tools.prompt("understanding", f"\n{words}"))
        ids = text.encode(system)
        if len(ids) <= room:
            return f"{system}\n{words}"
        log.warning("the system message is too long for a prompt of %d ids: cut", self.defaults.prompt_limit)
        kept = text.decode(ids[: max(0, room)]).rstrip("\ufffd").strip()
        return f"{kept}\n{words}" if kept else words

    def chat_picture(self, body: ChatBody, words: str, pictures: Sequence[Image.Image]) -> list[AnyTask]:
        """A picture from words, or an edit of the pictures given."""
        sampling: dict[str, Any] = {"size": body.size, "cfg_scale": body.cfg_scale, "num_inference_steps": body.steps}
        sampling |= {"seed": body.seed, "n": body.n, "top_p": body.top_p, "preset": body.preset}
        sampling |= {} if body.temperature is None else {"temperature": body.temperature}
        if not pictures:
            return self.generation(GenerationBody.model_validate({"prompt": words, **sampling}))
        kind = body.edit_type or ("edit" if len(pictures) == 1 else "image_ref_transfer")
        return self.edit(EditBody.model_validate({"prompt": words, "edit_type": kind, **sampling}), pictures, None)

    def seeds(self, task: AnyTask, seed: int | None, n: int) -> list[AnyTask]:
        """The task n times, from `seed` (drawn by lot if there is none) upwards."""
        if n > self.limits.n:
            raise invalid(f"n {n} is more than {self.limits.n}", "n")
        start = secrets.randbelow(2**31) if seed is None else seed
        return [replace(task, seed=(start + i) % (SEED_MAX + 1)) for i in range(n)]

    def check_words(self, words: str, param: str = "prompt") -> None:
        if len(words) > self.limits.prompt_characters:
            raise invalid(
                f"{len(words)} characters are more than {self.limits.prompt_characters}",
                param,
                "string_above_max_length",
            )
        if any("\ud800" <= sign <= "\udfff" for sign in words):
            raise invalid("the text holds half a surrogate pair: it is no valid Unicode", param)

    def size(self, body: Sampling) -> tuple[int | None, int | None]:
        """(height, width) asked for; None leaves it to the task."""
        height, width = body.height, body.width
        if body.size not in (None, "auto"):
            if height is not None or width is not None:
                raise invalid("give size, or width and height, not both", "size")
            match = _SIZE.fullmatch(body.size or "")
            if match is None:
                raise invalid(f"size {body.size!r} is not auto or WIDTHxHEIGHT", "size")
            width, height = int(match[1]), int(match[2])
        if (height is None) != (width is None):
            raise invalid("give width and height together", "width" if width is None else "height")
        if height is not None and width is not None:
            factor = self.tools.image.factor
            if height % factor or width % factor:
                raise invalid(f"size {width}x{height}: both sides must be multiples of {factor}", "size")
            self.check_size(height, width, "size")
        return height, width

    def check_size(self, height: int, width: int, param: str) -> None:
        """A picture that is drawn on, or drawn, must not be larger than allowed, nor too thin."""
        if height * width > self.output_pixels:
            raise invalid(
                f"{width}x{height} pixels are more than the {self.output_pixels:,} that are drawn here; "
                "ask for a smaller size",
                param,
                "size_too_large",
            )
        if max(height, width) > 4 * min(height, width):
            raise invalid(f"{width}x{height} is too thin: sides may differ by a factor of 4", param)

    def options(self, body: Sampling, *, edit: bool = False) -> PictureOptions:
        """Sampling as asked for. More steps than the limit are refused; the checkpoint's own are cut to it."""
        if body.negative_prompt:
            raise invalid(
                "negative prompts are not supported by this model", "negative_prompt", "unsupported_parameter"
            )
        if body.lora:
            raise invalid("adapters are not loaded by request", "lora", "unsupported_parameter")
        if body.background == "transparent":
            raise invalid("pictures are opaque", "background", "unsupported_parameter")
        steps = body.num_inference_steps
        if steps is None and QUALITY_STEPS[body.quality] != 1:
            own = PictureOptions(preset=body.preset).settings(self.defaults, edit=edit).steps
            steps = max(1, round(own * QUALITY_STEPS[body.quality]))
        self.check_steps(steps, "num_inference_steps")
        policy = None
        if body.use_cache:
            policy = MLCache(
                cache_ratio=body.cache_ratio, warmup_ratio=body.warmup_ratio, refresh_interval=body.refresh_interval
            )
        options = PictureOptions(
            steps=steps,
            cfg_scale=self.scale(body),
            cfg_img=body.cfg_img,
            temperature=body.temperature,
            choice_temperature=body.choice_temperature,
            top_k=body.top_k,
            top_p=body.top_p,
            policy=policy,
            preset=body.preset,
        )
        if steps is None and options.settings(self.defaults, edit=edit).steps > self.limits.steps:
            options = replace(options, steps=self.limits.steps)
        return options

    def check_steps(self, steps: int | None, param: str) -> None:
        if steps is not None and steps > self.limits.steps:
            raise invalid(f"{steps} steps are more than {self.limits.steps}", param)

    def scale(self, body: Sampling) -> float | None:
        """cfg_scale in our meaning; diffusers' guidance scale is one more."""
        given = {
            name: value
            for name in ("cfg_scale", "guidance_scale", "true_cfg_scale")
            if (value := getattr(body, name)) is not None
        }
        if len(given) > 1:
            raise invalid(f"give one of {', '.join(given)}", next(iter(given)))
        if body.cfg_scale is not None:
            return body.cfg_scale
        return next(iter(given.values())) - 1 if given else None

    def text_options(self, body: ChatBody) -> TextOptions:
        """Length and steps that fit each other: whole blocks, and as many steps a block as the checkpoint takes."""
        defaults = self.defaults
        most = self.limits.answer_tokens or defaults.answer_length
        wanted = min(body.max_completion_tokens or body.max_tokens or most, most)
        block = min(defaults.block_length, wanted)
        length = wanted // block * block
        self.check_steps(body.steps, "steps")
        blocks = length // block
        options = TextOptions(
            answer_length=length,
            block_length=block,
            steps=None if body.steps is None else max(1, round(body.steps / blocks)) * blocks,
            temperature=body.temperature or 0.0,
            threshold=body.threshold,
            preset=body.preset,
        )
        settings = options.settings(defaults)
        if body.steps is None and settings.steps > max(blocks, self.limits.steps):
            steps = max(1, self.limits.steps // blocks) * blocks
            options = replace(options, steps=steps, threshold=settings.threshold)
        return options
