"""Program that checks configs and overrides before a run: what MONAI would take in silence, or refuse in its own words.

Run: python scripts/check_config.py training --config_file "['configs/train.json','configs/sizes/demo.yaml']" --seed 3

It takes the same words as ``python -m monai.bundle run`` and runs nothing. It finds files that cannot be read,
overrides that nothing reads, references that point nowhere, settings that a component does not take, and run ids that
are not there. Each is one line. Components are looked up, so their modules are imported: check only configs you trust.
"""

from __future__ import annotations

import ast
import contextlib
import difflib
import functools
import inspect
import re
import sys
import textwrap
import warnings
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import fire
import yaml
from fire.core import FireExit
from monai.bundle import ComponentLocator, ConfigComponent, ConfigParser, ReferenceResolver, update_kwargs
from monai.utils import ensure_tuple
from monai.utils.module import locate

Findings = list[str]
POWER = re.compile(r"[+-]?\d+(\.\d*)?[eE][+-]?\d+")
"""A number that YAML takes for a text, such as 5e-5."""
IMPORT = re.compile(r"\$\s*(import|from)\s")
"""An import, which MONAI carries out wherever it stands."""
LOCATOR = ComponentLocator()  # looks through all of MONAI when first asked
OWN_KEYS = {"imports", "_meta_"}
TRACKING_KEYS = {"tracking_uri", "experiment_name", "run_name", "save_execute_config", "is_not_rank0"}
"""Keys that MONAI reads itself, beside those that are run; and those that it reads with ``--tracking``."""
METHOD = "method"  # names an overlay


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the program; 0 where nothing is wrong, 1 where something is, 2 for a wrong command line."""
    words = list(sys.argv[1:] if arguments is None else arguments)
    if {"-h", "--help"} & set(words):
        print(__doc__)
        return 0
    given: dict[str, Any] = {}

    def run(run_id: Any = None, config_file: Any = None, args_file: Any = None, **rest: Any) -> None:
        given.update({"run_id": run_id, "config_file": config_file, "args_file": args_file, **rest})

    try:
        fire.Fire(run, command=words, name="check_config")
        settings = update_kwargs(given.pop("args_file"), ignore_none=True, **given)
    except FireExit as end:
        return int(end.code)
    except (OSError, ValueError, yaml.YAMLError) as error:
        return _end([f"args_file: {_line(error)}"])
    if settings.get("config_file") is None:
        print("check_config: no --config_file; give the words of `python -m monai.bundle run`", file=sys.stderr)
        return 2
    return _end(check(settings))


def _end(findings: Findings) -> int:
    print("\n".join(findings) or "check_config: no fault found", flush=True)
    if findings:
        several = "faults: mend them" if len(findings) > 1 else "fault: mend it"
        print(f"check_config: {len(findings)} {several}, then run", file=sys.stderr)
    return int(bool(findings))


def check(settings: Mapping[str, Any]) -> Findings:
    """All that is wrong with the settings of a run.

    Args:
        settings: the arguments of ``monai.bundle.run`` by name, overrides among them.

    Returns:
        One line a finding.
    """
    overrides = dict(settings)
    files = [Path(str(file)) for file in ensure_tuple(overrides.pop("config_file"))]
    meta = [Path(str(file)) for file in ensure_tuple(overrides.pop("meta_file", None) or ())]
    run_id = overrides.pop("run_id", None) or "run"
    runs = [overrides.pop(name, None) for name in ("init_id", "final_id")]
    tracking, _ = overrides.pop("tracking", None), overrides.pop("logging_file", None)
    findings: Findings = []
    parser = ConfigParser(config={})
    added: dict[str, str] = {}
    contents = list(_contents(files, findings))
    if len(list(_contents(meta, findings))) + len(contents) < len(meta) + len(files):
        return findings
    for number, (source, content) in enumerate([*contents, ("--", overrides)]):
        added |= _lay_over(parser, source, content, findings, first=number == 0)
    for name in (run_id, *filter(None, runs)):
        if name not in parser:
            findings.append(f"{name}: the configs have nothing of this name to run{_nearest(name, parser.config)}")
    read = OWN_KEYS | {run_id, runs[0] or "initialize", runs[1] or "finalize"}
    read |= TRACKING_KEYS if tracking else set()
    read |= {name for _, text in _texts(parser) for name in _references(text)}
    findings += _unread(parser, added, read, files[0].parent)
    findings += _texts_that_fail(parser)
    # The code beside these configs, where MONAI looks for it, and else the code beside this program.
    sys.path[:0] = [str(file.resolve().parent.parent) for file in (files[0], Path(__file__))]
    components = [(place, value) for place, value in _walk(parser.config) if ConfigComponent.is_instantiable(value)]
    return findings + [fault for place, part in components for fault in _untaken(place, part)]


def _contents(files: Sequence[Path], findings: Findings) -> Iterator[tuple[str, dict[str, Any]]]:
    """Files with what they hold; what cannot be read becomes a finding."""
    for file in files:
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            try:
                content = ConfigParser.load_config_file(file)
            except OSError as error:
                findings.append(f"{file}: {error.strerror}; give a config that can be read")
                continue
            except (ValueError, yaml.YAMLError) as error:
                findings.append(f"{file}: no config that can be read ({_line(error)})")
                continue
        findings += [f"{file}: {_line(warning.message)}; keep one of them" for warning in caught]
        if isinstance(content, dict):
            yield str(file), content
        else:
            findings.append(f"{file}: holds a {type(content).__name__}; a config is an object of names and values")


def _lay_over(
    parser: ConfigParser, source: str, content: Mapping[str, Any], findings: Findings, first: bool
) -> dict[str, str]:
    """Lay a config or the overrides over what is there; keys that were not there, or come from the command line."""
    added = {}
    for name, value in content.items():
        key = _plain(name.removeprefix("+"))
        told = f"--{key}" if source == "--" else f"{source}: {key}"
        known = key in parser
        suggestion = "" if known else _nearest(key, parser.config)
        try:
            if name.startswith("+") and known:
                merged = parser[key]
                merged.update(value) if isinstance(merged, dict) else merged.extend(value)
            else:
                parser[key] = value
        except (AttributeError, IndexError, KeyError, TypeError, ValueError):
            parent = key.rpartition("#")[0]
            why = f"{parent} cannot take it" if parent in parser else f"there is no {parent}"
            findings.append(f"{told}: {why}{suggestion}")
            continue
        if source == "--" or not (known or first):
            added[key] = f"{told}: nothing reads it{suggestion}"
    return added


def _unread(parser: ConfigParser, added: Mapping[str, str], read: set[str], folder: Path) -> Findings:
    """Overrides that nothing reads: neither they, nor what holds them or what they hold, are referred to or run."""
    overlays = {path.name.removesuffix("s"): path for path in folder.iterdir() if path.is_dir()}
    findings = []
    for key, finding in added.items():
        parts = key.split("#")
        above = ["#".join(parts[: length + 1]) for length in range(len(parts))]
        in_component = any(ConfigComponent.is_instantiable(parser.get(place)) for place in above[:-1])
        below = any(name.startswith(f"{key}#") for name in read)
        is_read = in_component or below or bool(read & set(above)) or bool(IMPORT.match(str(parser.get(key))))
        if is_read and key != METHOD:  # which the resume file alone reads, to know its training again
            continue
        if key not in overlays:
            findings.append(finding)
        elif finding.startswith("--"):
            findings.append(f"--{key}: it only names an overlay; add {overlays[key]}/NAME.yaml to --config_file")
    return findings


def _texts_that_fail(parser: ConfigParser) -> Findings:
    """References that point nowhere, expressions that are none, numbers that YAML took for texts."""
    findings = []
    for place, text in _texts(parser):
        references = _references(text)
        for name in sorted(references):
            if name not in parser:
                findings.append(f"{place}: refers to @{name}, which is not there{_nearest(name, parser.config)}")
        if POWER.fullmatch(text):
            findings.append(f"{place}: {text} is a text and no number; write point and sign, as in 5.0e-5")
        if not text.startswith("$") or IMPORT.match(text):
            continue
        if references and "import" in text:
            findings.append(f"{place}: MONAI reads no @reference beside the letters 'import'; write it without them")
            continue
        try:
            compile(ReferenceResolver.id_matcher.sub("x", ReferenceResolver.normalize_id(text[1:])), place, "eval")
        except SyntaxError as error:
            findings.append(f"{place}: no Python expression ({error.msg}): {text}")
    return findings


def _untaken(place: str, part: Mapping[str, Any]) -> Findings:
    """Settings of a component that its class or function does not take."""
    target = part["_target_"]
    if not isinstance(target, str) or target.startswith(("$", "@")):
        return []
    try:
        found = _located(target)
    except Exception as error:  # a module may fail in any way while it is imported
        return [f"{place}: {target} cannot be imported ({_line(error)})"]
    if found is None:
        return [f"{place}: there is no class or function {target}"]
    taken = _taken(found)
    if taken is None:
        return []
    unknown = [name for name in part if name not in taken | ConfigComponent.non_arg_keys]
    return [f"{place}: {target} takes no {name}{_close(name, taken)}" for name in unknown]


@functools.cache
def _located(target: str) -> Any:
    """The class or function that MONAI takes for a name; ``None`` where there is none."""
    return locate(ConfigComponent({"_target_": target}, locator=LOCATOR).resolve_module_name())


def _taken(found: Any) -> set[str] | None:
    """Names of arguments that a class or function takes; ``None`` where it takes any."""
    chain = [kind for kind in inspect.getmro(found) if "__init__" in vars(kind)] if inspect.isclass(found) else [found]
    names: set[str] = set()
    for kind in chain:
        try:
            parameters = inspect.signature(kind).parameters.values()
        except (TypeError, ValueError):
            return None
        names |= {one.name for one in parameters if one.kind in (one.POSITIONAL_OR_KEYWORD, one.KEYWORD_ONLY)}
        if not any(one.kind is one.VAR_KEYWORD for one in parameters):
            return names
        if not inspect.isclass(kind) or not _hands_on(kind):
            return None
    return None


def _hands_on(kind: type) -> bool:
    """Whether a class hands all further arguments to the class above it."""
    try:
        tree = ast.parse(textwrap.dedent(inspect.getsource(vars(kind)["__init__"])))
    except (OSError, SyntaxError, TypeError):
        return False
    calls = [node for node in ast.walk(tree) if isinstance(node, ast.Call)]
    above = [node for node in calls if ast.unparse(node.func) == "super().__init__"]
    others = [node for node in calls if node not in above and any(word.arg is None for word in node.keywords)]
    return not others and any(word.arg is None for node in above for word in node.keywords)


def _walk(content: Any, place: str = "") -> Iterator[tuple[str, Any]]:
    """All that a config holds, with the key where it stands; the metadata is no part of it."""
    if place:
        yield place, content
    if isinstance(content, dict | list):
        for name, value in content.items() if isinstance(content, dict) else enumerate(content):
            if name != "_meta_":
                yield from _walk(value, f"{place}#{name}".lstrip("#"))


def _texts(parser: ConfigParser) -> list[tuple[str, str]]:
    """All texts of a config with the key where each stands; references are made absolute where that is possible."""
    found = [(place, text) for place, text in _walk(parser.config) if isinstance(text, str)]
    for number, (place, text) in enumerate(found):
        if "@#" in text:
            with contextlib.suppress(ValueError):
                found[number] = (place, parser.resolve_relative_ids(place, text))
    return found


def _references(text: str) -> set[str]:
    """What a text refers to, as ``@key`` or, in whole, as ``%key``."""
    macro = [text[1:]] if text.startswith("%") and not ConfigParser.split_path_id(text[1:])[0] else []
    return {_plain(name) for name in [*ReferenceResolver.match_refs_pattern(text), *macro]}


def _plain(key: str) -> str:
    """A key as people write it, parted by #."""
    return str(key).replace("::", "#")


def _nearest(key: str, content: Any) -> str:
    """A question that names the key that was meant, where there is one like it."""
    keys = {place for place, _ in _walk(content) if not place.rpartition("#")[2].startswith("_")}
    return _close(key, keys) or _close(key.rpartition("#")[2], {one for one in keys if "#" not in one})


def _close(name: str, known: set[str]) -> str:
    found = difflib.get_close_matches(name, sorted(known), n=1, cutoff=0.7)
    return f"; did you mean {found[0]}?" if found else ""


def _line(error: object) -> str:
    return " ".join(str(error).split())


if __name__ == "__main__":
    sys.exit(main())
