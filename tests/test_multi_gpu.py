"""Several processes, here two on the CPU with gloo, as `torchrun` starts them on several GPUs."""

from __future__ import annotations

import csv
import json
from typing import Any

import pytest
import torch
from monai.bundle import ConfigParser, ConfigWorkflow

RANKS = 2
TORCHRUN = ("-m", "torch.distributed.run", "--standalone", "--nnodes=1", f"--nproc_per_node={RANKS}")
RECORD = {
    "training": [
        "$@validate#evaluator.add_event_handler(ignite.engine.Events.EPOCH_COMPLETED, @train#early_stop)",
        "$@train#resume_file.attach(@train#trainer)",
        "$@train#trainer.run()",
        "$@train#summary.log(@train#trainer)",
        "@record",
    ],
    "record": {
        "_target_": "torch.save",
        "obj": {
            "rank": "@train#rank",
            "wrapper": "$type(@train#trainer.step).__name__",
            "same_network": "$@train#trainer.step.module.network is @network",
            "weights": "$@train#step.state_dict()",
            "labeled": "$list(@train#dataloader.sampler)",
            "unlabeled": "$list(@train#unlabeled_dataloader.sampler)",
            "steps": "$@train#trainer.state.iteration",
            "dice": "$@validate#evaluator.state.metrics['pooled_dice']",
        },
        "f": "$os.path.join(@output_dir, 'rank' + str(@train#rank) + '.pt')",
    },
}
"""What the training does, and a look into each process after it."""


@pytest.fixture(scope="module")
def trained(copy_bundle) -> tuple[Any, str]:
    """A copy trained by two processes, and their output."""
    bundle_copy = copy_bundle("trained_by_two")
    (bundle_copy.root / "configs" / "record.json").write_text(json.dumps(RECORD))
    configs = bundle_copy.configs("train.json", "methods/semi_moe.yaml", "multi_gpu_train.json", "record.json")
    return bundle_copy, bundle_copy.run("run", "training", "--config_file", configs, launcher=TORCHRUN).stderr


@pytest.fixture(scope="module")
def ranks(trained) -> list[dict[str, Any]]:
    """The state of each process after training."""
    folder = trained[0].root / "runs" / "semi_moe"
    return [torch.load(folder / f"rank{rank}.pt", weights_only=True) for rank in range(RANKS)]


def test_the_record_does_what_the_config_does(repository_root):
    train = json.loads((repository_root / "configs" / "train.json").read_text())
    assert RECORD["training"][:-1] == train["training"]


def test_one_process_writes(trained):
    bundle_copy, printed = trained
    output = bundle_copy.root / "runs" / "semi_moe"
    with (output / "training.csv").open(newline="") as file:
        assert [row["epoch"] for row in csv.DictReader(file)] == ["1", "2"]
    assert len(list(output.rglob("events.out.tfevents.*"))) == 1
    ranks = {f"rank{rank}.pt" for rank in range(RANKS)}
    assert {path.name for path in output.rglob("*.pt")} == {"model.pt", "resume.pt"} | ranks
    assert printed.count(": loss ") == 2, "two epochs, each said once"
    assert printed.count("Training ended after ") == 1
    assert printed.count("Epoch[2] Metrics --") == 1
    left = [path.name for path in bundle_copy.root.rglob("*.part*")]
    assert left == []


def test_the_streams_are_shared_out_without_overlap(ranks):
    assert [report["rank"] for report in ranks] == [0, 1]
    for stream in ("labeled", "unlabeled"):
        shares = [report[stream] for report in ranks]
        assert all(len(share) == 2 for share in shares), stream
        assert sorted(index for share in shares for index in share) == [0, 1, 2, 3], stream
    assert all(report["steps"] == 2 for report in ranks), "4 images in batches of 2 by two: one step an epoch"


