"""kill -9 at any moment: the training that goes on ends bit for bit where an uninterrupted one does."""

from __future__ import annotations

import random
import signal
import subprocess
import time
from contextlib import suppress
from pathlib import Path

import psutil
import pytest
import torch

from pyhbt.training.checkpoints import MANIFEST, checkpoints
from tests.ranks import command, environment, run, write_script
from tests.toy import save_tiny_bert

_SCRIPT = """
    import os
    from pathlib import Path
    import torch
    from transformers import TrainerCallback
    from tests.training.test_trainer import PAIRS, arguments
    from tests.toy import parallel_items
    from pyhbt.training.checkpoints import checkpoints
    from pyhbt.data.pair_set import PairSet
    from pyhbt.encoders import LoraOptions, load_encoder
    from pyhbt.training.objectives import Objective
    from pyhbt.training.trainer import HybridTrainer

    out, bert, kind = Path(sys.argv[1]), sys.argv[2], sys.argv[3]
    encoder = load_encoder(bert)  # with dropout
    if kind == "lora":
        encoder.add_lora(LoraOptions(4, 8, dropout=0.1), seed=4)
    options = {
        "linear": {"ratio": "linear:0:1", "objective": Objective(0.1, learn_temperature=True, js_weight=0.1)},
        "lora": {"mini_batch_size": 3, "objective": Objective(0.1, learn_temperature=True)},
        "cached": {"ratio": "steps:0@0,0.5@0.5", "mini_batch_size": 3},
        "adaptive": {
            "ratio": "adaptive:0.1:0.9",
            "adapt_every": 2,
            "dev_pairs": PairSet.from_parallel(parallel_items(10, ("aa", "bb"), seed=5)),
            "language_sampling": "linear:1:0.3",
        },
    }[kind]

    class Steps(TrainerCallback):
        def on_step_end(self, args, state, control, **others):
            if args.process_index == 0:
                (out / "step").write_text(str(state.global_step))

    trainer = HybridTrainer(
        encoder,
        arguments(
            out, max_steps=20, save_strategy="steps", save_steps=3, logging_steps=2, learning_rate=1e-3,
            gradient_accumulation_steps=2, save_total_limit=2, seed=4,
        ),
        PAIRS,
        callbacks=[Steps()],
        **options,
    )
    trainer.train(resume_from_checkpoint=bool(checkpoints(out)))
    if trainer.args.process_index == 0:
        drop = ("examples_per_second", "train_runtime", "train_samples_per_second", "train_steps_per_second",
                "train_loss")
        log = [{k: v for k, v in row.items() if k not in drop} for row in trainer.state.log_history]
        torch.save([log, encoder.state_dict(), trainer.temperature], out / "end.pt")
"""


def kill_when(process: subprocess.Popen[bytes], out: Path, moment: int | str) -> None:
    """Kill all ranks after a step, or while a checkpoint is being written."""
    deadline = time.monotonic() + 240
    seen = {path.name for path in checkpoints(out)}
    while process.poll() is None and time.monotonic() < deadline:
        if moment == "saving":
            started = [path for path in checkpoints(out) if path.name not in seen]
            reached = any(not (path / MANIFEST).is_file() for path in started)
        else:
            text = (out / "step").read_text() if (out / "step").is_file() else ""
            reached = bool(text) and int(text) >= int(moment)
        if reached:
            break
        time.sleep(0.0005)
    kill(process)


def kill(process: subprocess.Popen[bytes]) -> None:
    """SIGKILL a process and all below it: ranks are in sessions of their own, which a signal to a group misses."""
    family = [psutil.Process(process.pid), *psutil.Process(process.pid).children(recursive=True)]
    for member in family:
        with suppress(psutil.NoSuchProcess):
            member.kill()
    process.wait()
    assert not psutil.wait_procs(family[1:], timeout=10)[1]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("kind", "ranks"),
    [("linear", 1), ("cached", 1), ("adaptive", 1), ("linear", 2), ("cached", 2), ("lora", 1), ("lora", 2)],
)
def test_killed_and_resumed(kind: str, ranks: int, tmp_path: Path) -> None:
    bert = save_tiny_bert(tmp_path / "bert")
    script = write_script(tmp_path / "train.py", _SCRIPT)
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    for folder in (whole, parts):
        folder.mkdir()
    run(script, ranks, str(whole), str(bert), kind)
    rng = random.Random(f"{kind}{ranks}")
    moments: list[int | str] = [rng.randint(1, 7), "saving", rng.randint(12, 19)]
    if kind == "lora":  # ten times a run, early and late in it and while saving
        moments = [moment for low in (1, 4, 8, 11, 14) for moment in (rng.randint(low, low + 2), "saving")]
    killed = 0
    for moment in moments:
        process = subprocess.Popen(
            command(script, ranks, str(parts), str(bert), kind), env=environment(), start_new_session=True
        )
        kill_when(process, parts, moment)
        killed += process.returncode == -signal.SIGKILL
        assert not (parts / "end.pt").is_file(), f"ended before it was killed at {moment}"
    assert killed == len(moments)
    run(script, ranks, str(parts), str(bert), kind)
    log, weights, temperature = torch.load(whole / "end.pt", weights_only=True)
    found_log, found_weights, found_temperature = torch.load(parts / "end.pt", weights_only=True)
    assert [row["step"] for row in log if "loss" in row] == list(range(2, 21, 2))
    assert found_log == log
    assert found_temperature == temperature
    for name, value in weights.items():
        assert torch.equal(found_weights[name], value), name
