"""The worker: batches, order, early answers, cancellation, faults, draining."""

from __future__ import annotations

from typing import Any

import pytest
from serve_fixtures import GatedPipeline, picture, until

from dimoo import PictureOptions, TextToImage, Understand
from dimoo.pipeline import Pipeline
from dimoo.serve.errors import ApiError
from dimoo.serve.worker import Failed, Finished, Job, Started, Stepped, Worker


def job(prompt: str, *, steps: bool = False, **values: Any) -> Job:
    events: list[Any] = []
    request = TextToImage(**{"prompt": prompt, "seed": 1, **values})
    made = Job(request=request, post=events.append, wants_steps=steps)
    made.events = events
    return made


def finished(made: Job) -> bool:
    return bool(made.events) and isinstance(made.events[-1], Finished | Failed)


def worker(pipeline: Any, *jobs: Job, **values: Any) -> Worker:
    """Started once the jobs are in its queue, so that batches do not depend on luck."""
    made = Worker(pipeline, **values)
    made.submit(jobs)
    made.start()
    return made


def test_compatible_jobs_share_a_batch_and_each_gets_its_own_answer(pipeline: Pipeline, gated: GatedPipeline) -> None:
    gated.open()
    sizes = [(64, 64), (32, 48), (64, 64), (96, 32)]
    jobs = [job(f"job {i}", seed=i, height=size[0], width=size[1]) for i, size in enumerate(sizes)]
    one = worker(gated, *jobs)
    until(lambda: all(map(finished, jobs)))
    assert one.stop(5)
    assert gated.batches == [["job 0", "job 1", "job 2", "job 3"]]
    for made in jobs:
        alone = pipeline.run(made.request)
        assert made.events[-1].result.picture.tobytes() == alone.picture.tobytes()
        assert made.events[-1].result.steps == alone.steps


def test_the_oldest_decides_and_nobody_starves(gated: GatedPipeline) -> None:
    gated.open()
    other = {"options": PictureOptions(steps=3)}
    jobs = [job("a1"), job("b1", **other), job("a2"), job("b2", **other), job("a3")]
    one = worker(gated, *jobs, max_batch=2)
    until(lambda: all(map(finished, jobs)))
    assert one.stop(5)
    assert gated.batches == [["a1", "a2"], ["b1", "b2"], ["a3"]]


def test_batches_are_bounded_by_ids(pipeline: Pipeline, gated: GatedPipeline) -> None:
    gated.open()
    jobs = [job(name) for name in "abc"]
    size = sum(map(len, pipeline.prepare(jobs[0].request).guided.branches))
    one = worker(gated, *jobs, max_ids=2 * size)
    until(lambda: all(map(finished, jobs)))
    assert one.stop(5)
    assert gated.batches == [["a", "b"], ["c"]]


def test_a_small_picture_is_answered_before_the_large_one_of_its_batch(gated: GatedPipeline) -> None:
    small = job("small", height=16, width=32)  # two cells: two steps
    large = job("large")
    one = worker(gated, small, large)
    gated.step(2)
    until(lambda: finished(small))
    assert not finished(large)
    gated.open()
    until(lambda: finished(large))
    assert one.stop(5)


def test_steps_come_to_those_who_want_them(gated: GatedPipeline) -> None:
    gated.open()
    watched, quiet = job("a", steps=True), job("b")
    one = worker(gated, watched, quiet)
    until(lambda: finished(watched) and finished(quiet))
    assert one.stop(5)
    assert [type(event) for event in watched.events] == [Started, *[Stepped] * 5, Finished]
    assert [type(event) for event in quiet.events] == [Started, Finished]
    masked = [int((event.ids == event.page.vocab.mask).sum()) for event in watched.events[1:-1]]
    assert masked == sorted(masked, reverse=True)
    last = watched.events[-1]
    assert int(last.fixed.min()) >= 0
    assert int(last.fixed.max()) == 5


def test_when_all_of_a_batch_left_it_stops_and_the_next_job_runs(gated: GatedPipeline) -> None:
    gone, after = job("gone"), job("after", options=PictureOptions(steps=2))
    one = worker(gated, gone, after)
    gated.step(2)
    until(lambda: gated.steps == 2)
    one.cancel(gone)
    gated.step(1)
    until(lambda: len(gated.batches) == 2)
    assert gated.steps == 3  # of six
    gated.open()
    until(lambda: finished(after))
    assert one.stop(5)
    assert not finished(gone)


