"""Our answers against those that the authors' code gave on the same weights (`dimoo parity FOLDER`).

In: a checkpoint folder in the authors' layout with golden.json, golden.safetensors and image.png. Out: one `Result` a
case. Everything runs in float32 on the CPU at temperature 0, through the same pages, samplers and caches as any other
use; the authors' choices that differ from our defaults are settings here.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import load_file
from torch import Tensor

from dimoo.diffusion.loss import IGNORE, masked_cross_entropy
from dimoo.model.checkpoint import load_config, load_model, read_json
from dimoo.model.transformer import Transformer
from dimoo.page.batch import pack
from dimoo.page.page import Page, picture_page, text_page
from dimoo.page.painting import centred_rectangle, mask_cells
from dimoo.page.rows import grid_to_rows, image_ids, rows_to_grid
from dimoo.sampling.guidance import Guided
from dimoo.sampling.image import fill_image
from dimoo.sampling.policies import MLCache, NoCache
from dimoo.sampling.settings import ImageSettings, TextSettings
from dimoo.sampling.text import fill_text
from dimoo.tokenizers.image import ImageTokenizer
from dimoo.tokenizers.resize import open_picture, to_pixels
from dimoo.vocab import Vocab


@dataclass(frozen=True, kw_only=True, eq=False)
class Result:
    """One case: what we produced, what the authors' code gave, the largest difference, and whether it passes."""

    name: str
    compared: str
    produced: Tensor
    expected: Tensor
    difference: float
    ok: bool
    seconds: float


@dataclass(frozen=True, kw_only=True, eq=False)
class Golden:
    """Everything that a case reads."""

    folder: Path
    vocab: Vocab
    model: Transformer
    image_tokenizer: ImageTokenizer
    settings: dict[str, dict[str, Any]]
    tensors: dict[str, Tensor]

    def tensor(self, case: str, name: str) -> Tensor:
        return self.tensors[f"{case}.{name}"]

    def ids(self, case: str, name: str) -> list[int]:
        values: list[int] = self.tensor(case, name).tolist()
        return values


def run(folder: str | Path) -> list[Result]:
    """Every case of a fixture folder, in its order. ValueError if the folder is none."""
    golden = load(Path(folder))
    return [_run_case(golden, name) for name in golden.settings]


def load(folder: Path) -> Golden:
    described = read_json(folder / "golden.json")
    if not (folder / "golden.safetensors").is_file():
        raise ValueError(f"{folder} is no parity fixture: it holds no golden.safetensors")
    ids = described["ids"]
    vocab = Vocab(
        size=load_config(folder).vocab_size,
        uncondition=Vocab.load(folder).uncondition,
        **{name: ids[name] for name in ("mask", "newline", "answer_start", "answer_end", "boi", "eoi", "image_offset")},
        answer_pad=ids["pad_answer"],
    )
    return Golden(
        folder=folder,
        vocab=vocab,
        model=load_model(folder, dtype=torch.float32),
        image_tokenizer=ImageTokenizer.load(folder, dtype=torch.float32),
        settings=described["cases"],
        tensors=load_file(folder / "golden.safetensors"),
    )


def _run_case(golden: Golden, name: str) -> Result:
    start = time.perf_counter()
    if name not in CASES:
        raise ValueError(f"unknown parity case {name!r}; known are {', '.join(CASES)}")
    compared, produced, expected, difference, limit = CASES[name](golden, name)
    return Result(
        name=name,
        compared=compared,
        produced=produced,
        expected=expected,
        difference=difference,
        ok=difference <= limit and produced.shape == expected.shape,
        seconds=time.perf_counter() - start,
    )


# What was compared, our answer, theirs, the largest difference, and the largest that passes.
Answer = tuple[str, Tensor, Tensor, float, float]


def _ids_answer(compared: str, produced: Tensor, expected: Tensor, unit: str) -> Answer:
    produced, expected = produced.flatten(), expected.flatten()
    wrong = int((produced != expected).sum()) if produced.shape == expected.shape else expected.numel()
    return f"{expected.numel()} {unit}: {compared}", produced, expected, float(wrong), 0.0


@torch.inference_mode()
def _logits(golden: Golden, case: str) -> Answer:
    ids_T, packing = pack([golden.tensor(case, "input_ids")])
    hidden = golden.model(ids_T, packing)
    logits = golden.model.logits(hidden, 0, golden.vocab.size)
    offset = golden.vocab.image_offset
    pairs = [
        (logits[:, :256], golden.tensor(case, "logits_text_first256")),
        (logits[:, offset : offset + 256], golden.tensor(case, "logits_codes_first256")),
        (logits.logsumexp(-1), golden.tensor(case, "logsumexp")),
    ]
    difference = max(float((ours - theirs).abs().max()) for ours, theirs in pairs)
    argmax, expected = logits.argmax(-1), golden.tensor(case, "argmax")
    if not torch.equal(argmax, expected):
        difference = float("inf")
    return "logits, log-sum-exp, every argmax", argmax, expected, difference, 1e-4


def _pixels(golden: Golden) -> np.ndarray:
    return to_pixels(open_picture(golden.folder / "image.png"))


def _encode(golden: Golden, case: str) -> Answer:
    tokens = image_ids(golden.image_tokenizer.encode(_pixels(golden)), golden.vocab)
    return _ids_answer("picture to codes, tags and newlines", tokens, golden.tensor(case, "tokens"), "ids")


