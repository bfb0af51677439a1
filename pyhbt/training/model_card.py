"""The model card of a trained encoder: README.md with the hub's metadata, and pushing a folder to the hub."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from huggingface_hub import HfApi, ModelCard, ModelCardData

import pyhbt
from pyhbt.evaluation.names import SETTINGS
from pyhbt.files import write_atomically

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

{scores}"""


@dataclass(frozen=True)
class CardFacts:
    """What a card says.

    ``training`` are settings by name, ``scores`` figures on held-out data by ``"setting metric"`` (such as
    ``"cross-lingual mAP"``); ``languages`` those of the training data; ``base`` the encoder that training began with.
    """

    base: str
    languages: Sequence[str]
    training: Mapping[str, object]
    scores: Mapping[str, float] = field(default_factory=dict)
    scored_on: str = ""


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
        scores=_scores(facts),
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
        huggingface_hub.errors.HfHubHTTPError: the hub refuses.
    """
    if not Path(folder).is_dir():
        raise FileNotFoundError(f"{folder}: no such folder to push")
    api = HfApi()
    name = api.create_repo(repository, private=private, exist_ok=True).repo_id
    return str(api.upload_folder(folder_path=str(folder), repo_id=name, commit_message="Upload encoder"))


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
