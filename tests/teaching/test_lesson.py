"""What a lesson holds and refuses."""

from __future__ import annotations

import pytest
from torch import nn

from bundle.teaching import HeadLabeler, Lesson, LinearRamp

LABELER = HeadLabeler({"seg": "peer"}, {"seg": "hard"})


def test_a_lesson_with_defaults() -> None:
    """The unlabeled stream as it is, with weight 1 all the time."""
    losses = {"seg": nn.CrossEntropyLoss()}
    lesson = Lesson(LABELER, losses)
    assert (lesson.stream, lesson.student_view, lesson.source_view) == ("unlabeled", None, None)
    assert (lesson.ramp(0.0), lesson.ramp(1.0)) == (1.0, 1.0)
    assert lesson.labeler is LABELER
    assert lesson.labels == {"seg": "seg"}
    losses.clear()
    assert set(lesson.losses) == {"seg"}


def test_a_lesson_brings_its_ramp() -> None:
    lesson = Lesson(LABELER, {"seg": nn.CrossEntropyLoss()}, ramp=LinearRamp(4.0), stream="labeled")
    assert (lesson.ramp(0.25), lesson.stream) == (1.0, "labeled")


def test_a_lesson_may_read_a_label_of_another_name() -> None:
    lesson = Lesson(LABELER, {"seg": nn.MSELoss(), "peer": nn.MSELoss()}, labels={"seg": "agreed"})
    assert lesson.labels == {"seg": "agreed", "peer": "peer"}


@pytest.mark.parametrize("stream", ["validation", "", "Labeled"])
def test_another_stream_is_refused(stream: str) -> None:
    with pytest.raises(ValueError, match=rf"one of \('labeled', 'unlabeled'\), got '{stream}'"):
        Lesson(LABELER, {"seg": nn.CrossEntropyLoss()}, stream=stream)


def test_a_lesson_without_losses_is_refused() -> None:
    with pytest.raises(ValueError, match="the loss of at least one head"):
        Lesson(LABELER, {})
