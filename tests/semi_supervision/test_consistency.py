"""What a consistency term holds and refuses."""

from __future__ import annotations

import pytest
from torch import nn

from bundle.semi_supervision import ConsistencyTerm, HeadPseudoLabeler, LinearRamp

PSEUDO_LABELER = HeadPseudoLabeler({"seg": "peer"}, {"seg": "hard"})


def test_a_consistency_term_with_defaults() -> None:
    """The unlabeled stream as it is, with weight 1 all the time."""
    losses = {"seg": nn.CrossEntropyLoss()}
    term = ConsistencyTerm(PSEUDO_LABELER, losses)
    assert (term.stream, term.student_view, term.source_view) == ("unlabeled", None, None)
    assert (term.ramp(0.0), term.ramp(1.0)) == (1.0, 1.0)
    assert term.pseudo_labeler is PSEUDO_LABELER
    assert term.labels == {"seg": "seg"}
    losses.clear()
    assert set(term.losses) == {"seg"}


def test_a_consistency_term_brings_its_ramp() -> None:
    term = ConsistencyTerm(PSEUDO_LABELER, {"seg": nn.CrossEntropyLoss()}, ramp=LinearRamp(4.0), stream="labeled")
    assert (term.ramp(0.25), term.stream) == (1.0, "labeled")


def test_a_consistency_term_may_read_a_label_of_another_name() -> None:
    term = ConsistencyTerm(PSEUDO_LABELER, {"seg": nn.MSELoss(), "peer": nn.MSELoss()}, labels={"seg": "agreed"})
    assert term.labels == {"seg": "agreed", "peer": "peer"}


@pytest.mark.parametrize("stream", ["validation", "", "Labeled"])
def test_another_stream_is_refused(stream: str) -> None:
    with pytest.raises(ValueError, match=rf"one of \('labeled', 'unlabeled'\), got '{stream}'"):
        ConsistencyTerm(PSEUDO_LABELER, {"seg": nn.CrossEntropyLoss()}, stream=stream)


def test_a_consistency_term_without_losses_is_refused() -> None:
    with pytest.raises(ValueError, match="the loss of at least one head"):
        ConsistencyTerm(PSEUDO_LABELER, {})
