"""Checks of the settings of trainings, scorings and batch inferences, before a process is started for them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from lib.batch import batch_size
from lib.infer import check_prediction
from lib.request_checks import check_common, integer
from lib.request_errors import BAD, RefusalError
from lib.scores import MOST_IMAGES
from lib.train import OPTIONAL, training_settings
from lib.uploads import check_tag
from monailabel.interfaces.datastore import DefaultLabelTag

from bundle.engines.config_check import closest_name

SENT = ("train_batch_size", "val_batch_size")
"""Settings of other apps that viewers send to every app, and that resemble settings of this one."""


def check_task(kind: str, values: Mapping[str, Any], groups: Iterable[str]) -> None:
    """Check the settings of a task.

    Args:
        kind: ``train``, ``scoring`` or ``batch_infer``.
        values: arguments of the request; its ``params`` are the settings, which may also be grouped.
        groups: names of groups of settings, those of models and scoring methods.

    Raises:
        RefusalError: 400 for the first setting that is invalid.
    """
    params = dict(values.get("params") or {})
    for name in groups:
        group = params.pop(name, None) or {}
        if not isinstance(group, dict):
            raise RefusalError(BAD, f"{name} is {str(group)[:40]}; it must be a JSON object of settings")
        params = group | params
    check_common(params)
    if kind == "train":
        check_spelling(params, training_settings(params))
    elif kind == "scoring":
        integer(params, "max_samples", 0, 0, MOST_IMAGES)
    else:
        batch_size(params)
        check_prediction({key: value for key, value in params.items() if value is not None})
        tag = params.get("label_tag") or DefaultLabelTag.ORIGINAL
        check_tag(str(getattr(tag, "value", tag)))


def check_spelling(params: Mapping[str, Any], known: Iterable[str]) -> None:
    """Check that no setting of a training is misspelled; viewers send further settings, which are ignored.

    Raises:
        RefusalError: 400 if a setting is unknown and resembles a known one.
    """
    names = {*known, *OPTIONAL, "gpus"}
    for name in params:
        match = closest_name(name, names)
        if match and name not in names and name not in SENT:
            raise RefusalError(BAD, f"there is no setting {name[:40]!r}; did you mean {match}?")