@pytest.mark.parametrize(("world", "sizes"), [(3, [1, 1, 2]), (4, [1, 1, 1, 1]), (6, [1] * 6)])
def test_uneven_streams_share_no_image(tiny, repository_root, world, sizes):
    """4 labeled and 4 unlabeled images; only six processes, more than images, have to repeat some."""
    configs = [str(repository_root / "configs" / name) for name in ("train.json", "multi_gpu_train.json")]
    for stream, sampler in (("dataset", "dataloader#sampler"), ("unlabeled_dataset", "unlabeled_dataloader#sampler")):
        shares = []
        for rank in range(world):
            parser = ConfigParser()
            parser.read_config(configs)
            overrides = {f"train#{sampler}#num_replicas": world, f"train#{sampler}#rank": rank}
            parser.update(tiny | overrides | {"train#world_size": world, "train#rank": rank})
            shares.append(list(parser.get_parsed_content(f"train#{sampler}")))
        assert len(parser.get_parsed_content(f"train#{stream}")) == 4
        assert sorted(len(share) for share in shares) == sizes
        result = sorted(index for share in shares for index in share)
        assert set(result) == {0, 1, 2, 3}
        assert len(result) == max(world, 4)


def test_all_processes_have_the_same_weights(ranks):
    """Weights of network and objective, and after an epoch the running means of batch normalization."""
    assert all(report["wrapper"] == "DistributedDataParallel" and report["same_network"] for report in ranks)
    first, second = (report["weights"] for report in ranks)
    assert any(name.endswith("running_mean") for name in first)
    tasks = {f"objective.s.{task}" for task in ("seg", "sdf", "boundary")}
    assert tasks <= set(first)
    assert len(first) > 100
    for name, value in first.items():
        assert torch.equal(value, second[name]), name
    assert all(float(first[name]) != 1.0 for name in tasks)
    assert ranks[0]["dice"] == pytest.approx(ranks[1]["dice"], abs=1e-12)


def test_evaluation_by_two_equals_that_by_one(trained):
    """Three images for two processes: one of them has one more."""
    bundle_copy, _ = trained
    configs = bundle_copy.configs("train.json", "methods/semi_moe.yaml", "evaluate.json", "multi_gpu_evaluate.json")
    by_two = bundle_copy.root / "by_two"
    completed = bundle_copy.run(
        "run", "evaluating", "--config_file", configs, "--output_dir", str(by_two), launcher=TORCHRUN
    )
    assert completed.stderr.count("Epoch[1] Metrics --") == 1
    workflow = ConfigWorkflow(
        [str(bundle_copy.root / "configs" / name) for name in ("train.json", "methods/semi_moe.yaml", "evaluate.json")],
        logging_file=False,
        bundle_root=str(bundle_copy.root),
        output_dir=str(bundle_copy.root / "by_one"),
        device="cpu",
        amp=False,
        workflow_type="train",
    )
    workflow.initialize()
    workflow.run()
    lines = (by_two / "metrics.csv").read_text().splitlines()
    result = {name: float(value) for name, value in (line.split(",") for line in lines)}
    assert {"pooled_dice", "class_mean_jaccard", "object_hausdorff", "calibration_error"} <= result.keys()
    assert result == pytest.approx(workflow.evaluator.state.metrics, abs=1e-5)
    assert result["pooled_dice"] > 0
    by_one = bundle_copy.root / "by_one"
    for name in ("per_image.csv", "calibration.csv"):
        tables = []
        for folder in (by_two, by_one):
            with (folder / name).open(newline="") as file:
                tables.append(list(csv.reader(file)))
        assert tables[0][0] == tables[1][0]
        assert [row[:1] for row in tables[0]] == [row[:1] for row in tables[1]]
        for row, other in zip(*(table[1:] for table in tables), strict=True):
            assert [float(cell or 0) for cell in row[1:]] == pytest.approx(
                [float(cell or 0) for cell in other[1:]], abs=1e-5
            )
    assert len((by_two / "per_image.csv").read_text().splitlines()) == 1 + 3
    assert len(list((by_two / "masks").glob("*_mask.png"))) == 3
