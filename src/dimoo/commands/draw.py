"""Commands that make pictures: t2i, edit, inpaint, outpaint. Heavy imports wait for the call."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from cyclopts import Parameter

from dimoo.commands.options import PICTURE, SAVING, WHERE, Flag, PictureFlags, Saving, Where

EditName = Literal[  # the rows of `tasks.edit.EDIT_TYPES`, listed here so that --help stays quick (a test compares)
    "edit",
    "edit_add",
    "edit_remove",
    "edit_replace",
    "edit_background",
    "edit_text_transfer",
    "canny_control",
    "hed_control",
    "depth_control",
    "openpose_control",
    "canny_pred",
    "hed_pred",
    "depth_pred",
    "openpose_pred",
    "subject_driven",
    "image_ref_transfer",
    "multi_view_back",
    "multi_view_left",
    "multi_view_right",
    "multi_view_top",
    "multi_view_bottom",
]
Four = Annotated[tuple[int, int, int, int] | None, Parameter(negative="")]


def t2i(
    prompt: str | None = None,
    /,
    *,
    height: int | None = None,
    width: int | None = None,
    transparent: Annotated[bool, Flag] = False,
    sampling: PictureFlags = PICTURE,
    saving: Saving = SAVING,
    where: Where = WHERE,
) -> None:
    """Draw a picture from words, and print where it is.

    Parameters
    ----------
    prompt
        What to draw.
    height
        In pixels, a multiple of the VQ model's factor.
    width
        In pixels, a multiple of the VQ model's factor.
    transparent
        Cut the drawing out of its plain background.
    """
    from dimoo.commands.session import draw, repeated, session
    from dimoo.tasks.text_to_image import TextToImage

    _need(saving, prompt=prompt)
    with session(where) as one:
        values = {"prompt": prompt, "height": height, "width": width, "seed": sampling.seed}
        request, made = repeated(TextToImage, saving, one, values=values, options=sampling.given())
        draw(one, request, "t2i", saving, transparent=transparent or bool(made.get("transparent")))


def edit(
    image: Path | None = None,
    prompt: str | None = None,
    /,
    *,
    type: EditName | None = None,
    reference: Path | None = None,
    height: int | None = None,
    width: int | None = None,
    ask_first: str | None = None,
    cfg_img: float | None = None,
    sampling: PictureFlags = PICTURE,
    saving: Saving = SAVING,
    where: Where = WHERE,
) -> None:
    """Change a picture as the words say, or make one from a control map, a subject or a style.

    Parameters
    ----------
    image
        The picture to edit, control by, or predict from.
    prompt
        What to do; types with fixed words (predictions, views, style by reference) need none.
    type
        The kind of edit [default: edit].
    reference
        The style picture of image_ref_transfer.
    height
        Of the new picture; without it, as the input.
    width
        Of the new picture; without it, as the input.
    ask_first
        A question that the model answers itself from the picture, `{prompt}` standing for the words: its answer is
        added to them. Without it, what the checkpoint recommends for the type; "" asks nothing.
    cfg_img
        How strongly the input picture is followed.
    """
    from dimoo.commands.session import draw, repeated, session
    from dimoo.tasks.edit import Edit

    _need(saving, image=image)
    with session(where) as one:
        values = {
            "picture": None if image is None else one.album.open(image),
            "prompt": prompt,
            "type": type,
            "reference": None if reference is None else one.album.open(reference),
            "height": height,
            "width": width,
            "ask_first": ask_first,
            "seed": sampling.seed,
        }
        options = sampling.given() | ({} if cfg_img is None else {"cfg_img": cfg_img})
        request, _ = repeated(Edit, saving, one, values=values, options=options)
        draw(one, request, "edit", saving)


def inpaint(
    image: Path | None = None,
    prompt: str | None = None,
    /,
    *,
    mask: Path | None = None,
    box: Four = None,
    ratios: Annotated[tuple[float, float] | None, Parameter(negative="")] = None,
    dilation: int | None = None,
    softness: int | None = None,
    no_paste: Annotated[bool, Flag] = False,
    sampling: PictureFlags = PICTURE,
    saving: Saving = SAVING,
    where: Where = WHERE,
) -> None:
    """Draw a part of a picture anew; the rest keeps its exact pixels.

    Parameters
    ----------
    image
        The picture.
    prompt
        What the whole picture shall show.
    mask
        A picture of the same size: what is white, or transparent, is drawn.
    box
        TOP LEFT HEIGHT WIDTH of a rectangle in pixels, instead of a mask.
    ratios
        HEIGHT WIDTH of a centred rectangle as shares of the picture, instead of a mask.
    dilation
        Grow the mask by so many pixels.
    softness
        Width of the seam in pixels.
    no_paste
        Keep the decoded pixels outside the mask, too.
    """
    from dimoo.commands.session import draw, repeated, session
    from dimoo.tasks.paint import Inpaint

    _need(saving, image=image, prompt=prompt)
    with session(where) as one:
        values = {
            "picture": None if image is None else one.album.open(image),
            "prompt": prompt,
            "mask": None if mask is None else one.album.open(mask),
            "box": box,
            "ratios": ratios,
            "dilation": dilation,
            "softness": softness,
            "paste": False if no_paste else None,
            "seed": sampling.seed,
        }
        either = ("mask", "box", "ratios")
        request, _ = repeated(Inpaint, saving, one, values=values, options=sampling.given(), either=either)
        draw(one, request, "inpaint", saving)


def outpaint(
    image: Path | None = None,
    prompt: str | None = None,
    /,
    *,
    expand: Four = None,
    softness: int | None = None,
    no_paste: Annotated[bool, Flag] = False,
    sampling: PictureFlags = PICTURE,
    saving: Saving = SAVING,
    where: Where = WHERE,
) -> None:
    """Grow a picture's canvas and draw the new border.

    Parameters
    ----------
    image
        The picture.
    prompt
        What the whole picture shall show.
    expand
        TOP BOTTOM LEFT RIGHT: pixels to add at each side, rounded up to whole cells.
    softness
        Width of the seam in pixels.
    no_paste
        Keep the decoded pixels of the old part, too.
    """
    from dimoo.commands.session import draw, repeated, session
    from dimoo.tasks.paint import Outpaint

    _need(saving, image=image, prompt=prompt, expand=expand)
    with session(where) as one:
        values = {
            "picture": None if image is None else one.album.open(image),
            "prompt": prompt,
            "expand": expand,
            "softness": softness,
            "paste": False if no_paste else None,
            "seed": sampling.seed,
        }
        request, _ = repeated(Outpaint, saving, one, values=values, options=sampling.given())
        draw(one, request, "outpaint", saving)


NEEDED = {"prompt": "a PROMPT", "image": "an IMAGE", "expand": "--expand TOP BOTTOM LEFT RIGHT"}


def _need(saving: Saving, **given: object) -> None:
    """ValueError if something is missing that no repeated picture supplies."""
    missing = [NEEDED[name] for name, value in given.items() if value is None]
    if missing and saving.from_image is None:
        raise ValueError(f"give {' and '.join(missing)}, or a picture to repeat with --from-image FILE")
