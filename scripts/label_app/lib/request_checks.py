"""Checks of requests before anything is run: settings of the wrong type are refused at once, with one sentence."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping
from typing import Any

from lib.request_errors import BAD, RefusalError
from monailabel.utils.others.generic import device_list

DEVICE = re.compile(r"cpu|mps|cuda(:\d{1,2})?")
"""Accepted device names, besides those in /info."""
GPUS = re.compile(r"all|\d{1,3}(,\d{1,3})*|")
LONGEST = 64 * 1024
"""Largest size of the settings of a task, characters of JSON; they are an argument of a process."""
JSON_FIELDS = ("params", "info", "wsi")
"""Form fields that hold JSON."""
PREDICTIONS = ("api_run_inference", "api_run_wsi_inference", "api_run_wsi_v2_inference")
"""MONAI Label's endpoints for predictions."""


def check_fields(endpoint: str, values: Mapping[str, Any]) -> None:
    """Check the arguments of an endpoint of MONAI Label, which takes JSON of any type, and reports errors as 500.

    Args:
        endpoint: name of the endpoint's function.
        values: its arguments.

    Raises:
        RefusalError: 400.
    """
    for name in JSON_FIELDS:
        text = values.get(name)
        if isinstance(text, str) and text and not isinstance(json.loads(text), dict):
            raise RefusalError(BAD, f"{name} is {text[:40]}; it must be a JSON object, such as {{}}")
    if endpoint not in PREDICTIONS:
        return
    if values.get("session_id"):
        raise RefusalError(BAD, "sessions are off; give image=NAME, or upload a file")
    if not values.get("image") and not getattr(values.get("file"), "filename", None):
        raise RefusalError(BAD, "the request names no image; give image=NAME, or upload a file")
    if values.get("label") is not None:
        raise RefusalError(BAD, "the model takes no label; send the image alone")
    output = getattr(values.get("output"), "value", None)
    params = values.get("params")
    if output == "image" and isinstance(params, str) and params and json.loads(params).get("output") == "json":
        raise RefusalError(BAD, "output is image, but json in params, which has no file; give one of them")
    if output == "dicom_seg":
        raise RefusalError(BAD, "there is no output dicom_seg; give output=image, then run scripts/export_dicom_seg.py")


def check_common(settings: Mapping[str, Any]) -> None:
    """Check the settings that all tasks have: ``device``, ``gpus``, and their total size.

    Raises:
        RefusalError: 400.
    """
    if len(json.dumps(settings, default=str)) > LONGEST:
        raise RefusalError(BAD, f"the settings are longer than {LONGEST} characters; send fewer")
    check_device(settings.get("device"))
    gpus = settings.get("gpus") or "all"
    if not isinstance(gpus, str) or not GPUS.fullmatch(gpus):
        raise RefusalError(BAD, f"gpus is {str(gpus)[:40]}; it must be all, or numbers separated by commas")


def check_device(device: Any) -> None:
    """Check the name of a device, or a list of names, of which the first is used; without one, the default is used.

    Raises:
        RefusalError: 400.
    """
    first = device[0] if isinstance(device, list) and device else device or "cpu"
    if not isinstance(first, str) or not (DEVICE.fullmatch(first) or first in device_list()):
        raise RefusalError(BAD, f"there is no device {str(first)[:40]!r}; GET /info/ lists all devices")


def integer(settings: Mapping[str, Any], name: str, default: int, least: int, most: int) -> int:
    """Return a setting as an integer; an integer as text is accepted.

    Raises:
        RefusalError: 400 if it is not an integer, or out of range.
    """
    value = settings.get(name, default)
    is_text = isinstance(value, str) and re.fullmatch(r"\d{1,12}", value)
    is_whole = isinstance(value, int) or (isinstance(value, float) and value.is_integer())
    if not is_text and not (is_whole and not isinstance(value, bool)):
        raise RefusalError(BAD, f"{name} must be an integer from {least} to {most}, not {json.dumps(value)[:40]}")
    if not least <= int(value) <= most:
        bound = f"at least {least}" if int(value) < least else f"at most {most}"
        raise RefusalError(BAD, f"{name} is {value}; it must be {bound}")
    return int(value)


def positive(settings: Mapping[str, Any], name: str, most: float) -> float | None:
    """Return a setting as a number above 0; a number as text is accepted, and ``None`` is returned if it is missing.

    Raises:
        RefusalError: 400 if it is not a number, or out of range.
    """
    value = settings.get(name)
    if value is None:
        return None
    try:
        number = math.nan if isinstance(value, bool) else float(value)
    except (TypeError, ValueError, OverflowError):
        number = math.nan
    if not 0 < number <= most:  # false for NaN too
        raise RefusalError(BAD, f"{name} is {str(value)[:40]}; it must be a number above 0 and at most {most:g}")
    return number


def two_integers(value: Any, name: str) -> tuple[int, int]:
    """Return a pair of integers, px.

    Raises:
        RefusalError: 400 if it is something else.
    """
    try:
        first, second = (int(number) for number in value)
    except (TypeError, ValueError, OverflowError) as error:
        raise RefusalError(BAD, f"{name} is {str(value)[:40]}; it must be two integers, px") from error
    return first, second