def _decode(golden: Golden, case: str) -> Answer:
    values = golden.settings[case]
    factor = golden.image_tokenizer.factor
    grid = golden.tensor(case, "codes").reshape(values["height"] // factor, values["width"] // factor)
    pixels = torch.from_numpy(golden.image_tokenizer.decode(grid))
    expected = golden.tensor(case, "pixels")
    difference = float((pixels.int() - expected.int()).abs().max()) if pixels.shape == expected.shape else 255.0
    return "codes to pixels, within one level", pixels, expected, difference, 1.0


def _painting_tokens(golden: Golden, case: str) -> Answer:
    values = golden.settings[case]
    pixels = _pixels(golden)
    height, width = pixels.shape[:2]
    mask = centred_rectangle(height, width, values["mask_h_ratio"], values["mask_w_ratio"])
    cells = mask_cells(mask if case == "inpaint_tokens" else ~mask, golden.image_tokenizer.factor)
    codes = torch.where(cells, -1, golden.image_tokenizer.encode(pixels))
    tokens = grid_to_rows(codes, golden.vocab)
    return _ids_answer("kept codes around a rectangle", tokens, golden.tensor(case, "tokens"), "ids")


def _picture(golden: Golden, case: str) -> Answer:
    """Parallel decoding, whole or around kept codes, with or without the authors' cache."""
    values = golden.settings[case]
    body = rows_to_grid(golden.tensor(case, "body"), values["grid_height"], values["grid_width"], golden.vocab)

    def page(prompt: str) -> Page:
        return picture_page(golden.ids(case, prompt), body, golden.vocab, writable_RC=body < 0)

    guided = Guided(page("prompt_ids"), ((page("uncond_ids"), values["cfg_scale"]),))
    return _fill_picture(golden, case, guided, values)


def _edit(golden: Golden, case: str) -> Answer:
    """Three branches: all, text dropped, image dropped."""
    values = golden.settings[case]
    image = _strip(golden.tensor(case, "image_tokens"), golden.vocab)
    blank = torch.full((values["grid_height"], values["grid_width"]), -1)
    prompt, empty = golden.ids(case, "prompt_ids"), golden.ids(case, "uncond_prompt_ids")
    guided = Guided(
        picture_page(prompt, blank, golden.vocab, images=[image]),
        (
            (picture_page(empty, blank, golden.vocab, images=[image]), values["cfg_scale"]),
            (picture_page(prompt, blank, golden.vocab), values["cfg_img"]),
        ),
    )
    return _fill_picture(golden, case, guided, values)


def _fill_picture(golden: Golden, case: str, guided: Guided, values: dict[str, Any]) -> Answer:
    cached = bool(values.get("use_cache"))
    policy = NoCache()
    if cached:
        names = ("cache_ratio", "warmup_ratio", "refresh_interval")
        policy = MLCache(**{name: values[name] for name in names})  # type: ignore[assignment]
    settings = ImageSettings(steps=values["timesteps"], temperature=0.0, policy=policy)
    *_, last = fill_image(golden.model, [guided], settings, [torch.Generator()])
    codes = last.page(0).output_codes()
    how = "parallel decoding with ML-Cache" if cached else "parallel decoding"
    return _ids_answer(how, codes, golden.tensor(case, "codes"), "codes")


def _text(golden: Golden, case: str) -> Answer:
    values = golden.settings[case]
    image = _strip(golden.tensor(case, "image_tokens"), golden.vocab)
    masks = [golden.vocab.mask] * values["gen_length"]
    page = text_page(golden.ids(case, "prompt_ids"), masks, golden.vocab, images=[image], closed=True)
    settings = TextSettings(
        steps=values["steps"], block_length=values["block_length"], candidates="all", early_stop=False
    )
    *_, last = fill_text(golden.model, [Guided(page)], settings, [torch.Generator()])
    return _ids_answer("block-wise decoding", last.ids[0], golden.tensor(case, "answer"), "ids")


@torch.inference_mode()
def _train_loss(golden: Golden, case: str) -> Answer:
    ids_T, packing = pack([golden.tensor(case, "input_ids")])
    labels = golden.tensor(case, "labels")
    where = labels != IGNORE
    logits = golden.model.logits(golden.model(ids_T, packing)[where], 0, golden.vocab.size)
    loss = masked_cross_entropy(logits, labels[where])[None]
    expected = golden.tensor(case, "loss")
    difference = float(((loss - expected) / expected).abs().max())
    return "mean cross-entropy, relative", loss, expected, difference, 1e-5


def _strip(image_tokens: Tensor, vocab: Vocab) -> Tensor:
    """Codes (R, C) of an input image given with its tags and newlines."""
    rows = image_tokens[1:-1]
    columns = int((rows == vocab.newline).nonzero()[0])
    return rows_to_grid(rows, len(rows) // (columns + 1), columns, vocab)


CASES: dict[str, Callable[[Golden, str], Answer]] = {
    "logits": _logits,
    "encode_image": _encode,
    "inpaint_tokens": _painting_tokens,
    "outpaint_tokens": _painting_tokens,
    "decode_image": _decode,
    "t2i_greedy": _picture,
    "t2i_nocfg": _picture,
    "t2i_ml_cache": _picture,
    "t2i_ml_cache_b": _picture,
    "inpaint_greedy": _picture,
    "outpaint_greedy": _picture,
    "i2i_greedy": _edit,
    "text_greedy": _text,
    "text_one_block": _text,
    "train_loss": _train_loss,
}
