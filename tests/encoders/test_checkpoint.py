"""Checkpoints: by name and by folder what SentenceTransformer of the same name gives, or refused by name."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import huggingface_hub
import numpy as np
import pytest
import torch
from peft import LoraConfig, get_peft_model
from sentence_transformers import MultiVectorEncoder, SentenceTransformer, SparseEncoder
from sentence_transformers.sentence_transformer.modules import (
    BoW,
    Dense,
    Pooling,
    Router,
    StaticEmbedding,
    Transformer,
)
from transformers import AutoConfig, AutoTokenizer, BertForMaskedLM

from pyhbt.encoders import LanguageMeans, NgramEncoder, as_encoder, checkpoint, load_encoder
from pyhbt.encoders.checkpoint import check_modules, checkpoint_folder
from tests.encoders.repositories import SERVED, TEXTS, in_cache
from tests.toy import save_tiny_bert

BUDGET = 1e-5  # float32


@pytest.fixture(scope="module")
def bert(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_tiny_bert(tmp_path_factory.mktemp("bert"))


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty hub cache, and no network."""
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    return tmp_path / "hub"


def theirs(model: SentenceTransformer) -> dict[str, np.ndarray]:
    """Unit vectors of a text at a time, so that no padding takes part."""
    encoders = {"query": model.encode_query, "passage": model.encode_document}
    return {
        kind: np.stack([encode([text], normalize_embeddings=True)[0] for text in TEXTS])
        for kind, encode in encoders.items()
    }


def sentence_transformer(spec: str | Path) -> SentenceTransformer:
    return SentenceTransformer(str(spec), device="cpu", model_kwargs={"dtype": torch.float32})


@pytest.mark.parametrize("kind", SERVED)
def test_a_name_and_a_folder_give_the_vectors_of_sentence_transformers(
    kind: str, bert: Path, tmp_path: Path, cache: Path
) -> None:
    folder = tmp_path / "repository"
    SERVED[kind](bert, folder)
    in_cache(folder, cache, f"owner/{kind}")
    model = sentence_transformer(f"owner/{kind}")
    expected = theirs(model)
    named = load_encoder(f"owner/{kind}")
    named.save(tmp_path / "saved")
    assert named.dim == expected["query"].shape[1]
    for encoder in (named, load_encoder(folder), as_encoder(model), load_encoder(tmp_path / "saved")):
        for side, vectors in expected.items():
            np.testing.assert_allclose(encoder.encode(TEXTS, side), vectors, atol=BUDGET, rtol=0)  # type: ignore[arg-type]
    for side, vectors in theirs(sentence_transformer(tmp_path / "saved")).items():
        np.testing.assert_allclose(vectors, expected[side], atol=BUDGET, rtol=0)


def saved(bert: Path, folder: Path, *modules: Any) -> Path:
    SentenceTransformer(modules=list(modules) or [Transformer(str(bert)), Pooling(32)], device="cpu").save(
        str(folder), create_model_card=False
    )
    return folder


def test_modules_that_give_no_vector_a_text_are_refused_by_name(bert: Path, tmp_path: Path) -> None:
    router = Router.for_query_document(
        query_modules=[Transformer(str(bert)), Pooling(32)],
        document_modules=[Transformer(str(bert)), Pooling(32)],
    )
    words = AutoTokenizer.from_pretrained(bert)
    wanted = {
        "Router": [router],
        "BoW": [BoW(["a", "b"])],
        "StaticEmbedding": [StaticEmbedding(words.backend_tokenizer, embedding_dim=4)],
    }
    for name, modules in wanted.items():
        folder = saved(bert, tmp_path / name, *modules)
        with pytest.raises(
            ValueError, match=rf"modules\.json: module 0, sentence_transformers\.\S+\.{name}, cannot"
        ):
            load_encoder(folder)
        with pytest.raises(ValueError, match=f"module 0 is {name}, which cannot be served"):
            as_encoder(SentenceTransformer(modules=modules, device="cpu"))


def test_other_kinds_of_models_are_refused_by_name(bert: Path, tmp_path: Path) -> None:
    masked = tmp_path / "masked"
    BertForMaskedLM(AutoConfig.from_pretrained(bert)).save_pretrained(masked)
    AutoTokenizer.from_pretrained(bert).save_pretrained(masked)
    sparse = SparseEncoder(str(masked), device="cpu")
    sparse.save(str(tmp_path / "sparse"), create_model_card=False)
    with pytest.raises(
        ValueError, match=r"modules\.json: module 1, sentence_transformers.\S+SpladePooling, cannot"
    ):
        load_encoder(tmp_path / "sparse")
    MultiVectorEncoder(str(bert), device="cpu").save(str(tmp_path / "multi"), create_model_card=False)
    with pytest.raises(
        ValueError, match=r"multi/(modules|config_sentence_transformers)\.json: .*MultiVector"
    ):
        load_encoder(tmp_path / "multi")
    folder = saved(bert, tmp_path / "named")
    path = folder / "config_sentence_transformers.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "model_type": "CrossEncoder"}))
    with pytest.raises(ValueError, match="found model_type CrossEncoder, expected SentenceTransformer"):
        load_encoder(folder)


