"""docs/methods.md is generated from the headers of the overlays; an incomplete header is an error."""

from __future__ import annotations

from collections.abc import Callable
from types import ModuleType

import pytest

HEADER = """# Mean of two: two networks and their mean.
# Paper: Nobody 2020, arXiv 0000.00000.
# Differs from the paper: it does not, as far
#   as anybody knows.
# Consistency: seg <- a|b.
# Cost: twice.
# python -m monai.bundle run training --config_file x
method: mean_of_two
"""


@pytest.fixture(scope="module")
def program(load_program: Callable[[str], ModuleType]) -> ModuleType:
    return load_program("list_methods")


def test_the_page_is_what_the_overlays_say(python, repository_root):
    completed = python("scripts/dev/list_methods.py", "--check", cwd=repository_root)
    assert completed.returncode == 0, completed.stderr


def test_a_header_gives_a_row_and_a_section(program, tmp_path):
    path = tmp_path / "mean_of_two.yaml"
    path.write_text(HEADER, encoding="utf-8")
    text = program.page([program.read_method(path)])
    assert "| [`mean_of_two`](#mean_of_two) | Mean of two | seg <- a\\|b. | twice. |\n" in text
    assert "## mean_of_two\nMean of two: two networks and their mean.\n" in text
    assert "- Differs from the paper: it does not, as far as anybody knows.\n" in text


def test_options_of_a_header_become_a_list(program, tmp_path):
    path = tmp_path / "mean_of_two.yaml"
    lines = ["# Ablations:", "#   no mean: --mean False", "#   no noise: --noise#scale 0.0"]
    path.write_text(HEADER.replace("\nmethod:", "\n" + "\n".join(lines) + "\nmethod:"), encoding="utf-8")
    text = program.page([program.read_method(path)])
    assert "- Remarks: Ablations: no mean (`--mean False`), no noise (`--noise#scale 0.0`)\n" in text


@pytest.mark.parametrize("lacking", ["# Paper", "# Cost", "# python", "# Mean of two"])
def test_a_header_that_lacks_something_is_refused_with_its_file(lacking, program, tmp_path):
    path = tmp_path / "mean_of_two.yaml"
    lines = HEADER.splitlines(keepends=True)
    path.write_text("".join(line for line in lines if not line.startswith(lacking)), encoding="utf-8")
    with pytest.raises(ValueError, match=r"mean_of_two\.yaml: the header needs"):
        program.read_method(path)
