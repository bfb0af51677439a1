"""TrainingArguments, all of them: what works does, what is refused says why, and the docs have every name."""

from __future__ import annotations

import dataclasses
import importlib.util
import os
import re
import sys
import types
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from transformers import SchedulerType, TrainerCallback, TrainingArguments, get_scheduler
from transformers.integrations import integration_utils
from transformers.trainer_pt_utils import AcceleratorConfig

from pyhbt.encoders import Encoder, NgramEncoder, TransformerEncoder, load_encoder
from pyhbt.training.config import TrainingConfig
from pyhbt.training.log import Tally
from pyhbt.training.objectives import Loss, Objective
from pyhbt.training.trainer import HybridTrainer
from pyhbt.training.trainer_arguments import REFUSED, WORKS, refusal
from tests.ranks import ROOT, run, write_script
from tests.toy import save_tiny_bert
from tests.training.test_trainer import NEW, PAIRS, arguments, small_ngram

NAMES = {field.name for field in dataclasses.fields(TrainingArguments) if field.init}
LATER = ("deepspeed", "parallelism_config", "group_by_length", "past_index")
"""Set after the arguments are made: transformers itself refuses them without their packages, or has them no longer."""


@pytest.fixture(scope="module")
def bert(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_tiny_bert(tmp_path_factory.mktemp("bert"))


@pytest.fixture(autouse=True)
def as_before() -> Iterator[None]:
    """Arguments that reach torch, the environment and the verbosity leave them as they were."""
    variables, verbosity = dict(os.environ), transformers.logging.get_verbosity()
    yield
    os.environ.clear()
    os.environ.update(variables)
    transformers.logging.set_verbosity(verbosity)
    torch.use_deterministic_algorithms(False)


def train(folder: Path, encoder: Encoder | None = None, **options: Any) -> HybridTrainer:
    """Four steps, and what the trainer is then."""
    of_trainer = {
        name: options.pop(name)
        for name in ("objective", "mini_batch_size", "evaluate", "callbacks")
        if name in options
    }
    made = HybridTrainer(
        small_ngram() if encoder is None else encoder,
        arguments(folder, **{"max_steps": 4, "learning_rate": 1e-3} | options),
        PAIRS,
        **of_trainer,
    )
    made.train()
    return made


def losses(done: HybridTrainer) -> list[float]:
    return [row["loss"] for row in done.state.log_history if "loss" in row]


def rates(done: HybridTrainer) -> list[float]:
    return [row["learning_rate"] for row in done.state.log_history if "learning_rate" in row]


# the table


def test_every_argument_works_or_is_refused() -> None:
    """Fails with a version of transformers that has another: try it and say what becomes of it."""
    assert WORKS.keys() | REFUSED.keys() == NAMES | NEW
    assert not WORKS.keys() & REFUSED.keys()


def test_the_docs_have_the_table() -> None:
    path = ROOT / "docs/training_arguments.py"
    spec = importlib.util.spec_from_file_location("training_arguments", path)
    assert spec is not None
    assert spec.loader is not None
    page = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(page)
    assert page.PAGE.read_text(encoding="utf-8").endswith(page.table()), f"run python {path}"


def test_what_works_is_in_a_test() -> None:
    sources = "".join(path.read_text(encoding="utf-8") for path in Path(__file__).parent.glob("test_*.py"))
    assert [name for name in WORKS if not re.search(rf'["\s({{]{name}(=|":)', sources)] == []


# refusals


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("label_smoothing_factor", 0.1),
        ("label_names", ["labels"]),
        ("bf16_full_eval", True),
        ("fp16_full_eval", True),
        ("use_liger_kernel", True),
        ("liger_kernel_config", {"rope": True}),
        ("use_cache", True),
        ("auto_find_batch_size", True),
        ("per_device_eval_batch_size", 64),
        ("prediction_loss_only", True),
        ("eval_do_concat_batches", False),
        ("eval_use_gather_object", True),
        ("eval_accumulation_steps", 2),
        ("include_for_metrics", ["loss"]),
        ("batch_eval_metrics", True),
        ("enable_jit_checkpoint", True),
        ("ignore_data_skip", True),
        ("parallelism_config", "any"),
        ("ddp_static_graph", True),
        ("fsdp", True),
        ("fsdp_config", {"min_num_params": 3}),
        ("deepspeed", "config.json"),
        ("dataloader_drop_last", True),
        ("dataloader_in_order", False),
        ("train_sampling_strategy", "group_by_length"),
        ("train_sampling_strategy", "sequential"),
        ("length_column_name", "size"),
        ("group_by_length", True),
        ("past_index", 1),
        # works, but not with every value or every encoder
        ("per_device_train_batch_size", 0),
        ("gradient_accumulation_steps", 0),
        ("num_train_epochs", 0),
        ("num_train_epochs", float("nan")),
        ("data_seed", -1),
        ("optim", "lomo"),
        ("optim", "adalomo"),
        ("fp16", True),
        ("neftune_noise_alpha", 5.0),
        ("debug", "tpu_metrics_debug"),
        ("eval_strategy", "epoch"),
        ("eval_on_start", True),
        ("dataloader_persistent_workers", True),
        ("dataloader_multiprocessing_context", "fork"),
        ("accelerator_config", {"split_batches": True}),
        ("accelerator_config", {"dispatch_batches": True}),
        ("accelerator_config", {"gradient_accumulation_kwargs": {"num_steps": 2}}),
    ],
)
def test_refused_by_name_before_any_work(name: str, value: object, tmp_path: Path) -> None:
    folder = tmp_path / "out"
    given = arguments(folder, **({} if name in LATER else {name: value}))
    if name in LATER:
        setattr(given, name, value)
    with pytest.raises(ValueError, match=rf"^{name}: found .+, expected"):
        HybridTrainer(small_ngram(), given, PAIRS)
    assert not folder.exists()


