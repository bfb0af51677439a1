"""The model card of a trained encoder: README.md with the hub's metadata, and pushing a folder to the hub.

What a card says of a training comes from the record of the run and from the step that the weights are of
(:func:`facts_of`), never from what a command asked for.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

from huggingface_hub import HfApi, ModelCard, ModelCardData
from transformers import TrainingArguments

import pyhbt
from pyhbt.data.hub import hub_errors, is_hub_name
from pyhbt.evaluation.names import SETTINGS
from pyhbt.files import write_atomically
from pyhbt.training.exposure import Count, Exposure
from pyhbt.training.record import RunRecord, extension_in_words

_LANGUAGES = 20
"""Language pairs that have a row of their own."""

_TEMPLATE = """---
{card_data}
---

# {title}

A multilingual dense retriever, trained with [hybrid batches](https://arxiv.org/abs/2408.10536) by PyHBT {version}: each
batch is monolingual or cross-lingual. It turns queries and passages into unit vectors whose dot product is their
similarity.

```python
from sentence_transformers import SentenceTransformer

model = SentenceTransformer("{title}")
queries = model.encode_query(["..."])
passages = model.encode_document(["..."])
```

or `pyhbt.load_encoder("{title}")`, whose `encode(texts, "query")` gives the same vectors.

## Training

| | |
|---|---|
{rows}

{tables}"""


@dataclass(frozen=True)
class CardFacts:
    """What a card says.

    ``training`` are settings by name, ``scores`` figures on held-out data by ``"setting metric"`` (such as
    ``"cross-lingual mAP"``); ``languages`` those of the training data; ``base`` the encoder that training began with;
    ``exposure`` what its batches held.
    """

    base: str
    languages: Sequence[str]
    training: Mapping[str, object]
    scores: Mapping[str, float] = field(default_factory=dict)
    scored_on: str = ""
    exposure: Exposure | None = None


def facts_of(
    record: RunRecord,
    languages: Sequence[str],
    *,
    step: int,
    temperature: float,
    exposure: Exposure,
    log: Sequence[Mapping[str, Any]],
    ratio: float | None = None,
) -> CardFacts:
    """What the card of the weights after ``step`` steps of a run says.

    Args:
        record: of the run.
        languages: of its pairs.
        step: steps that the weights have been trained.
        temperature: of the loss at that step.
        exposure: what the batches until then held.
        log: rows with ``step``, of which the last scores up to that step are taken.
        ratio: where it is adaptive, what it is at that step.
    """
    options = dict(record.options)
    pairs = options.pop("pairs")
    called = options.pop("ratio")
    first = options.pop("temperature")
    learnt = options["learn_temperature"]
    training: dict[str, object] = {
        "encoder": options.pop("encoder"),
        "data": f"{record.names.data or 'pairs'}: {pairs['pairs']:,} pairs, {pairs['groups']:,} groups",
        "data fingerprint": pairs["blake2b"],
        "steps": f"{step} of {options.pop('steps')}",
        **_segments(record, step),
        "cross-lingual ratio": called if ratio is None else f"{called}, {ratio:g} at this step",
        "temperature": f"{temperature:.4f}, learnt from {first}" if learnt else first,
        **{name: value for name, value in options.items() if value not in (None, [], {})},
        **_arguments(record),
        "trained with": ", ".join(" ".join(part) for part in record.segments[-1].environment.items()),
    }
    return CardFacts(
        record.names.base or str(training["encoder"]),
        languages,
        training,
        _last_scores(log, step),
        record.names.scored_on,
        exposure,
    )


def _segments(record: RunRecord, step: int) -> dict[str, str]:
    """Where the run was resumed and extended, up to a step."""
    resumed, extended = [], []
    for number, segment in enumerate(record.segments):
        if number and segment.from_step <= step:
            if segment.steps != record.segments[number - 1].steps:
                extended.append(extension_in_words(record, number))
            else:
                resumed.append(str(segment.from_step))
    found = {"resumed": f"at step {', '.join(resumed)}"} if resumed else {}
    return found | ({"extended": "; then ".join(extended)} if extended else {})


def _arguments(record: RunRecord) -> dict[str, Any]:
    """Those of every training, and what is not as the Trainer has it by default."""
    usual = {item.name: item.default for item in fields(TrainingArguments)}
    named = {"learning_rate", "weight_decay", "warmup_steps", "seed", "lr_scheduler_type"}
    filled_in = {"accelerator_config", "fsdp_config"}  # by the Trainer, where nothing is given
    return {
        name: value
        for name, value in record.arguments.items()
        if name in named
        or (name in usual and name not in filled_in and (value or None) != (usual[name] or None))
    }


def _last_scores(log: Sequence[Mapping[str, Any]], step: int) -> dict[str, float]:
    """The figures of the last evaluation in a log, up to a step."""
    rows = [row for row in log if any(name.startswith("eval_") for name in row) and row["step"] <= step]
    last = rows[-1] if rows else {}
    return {name.removeprefix("eval_"): value for name, value in last.items() if name.startswith("eval_")}


def write_model_card(folder: str | Path, facts: CardFacts, *, title: str | None = None) -> Path:
    """Write FOLDER/README.md, whole or not at all; returns its path. ``title``: None: the folder's name."""
    folder = Path(folder)
    data = ModelCardData(
        language=[lang for lang in facts.languages if 2 <= len(lang) <= 3],
        library_name="sentence-transformers",
        pipeline_tag="sentence-similarity",
        tags=["sentence-transformers", "feature-extraction", "dense-retrieval", "multilingual", "pyhbt"],
    )
    rows = {"base": facts.base, "languages": " ".join(facts.languages), **facts.training}
    content = _TEMPLATE.format(
        card_data=data.to_yaml(),
        title=title or folder.name,
        version=pyhbt.__version__,
        rows="\n".join(f"| {name} | {_cell(value)} |" for name, value in rows.items()),
        tables="\n\n".join(filter(None, (_batches(facts), _scores(facts)))),
    )
    ModelCard(content)  # refuses metadata that the hub would
    path = folder / "README.md"
    with write_atomically(path) as temporary:
        temporary.write_text(content.rstrip() + "\n", encoding="utf-8")
    return path


def push_to_hub(folder: str | Path, repository: str, *, private: bool = True) -> str:
    """Upload a saved encoder to the hub, made if it is not there; returns its address. Needs a login and the network.

    Raises:
        FileNotFoundError: no such folder.
        ValueError: as :func:`check_repository` does.
        HubError: the hub refuses, or cannot be reached.
    """
    check_repository(repository)
    if not Path(folder).is_dir():
        raise FileNotFoundError(f"{folder}: no such folder to push")
    api = HfApi()
    with hub_errors(f"{folder}: saved, but not pushed to {repository}"):
        name = api.create_repo(repository, private=private, exist_ok=True).repo_id
        return str(api.upload_folder(folder_path=str(folder), repo_id=name, commit_message="Upload encoder"))


def check_repository(name: str) -> None:
    """Refuse what the hub has no repository of, before anything is trained for it; nothing is asked of the hub.

    Raises:
        ValueError: ``name`` is not NAME or OWNER/NAME.
    """
    if not is_hub_name(name):
        raise ValueError(
            f"push_to_hub: found {name!r}, expected NAME or OWNER/NAME of letters, digits, '-', '_', '.'"
        )


def _batches(facts: CardFacts) -> str:
    """Tables of what the batches held: by kind, and by language of query and passage."""
    exposure = facts.exposure
    if exposure is None or not exposure.kinds:
        return ""
    most = sorted(exposure.languages.items(), key=lambda item: (-item[1].pairs, item[0]))
    languages = [
        (query if query == passage else f"{query} -> {passage}", count)
        for (query, passage), count in most[:_LANGUAGES]
    ]
    rest = [count for _, count in most[_LANGUAGES:]]
    if rest:
        languages.append((f"{len(rest)} others", Count(*map(sum, zip(*rest, strict=True)))))
    return "\n".join(
        [
            "## What a batch held",
            "",
            f"All ranks together; a full batch has {exposure.batch_size:,} pairs, a short one fewer.",
            "",
            *_counts("kind", [*sorted(exposure.kinds.items(), reverse=True), ("all", exposure.total)]),
            "",
            *_counts("query -> passage", languages),
        ]
    )


def _counts(corner: str, rows: Sequence[tuple[str, Count]]) -> list[str]:
    lines = [f"| {corner} | batches | pairs | pairs a batch | short batches |", "|---|---|---|---|---|"]
    for name, count in rows:
        mean = f"{count.pairs_per_batch:.1f}"
        lines.append(f"| {_cell(name)} | {count.batches:,} | {count.pairs:,} | {mean} | {count.short:,} |")
    return lines


def _scores(facts: CardFacts) -> str:
    """A table of settings by metrics."""
    table: dict[str, dict[str, float]] = {}
    for name, value in facts.scores.items():
        setting, _, metric = name.partition(" ")
        if setting in SETTINGS:
            table.setdefault(setting, {})[metric] = value
    if not table:
        return ""
    metrics = list(dict.fromkeys(metric for row in table.values() for metric in row))
    lines = ["| | " + " | ".join(metrics) + " |", "|---" * (len(metrics) + 1) + "|"]
    for setting in SETTINGS:
        if setting in table:
            cells = (
                f"{table[setting][metric]:.4f}" if metric in table[setting] else "" for metric in metrics
            )
            lines.append(f"| {setting} | " + " | ".join(cells) + " |")
    return (
        f"## Scores on {facts.scored_on or 'held-out data'}\n\nMacro means over languages.\n\n"
        + "\n".join(lines)
    )


def _cell(value: object) -> str:
    return str(value).replace("|", "\\|").replace("\n", " ")
