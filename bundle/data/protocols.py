"""Protocols: selection of the entries of a data list for training, validation and test."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from bundle.data.message_text import join_names, pluralize
from bundle.types import IMAGE, LABEL

PROTOCOLS = ("heldout", "authors", "class_mean", "transfer", "shift")
"""Names of the protocols, as in ``configs/protocols``."""
PATIENT = "patient"
DOMAIN = "domain"

Entry = dict[str, Any]
DataList = dict[str, list[Entry]]
"""``training``, ``unlabeled``, ``validation`` and ``test``, as returned by ``load_data_list``."""


def apply_protocol(
    datalist: Mapping[str, Sequence[Entry]],
    protocol: str,
    source: str | Sequence[str] | None = None,
    target: str | Sequence[str] | None = None,
) -> DataList:
    """Select the entries of a data list that a protocol uses, and check that the list is suitable.

    ``heldout`` and ``class_mean`` use the whole list; it needs ``validation``, disjoint from ``training`` and
    ``unlabeled`` by image and, if patients are known, by patient. ``authors`` needs a list without ``validation``,
    because all images except test images are used for training. ``transfer`` trains and validates on the source domains
    and tests on the target domains. ``shift`` does the same, and also trains on images of the target domains without
    labels: those in ``unlabeled``, and those in ``training``, which are moved there. Other domains are not used. Test
    images are never used for training.

    Args:
        datalist: a whole data list.
        protocol: one of ``heldout``, ``authors``, ``class_mean``, ``transfer``, ``shift``.
        source: domain, or domains, of labeled images; for ``transfer`` and ``shift``.
        target: domain, or domains, of test images; for ``transfer`` and ``shift``.

    Returns:
        A data list with all four parts; entries are shared with ``datalist``.

    Raises:
        ValueError: if the protocol is unknown, or the list is not suitable.
    """
    if protocol not in PROTOCOLS:
        raise ValueError(f"no protocol {protocol!r}; give one of {', '.join(PROTOCOLS)}")
    parts = {part: list(datalist.get(part, [])) for part in ("training", "unlabeled", "validation", "test")}
    if protocol == "authors":
        _raise_if(
            parts["validation"],
            "authors trains on all images except test images, but the list has "
            f"{len(parts['validation'])} under validation; use a list authors_..., or the protocol heldout",
        )
    else:
        _check_validation(parts, protocol)
    if protocol in ("transfer", "shift"):
        parts = _by_domain(parts, protocol, _names(source), _names(target))
    for part in ("training", "test"):
        _raise_if(not parts[part], f"{protocol} needs {part} images and the data list has none; use another list")
    return parts


def _check_validation(parts: DataList, protocol: str) -> None:
    """Check that there is a validation part, and that it is disjoint from the images learned from."""
    held = parts["validation"]
    _raise_if(
        not held,
        f"{protocol} chooses the checkpoint on validation images and the data list has none; "
        "use a list with a validation part, for example heldout_10_seed0.json",
    )
    learned = parts["training"] + parts["unlabeled"]
    files = {_file(entry) for entry in learned}
    shared = [Path(entry[IMAGE]).name for entry in held if _file(entry) in files]
    _raise_if(
        shared,
        f"validation shares {pluralize(len(shared), 'image')} with training or unlabeled ({join_names(shared)}); "
        "remove them from one of the two",
    )
    patients = {str(entry[PATIENT]) for entry in learned if PATIENT in entry}
    shared = sorted({str(entry[PATIENT]) for entry in held if PATIENT in entry} & patients)
    _raise_if(
        shared,
        f"validation shares {pluralize(len(shared), 'patient')} with training or unlabeled ({join_names(shared)}), "
        "so it would choose the checkpoint on tissue seen in training; draw whole patients for validation",
    )


def _by_domain(parts: DataList, protocol: str, source: set[str], target: set[str]) -> DataList:
    """Select the entries of the source and target domains."""
    _raise_if(not source or not target, f"{protocol} needs --source_domain and --target_domain; give both")
    _raise_if(
        source & target,
        f"{protocol} has {join_names(sorted(source & target))} as source and target; give different domains",
    )
    entries = [entry for part in parts.values() for entry in part]
    known = sorted({str(entry[DOMAIN]) for entry in entries if DOMAIN in entry})
    _raise_if(not known, f"{protocol} needs domains and no entry of the data list has one; give entries the key domain")
    unknown = sorted((source | target) - set(known))
    _raise_if(unknown, f"the data list has no domain {join_names(unknown)}; it has {', '.join(known)}")
    selected = {
        "training": _of(parts["training"], source),
        "unlabeled": _of(parts["unlabeled"], source),
        "validation": _of(parts["validation"], source),
        "test": _of(parts["test"], target),
    }
    for part, domains in (("training", source), ("validation", source), ("test", target)):
        _raise_if(
            not selected[part],
            f"{part} of the data list has no image of {join_names(sorted(domains))}, which {protocol} needs; "
            "use other domains, or a list with more labels",
        )
    if protocol == "shift":
        moved = [_without_label(entry) for entry in _of(parts["training"], target)]
        selected["unlabeled"] += _of(parts["unlabeled"], target) + moved
        has_target = any(entry[DOMAIN] in target for entry in selected["unlabeled"])
        _raise_if(
            not has_target,
            f"shift needs training images of {join_names(sorted(target))} and the data list has none; use transfer",
        )
    return selected


def _of(entries: Sequence[Entry], domains: set[str]) -> list[Entry]:
    return [entry for entry in entries if str(entry.get(DOMAIN)) in domains]


def _without_label(entry: Entry) -> Entry:
    return {key: value for key, value in entry.items() if key != LABEL}


def _names(domains: str | Sequence[str] | None) -> set[str]:
    return {domains} if isinstance(domains, str) else {str(domain) for domain in domains or ()}


def _file(entry: Entry) -> Path:
    return Path(entry[IMAGE]).resolve()


def _raise_if(fault: Any, message: str) -> None:
    if fault:
        raise ValueError(message)
