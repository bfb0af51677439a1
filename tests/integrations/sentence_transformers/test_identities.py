"""Texts by their tokens in every layout, and ids against a rule by brute force."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

pytest.importorskip("sentence_transformers", minversion="6.0")

from sentence_transformers import SentenceTransformer
from sentence_transformers.sentence_transformer.modules import StaticEmbedding

from pyhbt.data.pair_set import PairSet
from pyhbt.integrations.sentence_transformers import hybrid_dataset
from pyhbt.integrations.sentence_transformers.identities import identities, text_numbers
from tests.integrations.sentence_transformers.test_losses import tiny_model
from tests.training.test_false_negatives import pair_sets, related


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> SentenceTransformer:
    return tiny_model(tmp_path_factory.mktemp("model"))


def test_equal_tokens_have_equal_numbers_however_they_are_laid_out(model: SentenceTransformer) -> None:
    columns = [["abc", "a", "abc"], ["a", "a long one", "cab"]]
    expected = [[0, 1, 0], [1, 2, 3]]
    padded = [dict(model.preprocess(column)) for column in columns]
    left = [dict(one) for one in padded]
    for one in left:
        width = one["input_ids"].shape[1]
        for name in ("input_ids", "attention_mask"):
            rows = zip(one[name], one["attention_mask"].bool(), strict=True)
            one[name] = torch.stack(
                [
                    torch.cat([torch.zeros(width - int(keep.sum()), dtype=row.dtype), row[keep]])
                    for row, keep in rows
                ]
            )
    flat = []
    for one in padded:
        mask = one["attention_mask"].bool()
        ends = torch.cumsum(mask.sum(1), 0)
        starts = torch.cat([torch.zeros(1, dtype=ends.dtype), ends])
        flat.append({"input_ids": one["input_ids"][mask][None], "cu_seq_lens_q": starts})
    static = SentenceTransformer(modules=[StaticEmbedding(model.tokenizer, embedding_dim=8)], device="cpu")
    found = [text_numbers(one) for one in (padded, left, flat)]
    bags = text_numbers([static.preprocess(column) for column in columns])
    for numbers in (*found, bags):
        assert numbers is not None
        assert (numbers >= 0).all()
        _, first, place = np.unique(numbers, return_index=True, return_inverse=True)
        order = np.argsort(np.argsort(first))
        assert order[place.reshape(2, 3)].tolist() == expected
    np.testing.assert_array_equal(found[0], found[1])
    np.testing.assert_array_equal(found[0], found[2])


def test_other_inputs_than_text_are_not_compared() -> None:
    text = {"input_ids": torch.ones(2, 3, dtype=torch.int64)}
    assert text_numbers([text, {"pixel_values": torch.ones(2, 3)}]) is None
    assert text_numbers([text, text | {"modality": "image"}]) is None
    numbers = text_numbers([text, text | {"modality": "text"}])
    assert numbers is not None
    assert len(set(numbers.ravel().tolist())) == 1


@given(st.data())
def test_ids_against_a_closure(data: st.DataObject) -> None:
    n, width = data.draw(st.integers(1, 7)), data.draw(st.integers(1, 3))
    few = st.integers(0, data.draw(st.integers(0, 9)))
    queries = data.draw(st.lists(few, min_size=n, max_size=n))
    passages = data.draw(st.lists(few, min_size=n * width, max_size=n * width))
    kind = data.draw(st.sampled_from(["none", "positives", "all"]))
    group_of = data.draw(st.dictionaries(few, st.integers(-1, 4)))  # of each text, as a data set has them
    texts = np.array([queries, *np.array(passages).reshape(width, n).tolist()]) + 1_000_000
    wanted = {"none": 0, "positives": 1, "all": width}[kind]
    groups = np.array([group_of.get(text, -1) for text in passages]).reshape(width, n).T
    found = identities(n, width, texts, groups[:, :wanted] if wanted else None)

    distinct = list(dict.fromkeys(passages))
    assert [passages[place] for place in found.candidates] == distinct
    assert [distinct[place] for place in found.positives] == passages[:n]
    label = {text: group_of.get(text, -1) if wanted == width else -1 for text in distinct}
    if wanted:
        label |= {text: group_of.get(text, -1) for text in passages[:n]}
    beside: dict[object, set[object]] = {}
    for query, positive in zip(queries, passages[:n], strict=True):
        beside.setdefault(("q", query), set()).add(positive)
        beside.setdefault(positive, set()).add(("q", query))
    for text in distinct:
        if label[text] >= 0:
            beside.setdefault(text, set()).add(("g", label[text]))
            beside.setdefault(("g", label[text]), set()).add(text)
    for row, query in enumerate(queries):
        seen: set[object] = set()
        edge: list[object] = [("q", query)]
        while edge:
            node = edge.pop()
            if node not in seen:
                seen.add(node)
                edge += beside.get(node, ())
        same = {text for text, id in zip(distinct, found.passage_groups.tolist(), strict=True)
                if id == found.query_groups[row] >= 0}  # fmt: skip
        assert same == seen & set(distinct)


def test_without_texts_only_labels_count() -> None:
    found = identities(4, 2, None, np.array([[3, -1], [3, 5], [-1, 3], [-7, -1]]))
    assert found.candidates.tolist() == list(range(8))
    assert found.positives.tolist() == [0, 1, 2, 3]
    groups, passages = found.query_groups.tolist(), found.passage_groups.tolist()
    assert groups[:2] == [3, 3]
    assert max(groups[2:]) < 0
    assert groups == passages[:4]
    assert passages[5:7] == [5, 3]
    assert max(passages[4], passages[7]) < 0


@settings(max_examples=60, deadline=None)
@given(pairs=pair_sets(), grouped=st.booleans(), seed=st.integers(0, 99))
def test_no_answer_is_a_negative_in_batches_of_a_hybrid_dataset(
    model: SentenceTransformer, pairs: PairSet, grouped: bool, seed: int
) -> None:
    """With labels exactly what any pairs join to a query; without, at least what the pairs of the batch show."""
    rows = np.random.default_rng(seed).permutation(len(pairs))[:6].tolist()
    fewest = min(len(pairs[row].negatives) for row in range(len(pairs)))
    data = hybrid_dataset(pairs, num_negatives=fewest, group_labels=True)[rows]
    columns = [data["query"], data["passage"], *(data[f"negative_{n + 1}"] for n in range(fewest))]
    texts = text_numbers([model.preprocess(column) for column in columns])
    labels = np.array(data["label"], dtype=np.int64).reshape(len(rows), -1)
    found = identities(len(rows), 1 + fewest, texts, labels if grouped else None)
    passages = [text for column in columns[1:] for text in column]
    distinct = [passages[place] for place in found.candidates]
    assert distinct == list(dict.fromkeys(passages))
    assert [distinct[place] for place in found.positives] == data["passage"]
    known = related(pairs)
    chosen = [pairs[row] for row in rows]
    for pair, id in zip(chosen, found.query_groups.tolist(), strict=True):
        answers = known["query", pair.query, pair.query_lang]
        shown = {other.passage for other in chosen if other.query == pair.query}
        for text, other_id in zip(distinct, found.passage_groups.tolist(), strict=True):
            if text in shown or (grouped and ("passage", text) in answers):
                assert other_id == id
            elif grouped and len({(one.query, one.query_lang) for one in chosen}) == len(
                {one.query for one in chosen}
            ):  # equal tokens are equal queries whatever their language
                assert other_id != id
