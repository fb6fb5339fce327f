"""One schema for an example of any task, whatever world it comes from.

A record holds pictures (uint8, height x width x 3) as drawn, or grids of codes (uint16, rows x columns) once tokenised;
one record does not mix the two. Records of one family share arrays, so that a picture is tokenised once (by `id`).
"""

from dataclasses import dataclass

import numpy as np

TASKS = ("text_to_image", "edit", "inpaint", "outpaint", "understand", "chat")
EDIT_KINDS = (
    "edit_add", "edit_remove", "edit_replace", "edit_background", "edit_text_transfer", "edit",
    "canny_control", "canny_pred", "hed_control", "hed_pred", "depth_control", "depth_pred",
    "subject_driven", "image_ref_transfer",
)  # fmt: skip

_DRAWS = ("text_to_image", "edit", "inpaint", "outpaint")
_MASKED = ("inpaint", "outpaint")


@dataclass(frozen=True, kw_only=True, eq=False)
class Record:
    """What is asked and what is right.

    - `kind`: for task "edit" one of EDIT_KINDS; for "understand" the kind of question; else free.
    - `prompt`: the user's words.
    - `images`: the inputs in page order. For inpainting and outpainting the one input is the picture whose masked
      part is to be drawn anew; what lies under the mask there is to be ignored.
    - `answer_image` / `answer_text`: the right answer, exactly one of the two.
    - `mask`: bool, True where to draw; as large as the answer image, in pixels or codes.
    - `history`: finished (question, answer) turns before this one.
    """

    task: str
    kind: str = ""
    prompt: str
    images: tuple[np.ndarray, ...] = ()
    answer_image: np.ndarray | None = None
    answer_text: str | None = None
    mask: np.ndarray | None = None
    history: tuple[tuple[str, str], ...] = ()

    def __post_init__(self) -> None:
        if self.task not in TASKS:
            raise ValueError(f"unknown task {self.task!r}; choose from {', '.join(TASKS)}")
        if self.task == "edit" and self.kind not in EDIT_KINDS:
            raise ValueError(f"unknown edit kind {self.kind!r}; choose from {', '.join(EDIT_KINDS)}")
        self._check_answer()
        self._check_arrays()
        self._check_mask()

    def _check_answer(self) -> None:
        if (self.answer_image is None) == (self.answer_text is None):
            raise ValueError(f"a {self.task} record needs an answer image or an answer text, and not both")
        if (self.task in _DRAWS) != (self.answer_image is not None):
            raise ValueError(f"a {self.task} record cannot be answered with {self._answer_form()}")
        if bool(self.images) == (self.task in ("text_to_image", "chat")):
            raise ValueError(f"a {self.task} record cannot have {len(self.images)} input images")

    def _answer_form(self) -> str:
        return "text" if self.answer_image is None else "an image"

    def _check_arrays(self) -> None:
        arrays = [*self.images, *([] if self.answer_image is None else [self.answer_image])]
        forms = {_form(array) for array in arrays}
        if len(forms) > 1:
            raise ValueError(f"a record holds pictures or codes, not both: got {', '.join(sorted(forms))}")

    def _check_mask(self) -> None:
        if (self.mask is not None) != (self.task in _MASKED):
            raise ValueError(f"a {self.task} record {'needs a' if self.mask is None else 'cannot have a'} mask")
        if self.mask is None or self.answer_image is None:
            return
        if self.mask.dtype != np.bool_ or self.mask.shape != self.answer_image.shape[:2]:
            wanted = self.answer_image.shape[:2]
            raise ValueError(f"a mask is bool {wanted}, got {self.mask.dtype} {self.mask.shape}")
        if not self.mask.any():
            raise ValueError("a mask marks nothing to draw")


def _form(array: np.ndarray) -> str:
    if array.dtype == np.uint8 and array.ndim == 3 and array.shape[2] == 3:
        return "picture"
    if array.dtype == np.uint16 and array.ndim == 2:
        return "codes"
    raise ValueError(f"neither a uint8 HxWx3 picture nor a uint16 RxC code grid: {array.dtype} {array.shape}")
