"""Check configs and overrides before a run, for errors that MONAI ignores or reports unclearly.

Run: python scripts/check_config.py training --config_file "['configs/train.json','configs/sizes/demo.yaml']" --seed 3

The arguments are those of ``python -m monai.bundle run``; nothing is run. The check finds unreadable files, unused
overrides, references that do not exist, unknown arguments of components, and unknown run ids, and prints one line for
each. The modules of components are imported, so check only configs that you trust.
"""

from __future__ import annotations

import ast
import functools
import inspect
import re
import sys
import textwrap
import warnings
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from scripts.interruption import end_without_traceback

end_without_traceback()

import fire
import yaml
from fire.core import FireExit
from monai.bundle import ComponentLocator, ConfigComponent, ConfigParser, ReferenceResolver, update_kwargs
from monai.utils import ensure_tuple
from monai.utils.module import locate

from bundle.engines.config_check import (
    POWER,
    READ_BY_MONAI,
    READ_BY_TRACKING,
    closest,
    invalid_values,
    nearest,
    normalized,
    references,
    strings,
    walk,
)

Findings = list[str]
IMPORT = re.compile(r"\$\s*(import|from)\s")
"""An import, which MONAI runs at any key."""
LOCATOR = ComponentLocator()  # scans all of MONAI on first use
MOST_VALUES, MOST_LEVELS = 100_000, 100
METHOD = "method"  # name of an overlay


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the program. Exit codes: 0 no problems, 1 problems found, 2 invalid command line."""
    command = list(sys.argv[1:] if arguments is None else arguments)
    if {"-h", "--help"} & set(command):
        print(__doc__)
        return 0
    given: dict[str, Any] = {}

    def run(run_id: Any = None, config_file: Any = None, args_file: Any = None, **rest: Any) -> None:
        given.update({"run_id": run_id, "config_file": config_file, "args_file": args_file, **rest})

    try:
        fire.Fire(run, command=command, name="check_config")
        settings = update_kwargs(given.pop("args_file"), ignore_none=True, **given)
    except FireExit as end:
        return int(end.code)
    except (OSError, ValueError, yaml.YAMLError) as error:
        return _end([f"args_file: {_line(error)}"])
    if settings.get("config_file") is None:
        print("check_config: no --config_file; give the arguments of `python -m monai.bundle run`", file=sys.stderr)
        return 2
    return _end(check(settings))


def _end(findings: Findings) -> int:
    print("\n".join(findings) or "check_config: no problems found", flush=True)
    if findings:
        advice = "problems found; fix them" if len(findings) > 1 else "problem found; fix it"
        print(f"check_config: {len(findings)} {advice} before the run", file=sys.stderr)
    return int(bool(findings))


def check(settings: Mapping[str, Any]) -> Findings:
    """Find all problems in the settings of a run.

    Args:
        settings: the arguments of ``monai.bundle.run`` by name, including overrides.

    Returns:
        One line per problem.
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
    late = [source for source, content in contents[1:] if "imports" in content]
    if late and "imports" not in contents[0][1]:
        return [f"{contents[0][0]}: is before the base config; give {late[0]} first"]
    for number, (source, content) in enumerate([*contents, ("--", overrides)]):
        added |= _merge(parser, source, content, findings, first=number == 0)
    for name in (run_id, *filter(None, runs)):
        if name not in parser:
            findings.append(f"{name}: the configs have no entry of this name to run{nearest(name, parser.config)}")
    read = READ_BY_MONAI | {run_id, runs[0] or "initialize", runs[1] or "finalize"}
    read |= READ_BY_TRACKING if tracking else set()
    read |= {name for _, text in strings(parser) for name in references(text)}
    findings += _unread(parser, added, read, files[0].parent)
    settings_findings = invalid_values(parser)
    reported = tuple(f"{finding.partition(' is ')[0]}: " for finding in settings_findings)
    findings += settings_findings
    findings += [finding for finding in _invalid_strings(parser) if not finding.startswith(reported)]
    # Import the code next to the configs, as MONAI does, or else the code of this repository.
    sys.path[:0] = [str(file.resolve().parent.parent) for file in (files[0], Path(__file__))]
    components = [(key, value) for key, value in walk(parser.config) if ConfigComponent.is_instantiable(value)]
    return findings + [finding for key, component in components for finding in _unknown_arguments(key, component)]


