"""An endless stream of training pages from shards of tokenised records.

In: a folder of shards, a table of weights, and how a record becomes a page. Out: batches of pages of about as many ids
each, and after each batch the state from which the stream goes on exactly as it would have.

1. a buffer of pages: the kind by weight, the record by lot, everything from (seed, number of the buffer)
2. sorted by length and cut into short runs, so that a batch holds few distinct lengths: attention runs once for each
3. runs shuffled, and put together to batches

Shards written meanwhile join at the next buffer; the state names the shards in use.
"""

from __future__ import annotations

import random
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import torch

from dimoo.data.mixture import Mixture
from dimoo.data.pretokenize import Shard
from dimoo.data.records import Record
from dimoo.page.page import Page

MakePage = Callable[[Record, torch.Generator], Page]


@dataclass(frozen=True, kw_only=True)
class LoaderSettings:
    """`ids` a batch (about), batches a buffer, pages of a run of about equal length."""

    ids: int = 5000
    buffer: int = 16
    run: int = 8

    def __post_init__(self) -> None:
        for name in ("ids", "buffer", "run"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1, got {getattr(self, name)}")


@dataclass(frozen=True, kw_only=True)
class LoaderState:
    """Where a stream stands: batch `batch` of buffer `buffer`, drawn from the shards of these names."""

    seed: int = 0
    buffer: int = 0
    batch: int = 0
    shards: tuple[str, ...] = ()

    @classmethod
    def from_json(cls, values: dict[str, Any]) -> LoaderState:
        return cls(**{**values, "shards": tuple(values["shards"])})

    def to_json(self) -> dict[str, Any]:
        return {**asdict(self), "shards": list(self.shards)}


@dataclass(frozen=True, kw_only=True, eq=False)
class Drawn:
    """A page and the record kind that it comes from."""

    page: Page
    task: str
    kind: str


class Pool:
    """The records of a folder of shards, by kind; shards are read once."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._loaded: dict[str, Shard] = {}

    def names(self) -> tuple[str, ...]:
        """The shards on disk now, in order."""
        return tuple(sorted(file.name for file in self.folder.glob("*.npz")))

    def by_kind(self, names: Sequence[str]) -> dict[tuple[str, str], list[tuple[str, int]]]:
        """Where the records of each (task, kind) are: (shard, row)."""
        places: dict[tuple[str, str], list[tuple[str, int]]] = defaultdict(list)
        for name in names:
            if name not in self._loaded:
                self._loaded[name] = Shard.load(self.folder / name)
            for index, row in enumerate(self._loaded[name].rows):
                places[row["task"], row["kind"]].append((name, index))
        return places

    def record(self, place: tuple[str, int]) -> Record:
        return self._loaded[place[0]].record(place[1])


def stream(
    pool: Pool, make_page: MakePage, mixture: Mixture, settings: LoaderSettings, state: LoaderState
) -> Iterator[tuple[list[Drawn], LoaderState]]:
    """Batches from where `state` stands, each with the state after it. ValueError if there is nothing to draw."""
    places: dict[tuple[str, str], list[tuple[str, int]]] = {}
    used: tuple[str, ...] = ()
    while True:
        if state.batch == 0:  # only a fresh buffer may see more shards
            state = replace(state, shards=pool.names())
        if state.shards != used:
            used = state.shards
            places = {kind: found for kind, found in pool.by_kind(used).items() if mixture.get(kind, 0) > 0}
        if not places:
            raise ValueError(f"{pool.folder} holds no record of the {len(mixture)} kinds that are to be drawn")
        batches = draw_buffer(pool, places, make_page, mixture, settings, seed=state.seed, buffer=state.buffer)
        if state.batch >= len(batches):  # the state is of a run whose buffers held more
            state = replace(state, buffer=state.buffer + 1, batch=0)
            continue
        for index in range(state.batch, len(batches)):
            last = index + 1 == len(batches)
            at = (state.buffer + 1, 0) if last else (state.buffer, index + 1)
            state = replace(state, buffer=at[0], batch=at[1])
            yield batches[index], state


def draw_buffer(
    pool: Pool,
    places: dict[tuple[str, str], list[tuple[str, int]]],
    make_page: MakePage,
    mixture: Mixture,
    settings: LoaderSettings,
    *,
    seed: int,
    buffer: int,
) -> list[list[Drawn]]:
    """The batches of one buffer, all drawn from (seed, buffer)."""
    lot = random.Random(f"{seed} {buffer}")
    generator = torch.Generator().manual_seed(lot.getrandbits(60))
    kinds = sorted(places)
    weights = [mixture[kind] for kind in kinds]
    pages: list[Drawn] = []
    ids = 0
    while ids < settings.ids * settings.buffer:
        kind = lot.choices(kinds, weights)[0]
        page = make_page(pool.record(lot.choice(places[kind])), generator)
        pages.append(Drawn(page=page, task=kind[0], kind=kind[1]))
        ids += len(page)
    pages.sort(key=lambda drawn: len(drawn.page))
    runs = [pages[at : at + settings.run] for at in range(0, len(pages), settings.run)]
    lot.shuffle(runs)
    batches: list[list[Drawn]] = [[]]
    room = settings.ids
    for run in runs:
        size = sum(len(drawn.page) for drawn in run)
        if batches[-1] and room < size / 2:
            batches.append([])
            room = settings.ids
        batches[-1] += run
        room -= size
    if len(batches) > 1 and room > settings.ids / 2:  # no step on a few pages only
        batches[-2] += batches.pop()
    return batches
