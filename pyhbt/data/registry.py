"""Data sets by name: a spec is ``KIND`` or ``KIND:LOCATION``, such as ``cldr`` or ``xquad-r:path/to/folder``.

Each kind serves some of three purposes: a ratio study (pairs, dev set, test set), evaluation (a retrieval set) and
training (pairs). Readers of files are imported when their kind is asked for. Cost: that of the reader.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, NoReturn

from pyhbt.options import option

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from pyhbt.data.pair_set import PairSet
    from pyhbt.data.retrieval_set import RetrievalSet, StudyData

    Languages = Iterable[str] | None
    # what a kind takes beside (DataKind.takes) comes by name
    StudyLoader = Callable[..., StudyData]
    RetrievalLoader = Callable[..., RetrievalSet]
    TrainLoader = Callable[..., PairSet]

Purpose = Literal["study", "evaluation", "training"]


@dataclass(frozen=True, slots=True)
class DataKind:
    """One kind of data set: what its location means, and the loaders of the purposes it serves (None: not served)."""

    name: str
    location: Literal["none", "folder", "path", "source"]
    about: str
    study: StudyLoader | None = None
    retrieval: RetrievalLoader | None = None
    train: TrainLoader | None = None
    takes: tuple[str, ...] = ()
    """Arguments of loading beside languages, split and limit that the kind knows."""

    @property
    def usage(self) -> str:
        """How a spec of this kind is written: ``xquad-r:FOLDER``, ``mmarco[:SOURCE]``."""
        place = self.location.upper()
        return {"none": self.name, "source": f"{self.name}[:{place}]"}.get(
            self.location, f"{self.name}:{place}"
        )


def load_study(
    spec: str,
    *,
    languages: Languages = None,
    low_resource: Languages = None,
    zero_shot: Languages = None,
    columns: Mapping[str, str] | None = None,
    query_lang: str | None = None,
    passage_lang: str | None = None,
    skip_unusable: bool = False,
) -> StudyData:
    """Pairs to train on, a dev and a test set, for a ratio study.

    Args:
        spec: ``KIND`` or ``KIND:LOCATION``.
        languages: those to train on in full; default: all of the data. Where given, others than these and those of the
            two lists are left out.
        low_resource: languages trained on a few items; None: the data set's own choice (``cldr`` and ``afriqa`` have
            one).
        zero_shot: languages evaluated alone; None: likewise.
        columns, query_lang, passage_lang: of own pairs, see :func:`pyhbt.data.load_pairs`.
        skip_unusable: of BEIR folders, see :func:`pyhbt.data.load_beir`.

    Raises:
        FileNotFoundError: a missing folder or file.
        ValueError: an unknown kind, a kind that cannot serve a study, or malformed data.
    """
    kind, location = _parse(spec)
    if kind.study is None:
        _refuse(spec, kind, "study")
    if languages is not None and not isinstance(languages, str):
        languages = dict.fromkeys((*languages, *(low_resource or ()), *(zero_shot or ())))
    given = _given(
        kind, columns=columns, query_lang=query_lang, passage_lang=passage_lang, skip_unusable=skip_unusable
    )
    return kind.study(location, languages, low_resource, zero_shot, **given)


def load_retrieval(
    spec: str,
    *,
    languages: Languages = None,
    split: str = "test",
    query_lang: str | None = None,
    passage_lang: str | None = None,
    skip_unusable: bool = False,
) -> RetrievalSet:
    """Queries, corpus and qrels of one split for evaluation.

    ``xquad-r`` and ``mlqa-r`` are published as one split each: ``test`` is all of it (a study's own test set is the
    articles that it does not train on). ``query_lang``, ``passage_lang`` and ``skip_unusable`` are those of
    :func:`pyhbt.data.load_beir`, for kinds in that layout.

    Raises:
        FileNotFoundError: a missing folder or file.
        ValueError: as :func:`load_study` does, for a kind that cannot serve evaluation; an unknown split.
    """
    kind, location = _parse(spec)
    if kind.retrieval is None:
        _refuse(spec, kind, "evaluation")
    given = _given(kind, query_lang=query_lang, passage_lang=passage_lang, skip_unusable=skip_unusable)
    return kind.retrieval(location, languages, split, **given)


def load_dev(
    spec: str,
    *,
    languages: Languages = None,
    query_lang: str | None = None,
    passage_lang: str | None = None,
    skip_unusable: bool = False,
) -> RetrievalSet:
    """The dev set of data that serve a study; of a folder of own data without its pairs.

    Raises:
        FileNotFoundError, ValueError: as :func:`load_study` does.
    """
    kind, location = _parse(spec)
    if kind.study is None:
        _refuse(spec, kind, "study")
    if "columns" in kind.takes and Path(location).is_file():
        raise ValueError(
            f"data: {location} is a file of pairs, without a dev set to score on; a folder with dev/ has one"
        )
    if "columns" in kind.takes and Path(location).is_dir():
        from pyhbt.data.retrieval_set import in_languages
        from pyhbt.data.tiers import known_languages, language_codes

        dev = load_retrieval(
            spec, split="dev", query_lang=query_lang, passage_lang=passage_lang, skip_unusable=skip_unusable
        )
        if languages is None:
            return dev
        wanted = language_codes("languages", languages)
        # pairs may be in more languages than the dev set
        kept = [code for code in wanted if code in dev.languages] or wanted
        known_languages("languages", kept, dev.languages, f"{location}/dev")
        return in_languages(dev, kept, {code: dev.tiers[code] for code in kept})
    given = _given(kind, query_lang=query_lang, passage_lang=passage_lang, skip_unusable=skip_unusable)
    return kind.study(location, languages, None, None, **given).dev


def load_train(
    spec: str,
    *,
    languages: Languages = None,
    limit: int | None = None,
    columns: Mapping[str, str] | None = None,
    query_lang: str | None = None,
    passage_lang: str | None = None,
    negatives: int = 0,
) -> PairSet:
    """Training pairs.

    Args:
        spec: ``KIND`` or ``KIND:LOCATION``.
        languages: default: all of the data.
        limit: a slice of ``mmarco`` (triples a language) and ``miracl`` (queries a language), and the first rows of a
            file of pairs; kinds that come as a whole refuse it.
        columns, query_lang, passage_lang: of own pairs, see :func:`pyhbt.data.load_pairs`.
        negatives: of ``mmarco``: attach up to that many of a query's negatives.

    Raises:
        FileNotFoundError: a missing folder or file.
        ValueError: as :func:`load_study` does, for a kind that cannot serve training; a ``limit`` that is refused.
    """
    kind, location = _parse(spec)
    if kind.train is None:
        _refuse(spec, kind, "training")
    if limit is not None and limit < 1:
        raise ValueError(f"limit: found {limit}, expected >= 1 or None")
    given = _given(
        kind, columns=columns, query_lang=query_lang, passage_lang=passage_lang, negatives=negatives
    )
    return kind.train(location, languages, limit, **given)


def _parse(spec: str) -> tuple[DataKind, str]:
    name, colon, location = spec.partition(":")
    if name not in KINDS:
        known = ", ".join(kind.usage for kind in KINDS.values())
        raise ValueError(f"data: found kind {name!r} in {spec!r}, expected one of {known}")
    kind = KINDS[name]
    if kind.location == "none" and colon:
        raise ValueError(f"data: found {spec!r}, expected {kind.usage!r} without a location")
    if kind.location in ("folder", "path"):
        if not location:
            raise ValueError(f"data: found {spec!r}, expected {kind.usage}")
        path = Path(location)
        if kind.location == "folder" and path.exists() and not path.is_dir():
            raise ValueError(f"data: {location} in {spec!r} is a file, expected a folder")
        if not path.exists():
            raise FileNotFoundError(f"data: {location} in {spec!r} does not exist, expected {kind.usage}")
    return kind, location


def _refuse(spec: str, kind: DataKind, purpose: Purpose) -> NoReturn:
    served = {"study": kind.study, "evaluation": kind.retrieval, "training": kind.train}
    can = " and ".join(name for name, loader in served.items() if loader is not None)
    raise ValueError(f"data: {spec!r} cannot serve {purpose}; {kind.usage} serves {can}")


def _given(kind: DataKind, **arguments: Any) -> dict[str, Any]:
    """The arguments that are given; those that the kind does not take are refused."""
    given = {name: value for name, value in arguments.items() if value not in (None, False, 0)}
    for name, value in given.items():
        if name not in kind.takes:
            taking = ", ".join(other.usage for other in KINDS.values() if name in other.takes)
            raise ValueError(f"{name}: found {value!r} for {kind.usage}; it is for {taking}")
    return given


def _whole(kind: str, limit: int | None) -> None:
    if limit is not None:
        raise ValueError(f"limit: found {limit}, expected None: {kind} is loaded whole")


def _cldr_study(_: str, languages: Languages, low: Languages, zero: Languages) -> StudyData:
    from pyhbt.data.cldr import load_cldr

    return load_cldr(languages=languages, low_resource=low, zero_shot=zero)


def _cldr_retrieval(_: str, languages: Languages, split: str) -> RetrievalSet:
    if split not in ("dev", "test"):
        raise ValueError(f"split: found {split!r}, expected 'dev' or 'test'")
    study = _cldr_study("", languages, None, None)
    return study.dev if split == "dev" else study.test


def _cldr_train(_: str, languages: Languages, limit: int | None) -> PairSet:
    _whole("cldr", limit)
    return _cldr_study("", languages, None, None).train


def _lareqa(name: str, about: str) -> DataKind:
    def study(location: str, languages: Languages, low: Languages, zero: Languages) -> StudyData:
        from pyhbt.data.lareqa import load_lareqa_study

        return load_lareqa_study(location, languages=languages, low_resource=low, zero_shot=zero, name=name)

    def retrieval(location: str, languages: Languages, split: str) -> RetrievalSet:
        if split != "test":
            raise ValueError(f"split: found {split!r}, expected 'test': {name} has no other")
        from pyhbt.data.lareqa import load_lareqa

        return load_lareqa(location, languages=languages, name=name)

    def train(location: str, languages: Languages, limit: int | None) -> PairSet:
        _whole(name, limit)
        return study(location, languages, None, None).train

    return DataKind(name, "folder", about, study, retrieval, train)


def _afriqa_study(location: str, languages: Languages, low: Languages, zero: Languages) -> StudyData:
    from pyhbt.data.afriqa import load_afriqa_study

    return load_afriqa_study(location, languages=languages, low_resource=low, zero_shot=zero)


def _afriqa_retrieval(location: str, languages: Languages, split: str) -> RetrievalSet:
    from pyhbt.data.afriqa import load_afriqa

    return load_afriqa(location, languages=languages, split=split)


def _afriqa_train(location: str, languages: Languages, limit: int | None) -> PairSet:
    _whole("afriqa", limit)
    return _afriqa_study(location, languages, None, None).train


def _own_study(suffix: str) -> StudyLoader:
    def study(
        location: str, languages: Languages, low: Languages, zero: Languages, **reading: Any
    ) -> StudyData:
        from pyhbt.data.pairs import load_folder_study

        if not Path(location).is_dir():
            raise ValueError(
                f"data: {location} is a file of pairs, which serves training; a study needs a folder with "
                f"train.{suffix}, dev/ and test/"
            )
        return load_folder_study(
            location,
            train=f"train.{suffix}",
            languages=languages,
            low_resource=low,
            zero_shot=zero,
            **reading,
        )

    return study


def _own_retrieval(location: str, languages: Languages, split: str, **reading: Any) -> RetrievalSet:
    from pyhbt.data.beir import load_beir

    folder = Path(location)
    if not folder.is_dir():
        raise ValueError(
            f"data: {location} is a file of pairs, which serves training; evaluation needs a folder with {split}/"
        )
    return load_beir(folder / split, split=split, languages=languages, **reading)


def _own_train(suffix: str) -> TrainLoader:
    def train(location: str, languages: Languages, limit: int | None, **reading: Any) -> PairSet:
        from pyhbt.data.pairs import load_pairs

        path = Path(location)
        return load_pairs(
            path / f"train.{suffix}" if path.is_dir() else path, languages=languages, limit=limit, **reading
        )

    return train


def _beir_retrieval(location: str, languages: Languages, split: str, **reading: Any) -> RetrievalSet:
    from pyhbt.data.beir import load_beir

    return load_beir(location, split=split, languages=languages, **reading)


def _mmarco_train(location: str, languages: Languages, limit: int | None, negatives: int = 0) -> PairSet:
    from pyhbt.data.mmarco import load_mmarco

    return load_mmarco(location or None, languages=languages, limit=limit, negatives=negatives)


def _miracl_train(location: str, languages: Languages, limit: int | None) -> PairSet:
    from pyhbt.data.miracl import load_miracl_pairs

    return load_miracl_pairs(location or None, languages=languages, limit=limit)


def _miracl_retrieval(location: str, languages: Languages, split: str) -> RetrievalSet:
    from pyhbt.data.miracl import load_miracl

    # MIRACL publishes no answers to its test queries: its dev split is what everyone reports.
    return load_miracl(location or None, languages=languages, split="dev" if split == "test" else split)


KINDS: dict[str, DataKind] = {
    kind.name: kind
    for kind in (
        DataKind(
            "cldr",
            "none",
            "embedded: entities of the Unicode CLDR in 46 languages",
            _cldr_study,
            _cldr_retrieval,
            _cldr_train,
        ),
        _lareqa("xquad-r", "LAReQA XQuAD-R: a folder of LANGUAGE.json"),
        _lareqa("mlqa-r", "LAReQA MLQA-R: a folder of LANGUAGE.json"),
        DataKind(
            "afriqa",
            "folder",
            "AfriQA: African-language questions, English or French passages",
            _afriqa_study,
            _afriqa_retrieval,
            _afriqa_train,
        ),
        *(
            DataKind(
                suffix,
                "path",
                f"own data: a .{suffix} file of pairs, or a folder with train.{suffix}, dev/, test/",
                _own_study(suffix),
                _own_retrieval,
                _own_train(suffix),
                ("columns", "query_lang", "passage_lang", "skip_unusable"),
            )
            for suffix in ("jsonl", "parquet", "csv", "tsv")
        ),
        DataKind(
            "beir",
            "folder",
            "corpus.jsonl, queries.jsonl, qrels/SPLIT.tsv",
            None,
            _beir_retrieval,
            takes=("query_lang", "passage_lang", "skip_unusable"),
        ),
        DataKind(
            "mmarco",
            "source",
            "mMARCO: a hub id or a folder of its files",
            train=_mmarco_train,
            takes=("negatives",),
        ),
        DataKind(
            "miracl",
            "source",
            "MIRACL: a hub id or a folder of its files",
            None,
            _miracl_retrieval,
            _miracl_train,
        ),
    )
}


def data_option(default: str = "cldr") -> Any:
    """Which data: a spec of one of :data:`KINDS`."""
    named = [f"{kind.usage} (embedded)" if kind.location == "none" else kind.usage for kind in KINDS.values()]
    return option(f"{', '.join(named[:-1])} or {named[-1]}.", default)


def languages_option() -> Any:
    """Languages of the data that are used."""
    return option("Languages, comma-separated.", None, unset="all of the data")


def limit_option() -> Any:
    """A slice of the training pairs."""
    return option("Keep at most this many training items.", None, unset="all")


def columns_option() -> Any:
    """Columns of own pairs under other names."""
    return option("Columns of own pairs under other names: FIELD=COLUMN, comma-separated.", None)


def query_lang_option() -> Any:
    """Language of queries that name none."""
    return option("Language of queries of own data and BEIR sets that name none.", None)


def passage_lang_option() -> Any:
    """Language of passages that name none."""
    return option("Language of passages, likewise.", None)


def skip_unusable_option() -> Any:
    """Whether unusable parts of BEIR sets are left out."""
    return option("Leave out, and count, what a BEIR set holds that cannot be used.", False)