def test_one_leaving_does_not_touch_the_others(pipeline: Pipeline, gated: GatedPipeline) -> None:
    gone, stays = job("gone"), job("stays")
    one = worker(gated, gone, stays)
    gated.step(2)
    until(lambda: gated.steps == 2)
    one.cancel(gone)
    gated.open()
    until(lambda: finished(stays))
    assert one.stop(5)
    assert stays.events[-1].result.picture.tobytes() == pipeline.run(stays.request).picture.tobytes()
    assert not finished(gone)


def test_a_cancelled_job_leaves_the_queue(gated: GatedPipeline) -> None:
    first, second, third = (
        job("1"),
        job("2", options=PictureOptions(steps=2)),
        job("3", options=PictureOptions(steps=3)),
    )
    one = worker(gated, first, second, third)
    until(lambda: one.position(first) is None)
    assert (one.position(second), one.position(third)) == (0, 1)
    one.cancel(second)
    assert (one.position(second), one.position(third)) == (None, 0)
    gated.open()
    until(lambda: finished(third))
    assert one.stop(5)
    assert [batch for batch in gated.batches if "2" in batch] == []


def test_a_full_queue_says_when_to_come_again(gated: GatedPipeline) -> None:
    one = worker(gated, job("runs"), max_waiting=2)
    until(lambda: one.metrics.running._value.get() == 1)
    one.submit([job("a"), job("b")])
    assert not one.ready
    with pytest.raises(ApiError) as error:
        one.submit([job("c")])
    assert (error.value.status, error.value.code) == (429, "queue_full")
    assert error.value.retry_after >= 1
    gated.open()
    assert one.stop(5)


def test_requests_enter_the_queue_together_or_not_at_all(gated: GatedPipeline) -> None:
    one = Worker(gated, max_waiting=2)
    with pytest.raises(ApiError):
        one.submit([job(name) for name in "abc"])
    one.submit([job("a"), job("b")])


@pytest.mark.parametrize("fault", ["unpreparable", "unfillable"])
def test_a_fault_harms_only_its_own_request(pipeline: Pipeline, gated: GatedPipeline, fault: str) -> None:
    gated.open()
    jobs = [job("a", seed=1), job(fault, seed=2), job("b", seed=3)]
    one = worker(gated, *jobs)
    until(lambda: all(map(finished, jobs)))
    assert isinstance(jobs[1].events[-1].error, RuntimeError)
    for good in (jobs[0], jobs[2]):
        assert good.events[-1].result.picture.tobytes() == pipeline.run(good.request).picture.tobytes()
    late = job("late")
    one.submit([late])
    until(lambda: finished(late))
    assert isinstance(late.events[-1], Finished)
    assert one.stop(5)


def test_draining_finishes_what_runs_and_hands_back_the_rest(gated: GatedPipeline) -> None:
    runs, waits = job("runs"), job("waits", options=PictureOptions(steps=2))
    one = worker(gated, runs, waits)
    gated.step(1)
    until(lambda: gated.steps == 1)
    one.drain()
    assert isinstance(waits.events[-1], Failed)
    assert waits.events[-1].error.code == "shutting_down"
    with pytest.raises(ApiError):
        one.submit([job("late")])
    gated.open()
    assert one.stop(5)
    assert isinstance(runs.events[-1], Finished)


def test_answers_of_text_batches_equal_single_ones(pipeline: Pipeline) -> None:
    jobs = []
    for i in range(3):
        request = Understand(question=f"what is number {i}?", pictures=(picture(),) * (i % 2))
        events: list[Any] = []
        jobs.append(Job(request=request, post=events.append))
        jobs[-1].events = events
    one = worker(pipeline, *jobs)
    until(lambda: all(map(finished, jobs)))
    assert one.stop(5)
    for made in jobs:
        assert made.events[-1].result.text == pipeline.run(made.request).text


def test_a_closed_listener_does_not_stop_the_worker(pipeline: Pipeline) -> None:
    def closed(_: Any) -> None:
        raise RuntimeError("Event loop is closed")

    deaf = Job(request=TextToImage(prompt="a"), post=closed)
    after = job("b", options=PictureOptions(steps=2))
    one = worker(pipeline, deaf, after)
    until(lambda: finished(after))
    assert one.stop(5)