@pytest.mark.parametrize(
    ("kind", "options"),
    [
        ("warmup_stable_decay", None),
        ("cosine_with_min_lr", None),
        ("cosine_warmup_with_min_lr", {"min_lr": 0.1, "min_lr_rate": 0.2}),
        ("polynomial", {"lr_end": 0.1, "powr": 2}),
        ("polynomial", {"lr_end": 2.0}),
    ],
)
def test_a_schedule_without_its_options_is_refused(
    kind: str, options: dict[str, Any] | None, tmp_path: Path
) -> None:
    with pytest.raises(
        ValueError, match=f"^lr_scheduler_kwargs: found .*not what lr_scheduler_type '{kind}' takes"
    ):
        train(tmp_path, lr_scheduler_type=kind, lr_scheduler_kwargs=options)


def test_every_refused_name_is_tried() -> None:
    marks = test_refused_by_name_before_any_work.pytestmark  # type: ignore[attr-defined]
    assert {name for name, _ in marks[0].args[1]} >= REFUSED.keys()


def test_a_default_is_never_refused(tmp_path: Path) -> None:
    made = TrainingArguments(str(tmp_path))
    assert {name: wrong for name in NAMES if (wrong := refusal(name, getattr(made, name)))} == {}


def test_checkpointing_needs_a_transformer_that_can(tmp_path: Path, bert: Path) -> None:
    message = r"gradient_checkpointing \(activation_checkpointing\): found True, .+ the encoder has "
    with pytest.raises(ValueError, match=message + "no transformer"):
        train(tmp_path, activation_checkpointing=True)
    encoder = load_encoder(bert)
    assert isinstance(encoder, TransformerEncoder)
    encoder.backbone.supports_gradient_checkpointing = False  # type: ignore[assignment]
    with pytest.raises(ValueError, match=message + "BertModel, which cannot"):
        train(tmp_path, encoder, activation_checkpointing=True)
    with pytest.raises(ValueError, match=r"gradient_checkpointing_kwargs \(.+\): found 'reentrant'"):
        train(tmp_path, activation_checkpointing_kwargs={"reentrant": False})


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("torch_compile", {"torch_compile_backend": "eager"}),
        ("optim", {"optim": "galore_adamw_layerwise"}),
    ],
)
def test_refused_with_mini_batches(name: str, options: dict[str, Any], tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=f"^{name}: found .+ with mini_batch_size 3, expected"):
        train(tmp_path, mini_batch_size=3, **options)


