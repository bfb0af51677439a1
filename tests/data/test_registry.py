"""Specs of data sets: what each kind serves, and one clear line for what it does not."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from pyhbt.data import KINDS, load_retrieval, load_study, load_train
from pyhbt.data.registry import load_dev
from tests.data.written import write, write_jsonl
from tests.interpreter import run_python


def test_cldr_serves_every_purpose() -> None:
    languages = ["en", "fr", "sw", "ga"]
    study = load_study("cldr", languages=languages, low_resource=["fr"], zero_shot=["sw"])
    assert study.test.tiers == {"en": "seen", "fr": "low-resource", "sw": "zero-shot", "ga": "seen"}
    assert load_retrieval("cldr", languages=languages).query_ids == study.test.query_ids
    assert load_retrieval("cldr", languages=languages, split="dev").query_ids == study.dev.query_ids
    assert "ga" not in load_train("cldr", languages=languages).languages
    with pytest.raises(ValueError, match="split: found 'train'"):
        load_retrieval("cldr", split="train")
    with pytest.raises(ValueError, match="limit: found 5, expected None: cldr is loaded whole"):
        load_train("cldr", limit=5)
    with pytest.raises(ValueError, match="limit: found 0"):
        load_train("cldr", limit=0)


@pytest.mark.parametrize("spec", ["nothing", "", "CLDR", ":x"])
def test_unknown_kinds_list_the_known_ones(spec: str) -> None:
    with pytest.raises(
        ValueError, match=r"data: found kind .* expected one of cldr, xquad-r:FOLDER"
    ) as caught:
        load_study(spec)
    assert all(kind.usage in str(caught.value) for kind in KINDS.values())
    assert "\n" not in str(caught.value)


def test_missing_and_superfluous_locations_are_named(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="expected 'cldr' without a location"):
        load_study("cldr:x")
    with pytest.raises(ValueError, match="found 'xquad-r', expected xquad-r:FOLDER"):
        load_study("xquad-r")
    for kind in ("xquad-r", "mlqa-r", "afriqa", "jsonl", "parquet", "csv", "beir"):
        with pytest.raises(FileNotFoundError, match=r"missing in .* does not exist"):
            load_retrieval(f"{kind}:{tmp_path}/missing")
    (tmp_path / "file").touch()
    with pytest.raises(ValueError, match="is a file, expected a folder"):
        load_study(f"afriqa:{tmp_path}/file")
    for kind in ("mmarco", "miracl"):
        with pytest.raises(FileNotFoundError, match="neither a folder nor a hub id"):
            load_train(f"{kind}:nothing")


def test_kinds_refuse_what_they_cannot_serve(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="cannot serve study; beir:FOLDER serves evaluation"):
        load_study(f"beir:{tmp_path}")
    with pytest.raises(ValueError, match=r"cannot serve evaluation; mmarco\[:SOURCE\] serves training"):
        load_retrieval("mmarco")
    with pytest.raises(
        ValueError, match=r"cannot serve study; miracl\[:SOURCE\] serves evaluation and training"
    ):
        load_study("miracl")
    file = tmp_path / "pairs.jsonl"
    file.touch()
    with pytest.raises(
        ValueError, match="is a file of pairs, which serves training; evaluation needs a folder"
    ):
        load_retrieval(f"jsonl:{file}")
    with pytest.raises(ValueError, match="is a file of pairs, which serves training; a study needs a folder"):
        load_study(f"jsonl:{file}")


def test_own_folders_serve_training_evaluation_and_study(tmp_path: Path) -> None:
    row = {"query": "q", "passage": "p", "query_lang": "en", "passage_lang": "en"}
    (tmp_path / "train.jsonl").write_text(
        json.dumps(row) * 1 + "\n" + json.dumps(row | {"query": "r"}) + "\n"
    )
    for split in ("dev", "test"):
        (tmp_path / split / "qrels").mkdir(parents=True)
        text = json.dumps({"_id": "1", "text": split, "lang": "en"}) + "\n"
        (tmp_path / split / "corpus.jsonl").write_text(text)
        (tmp_path / split / "queries.jsonl").write_text(text)
        (tmp_path / split / "qrels" / f"{split}.tsv").write_text("query-id\tcorpus-id\tscore\n1\t1\t1\n")
    spec = f"jsonl:{tmp_path}"
    assert len(load_train(spec)) == 2
    assert len(load_train(f"{spec}/train.jsonl", limit=1)) == 1
    assert load_retrieval(spec, split="dev").query_texts == ("dev",)
    assert load_study(spec).test.query_texts == ("test",)
    assert load_retrieval(f"beir:{tmp_path}/test").query_texts == ("test",)


def test_real_folders_by_name(data_dir: Path) -> None:
    xquad = f"xquad-r:{data_dir}/xquad-r"
    assert load_retrieval(xquad, languages=["en", "th"]).name == "xquad-r"
    study = load_study(xquad, languages=["en", "de", "el"], zero_shot=["el"])
    assert len(load_train(xquad, languages=["en", "de"])) == len(study.train)
    with pytest.raises(ValueError, match="split: found 'dev', expected 'test': xquad-r has no other"):
        load_retrieval(xquad, split="dev")
    afriqa = f"afriqa:{data_dir}/afriqa"
    assert load_retrieval(afriqa, split="dev", languages=["hau"]).query_langs[0] == "hau"
    assert load_study(afriqa).name == "afriqa"
    assert len(load_train(afriqa, languages=["hau"])) > 100


def test_importing_the_package_loads_no_heavy_library() -> None:
    # pyhbt itself imports torch for its operators; the data layer must not need it, nor datasets.
    code = (
        "import sys, types; package = types.ModuleType('pyhbt');"
        "import importlib.util as u; spec = u.find_spec('pyhbt');"
        "package.__path__ = list(spec.submodule_search_locations); sys.modules['pyhbt'] = package;"
        "import pyhbt.data; print(sorted({'torch', 'datasets', 'pandas', 'transformers'} & set(sys.modules)))"
    )
    done = run_python(code)
    assert done.stdout.strip() == "[]"


def test_importing_the_registry_loads_no_reader() -> None:
    code = (
        "import sys, pyhbt.data, pyhbt.data.registry;"
        "readers = ('afriqa', 'beir', 'cldr', 'lareqa', 'miracl', 'pairs');"
        "print([name for name in (*(f'pyhbt.data.{one}' for one in readers), 'babel') if name in sys.modules])"
    )
    assert run_python(code).stdout.strip() == "[]"


def _own_folder(folder: Path) -> str:
    row = {"question": "q", "context": "p", "passage_lang": "en"}
    write_jsonl(folder / "train.jsonl", [row, {**row, "question": "r"}])
    for split in ("dev", "test"):
        write_jsonl(folder / split / "corpus.jsonl", [{"_id": "1", "text": split}, {"_id": "2", "text": ""}])
        write_jsonl(folder / split / "queries.jsonl", [{"_id": "1", "text": split}])
        write(folder / split / "qrels" / f"{split}.tsv", "1\t1\t1\n")
    return f"jsonl:{folder}"


def test_every_purpose_takes_columns_and_languages(tmp_path: Path) -> None:
    spec = _own_folder(tmp_path)
    columns = {"query": "question", "passage": "context"}
    assert load_train(spec, columns=columns, query_lang="de").languages == ("de", "en")
    study = load_study(spec, columns=columns, query_lang="de", passage_lang="en", skip_unusable=True)
    assert (len(study.train), study.dev.query_langs, study.test.passage_langs) == (2, ("de",), ("en",))
    for spec_of_set in (spec, f"beir:{tmp_path}/test"):
        one = load_retrieval(spec_of_set, query_lang="de", passage_lang="en", skip_unusable=True)
        assert one.languages == ("de", "en")
    assert load_dev(spec, query_lang="de", passage_lang="en", skip_unusable=True).query_texts == ("dev",)
    with pytest.raises(ValueError, match="languages: found 'jp'.*: de en$"):
        load_train(spec, columns=columns, query_lang="de", languages=["de", "en", "jp"])


def test_the_dev_set_of_a_folder_is_read_without_its_pairs(tmp_path: Path) -> None:
    spec = _own_folder(tmp_path)
    (tmp_path / "train.jsonl").write_text("damaged")
    assert load_dev(spec, query_lang="de", passage_lang="en", skip_unusable=True).query_texts == ("dev",)
    assert load_dev("cldr", languages=["en", "de"]).languages == ("de", "en")
    with pytest.raises(ValueError, match="cannot serve study"):
        load_dev("mmarco")
    with pytest.raises(ValueError, match=r"train\.jsonl is a file of pairs, without a dev set"):
        load_dev(f"jsonl:{tmp_path / 'train.jsonl'}")
    given: dict[str, Any] = {"query_lang": "de", "passage_lang": "en", "skip_unusable": True}
    assert load_dev(spec, languages=["de", "en", "fr"], **given).languages == ("de", "en")
    assert load_dev(spec, languages=["en", "fr"], **given).languages == ("en",)
    with pytest.raises(ValueError, match="languages: found 'fr', expected languages of .*dev: de en"):
        load_dev(spec, languages=["fr"], **given)


def test_kinds_refuse_arguments_that_are_for_others(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="columns: found .* for cldr; it is for jsonl:PATH"):
        load_train("cldr", columns={"query": "q"})
    with pytest.raises(ValueError, match="query_lang: found 'de' for cldr; it is for jsonl:PATH"):
        load_study("cldr", query_lang="de")
    with pytest.raises(ValueError, match="skip_unusable: found True for cldr"):
        load_retrieval("cldr", skip_unusable=True)
    with pytest.raises(
        ValueError, match=r"negatives: found 2 for beir|negatives: found 2 for cldr; it is for mmarco"
    ):
        load_train("cldr", negatives=2)


def test_languages_that_are_not_there_come_with_a_hint(tmp_path: Path) -> None:
    rows = [{"query": "q", "passage": "p", "query_lang": lang, "passage_lang": lang} for lang in ("en", "ja")]
    write_jsonl(tmp_path / "a.jsonl", rows)
    with pytest.raises(ValueError, match=r"languages: found 'jp', .*: en ja; did you mean 'ja'\?$"):
        load_train(f"jsonl:{tmp_path}/a.jsonl", languages=["en", "jp"])
    with pytest.raises(ValueError, match=r"low_resource: found 'eng', .*; did you mean 'en'\?$"):
        load_study("cldr", low_resource=["eng"])