def test_code_that_a_repository_carries_never_runs(bert: Path, tmp_path: Path) -> None:
    folder = saved(bert, tmp_path / "model")
    flag = tmp_path / "ran"
    (folder / "custom.py").write_text(f"open({str(flag)!r}, 'w')\nclass Mine: ...\n")
    modules = json.loads((folder / "modules.json").read_text())
    for type_name in ("custom.Mine", "os.system", "builtins.Pooling"):
        changed = [modules[0], {**modules[1], "type": type_name}]
        (folder / "modules.json").write_text(json.dumps(changed))
        with pytest.raises(ValueError, match=f"module 1, {type_name}, cannot be served"):
            load_encoder(folder)
    plain = tmp_path / "plain"
    shutil.copytree(bert, plain)
    config = json.loads((plain / "config.json").read_text())
    config |= {"auto_map": {"AutoConfig": "custom.Mine", "AutoModel": "custom.Mine"}, "model_type": "mine"}
    (plain / "config.json").write_text(json.dumps(config))
    shutil.copy(folder / "custom.py", plain)
    with pytest.raises(ValueError, match="plain contains custom code which must be executed"):
        load_encoder(plain)
    assert not flag.exists()


def test_pickled_weights_are_refused(bert: Path, tmp_path: Path) -> None:
    folder = saved(bert, tmp_path / "model", Transformer(str(bert)), Pooling(32), Dense(32, 4))
    for name, stem in (("2_Dense", "model"), (".", "model")):
        weights = folder / name / f"{stem}.safetensors"
        kept = weights.read_bytes()
        weights.unlink()
        torch.save({}, folder / name / "pytorch_model.bin")
        with pytest.raises(
            ValueError, match=r"model\.safetensors: found pickled weights, pytorch_model\.bin"
        ):
            load_encoder(folder)
        weights.write_bytes(kept)
    (folder / "pytorch_model.bin").write_bytes(b"damaged")  # beside safetensors it is never opened
    assert load_encoder(folder).dim == 4


