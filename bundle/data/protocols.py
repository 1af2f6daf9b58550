"""Protocols: which entries of a data list a protocol trains, chooses and tests on, and which lists it refuses."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from bundle.data.sentences import counted, some
from bundle.types import IMAGE, LABEL

PROTOCOLS = ("heldout", "authors", "class_mean", "transfer", "shift")
"""Names of the protocols, as in ``configs/protocols``."""
PATIENT = "patient"
DOMAIN = "domain"

Entry = dict[str, Any]
DataList = dict[str, list[Entry]]
"""``training``, ``unlabeled``, ``validation`` and ``test``, as ``load_data_list`` gives them."""


def serve_protocol(
    datalist: Mapping[str, Sequence[Entry]],
    protocol: str,
    source: str | Sequence[str] | None = None,
    target: str | Sequence[str] | None = None,
) -> DataList:
    """Choose from a data list what a protocol uses, or refuse a list that cannot serve it.

    ``heldout`` and ``class_mean`` use the list as it is; it needs ``validation``, disjoint from ``training`` and
    ``unlabeled`` by image and, where patients are known, by patient. ``authors`` needs a list without ``validation``,
    since all images that are not for testing are learned from. ``transfer`` trains and validates on the source domains
    and tests on the target domains. ``shift`` does likewise, and learns from images of the target domains without
    their labels: from ``unlabeled``, and from ``training``, whose entries of the target move there. Nothing of another
    domain is used. Test images are never learned from.

    Args:
        datalist: a whole data list.
        protocol: one of ``heldout``, ``authors``, ``class_mean``, ``transfer``, ``shift``.
        source: domain, or domains, of the labels; for ``transfer`` and ``shift``.
        target: domain, or domains, of the test; likewise.

    Returns:
        A data list with all four parts; entries are shared with ``datalist``.

    Raises:
        ValueError: where the protocol is not known, or the list cannot serve it.
    """
    if protocol not in PROTOCOLS:
        raise ValueError(f"no protocol {protocol!r}; there are {', '.join(PROTOCOLS)}")
    served = {part: list(datalist.get(part, [])) for part in ("training", "unlabeled", "validation", "test")}
    if protocol == "authors":
        _refuse(
            served["validation"],
            "authors learns from every image that is not for testing, but the list holds "
            f"{len(served['validation'])} under validation; take a list authors_..., or the protocol heldout",
        )
    else:
        _check_validation(served, protocol)
    if protocol in ("transfer", "shift"):
        served = _by_domain(served, protocol, _names(source), _names(target))
    for part in ("training", "test"):
        _refuse(not served[part], f"{protocol} needs {part} images and the data list has none; take another list")
    return served


def _check_validation(served: DataList, protocol: str) -> None:
    """Refuse a list whose validation part is missing, or not apart from what is learned from."""
    held = served["validation"]
    _refuse(
        not held,
        f"{protocol} chooses the checkpoint on validation images and the data list has none; "
        "take a list with a validation part, for instance heldout_10_seed0.json",
    )
    learned = served["training"] + served["unlabeled"]
    files = {_file(entry) for entry in learned}
    both = [Path(entry[IMAGE]).name for entry in held if _file(entry) in files]
    _refuse(
        both,
        f"validation shares {counted(len(both), 'image')} with training or unlabeled ({some(both)}); draw them apart",
    )
    patients = {str(entry[PATIENT]) for entry in learned if PATIENT in entry}
    both = sorted({str(entry[PATIENT]) for entry in held if PATIENT in entry} & patients)
    _refuse(
        both,
        f"validation shares {counted(len(both), 'patient')} with training or unlabeled ({some(both)}), "
        "so it would choose the checkpoint on known tissue; draw whole patients for validation",
    )


def _by_domain(served: DataList, protocol: str, source: set[str], target: set[str]) -> DataList:
    """Keep what belongs to the two sides."""
    _refuse(not source or not target, f"{protocol} needs two sides; give --source_domain and --target_domain")
    _refuse(source & target, f"{protocol} has {some(sorted(source & target))} on both sides; take domains apart")
    entries = [entry for part in served.values() for entry in part]
    known = sorted({str(entry[DOMAIN]) for entry in entries if DOMAIN in entry})
    _refuse(not known, f"{protocol} needs domains and no entry of the data list has one; give entries the key domain")
    unknown = sorted((source | target) - set(known))
    _refuse(unknown, f"the data list has no domain {some(unknown)}; it has {', '.join(known)}")
    kept = {
        "training": _of(served["training"], source),
        "unlabeled": _of(served["unlabeled"], source),
        "validation": _of(served["validation"], source),
        "test": _of(served["test"], target),
    }
    for part, domains in (("training", source), ("validation", source), ("test", target)):
        _refuse(
            not kept[part],
            f"{part} of the data list has no image of {some(sorted(domains))}, which {protocol} needs; "
            "take other domains, or a list with more labels",
        )
    if protocol == "shift":
        moved = [_without_label(entry) for entry in _of(served["training"], target)]
        kept["unlabeled"] += _of(served["unlabeled"], target) + moved
        found = any(entry[DOMAIN] in target for entry in kept["unlabeled"])
        _refuse(
            not found, f"no image of {some(sorted(target))} is there to learn from, which shift needs; take transfer"
        )
    return kept


def _of(entries: Sequence[Entry], domains: set[str]) -> list[Entry]:
    return [entry for entry in entries if str(entry.get(DOMAIN)) in domains]


def _without_label(entry: Entry) -> Entry:
    return {key: value for key, value in entry.items() if key != LABEL}


def _names(domains: str | Sequence[str] | None) -> set[str]:
    return {domains} if isinstance(domains, str) else {str(domain) for domain in domains or ()}


def _file(entry: Entry) -> Path:
    return Path(entry[IMAGE]).resolve()


def _refuse(fault: Any, sentence: str) -> None:
    if fault:
        raise ValueError(sentence)