@pytest.mark.parametrize(
    ("variable", "name"),
    [
        ("ACCELERATE_USE_FSDP", "fsdp"),
        ("ACCELERATE_USE_DEEPSPEED", "deepspeed"),
        ("ACCELERATE_USE_PARALLELISM_CONFIG", "parallelism_config"),
    ],
)
def test_refused_where_the_launcher_asks(
    variable: str, name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    given = arguments(tmp_path)
    monkeypatch.setenv(variable, "true")
    with pytest.raises(ValueError, match=f"^{name}: found {variable}=true, expected false"):
        HybridTrainer(small_ngram(), given, PAIRS)


def test_unknown_arguments_are_type_errors(tmp_path: Path) -> None:
    with pytest.raises(TypeError, match="compute_metrics"):
        HybridTrainer(small_ngram(), arguments(tmp_path), PAIRS, compute_metrics=len)  # type: ignore[call-arg]


# what leaves the training as it is


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> HybridTrainer:
    return train(tmp_path_factory.mktemp("plain"))


@pytest.mark.parametrize(
    "options",
    [
        {"average_tokens_across_devices": False},
        {"remove_unused_columns": False},
        {
            "do_train": True,
            "do_eval": True,
            "do_predict": True,
            "resume_from_checkpoint": "folder",
            "local_rank": 0,
        },
        {"log_on_each_node": False, "log_level_replica": "error", "disable_tqdm": False},
        {"tf32": False},
        {"use_cpu": True},
        {"full_determinism": True},
        {"torch_empty_cache_steps": 1},
        {"torch_compile": True, "torch_compile_backend": "eager", "torch_compile_mode": "default"},
        {"include_num_input_tokens_seen": "non_padding"},
        {"dataloader_pin_memory": False},
        {"dataloader_num_workers": 1, "dataloader_persistent_workers": True, "dataloader_prefetch_factor": 1},
        {"dataloader_num_workers": 1, "dataloader_multiprocessing_context": "fork"},
        {"accelerator_config": {"even_batches": False, "use_seedable_sampler": False, "non_blocking": True}},
        {"ddp_find_unused_parameters": True, "ddp_bucket_cap_mb": 1, "ddp_broadcast_buffers": True},
        {"ddp_timeout": 60},
        {"debug": "underflow_overflow"},
        {"hub_token": "x", "hub_private_repo": True, "hub_model_id": "x", "hub_revision": "x"},
        {"gradient_checkpointing_kwargs": None, "activation_checkpointing_kwargs": {"every_n_layers": 2}},
        {"logging_nan_inf_filter": False},
    ],
    ids=lambda options: " ".join(options),
)
def test_the_training_is_the_same(options: dict[str, Any], tmp_path: Path, plain: HybridTrainer) -> None:
    done = train(tmp_path, **options)
    assert losses(done) == losses(plain)
    for name, value in plain.encoder.state_dict().items():
        assert torch.equal(done.encoder.state_dict()[name], value)
    compiled = isinstance(done.model_wrapped, torch._dynamo.OptimizedModule)
    assert compiled == ("torch_compile" in options)


def test_the_callers_arguments_are_left_alone(tmp_path: Path) -> None:
    config = {"gradient_accumulation_kwargs": {"sync_each_batch": True}}
    given = arguments(tmp_path, max_steps=2, accelerator_config=config, gradient_accumulation_steps=2)
    before = dataclasses.asdict(given)
    for _ in range(2):
        HybridTrainer(small_ngram(), given, PAIRS).train()
    assert dataclasses.asdict(given) == before
    assert isinstance(given.accelerator_config, AcceleratorConfig)
    assert given.accelerator_config.gradient_accumulation_kwargs == {"sync_each_batch": True}


def test_one_process_has_one_gpu(tmp_path: Path) -> None:
    given = arguments(tmp_path)
    given._n_gpu = 4
    trainer = HybridTrainer(small_ngram(), given, PAIRS)
    assert (trainer.args.n_gpu, trainer.args.train_batch_size) == (1, 8)


_RANKS = """
    from pathlib import Path
    import torch
    from tests.training.test_trainer_arguments import losses, train

    out = Path(sys.argv[1])
    tried = [
        {}, {"ddp_find_unused_parameters": True}, {"ddp_bucket_cap_mb": 1}, {"ddp_broadcast_buffers": False},
        {"ddp_timeout": 60, "ddp_backend": "gloo"},
        {"average_tokens_across_devices": False}, {"accelerator_config": {"even_batches": False}},
        {"accelerator_config": {"gradient_accumulation_kwargs": {"sync_each_batch": True}}},
    ]
    found = []
    for number, options in enumerate(tried):
        done = train(out / str(number), gradient_accumulation_steps=2, **options)
        found.append((losses(done), done.encoder.table.weight.detach().clone()))
    assert all(each[0] == found[0][0] for each in found), [each[0] for each in found]
    torch.testing.assert_close([each[1] for each in found], [found[0][1]] * len(found), atol=1e-7, rtol=0)
    for which in ("all", "non_padding"):
        done = train(out / which, include_num_input_tokens_seen=which)
        counts = [row["num_input_tokens_seen"] for row in done.state.log_history if "loss" in row]
        torch.save(counts, out / f"{which}.{done.args.process_index}")
        del done
    del found
"""


@pytest.mark.slow
def test_arguments_of_several_ranks(tmp_path: Path) -> None:
    run(write_script(tmp_path / "ranks.py", _RANKS), 2, str(tmp_path))
    counts = [
        torch.load(tmp_path / f"{which}.{rank}", weights_only=True)
        for which in ("all", "non_padding")
        for rank in (0, 1)
    ]
    assert counts == [counts[0]] * 4
    union = train(tmp_path, per_device_train_batch_size=16, include_num_input_tokens_seen=True)
    assert counts[0] == [row["num_input_tokens_seen"] for row in union.state.log_history if "loss" in row]


# optimizers and schedules


@pytest.mark.parametrize(
    ("optim", "optim_args", "kind", "expected"),
    [
        ("adamw_torch", None, "AdamW", {"betas": (0.8, 0.99), "eps": 1e-6, "fused": None}),
        ("adamw_torch_fused", None, "AdamW", {"betas": (0.8, 0.99), "fused": True}),
        ("adafactor", None, "Adafactor", {"lr": 1e-3}),
        ("sgd", "momentum=0.5", "SGD", {"momentum": 0.5}),
        ("adagrad", "lr_decay=0.25", "Adagrad", {"lr_decay": 0.25}),
        ("rmsprop", "alpha=0.5,centered=true", "RMSprop", {"alpha": 0.5, "centered": True}),
    ],
)
def test_optimizers(
    optim: str, optim_args: str | None, kind: str, expected: dict[str, object], tmp_path: Path, bert: Path
) -> None:
    seen: list[torch.optim.Optimizer] = []

    class Sees(TrainerCallback):
        def on_train_begin(self, args: Any, state: Any, control: Any, **others: Any) -> None:
            seen.append(others["optimizer"].optimizer)

    encoder = load_encoder(bert)
    before = {name: value.clone() for name, value in encoder.named_parameters()}
    done = train(
        tmp_path,
        encoder,
        max_steps=2,
        optim=optim,
        optim_args=optim_args,
        weight_decay=0.1,
        adam_beta1=0.8,
        adam_beta2=0.99,
        adam_epsilon=1e-6,
        lr_scheduler_type="constant",
        objective=Objective(learn_temperature=True),
        callbacks=[Sees()],
    )
    (optimizer,) = seen
    assert type(optimizer).__name__ == kind
    decayed, rest = optimizer.param_groups
    assert (decayed["weight_decay"], rest["weight_decay"]) == (0.1, 0.0)
    assert {name: decayed[name] for name in expected} == expected
    assert any(parameter is done._trained.log_temperature for parameter in rest["params"])
    assert all(parameter.ndim == 2 for parameter in decayed["params"])
    assert any(not torch.equal(value, before[name]) for name, value in encoder.named_parameters())


def test_target_modules_of_low_rank_optimizers(
    tmp_path: Path, bert: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A package in GaLore's place that takes its groups and does AdamW."""

    class Low(torch.optim.AdamW):
        groups: list[dict[str, Any]]

        def __init__(self, params: list[dict[str, Any]], **options: Any) -> None:
            Low.groups = [dict(group) for group in params]
            super().__init__([{"params": group["params"]} for group in params], **options)

    package = types.ModuleType("galore_torch")
    package.GaLoreAdamW = package.GaLoreAdamW8bit = package.GaLoreAdafactor = Low  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "galore_torch", package)
    monkeypatch.setattr("transformers.trainer_optimizer.is_galore_torch_available", lambda: True)
    encoder = load_encoder(bert)
    train(
        tmp_path,
        encoder,
        max_steps=1,
        optim="galore_adamw",
        optim_args="rank=4",
        optim_target_modules=["intermediate.dense"],
    )
    targets = [
        value for name, value in encoder.named_parameters() if name.endswith("intermediate.dense.weight")
    ]
    assert len(targets) == 2
    assert [id(value) for value in Low.groups[1]["params"]] == [id(value) for value in targets]
    assert Low.groups[1]["rank"] == 4


@pytest.mark.parametrize("kind", [kind.value for kind in SchedulerType])
def test_schedules(kind: str, tmp_path: Path) -> None:
    """Twelve; the two that follow a metric see it at every evaluation."""
    own: dict[str, dict[str, Any]] = {
        "polynomial": {"power": 2.0, "lr_end": 1e-5},
        "cosine_with_restarts": {"num_cycles": 2},
        "cosine_with_min_lr": {"min_lr": 1e-5},
        "cosine_warmup_with_min_lr": {"min_lr": 1e-5},
        "warmup_stable_decay": {"num_decay_steps": 3},
        "reduce_lr_on_plateau": {"patience": 0},
        "greedy": {"patience": 0},
    }
    follows = kind in ("reduce_lr_on_plateau", "greedy")
    done = train(
        tmp_path,
        max_steps=8,
        lr_scheduler_type=kind,
        lr_scheduler_kwargs=own.get(kind),
        warmup_steps=0 if follows else 0.25,
        **({"eval_strategy": "steps", "eval_steps": 1, "metric_for_best_model": "error"} if follows else {}),
        evaluate=(lambda encoder, step: {"error": float(step)}) if follows else None,
    )
    if follows:
        assert rates(done)[0] == pytest.approx(1e-3)
        assert len(set(rates(done))) > 1
        return
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=1e-3)
    schedule = get_scheduler(
        kind, optimizer, num_warmup_steps=2, num_training_steps=8, scheduler_specific_kwargs=own.get(kind)
    )
    expected = []
    for _ in range(8):
        expected.append(schedule.get_last_lr()[0])
        optimizer.step()
        schedule.step()
    assert rates(done) == pytest.approx(expected)


