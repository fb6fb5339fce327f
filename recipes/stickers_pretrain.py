"""Train the small model on the sticker world, all tasks.

What: 8 layers of width 256 and inner width 2,048 (15.7 M parameters) on pages of about 100 ids: pictures of 8 x 8 codes
from the VQ model of `stickers_vq.py`, a byte-level BPE of the world's own words. Each command goes on where it stopped:

    python recipes/stickers_pretrain.py prepare                      # tokenizer, vocabulary, VQ model side by side
    python recipes/stickers_pretrain.py tokenize --families 16000    # pictures to codes (twice: --part 0/2 and 1/2)
    python recipes/stickers_pretrain.py tokenize --families 3000 --kind drill   # and --kind brief
    OMP_NUM_THREADS=1 torchrun --standalone --nproc-per-node 2 recipes/stickers_pretrain.py train --matrices muon \
        --muon-scale 3 --learning-rate 6e-4 --average-decay 0.995 --whole-share 0.3 --ids 10000 --mixture words

To go on from the shipped weights where no run is left: copy tokenizer.json, vocab.json, dimoo.json and vqvae of
`src/dimoo/assets/small` to FOLDER/base instead of `prepare`, tokenize, and add `--start-from src/dimoo/assets/small
--learning-rate 3.5e-4`. When `held_out` losses of the average fall and those of the weights do not, lower the rate;
end with a linear decay (`--decay-start`, `--steps`).

State, metrics and sample grids go to FOLDER, the averaged weights to FOLDER/export.
`words` (most ids draw from words) until t2i is learnt, `brief` (captions that leave most open), then `all`, whose edits
are two to three times as long, `read-and-edit`, with more of what those were slowest to teach, then `edits` (with
`tokenize --kind edits`), `read` (with `--kind reading`), `round` to draw again, `redraw`, with more edits, `restyle`,
with still more, and questions about styles, `wide`, which adds drawings beyond the core (`python -m
dimoo.data.stickers.build --wide`, then `tokenize --kind wide`), `change`, more of what an edit changes (with
`--whole-edits 0.7 --given-share 0.5`), `replace`, mostly replacements (0.8 and 0.7), `spell` (with `--kind spelled`,
0.8 and 0.7), whose edits are told the style that was read first, `settle` (likewise), with more of what that left
worst, and `tell` (likewise, with fresh `--kind spelled`), whose restylings are told what there is.
Hardware: two CPU cores with bf16 (matrix tiles, AMX, or Zen 5): 60 pages a second of `words`, 50 of `all`. With
tcmalloc (LD_PRELOAD) a quarter faster than with glibc's allocator. Zen 4: 23 of `settle`. Without bf16 (Zen 3), with
`--dtype float32`, 8 of `spell`.
Score to expect: see the model card and `stickers_history.jsonl`.
"""

import argparse
import logging
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, get_args

import torch

from dimoo.data.examples import ExampleSettings, training_page
from dimoo.data.loader import Drawn, LoaderSettings, LoaderState, MakePage, Pool, draw_buffer, stream
from dimoo.data.mixture import MIXTURES, Mixture
from dimoo.data.pretokenize import pretokenize
from dimoo.data.records import Record
from dimoo.data.stickers import Catalogue
from dimoo.data.stickers.build import wide_folder
from dimoo.data.stickers.families import all_edits, brief, drill, family, reading, spelled, wide
from dimoo.model.checkpoint import load_model
from dimoo.model.config import ModelConfig
from dimoo.model.transformer import Transformer
from dimoo.page.page import Page
from dimoo.tasks.base import Defaults, PictureOptions, Tools
from dimoo.tasks.text_to_image import TextToImage
from dimoo.tokenizers.image import ImageTokenizer
from dimoo.tokenizers.text import TextTokenizer
from dimoo.train.bpe import make_vocab, train_tokenizer, write_tokenizer
from dimoo.train.checkpoints import continue_from, export, resume
from dimoo.train.config import Dtype, TrainSettings
from dimoo.train.grow import grow
from dimoo.train.look import answer, held_out_losses, save_grid
from dimoo.train.metrics import Journal
from dimoo.train.team import Team
from dimoo.train.trainer import Example, Stream, train
from dimoo.vocab import Vocab