@pytest.mark.parametrize(
    "name",
    [
        "config.json", "model.safetensors", "modules.json", "1_Pooling/config.json", "2_Dense/config.json",
        "2_Dense/model.safetensors", "tokenizer.json", "sentence_bert_config.json", "tokenizer_config.json",
    ],
)  # fmt: skip
def test_a_folder_with_a_file_missing_or_damaged_is_refused(name: str, bert: Path, tmp_path: Path) -> None:
    folder = saved(bert, tmp_path / "model", Transformer(str(bert)), Pooling(32), Dense(32, 4))
    path = folder / name
    content = path.read_bytes()
    for damaged in (content[: len(content) // 2], b""):
        path.write_bytes(damaged)
        with pytest.raises(ValueError, match=str(folder)):
            load_encoder(folder)
    path.unlink()
    if not name.endswith("_config.json"):  # those may be absent
        with pytest.raises(ValueError, match=str(folder)):
            load_encoder(folder)


def test_a_tokenizer_without_vocabulary_is_refused(bert: Path, tmp_path: Path) -> None:
    folder = saved(bert, tmp_path)
    (folder / "tokenizer.json").unlink()
    path = folder / "tokenizer_config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "tokenizer_class": "BertTokenizer"}))
    with pytest.raises(
        ValueError, match="found a tokenizer of 5 tokens; a file of its vocabulary is missing"
    ):
        load_encoder(folder)


def test_every_file_that_was_saved_is_wanted_back(bert: Path, tmp_path: Path) -> None:
    load_encoder(bert).save(tmp_path)
    names = json.loads((tmp_path / "pyhbt_encoder.json").read_text())["files"]
    assert {"config_sentence_transformers.json", "sentence_bert_config.json", "tokenizer_config.json"} <= {
        *names
    }
    for name in names:
        (tmp_path / name).rename(tmp_path / "aside")
        with pytest.raises(ValueError, match=f"{name}: missing, expected it as pyhbt_encoder.json says"):
            load_encoder(tmp_path)
        (tmp_path / "aside").rename(tmp_path / name)
    load_encoder(tmp_path)


def test_an_activation_of_others_is_refused(bert: Path, tmp_path: Path) -> None:
    folder = saved(bert, tmp_path, Transformer(str(bert)), Pooling(32), Dense(32, 4))
    path = folder / "2_Dense/config.json"
    path.write_text(path.read_text().replace("torch.nn.modules.activation.Tanh", "others.Gelu"))
    with pytest.raises(ValueError, match=r"2_Dense/config\.json: activation_function others\.Gelu, expected"):
        load_encoder(folder)


def test_names_that_are_nowhere(tmp_path: Path, cache: Path) -> None:
    for spec in ("owner/nothing", "nothing"):
        with pytest.raises(
            FileNotFoundError,
            match=f"encoder: no folder {spec} here and no model of that name in the cache or the hub",
        ) as caught:
            checkpoint_folder(spec)
        assert "\n" not in str(caught.value)
    with pytest.raises(ValueError, match="encoder: found '', expected ngram, a folder or a hub name"):
        load_encoder("")
    for spec in (str(tmp_path / "x"), "./x", "a/b/c", "~/x"):
        with pytest.raises(FileNotFoundError, match="is not a folder"):
            checkpoint_folder(spec)


def test_names_that_the_hub_could_not_have_never_go_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(checkpoint, "snapshot_download", lambda *_, **__: pytest.fail("asked the hub"))
    monkeypatch.chdir(tmp_path)
    (tmp_path / "file").write_text("")
    for spec in (
        "my model",
        "a/b/c",
        "a//b",
        "owner/",
        "a--b",
        "a:b",
        "é",
        "x" * 97,
        "\x1b[0m",
        "./x",
        "/x",
        "~/x",
    ):
        with pytest.raises(FileNotFoundError, match="is not a folder, nor a name that the hub could have"):
            checkpoint_folder(spec)
    with pytest.raises(NotADirectoryError, match="encoder: file is not a folder, but a file"):
        checkpoint_folder("file")


def test_a_typo_is_told_which_folder_may_be_meant(
    tmp_path: Path, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "run/encoder").mkdir(parents=True)
    for spec, meant in (
        ("run/encodr", "run/encoder"),
        ("./run/encodr", "run/encoder"),
        ("rum", "run"),
        ("ngrma", "ngram"),
        (f"{tmp_path}/rum", f"{tmp_path}/run"),
    ):
        with pytest.raises(FileNotFoundError, match=f"did you mean '{meant}'"):
            checkpoint_folder(spec)
    with pytest.raises(FileNotFoundError) as caught:
        checkpoint_folder("owner/quite-another")
    assert "did you mean" not in str(caught.value)


def test_a_model_that_takes_no_texts_is_refused(bert: Path) -> None:
    first = Transformer(str(bert))
    first.modality_config = {"image": first.modality_config["text"]}
    with pytest.raises(ValueError, match="here: module 0, Transformer, takes no texts"):
        check_modules(SentenceTransformer(modules=[first, Pooling(32)], device="cpu"), "here")


def test_language_means_come_with_a_name(bert: Path, tmp_path: Path, cache: Path) -> None:
    encoder = load_encoder(bert)
    encoder.language_means = LanguageMeans({("query", "de"): torch.ones(32)})
    encoder.save(tmp_path / "saved")
    in_cache(tmp_path / "saved", cache, "owner/means")
    means = load_encoder("owner/means").language_means
    assert means is not None
    assert list(means.means) == [("query", "de")]
    NgramEncoder(dim=4, num_buckets=8).save(tmp_path / "ngram")
    in_cache(tmp_path / "ngram", cache, "owner/ngram")
    assert load_encoder("owner/ngram").dim == 4


def adapter(bert: Path, folder: Path, *modules: Any) -> SentenceTransformer:
    """A model with an adapter around its transformer, saved to ``folder``."""
    torch.manual_seed(3)
    model = SentenceTransformer(modules=[Transformer(str(bert)), Pooling(32, "cls"), *modules], device="cpu")
    model[0].model = get_peft_model(model[0].model, LoraConfig(r=2, target_modules=["query", "value"]))
    with torch.no_grad():
        for name, weight in model.named_parameters():
            if "lora_B" in name:
                weight.normal_()
    model.save(str(folder), create_model_card=False)
    return model


def test_the_adapter_of_a_name_is_put_on_its_base(bert: Path, tmp_path: Path, cache: Path) -> None:
    model = adapter(bert, tmp_path / "adapter", Dense(32, 6))
    in_cache(tmp_path / "adapter", cache, "owner/adapter")
    live = as_encoder(model)
    model[0].model = model[0].model.merge_and_unload()
    expected = theirs(model)  # W + alpha / r B A
    plain = theirs(sentence_transformer(saved(bert, tmp_path / "plain", *model)))
    for encoder in (live, load_encoder("owner/adapter"), load_encoder(tmp_path / "adapter")):
        for side, vectors in expected.items():
            np.testing.assert_allclose(encoder.encode(TEXTS, side), vectors, atol=BUDGET, rtol=0)  # type: ignore[arg-type]
    for side, vectors in plain.items():
        np.testing.assert_allclose(vectors, expected[side], atol=1e-6)
    config = tmp_path / "adapter/adapter_config.json"
    config.write_text(config.read_text().replace(str(bert), str(tmp_path / "gone")))
    with pytest.raises(FileNotFoundError, match="gone is not a folder"):
        load_encoder(tmp_path / "adapter")
    (tmp_path / "adapter/adapter_model.safetensors").unlink()
    with pytest.raises(ValueError, match=r"adapter_model\.safetensors: missing"):
        load_encoder(tmp_path / "adapter")