def test_gradients_are_cut_and_added_up(tmp_path: Path) -> None:
    """One update by SGD: of the most norm, and the mean of two batches' updates."""

    def update(folder: str, **options: Any) -> torch.Tensor:
        encoder = small_ngram()
        before = encoder.table.weight.detach().clone()
        train(
            tmp_path / folder,
            encoder,
            **{"max_steps": 1, "optim": "sgd", "learning_rate": 1.0, "lr_scheduler_type": "constant"}
            | options,
        )
        return encoder.table.weight.detach() - before

    assert update("cut", max_grad_norm=0.25).norm().item() == pytest.approx(0.25, rel=1e-4)
    whole = update("whole", max_grad_norm=0.0)
    assert whole.norm() > 0.25
    both = update("both", max_grad_norm=0.0, gradient_accumulation_steps=2)
    small = update("small", max_grad_norm=0.0, max_steps=2, learning_rate=1e-4) / 1e-4  # weights hardly move
    torch.testing.assert_close(both, small / 2, atol=2e-3, rtol=0)


# precision, memory, regularisation


def test_bf16(tmp_path: Path, bert: Path) -> None:
    exact, mixed = (
        train(tmp_path / "exact", load_encoder(bert)),
        train(tmp_path, load_encoder(bert), bf16=True),
    )
    assert losses(mixed) == pytest.approx(losses(exact), abs=1e-2)
    assert losses(mixed) != losses(exact)
    assert {value.dtype for value in mixed.encoder.parameters()} == {torch.float32}


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
@pytest.mark.parametrize("mini_batch_size", [None, 5])
def test_fp16(mini_batch_size: int | None, tmp_path: Path, bert: Path) -> None:
    options: dict[str, Any] = {"use_cpu": False, "mini_batch_size": mini_batch_size}
    exact = train(tmp_path / "exact", load_encoder(bert), **options)
    mixed = train(tmp_path / "mixed", load_encoder(bert), fp16=True, tf32=True, **options)
    assert losses(mixed) == pytest.approx(losses(exact), abs=1e-2)
    assert losses(mixed) != losses(exact)


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"activation_checkpointing_kwargs": {"use_reentrant": True}},
        {"activation_checkpointing_kwargs": {"every_n_layers": 2}},
        {"mini_batch_size": 5},
        {"bf16": True},
    ],
)
def test_checkpointing_computes_again_and_the_same(
    options: dict[str, Any], tmp_path: Path, bert: Path
) -> None:
    passes: list[int] = []

    def trained(folder: str, on: bool) -> HybridTrainer:
        encoder = load_encoder(bert)
        layer = encoder.backbone.encoder.layer[0].attention  # type: ignore[union-attr]
        layer.register_forward_pre_hook(lambda *_: passes.append(int(torch.is_grad_enabled())))
        given = options if on else {name: value for name, value in options.items() if "kwargs" not in name}
        return train(tmp_path / folder, encoder, max_steps=2, activation_checkpointing=on, **given)

    plain = trained("plain", False)
    once = sum(passes)
    passes.clear()
    again = trained("again", True)
    assert len(passes) > once
    assert losses(again) == losses(plain)
    for name, value in plain.encoder.state_dict().items():
        torch.testing.assert_close(again.encoder.state_dict()[name], value, atol=1e-6, rtol=0)


