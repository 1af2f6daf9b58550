from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from types import ModuleType

from monai.bundle import ConfigParser

from scripts.benchmarking import merged


def test_handlers_are_components_since_monai_label_asks_each_what_it_is(
    load_program: Callable[[str], ModuleType], repository_root: Path
) -> None:
    run = merged(repository_root, ["configs/train.json", "configs/methods/weak_teacher.yaml"], {})
    handlers = [load_program("export_bundle")._as_component(item) for item in run["train"]["handlers"]]
    assert all("_target_" in item for item in handlers)
    assert len(handlers) == len(run["train"]["handlers"])


def test_such_a_component_is_what_it_refers_to(load_program: Callable[[str], ModuleType]) -> None:
    parser = ConfigParser({"teacher": {"_target_": "collections.Counter"}, "handlers": ["@teacher"]})
    parser["handlers"] = [load_program("export_bundle")._as_component(item) for item in parser["handlers"]]
    assert parser.get_parsed_content("handlers")[0] is parser.get_parsed_content("teacher")