def _contents(files: Sequence[Path], findings: Findings) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield each file with its content; unreadable files are added to the findings."""
    for file in files:
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            try:
                content = ConfigParser.load_config_file(file)
            except OSError as error:
                findings.append(f"{file}: {error.strerror}; give a readable config file")
                continue
            except (ValueError, yaml.YAMLError) as error:
                findings.append(f"{file}: not a valid config ({_line(error)})")
                continue
            except (RecursionError, TypeError) as error:  # of brackets, and of a key that is a list or a mapping
                findings.append(f"{file}: not a valid config (nested too deep, or a key is no text: {_line(error)})")
                continue
        findings += [f"{file}: {_line(warning.message)}; keep one of them" for warning in caught]
        if not isinstance(content, dict):
            kind = "nothing" if content is None else f"a {type(content).__name__}"
            findings.append(f"{file}: contains {kind}; a config must map names to values")
        elif fault := _malformed(content):
            findings.append(f"{file}: {fault}")
        else:
            yield str(file), content


def _malformed(content: Mapping[Any, Any]) -> str:
    """Describe a key that is no text, or an excess of values, as aliases make it; empty if there is none."""
    level: list[Any] = [content]
    count = 0
    for _ in range(MOST_LEVELS):
        level = [child for value in level for child in (value.values() if isinstance(value, dict) else value)]
        level = [value for value in level if isinstance(value, dict | list)]
        count += sum(map(len, level))
        if not level:
            names = [key for key in content if not isinstance(key, str)]
            return f"the key {names[0]!r} is no text; write it in quotes" if names else ""
        if count > MOST_VALUES:
            return f"holds more than {MOST_VALUES} values, with those of its aliases (*); write fewer"
    return f"is nested more than {MOST_LEVELS} levels deep, or an alias (*) holds itself; write it flatter"


def _merge(
    parser: ConfigParser, source: str, content: Mapping[str, Any], findings: Findings, first: bool
) -> dict[str, str]:
    """Merge a config or the overrides into the parser; return new keys with the finding to report if unused."""
    added = {}
    for name, value in content.items():
        key = normalized(name.removeprefix("+"))
        label = f"--{key}" if source == "--" else f"{source}: {key}"
        known = key in parser
        suggestion = "" if known else nearest(key, parser.config)
        try:
            if name.startswith("+") and known:
                merged = parser[key]
                merged.update(value) if isinstance(merged, dict) else merged.extend(value)
            else:
                parser[key] = value
        except (AttributeError, IndexError, KeyError, TypeError, ValueError):
            parent = key.rpartition("#")[0]
            reason = f"{parent} cannot have this entry" if parent in parser else f"{parent} does not exist"
            findings.append(f"{label}: {reason}{suggestion}")
            continue
        if source == "--" or not (known or first):
            added[key] = f"{label}: this setting is unused{suggestion}"
    return added


def _unread(parser: ConfigParser, added: Mapping[str, str], read: set[str], folder: Path) -> Findings:
    """Find unused settings: neither they, nor their parents or children, are referred to or run."""
    overlays = {path.name.removesuffix("s"): path for path in folder.iterdir() if path.is_dir()}
    findings = []
    for key, finding in added.items():
        parts = key.split("#")
        above = ["#".join(parts[: length + 1]) for length in range(len(parts))]
        in_component = any(ConfigComponent.is_instantiable(parser.get(parent)) for parent in above[:-1])
        below = any(name.startswith(f"{key}#") for name in read)
        is_read = in_component or below or bool(read & set(above)) or bool(IMPORT.match(str(parser.get(key))))
        if is_read and key != METHOD:  # only the resume file reads it, to recognize its training
            continue
        if key not in overlays:
            findings.append(finding)
        elif finding.startswith("--"):
            findings.append(f"--{key}: this only names an overlay; add {overlays[key]}/NAME.yaml to --config_file")
    return findings


def _invalid_strings(parser: ConfigParser) -> Findings:
    """Find references that do not exist, invalid expressions, and numbers that YAML read as strings."""
    findings = []
    for key, text in strings(parser):
        referred = references(text)
        for name in sorted(referred):
            if name not in parser:
                findings.append(f"{key}: refers to @{name}, which does not exist{nearest(name, parser.config)}")
        if POWER.fullmatch(text):
            findings.append(f"{key}: YAML reads {text} as a string; write a decimal point and a sign, as in 5.0e-5")
        if not text.startswith("$") or IMPORT.match(text):
            continue
        if referred and "import" in text:
            findings.append(f"{key}: MONAI resolves no @reference in a string that contains 'import'; rewrite it")
            continue
        try:
            compile(ReferenceResolver.id_matcher.sub("x", ReferenceResolver.normalize_id(text[1:])), key, "eval")
        except SyntaxError as error:
            findings.append(f"{key}: invalid Python expression ({error.msg}): {text}")
    return findings


def _unknown_arguments(key: str, component: Mapping[str, Any]) -> Findings:
    """Find settings of a component that are not arguments of its class or function."""
    target = component["_target_"]
    if not isinstance(target, str) or target.startswith(("$", "@")):
        return []
    try:
        located = _locate(target)
    except Exception as error:  # importing a module may raise anything
        return [f"{key}: {target} cannot be imported ({_line(error)})"]
    if located is None:
        return [f"{key}: no class or function {target}"]
    arguments = _arguments(located)
    if arguments is None:
        return []
    unknown = [name for name in component if name not in arguments | ConfigComponent.non_arg_keys]
    return [f"{key}: {target} has no argument {name}{closest(name, arguments)}" for name in unknown]


@functools.cache
def _locate(target: str) -> Any:
    """Return the class or function that MONAI finds for a name; ``None`` if there is none."""
    return locate(ConfigComponent({"_target_": target}, locator=LOCATOR).resolve_module_name())


def _arguments(target: Any) -> set[str] | None:
    """Return the names of the arguments of a class or function; ``None`` if it accepts any."""
    bases = [base for base in inspect.getmro(target) if "__init__" in vars(base)] if inspect.isclass(target) else []
    names: set[str] = set()
    for function in bases or [target]:
        try:
            parameters = inspect.signature(function).parameters.values()
        except (TypeError, ValueError):
            return None
        names |= {item.name for item in parameters if item.kind in (item.POSITIONAL_OR_KEYWORD, item.KEYWORD_ONLY)}
        if not any(item.kind is item.VAR_KEYWORD for item in parameters):
            return names
        if not inspect.isclass(function) or not _forwards_arguments(function):
            return None
    return None


def _forwards_arguments(kind: type) -> bool:
    """Return whether a class passes all further arguments to its base class."""
    try:
        tree = ast.parse(textwrap.dedent(inspect.getsource(vars(kind)["__init__"])))
    except (OSError, SyntaxError, TypeError):
        return False
    calls = [node for node in ast.walk(tree) if isinstance(node, ast.Call)]
    base_calls = [node for node in calls if ast.unparse(node.func) == "super().__init__"]
    others = [node for node in calls if node not in base_calls and any(word.arg is None for word in node.keywords)]
    return not others and any(word.arg is None for node in base_calls for word in node.keywords)


def _line(error: object) -> str:
    return " ".join(str(error).split())


if __name__ == "__main__":
    sys.exit(main())