@pytest.mark.filterwarnings("ignore:.gradient_checkpointing:FutureWarning")
def test_gradient_checkpointing_is_the_same_by_its_former_name(tmp_path: Path, bert: Path) -> None:
    encoder = load_encoder(bert)
    train(
        tmp_path,
        encoder,
        max_steps=1,
        gradient_checkpointing=True,
        gradient_checkpointing_kwargs={"use_reentrant": False},
    )
    kind = "gradient" if NEW else "activation"
    assert getattr(encoder.backbone, f"is_{kind}_checkpointing")


def test_neftune_adds_noise_in_training_alone(tmp_path: Path, bert: Path) -> None:
    """Of at most alpha / sqrt(tokens dims); the same noise in both passes of gradient caching."""
    encoder = load_encoder(bert)
    assert isinstance(encoder, TransformerEncoder)
    embeddings = encoder.backbone.get_input_embeddings()  # type: ignore[operator]
    noise: list[tuple[bool, float, float]] = []

    def heard(_: Any, inputs: Any, output: torch.Tensor) -> None:
        (ids,) = inputs
        most = (output - embeddings.weight[ids]).abs().max().item()
        noise.append((embeddings.training, most, 5.0 / (ids.shape[1] * output.shape[2]) ** 0.5))

    class Listens(TrainerCallback):
        def on_train_begin(self, args: Any, state: Any, control: Any, **others: Any) -> None:
            embeddings.register_forward_hook(heard)

    done = train(
        tmp_path,
        encoder,
        neftune_noise_alpha=5.0,
        eval_strategy="steps",
        eval_steps=2,
        evaluate=lambda encoder, step: {"x": encoder.encode(["kalo"]).sum().item()},
        callbacks=[Listens()],
    )
    assert {training for training, *_ in noise} == {True, False}
    assert all((0.5 * bound < most <= bound) if training else most == 0 for training, most, bound in noise)
    noise.clear()
    encoder.train()
    encoder([encoder.features(encoder.token_ids(["kalo"], "query"))])
    assert [most for _, most, _ in noise] == [0.0]  # the hook is gone
    cached = train(tmp_path / "cached", load_encoder(bert), neftune_noise_alpha=5.0, mini_batch_size=1000)
    assert losses(cached) == pytest.approx(losses(done), abs=1e-5)


