"""Small parallel data and a small real transformer, for tests that train or evaluate."""

from __future__ import annotations

import random
from pathlib import Path

from pyhbt.data.pair_set import PairSet, ParallelItem
from pyhbt.data.retrieval_set import RetrievalSet, StudyData
from pyhbt.data.tiers import Tier

LANGS = ("aa", "bb", "cc")
TIERS: dict[str, Tier] = {"aa": "seen", "bb": "seen", "cc": "zero-shot"}
_SYLLABLES = ("ka", "lo", "mi", "ten", "ru", "sa", "vo", "ne", "pir", "dun")


def word(rng: random.Random, lang: str) -> str:
    """A pronounceable word; each language has endings of its own."""
    return "".join(rng.choices(_SYLLABLES, k=3)) + {"aa": "", "bb": "us", "cc": "ek"}.get(lang, lang)


def parallel_items(num_items: int, langs: tuple[str, ...] = LANGS, seed: int = 0) -> list[ParallelItem]:
    """Items whose texts share a stem over languages, so that there is something to learn."""
    items = []
    for number in range(num_items):
        rng = random.Random(f"{seed}/{number}")
        stem = "".join(rng.choices(_SYLLABLES, k=4))
        queries, passages = {}, {}
        for lang in langs:
            ending = {"aa": "", "bb": "us", "cc": "ek"}.get(lang, lang)
            queries[lang] = f"{stem}{ending}"
            passages[lang] = f"{word(rng, lang)} {stem[2:]}{ending} {word(rng, lang)}"
        items.append(ParallelItem(f"item{number}", queries, passages))
    return items


def retrieval_set(num_items: int, langs: tuple[str, ...] = LANGS, seed: int = 1) -> RetrievalSet:
    """One query and one passage an item and language; every translation of the passage is relevant."""
    items = parallel_items(num_items, langs, seed)
    keys = [(lang, item) for lang in langs for item in items]
    return RetrievalSet(
        name="toy",
        query_ids=tuple(f"q:{lang}:{item.group}" for lang, item in keys),
        query_texts=tuple(item.queries[lang] for lang, item in keys),
        query_langs=tuple(lang for lang, _ in keys),
        questions=tuple(item.group for _, item in keys),
        passage_ids=tuple(f"p:{lang}:{item.group}" for lang, item in keys),
        passage_texts=tuple(item.passages[lang] for lang, item in keys),
        passage_langs=tuple(lang for lang, _ in keys),
        qrels={
            f"q:{lang}:{item.group}": {f"p:{other}:{item.group}": 1 for other in langs} for lang, item in keys
        },
        tiers={lang: TIERS.get(lang, "seen") for lang in langs},
    )


def study_data() -> StudyData:
    """Two seen languages and a zero-shot one."""
    train = PairSet.from_parallel(parallel_items(60, ("aa", "bb")))
    return StudyData("toy", train, retrieval_set(8, seed=2), retrieval_set(12, seed=3))


def save_tiny_bert(folder: Path, *, hidden: int = 32, positions: int = 64) -> Path:
    """A randomly initialised two-layer BERT with a character-level tokenizer, as a Hugging Face folder."""
    import torch
    from tokenizers import Regex, Tokenizer
    from tokenizers.models import WordLevel
    from tokenizers.pre_tokenizers import Split
    from tokenizers.processors import TemplateProcessing
    from transformers import BertConfig, BertModel, PreTrainedTokenizerFast

    specials = ["[PAD]", "[UNK]", "[CLS]", "[SEP]"]
    letters = " abcdefghijklmnopqrstuvwxyz:0123456789"
    vocabulary = {token: number for number, token in enumerate([*specials, *letters])}
    tokenizer = Tokenizer(WordLevel(vocabulary, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = Split(Regex("."), behavior="isolated")
    tokenizer.post_processor = TemplateProcessing(
        single="[CLS] $A [SEP]", special_tokens=[("[CLS]", 2), ("[SEP]", 3)]
    )
    PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        unk_token="[UNK]",
        pad_token="[PAD]",
        cls_token="[CLS]",
        sep_token="[SEP]",
        model_max_length=positions,
    ).save_pretrained(folder)
    torch.manual_seed(0)
    config = BertConfig(
        vocab_size=len(vocabulary),
        hidden_size=hidden,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=2 * hidden,
        max_position_embeddings=positions,
    )
    BertModel(config, add_pooling_layer=False).save_pretrained(folder)
    return folder
