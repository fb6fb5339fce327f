"""The model reads the pages: logits of masked positions, step after step, under a cache policy.

In: the branches of all pages (packed without padding), the ids as they are now, which positions are masked.
Out: for each page, the guided logits of its masked positions over the candidate ids, and nothing else.

A full step whose successor is full too stores no keys and values. Otherwise these and final hidden states are kept, and
a partial step computes only the rows that the policy names; the logits of other masked rows come from the kept state.
Without a cache policy, contrasts that wait for their turn are not run at all: only their final states are kept.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from dimoo.model.cache import Cache
from dimoo.model.transformer import Transformer
from dimoo.page.batch import Packing, Rows
from dimoo.page.page import Page
from dimoo.sampling.guidance import Guided, combine
from dimoo.sampling.policies import NoCache, Policy, Reuse, Seen

ALWAYS = Reuse()
CHUNK_ROWS = 1024  # rows whose logits exist at a time when only their maximum is wanted


@dataclass(frozen=True, kw_only=True)
class Candidates:
    """Ids start..stop, less the `forbidden` ones among them."""

    start: int
    stop: int
    forbidden: tuple[int, ...] = ()


class FirstStates:
    """Final states of unconditional pages before anything is revealed: the same for every request of a size, so they
    are computed once and kept for the next ones, the `room` sizes used last."""

    def __init__(self, room: int = 4) -> None:
        self.room = room
        self._kept: OrderedDict[tuple[int, ...], Tensor] = OrderedDict()

    def get(self, page: Page) -> Tensor | None:
        """States (N, D) of the writable positions, if they were kept."""
        key = tuple(page.ids.tolist())
        if key in self._kept:
            self._kept.move_to_end(key)
        return self._kept.get(key)

    def keep(self, page: Page, hidden_ND: Tensor) -> None:
        """Keep them, unless the page shows a picture or known cells: another request would hardly have the same."""
        if bool((page.ids >= page.vocab.image_offset).any()):
            return
        self._kept[tuple(page.ids.tolist())] = hidden_ND.clone()
        while len(self._kept) > self.room:
            self._kept.popitem(last=False)


class Reader:
    """Holds the packed branches and the cache of one run; `read` is one forward pass for all of them."""

    def __init__(
        self,
        model: Transformer,
        guided: Sequence[Guided],
        candidates: Candidates,
        policy: Policy,
        dtype: torch.dtype,
        *,
        reuse: Reuse = ALWAYS,
        first: FirstStates | None = None,
    ) -> None:
        self.model, self.guided, self.candidates, self.dtype = model, guided, candidates, dtype
        self.policy, self.reuse, self.first = policy, reuse, first
        self.branches = [page for one in guided for page in one.branches]
        self.owner = [index for index, one in enumerate(guided) for _ in one.branches]
        self.contrast = [at > 0 for one in guided for at in range(len(one.branches))]
        self._contrasts = [branch for branch, contrast in enumerate(self.contrast) if contrast]
        self.packing = Packing(tuple(len(page) for page in self.branches))
        self.slots = [page.slots for page in self.branches]
        self.cache: Cache | None = None
        self.max_logit_T: Tensor | None = None
        self.anchor_TD: Tensor | None = None  # final states of the last step that computed the contrasts
        self.anchors: list[Tensor] = []  # the same without a cache: of each branch's writable positions (N, D)
        self.unread = [
            torch.zeros(len(slots), dtype=torch.bool) for slots in self.slots
        ]  # revealed, not computed since
        self.behind = False  # whether the contrasts missed a refresh
        self.forbidden = torch.tensor(
            [id_ - candidates.start for id_ in candidates.forbidden if candidates.start <= id_ < candidates.stop],
            dtype=torch.int64,
            device=model.device,
        )

    def read(
        self,
        ids: Sequence[Tensor],
        masked: Sequence[Tensor],
        *,
        step: int,
        steps: int,
        revealed: Sequence[Tensor],
        scores: Sequence[Tensor],
        next_counts: Sequence[int],
    ) -> list[Tensor]:
        """Guided logits (masked, V) for each page, in `dtype`.

        ids, masked, revealed, scores: for each page, over its writable positions (N): the id now, whether it is still
        to be filled, whether the last step revealed it, and its last score. next_counts: how many this step reveals.
        """
        ids_T = self._place(ids).to(self.model.device)
        need = Rows.of_pages(
            [slots[masked[owner]] for slots, owner in zip(self.slots, self.owner, strict=True)], self.packing
        ).to(self.model.device)
        contrasts = self.reuse.computes(step)
        full = self.cache is None or self.policy.refresh(step, steps)
        keep = step + 1 < steps and not (self.policy.refresh(step + 1, steps) and self.reuse.computes(step + 1))
        if isinstance(self.policy, NoCache) or (full and contrasts and not keep):
            self.cache, self.max_logit_T, self.anchor_TD = None, None, None
            first = self.first if step == 0 else None
            return self._guide(torch.cat(self._whole(ids_T, need, masked, contrasts, first)), need.counts)
        self.unread = [old | revealed[owner] for old, owner in zip(self.unread, self.owner, strict=True)]
        rows = self._rows(full, contrasts, masked, scores, next_counts)
        self._compute(ids_T, need, rows, track=keep and self.policy.wants_max_logit)
        assert self.cache is not None and self.cache.hidden_TD is not None, "a full step stored hidden states"
        hidden_MD = self.cache.hidden_TD[need.index]
        if self.reuse.kept == "difference" and not contrasts:
            assert self.anchor_TD is not None, "contrasts were computed before they are reused"
            hidden_MD = self._follow(hidden_MD, self.anchor_TD[need.index], need.counts)
        elif self.reuse.kept == "difference" and self.reuse.every > 1:
            self.anchor_TD = self.cache.hidden_TD.clone()
        return self._guide(hidden_MD, need.counts)

    def _whole(
        self, ids_T: Tensor, need: Rows, masked: Sequence[Tensor], contrasts: bool, first: FirstStates | None
    ) -> list[Tensor]:
        """Final states of the needed rows, branch by branch, every row computed. Contrasts whose turn it is not, or
        that an earlier request has computed at its first step, do not run."""
        states: dict[int, Tensor] = {}
        if first is not None:
            kept = {branch: first.get(self.branches[branch]) for branch in self._contrasts}
            states |= {branch: state for branch, state in kept.items() if state is not None}
        missing = [
            branch
            for branch, contrast in enumerate(self.contrast)
            if branch not in states and (contrasts or not contrast)
        ]
        states |= zip(missing, self._run(missing, ids_T, need), strict=True)
        if first is not None:
            for branch in set(missing) & set(self._contrasts):
                first.keep(self.branches[branch], states[branch])
        if not contrasts:
            states |= self._waiting(states, masked)
        found = [states[branch] for branch in range(len(self.branches))]
        if contrasts and self.reuse.every > 1:
            self.anchors = [_spread(state, masked[owner]) for state, owner in zip(found, self.owner, strict=True)]
        return found

    def _run(self, branches: Sequence[int], ids_T: Tensor, need: Rows) -> Sequence[Tensor]:
        """Final states of the needed rows of some branches, in one call for these alone."""
        if len(branches) == len(self.branches):
            return self.model(ids_T, self.packing, need=need).split(need.counts)
        lengths, parts = self.packing.lengths, ids_T.split(self.packing.lengths)
        packing = Packing(tuple(lengths[branch] for branch in branches))
        wanted = need.index.split(need.counts)
        shifts = [
            self.packing.offsets[branch] - start for branch, start in zip(branches, packing.offsets, strict=False)
        ]
        index = torch.cat([wanted[branch] - shift for branch, shift in zip(branches, shifts, strict=True)])
        rows = Rows(index, tuple(need.counts[branch] for branch in branches))
        return self.model(torch.cat([parts[branch] for branch in branches]), packing, need=rows).split(rows.counts)

    def _waiting(self, states: dict[int, Tensor], masked: Sequence[Tensor]) -> dict[int, Tensor]:
        """States of the contrasts: as they were last computed, or moved as the conditional page's have moved since."""
        found: dict[int, Tensor] = {}
        for branch in self._contrasts:
            owner = self.owner[branch]
            conditional, where_N = self.owner.index(owner), masked[owner].to(self.model.device)
            found[branch] = self.anchors[branch][where_N]
            if self.reuse.kept == "difference":
                found[branch] += states[conditional] - self.anchors[conditional][where_N]
        return found

    def _rows(
        self,
        full: bool,
        contrasts: bool,
        masked: Sequence[Tensor],
        scores: Sequence[Tensor],
        next_counts: Sequence[int],
    ) -> Rows | None:
        """The rows to compute, branch by branch; None for all."""
        if full and contrasts:
            self.behind = False
            for part in self.unread:
                part.zero_()
            self.cache = Cache()
            return None
        chosen = []
        for branch, (owner, contrast) in enumerate(zip(self.owner, self.contrast, strict=True)):
            length = self.packing.lengths[branch]
            if contrast and not contrasts:
                chosen.append(torch.zeros(length, dtype=torch.bool))
                continue
            if full or (contrast and self.behind):
                chosen.append(torch.ones(length, dtype=torch.bool))
            else:
                chosen.append(self.policy.rows(self._seen(branch, masked[owner], scores[owner], next_counts[owner])))
            self.unread[branch] = torch.zeros_like(self.unread[branch])
        self.behind = not contrasts and (full or self.behind)
        return Rows.from_mask(torch.cat(chosen), self.packing).to(self.model.device)

    def _seen(self, branch: int, masked: Tensor, scores: Tensor, next_count: int) -> Seen:
        length, start, slots = self.packing.lengths[branch], self.packing.offsets[branch], self.slots[branch]
        still, new = torch.zeros(length, dtype=torch.bool), torch.zeros(length, dtype=torch.bool)
        score = torch.full((length,), -torch.inf)
        still[slots], new[slots] = masked, self.unread[branch]
        score[slots] = torch.where(masked, scores, -torch.inf)
        largest = score
        if self.max_logit_T is not None:
            largest = self.max_logit_T[start : start + length].cpu()
        return Seen(max_logit=largest, revealed=new, masked=still, score=score, next_count=next_count)

    def _compute(self, ids_T: Tensor, need: Rows, rows: Rows | None, *, track: bool) -> None:
        """Run the rows and keep what comes out; with `track`, the largest logit of each as well."""
        if rows is not None and not len(rows):
            return
        wanted = rows if track else _among(need, rows)
        hidden_MD = self.model(ids_T, self.packing, rows=rows, need=wanted, cache=self.cache)
        if track:
            self._keep_max_logit(hidden_MD, wanted)

    def _follow(self, hidden_MD: Tensor, anchor_MD: Tensor, counts: tuple[int, ...]) -> Tensor:
        """Contrasts moved by as much as the conditional page's states have moved: logits are linear in them."""
        now, then, at = list(hidden_MD.split(counts)), anchor_MD.split(counts), 0
        for one in self.guided:
            for branch in range(at + 1, at + len(one.branches)):
                now[branch] = now[branch] + (now[at] - then[at])
            at += len(one.branches)
        return torch.cat(now)

    def _keep_max_logit(self, hidden_MD: Tensor, rows: Rows | None) -> None:
        """Largest candidate logit of the computed rows, a chunk at a time: one number a row is kept."""
        largest_M = torch.cat([self._logits(part).amax(dim=-1).float() for part in hidden_MD.split(CHUNK_ROWS)])
        if rows is None:
            self.max_logit_T = largest_M
            return
        assert self.max_logit_T is not None, "a full step came first"
        self.max_logit_T = self.max_logit_T.index_copy(0, rows.index, largest_M)

    def _logits(self, hidden_MD: Tensor) -> Tensor:
        logits_MV = self.model.logits(hidden_MD, self.candidates.start, self.candidates.stop)
        if len(self.forbidden):
            logits_MV[:, self.forbidden] = -torch.inf
        return logits_MV

    def _guide(self, hidden_MD: Tensor, counts: tuple[int, ...]) -> list[Tensor]:
        """Guided logits page by page: one product with the head for all branches of a page."""
        branches, at = hidden_MD.split(counts), 0
        guided = []
        for one in self.guided:
            size = len(one.branches)
            logits_MV = self._logits(torch.cat(branches[at : at + size]))
            guided.append(combine(logits_MV.split(counts[at : at + size]), one.scales, self.dtype))
            at += size
        return guided

    def _place(self, ids: Sequence[Tensor]) -> Tensor:
        """All branches' ids (T), with the current ids at their writable positions."""
        placed = []
        for page, slots, owner in zip(self.branches, self.slots, self.owner, strict=True):
            placed.append(page.ids.index_copy(0, slots, ids[owner]))
        return torch.cat(placed)


def _spread(states_MD: Tensor, masked_N: Tensor) -> Tensor:
    """States of the masked positions at their places among the writable ones (N, D)."""
    spread_ND = states_MD.new_zeros(len(masked_N), states_MD.shape[1])
    spread_ND[masked_N.to(states_MD.device)] = states_MD
    return spread_ND


def _among(need: Rows, rows: Rows | None) -> Rows:
    """The needed rows that are computed in this step."""
    if rows is None:
        return need
    computed = torch.isin(need.index, rows.index)
    parts = computed.split(need.counts)
    return Rows(need.index[computed], tuple(int(part.sum()) for part in parts))