@pytest.mark.parametrize("mini_batch_size", [None, 5])
def test_the_cache_is_emptied(
    mini_batch_size: int | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    emptied = []
    for trainer in ("transformers.trainer", "pyhbt.training.trainer"):
        monkeypatch.setattr(f"{trainer}.clear_device_cache", lambda: emptied.append(1))
    train(tmp_path, torch_empty_cache_steps=2, mini_batch_size=mini_batch_size)
    assert len(emptied) == 2  # before the first step and before the third


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::DeprecationWarning:torch")
def test_compiled_code_trains(tmp_path: Path, bert: Path) -> None:
    """By inductor, without dropout, of which compiled code draws its own."""
    from tests.training.test_gradient_cache import without_dropout

    exact = train(tmp_path / "exact", without_dropout(load_encoder(bert)), max_steps=2)
    compiled = train(
        tmp_path / "compiled",
        without_dropout(load_encoder(bert)),
        max_steps=2,
        torch_compile=True,
        save_strategy="steps",
    )
    assert losses(compiled) == pytest.approx(losses(exact), abs=1e-4)
    assert load_encoder(tmp_path / "compiled/checkpoint-2").encode(["kalo"]).shape == (1, 32)


@pytest.mark.slow
def test_workers_that_are_spawned(tmp_path: Path, plain: HybridTrainer) -> None:
    done = train(tmp_path, dataloader_num_workers=1, dataloader_multiprocessing_context="spawn")
    assert losses(done) == losses(plain)


def test_debug_names_what_overflows(tmp_path: Path) -> None:
    encoder = small_ngram()
    with torch.no_grad():
        encoder.table.weight[:] = float("inf")
    with pytest.raises(ValueError, match="inf/nan"):
        train(tmp_path, encoder, debug="underflow_overflow")


# seeds


def test_seeds(tmp_path: Path, bert: Path) -> None:
    """``data_seed`` draws batches, ``seed`` dropout."""

    def trained(folder: str, **seeds: int) -> tuple[list[list[int]], list[float]]:
        done = train(tmp_path / folder, load_encoder(bert), **seeds)
        return [done.sampler.at(step)[0] for step in range(4)], losses(done)

    first = trained("a", seed=1, data_seed=2)
    assert trained("b", seed=1, data_seed=2) == first
    other_dropout = trained("c", seed=3, data_seed=2)
    assert other_dropout[0] == first[0]
    assert other_dropout[1] != first[1]
    assert trained("d", seed=2)[0] == first[0]
    assert trained("e", seed=1, data_seed=4)[0] != first[0]


# logs


@pytest.mark.parametrize(
    ("options", "steps"),
    [
        ({"logging_strategy": "no"}, []),
        ({"logging_steps": 3}, [3, 6]),
        ({"logging_steps": 0.5}, [4, 8]),
        ({"logging_steps": 3, "logging_first_step": True}, [1, 3, 6]),
        ({"logging_strategy": "epoch"}, [8]),
    ],
)
def test_when_it_logs(options: dict[str, Any], steps: list[int], tmp_path: Path) -> None:
    done = train(tmp_path, max_steps=8, **options)
    assert [row["step"] for row in done.state.log_history if "loss" in row] == steps


@pytest.mark.parametrize("filtered", [True, False])
def test_losses_that_are_no_numbers(filtered: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The second of four batches; the weights do not feel it."""
    true: list[float] = []
    loss = Objective.loss

    def spoiled(*args: Any) -> Loss:
        found = loss(*args)
        true.append(found.value.item())
        return dataclasses.replace(found, value=found.value + (float("nan") if len(true) == 2 else 0.0))

    monkeypatch.setattr(Objective, "loss", spoiled)
    done = train(tmp_path, logging_steps=4, logging_nan_inf_filter=filtered)
    (logged,) = losses(done)
    del true[1]
    assert logged == pytest.approx(sum(true) / 3, abs=1e-6) if filtered else logged != logged


def test_a_tally_of_nothing_finite_has_no_loss() -> None:
    tally = Tally(finite_only=True)
    tally.add(True, torch.tensor(float("inf")), {}, 3)
    assert tally.drain().keys() == {"cross_lingual_share"}


@pytest.mark.parametrize("kind", ["ngram", "transformer"])
@pytest.mark.parametrize("mini_batch_size", [None, 5])
def test_tokens_are_counted(kind: str, mini_batch_size: int | None, tmp_path: Path, bert: Path) -> None:
    def counted(which: str | bool) -> list[int]:
        encoder = small_ngram() if kind == "ngram" else load_encoder(bert)
        done = train(
            tmp_path / str(which),
            encoder,
            include_num_input_tokens_seen=which,
            gradient_accumulation_steps=2,
            mini_batch_size=mini_batch_size,
        )
        rows = [pair for step in range(8) for pair in done.sampler.at(step)[0]]
        texts = [encoder.token_ids([PAIRS[row].query], "query")[0] for row in rows]
        texts += [encoder.token_ids([PAIRS[row].passage], "passage")[0] for row in rows]
        found = [
            row["num_input_tokens_seen"] for row in done.state.log_history if "num_input_tokens_seen" in row
        ]
        if which == "non_padding":
            assert found[-1] == sum(map(len, texts))
        return found

    tokens, with_padding = counted("non_padding"), counted(True)
    assert (with_padding == tokens) if kind == "ngram" else with_padding[-1] > tokens[-1]
    assert counted("no") == []


def test_loggers_get_what_is_theirs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rows: list[dict[str, Any]] = []
    given: dict[str, Any] = {
        "run_name": "a run",
        "project": "a project",
        "trackio_space_id": "a space",
        "trackio_bucket_id": "a bucket",
        "trackio_static_space_id": "another",
    }

    class Logger(TrainerCallback):
        def on_train_begin(self, args: Any, state: Any, control: Any, **others: Any) -> None:
            assert {name: getattr(args, name) for name in given} == given
            assert others["model"].encoder is trainer.encoder
            args.to_json_string()  # as loggers do

        def on_log(self, args: Any, state: Any, control: Any, logs: Any = None, **others: Any) -> None:
            rows.append(dict(logs))

    monkeypatch.setitem(integration_utils.INTEGRATION_TO_CALLBACK, "tensorboard", Logger)
    trainer = HybridTrainer(
        small_ngram(), arguments(tmp_path, max_steps=2, report_to="tensorboard", **given), PAIRS
    )
    trainer.train()
    assert [{**row, "step": row["step"]} for row in trainer.state.log_history] == [
        {**row, "step": min(number, 2)} for number, row in enumerate(rows, start=1)
    ]
    assert "loss_monolingual" in rows[0] or "loss_cross_lingual" in rows[0]


def test_log_levels_and_bars(tmp_path: Path) -> None:
    quiet = HybridTrainer(small_ngram(), arguments(tmp_path, log_level="critical"), PAIRS)
    assert transformers.logging.get_verbosity() == transformers.logging.CRITICAL
    assert "PrinterCallback" in {type(each).__name__ for each in quiet.callback_handler.callbacks}
    barred = HybridTrainer(small_ngram(), arguments(tmp_path, disable_tqdm=False), PAIRS)
    assert "ProgressCallback" in {type(each).__name__ for each in barred.callback_handler.callbacks}
    assert barred.args.device == torch.device("cpu")


def test_memory_is_measured(tmp_path: Path) -> None:
    done = train(
        tmp_path,
        skip_memory_metrics=False,
        eval_strategy="steps",
        eval_steps=4,
        evaluate=lambda encoder, step: {"mAP": 0.5},
    )
    assert any("train_mem_cpu_peaked_delta" in row for row in done.state.log_history)
    assert "eval_mem_cpu_peaked_delta" in done.evaluate()


# evaluation


@pytest.mark.parametrize(
    ("options", "steps"),
    [
        ({"eval_strategy": "no"}, []),
        ({"eval_strategy": "steps"}, [1, 2, 3, 4]),  # as it logs
        ({"eval_strategy": "steps", "eval_steps": 0.5}, [2, 4]),
        ({"eval_strategy": "steps", "eval_steps": 1, "eval_delay": 3}, [3, 4]),
        ({"eval_strategy": "epoch", "eval_on_start": True}, [0, 4]),
        ({"eval_strategy": "epoch", "eval_delay": 1}, []),
    ],
)
def test_when_it_evaluates(options: dict[str, Any], steps: list[int], tmp_path: Path) -> None:
    seen: list[int] = []

    def measured(encoder: Encoder, step: int) -> dict[str, float]:
        seen.append(step)
        return {"mAP": 0.5}

    train(tmp_path, evaluate=measured, **options)
    assert seen == steps


def test_what_the_command_line_sets_is_refused_too(tmp_path: Path) -> None:
    from pyhbt.training.config import TrainingConfig

    with pytest.raises(ValueError, match="^set: label_smoothing_factor: found 0.1, expected 0.0"):
        TrainingConfig.of(steps=1, batch_size=1, learning_rate=1, arguments={"label_smoothing_factor": 0.1})


def test_an_ngram_encoder_has_no_backbone(bert: Path) -> None:
    assert NgramEncoder(dim=2).backbone is None
    assert type(load_encoder(bert).backbone).__name__ == "BertModel"


@pytest.mark.parametrize(
    ("name", "value", "expected"),
    [
        ("bf16", "maybe", "true or false"),
        ("bf16", 1, "true or false"),
        ("optim", "nope", "one of .*adamw_torch"),
        ("eval_strategy", "sometimes", "one of no, steps, epoch"),
        ("adam_beta1", "0.9x", "a number"),
        ("gradient_accumulation_steps", 1.5, "a whole number"),
        ("tf32", "yes", "true or false"),
    ],
)
def test_values_of_another_kind_are_refused_before_work(name: str, value: Any, expected: str) -> None:
    with pytest.raises(ValueError, match=f"^set: found {name}={value!r}, expected {expected}"):
        TrainingConfig.of(steps=2, batch_size=2, learning_rate=0.1, arguments={name: value})


@pytest.mark.parametrize(
    ("name", "value"),
    [("bf16", False), ("tf32", None), ("adam_beta1", 0), ("optim", "adamw_torch"), ("run_name", 5)],
)
def test_values_of_the_right_kind(name: str, value: Any) -> None:
    TrainingConfig.of(steps=2, batch_size=2, learning_rate=0.1, arguments={name: value})
