"""Benchmark of threads on a busy CPU, with measurements replaced by known numbers."""

from __future__ import annotations

import subprocess

import pytest


def test_each_way_is_measured_beside_each_number_of_busy_processes(load_program, monkeypatch, capsys):
    program = load_program("benchmark_threads")
    recorded, started = [], []
    popen = subprocess.Popen
    monkeypatch.setattr(subprocess, "Popen", lambda *arguments: started.append(popen(*arguments)) or started[-1])

    def measure(options, threads, waiting):
        busy = [process for process in started if process.poll() is None]
        recorded.append((len(busy), threads, waiting))
        return threads * (1 + len(recorded) // 6), 4

    monkeypatch.setattr(program, "measure", measure)
    assert program.main(["--threads", "1", "2", "--busy", "0", "2", "--rounds", "2"]) == 0
    ways = [(1, "spin"), (2, "spin"), (2, "sleep")]
    assert recorded == [(busy, *way) for busy in (0, 2) for _ in range(2) for way in ways]
    lines = capsys.readouterr().out.splitlines()
    assert lines[2:4] == ["| 0 | 1 | - | 4.00 | 1.00 |", "| 0 | 2 | spin | 2.00 | 2.00 |"]
    assert len(lines) == 8
    assert len(started) == 2
    assert all(process.poll() is not None for process in started), "they end with the benchmark"

    def failing(*_):
        raise subprocess.CalledProcessError(1, "measure", stderr="Traceback\nbenchmark: memory is full\n")

    monkeypatch.setattr(program, "measure", failing)
    assert program.main(["--threads", "1", "--busy", "0"]) == 1
    assert capsys.readouterr().err == "benchmark_threads: benchmark: memory is full\n"


def test_a_wrong_command_line_is_refused(load_program, capsys):
    with pytest.raises(SystemExit) as caught:
        load_program("benchmark_threads").main(["--busy", "-1"])
    assert caught.value.code == 2
    assert "--busy at least 0" in capsys.readouterr().err