RUNS = Path.home() / ".cache" / "dimoo" / "runs"
DEFAULTS = Defaults(
    height=128, width=128, edit_area=128, understand_area=128, bucket_patch=16, prompt_limit=96, noise="exact",
    steps=32, top_p=0.8, schedule="circle", cfg_scale=0.6, edit_cfg_scale=1.0, edit_cfg_img=1.0,
    edit_questions={
        "edit_add": "{prompt}. what style is it?",
        "edit_replace": "{prompt}. what style is it?",
        "edit_text_transfer": "what is in the picture?",
    },
    answer_length=64, block_length=32, text_steps=32, edit_preset="balanced", text_preset="balanced",
    name="DiMOO stickers",
)  # fmt: skip
CAPTION = ("text_to_image", "caption")
WORD_SEEDS = range(10_000_000, 10_002_500)  # families whose texts the tokenizer learns from
MAKERS: dict[str, tuple[Callable[[int, Catalogue], list[Record]], int]] = {  # and their first seeds
    "family": (family, 0),
    "drill": (drill, 50_000_000),
    "brief": (brief, 60_000_000),
    "edits": (all_edits, 70_000_000),
    "reading": (reading, 80_000_000),
    "wide": (wide, 90_000_000),
    "spelled": (spelled, 100_000_000),
}
SHARD = 250  # families
HELD_OUT_SEEDS = range(100)  # of split "eval"
PROMPTS = (
    "a flat red apple on the left and a flat train on the right, on a white background",
    "a big 3d cat in the centre, on a blue background",
    "three noto bananas on a green background",
    "a twemoji owl above a twemoji key",
    "a dinosaur",
)


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("command", choices=("prepare", "tokenize", "train"))
    arguments.add_argument("--folder", type=Path, default=RUNS / "stickers")
    arguments.add_argument("--vq", type=Path, default=RUNS / "stickers-merged", help="of `stickers_merge.py`")
    arguments.add_argument("--families", type=int, default=20_000)
    arguments.add_argument("--first", type=int, default=0, help="first seed of the families")
    arguments.add_argument(
        "--kind", choices=tuple(MAKERS), default="family",
        help="tokenize: families of every task; drills, scenes of one or two with everything said; brief captions; "
        "scenes described and asked about; every edit by words of a scene; edits and styles of the wide catalogue; or "
        "edits with what they leave unsaid",
    )  # fmt: skip
    arguments.add_argument("--part", type=part_of, default=(0, 1), help="k/n: every n-th shard from the k-th")
    arguments.add_argument("--mixture", choices=sorted(MIXTURES), default="words")
    arguments.add_argument("--minutes", type=float, default=None)
    arguments.add_argument("--steps", type=int, default=TrainSettings.steps)
    arguments.add_argument("--learning-rate", type=float, default=TrainSettings.learning_rate)
    arguments.add_argument(
        "--decay-start", type=int, default=None, help="step at which a linear decay to --steps starts"
    )
    arguments.add_argument("--seed", type=int, default=TrainSettings.seed, help="of the pages drawn and what they hide")
    arguments.add_argument("--warmup", type=int, default=TrainSettings.warmup)
    arguments.add_argument("--matrices", choices=("adamw", "muon"), default=TrainSettings.matrices)
    arguments.add_argument("--muon-scale", type=float, default=TrainSettings.muon_scale)
    arguments.add_argument("--average-decay", type=float, default=TrainSettings.average_decay)
    arguments.add_argument("--width", type=int, default=256)
    arguments.add_argument("--layers", type=int, default=8)
    arguments.add_argument("--inner", type=int, default=2048, help="inner width of the MLPs")
    arguments.add_argument(
        "--start-from", type=Path, default=None, help="a smaller checkpoint that a new run grows from"
    )
    arguments.add_argument("--whole-share", type=share_of, default=TrainSettings.whole_share)
    arguments.add_argument("--whole-edits", type=share_of, default=None, help="--whole-share of edits, if not the same")
    arguments.add_argument(
        "--given-share", type=share_of, default=ExampleSettings.given_share,
        help="of the edits: only cells that change are hidden, the others given",
    )  # fmt: skip
    arguments.add_argument(
        "--noisy-share", type=share_of, default=ExampleSettings.noisy_share,
        help="of the pages that read: some cells of their pictures are replaced by any codes",
    )  # fmt: skip
    arguments.add_argument("--ids", type=int, default=LoaderSettings.ids, help="ids a batch")
    arguments.add_argument(
        "--dtype", choices=get_args(Dtype), default=TrainSettings.dtype,
        help="of the matrix products: float32 is faster where the processor has no bfloat16",
    )  # fmt: skip
    arguments.add_argument("--threads", type=int, default=2)
    arguments.add_argument("--tensorboard", action="store_true")
    given = arguments.parse_args()
    team = Team.join()
    logging.basicConfig(level=logging.INFO if team.leads else logging.WARNING, format="%(asctime)s %(message)s")
    torch.set_num_threads(max(1, given.threads // team.size))
    if given.command == "prepare":
        prepare(given.folder, given.vq)
    elif given.command == "tokenize":
        if given.first % SHARD or given.families % SHARD:
            arguments.error(f"--first {given.first} --families {given.families}: shards are of {SHARD} families each")
        first = given.first + MAKERS[given.kind][1]
        tokenize(given.folder, range(first, first + given.families), given.part, kind=given.kind)
    else:
        settings = TrainSettings(
            seed=given.seed,
            steps=given.steps,
            minutes=given.minutes,
            learning_rate=given.learning_rate,
            matrices=given.matrices,
            muon_scale=given.muon_scale,
            average_decay=given.average_decay,
            warmup=given.warmup,
            whole_share=given.whole_share,
            dtype=given.dtype,
            decay="constant" if given.decay_start is None else "linear",
            decay_start=given.decay_start or 0,
        )
        run_training(
            given.folder,
            settings,
            mixture=MIXTURES[given.mixture],
            width=given.width,
            layers=given.layers,
            inner=given.inner,
            start_from=given.start_from,
            loader=LoaderSettings(ids=given.ids),
            examples=ExampleSettings(noisy_share=given.noisy_share, given_share=given.given_share),
            whole_edits=given.whole_edits,
            tensorboard=given.tensorboard,
        )


def part_of(text: str) -> tuple[int, int]:
    """`k/n`: the part and how many there are."""
    part, _, parts = text.partition("/")
    if not (part.isdecimal() and parts.isdecimal() and int(part) < int(parts)):
        raise argparse.ArgumentTypeError(f"{text!r} is no part; parts count from 0, as in 0/2 and 1/2")
    return int(part), int(parts)


def share_of(text: str) -> float:
    """A share, from 0 to 1."""
    try:
        share = float(text)
    except ValueError:
        share = -1.0
    if not 0 <= share <= 1:
        raise argparse.ArgumentTypeError(f"{text!r} is no share from 0 to 1")
    return share


def prepare(folder: Path, vq: Path) -> None:
    """A checkpoint without weights in FOLDER/base: tokenizer, vocabulary, VQ model, recommendations."""
    import shutil

    base = folder / "base"
    base.mkdir(parents=True, exist_ok=True)
    shutil.copytree(vq, base / "vqvae", dirs_exist_ok=True)
    tokenizer = train_tokenizer(world_texts(WORD_SEEDS), entries=4096)
    vocab = make_vocab(tokenizer, codes=ImageTokenizer.load(base).codes)
    write_tokenizer(tokenizer, vocab, base)
    DEFAULTS.save(base)
    logging.info("%d text ids, %d image codes", vocab.image_offset, vocab.codes)


def world_texts(seeds: range) -> Iterator[str]:
    """Every text of some families, each as it is and with a capital."""
    catalogue = Catalogue.load()
    for seed in seeds:
        for record in family(seed, catalogue):
            for text in (record.prompt, record.answer_text, *(words for turn in record.history for words in turn)):
                if text:
                    yield text
                    yield text[0].upper() + text[1:]


def tokenize(folder: Path, seeds: range, part: tuple[int, int], *, kind: str = "family") -> None:
    """The families (drills, edits, ...) of these seeds as shards in FOLDER/shards, and a hundred held-out
    families in FOLDER/held-out."""
    catalogue = Catalogue.load()
    tokenizer = ImageTokenizer.load(folder / "base")
    tokenizer.vq.to(memory_format=torch.channels_last)
    if part[0] == 0:
        pretokenize(lambda seed: family(seed, catalogue, "eval"), HELD_OUT_SEEDS, tokenizer, folder / "held-out")
    make, _ = MAKERS[kind]
    drawn_from = Catalogue.load(wide_folder()) if kind == "wide" else catalogue
    pretokenize(
        lambda seed: make(seed, drawn_from), seeds, tokenizer, folder / "shards", shard=SHARD, batch=16, part=part
    )


def run_training(
    folder: Path,
    settings: TrainSettings,
    *,
    mixture: Mixture,
    width: int,
    layers: int,
    inner: int,
    loader: LoaderSettings,
    examples: ExampleSettings,
    tensorboard: bool,
    start_from: Path | None = None,
    whole_edits: float | None = None,
) -> None:
    """Train in FOLDER, going on where it stopped; `start_from` gives the first weights of a new run, `whole_edits`
    the share of edits that are hidden whole, where it is not the settings'."""
    base = folder / "base"
    tools = Tools(
        vocab=Vocab.load(base), text=TextTokenizer.load(base), image=ImageTokenizer.load(base), defaults=DEFAULTS
    )
    heads = width // 64
    config = ModelConfig(
        d_model=width,
        n_layers=layers,
        n_heads=heads,
        n_kv_heads=heads,
        d_ff=inner,
        vocab_size=tools.vocab.size,
        rope_theta=1000.0,  # pages of a hundred ids: with 500,000 three quarters of the rotations hardly turn
    )
    run = resume(folder, config, settings)
    if run.step == 0 and start_from is not None:
        smaller = load_model(start_from, dtype=torch.float32)
        run = continue_from(grow(smaller, config, torch.Generator().manual_seed(settings.seed)), settings)
    held_out = held_out_pages(folder, tools)

    def look(model: Transformer, step: int) -> dict[str, float]:
        requests = [
            TextToImage(prompt=prompt, seed=seed, options=PictureOptions(steps=12))
            for prompt in PROMPTS
            for seed in range(4)
        ]
        pictures = [picture for picture in answer(model, tools, requests) if not isinstance(picture, str)]
        (folder / "samples").mkdir(exist_ok=True)
        save_grid([pictures[at : at + 4] for at in range(0, len(pictures), 4)], folder / "samples" / f"{step:07d}.png")
        export(model, folder / "export", beside=base)
        return held_out_losses(model, held_out)

    journal = Journal(folder, tensorboard=tensorboard)
    pages = page_stream(folder, tools, mixture, loader, examples, seed=settings.seed, whole_edits=whole_edits)
    train(run, settings, pages, folder=folder, look=look, journal=journal)


def page_stream(
    folder: Path,
    tools: Tools,
    mixture: Mixture,
    loader: LoaderSettings,
    examples: ExampleSettings,
    *,
    seed: int = 0,
    whole_edits: float | None = None,
) -> Stream:
    pool = Pool(folder / "shards")

    def batches(state: dict[str, Any] | None) -> Iterator[tuple[list[Example], dict[str, Any]]]:
        begin = LoaderState(seed=seed) if state is None else LoaderState.from_json(state)
        for drawn, after in stream(pool, page_maker(tools, examples), mixture, loader, begin):
            yield [example(one, whole_edits) for one in drawn], after.to_json()

    return batches


def page_maker(tools: Tools, settings: ExampleSettings | None = None) -> MakePage:
    chosen = settings or ExampleSettings()

    def make(record: Record, generator: torch.Generator) -> Page:
        return training_page(record, tools, generator, chosen)

    return make


def held_out_pages(folder: Path, tools: Tools) -> list[list[Example]]:
    """Fixed pages of held-out families, in batches, the same for every mixture: of every task, all kinds alike; and of
    pictures drawn from words, with the words and without, whose difference in loss says how far words and drawings
    have locked together."""
    pool = Pool(folder / "held-out")
    places = dict(pool.by_kind(pool.names()))
    if not places:
        raise ValueError(f"no held-out families in {pool.folder}: run `tokenize --part 0/...` before `train`")
    settings = LoaderSettings(buffer=12)
    batches = draw_buffer(pool, places, page_maker(tools), dict.fromkeys(places, 1.0), settings, seed=1, buffer=0)
    examples = [[example(one) for one in batch] for batch in batches]
    captions = [pool.record(place) for place in places[CAPTION][::4]]
    for task, share in (("with_words", 0.0), ("without_words", 1.0)):
        make = page_maker(tools, ExampleSettings(drop_text=share))
        examples.append([Example(page=make(record, torch.Generator()), task=task) for record in captions])
    return examples


def example(drawn: Drawn, whole_edits: float | None = None) -> Example:
    if drawn.task == "edit":
        return Example(page=drawn.page, task=drawn.kind, whole_share=whole_edits)
    return Example(page=drawn.page, task=drawn.task)


if __name__ == "__main__":
    main()
