"""Language means that an encoder carries: subtracted from its vectors, against language bias.

The same correction as the centring of an evaluation ("both"), but with means fixed at training time, so that an
application can use it: a text's vector minus the mean of its kind and language, made a unit vector again.
Shapes: a mean is float32 (dim,). Source: see :mod:`pyhbt.evaluation.centring`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, TypeAlias

import torch
import torch.nn.functional as F
from safetensors.torch import save_file
from torch import Tensor

from pyhbt.files import write_atomically
from pyhbt.reading import read_tensors

TextKind: TypeAlias = Literal["query", "passage"]
Encode: TypeAlias = Callable[[Sequence[str], TextKind], Tensor]
"""Texts of one kind -> unit vectors (n, dim)."""

_FILE = "language_means.safetensors"


@dataclass(frozen=True)
class LanguageMeans:
    """``means[kind, language]`` is the mean vector of the queries or passages of a language."""

    means: Mapping[tuple[TextKind, str], Tensor]

    @classmethod
    def of(
        cls, encode: Encode, texts: Mapping[TextKind, tuple[Sequence[str], Sequence[str]]]
    ) -> LanguageMeans:
        """Means of the vectors that ``encode`` gives ``texts``: for each kind, texts and the language of each.

        Raises:
            ValueError: texts and languages of different lengths, or a kind without texts.
        """
        means: dict[tuple[TextKind, str], Tensor] = {}
        for kind, (strings, langs) in texts.items():
            if len(strings) != len(langs) or not strings:
                raise ValueError(
                    f"texts: found {len(strings)} {kind} texts and {len(langs)} languages, expected as many, "
                    "at least one"
                )
            vectors = encode(strings, kind)
            places: dict[str, list[int]] = {}
            for place, lang in enumerate(langs):
                places.setdefault(lang, []).append(place)
            for lang, here in places.items():
                means[kind, lang] = vectors[here].double().mean(0).float()
        return cls(means)

    def centred(self, vectors: Tensor, kind: TextKind, languages: Sequence[str]) -> Tensor:
        """Unit vectors (n, dim) less the means of their languages, made unit again; zeros stay zeros.

        Raises:
            ValueError: a language without a mean.
        """
        distinct = sorted(set(languages))
        for lang in distinct:
            if (kind, lang) not in self.means:
                known = ", ".join(sorted(code for of_kind, code in self.means if of_kind == kind)) or "none"
                raise ValueError(
                    f"language: found {lang!r}, expected one with a mean of {kind} vectors: {known}"
                )
        if not distinct:
            return vectors
        number = {lang: place for place, lang in enumerate(distinct)}
        table = torch.stack([self.means[kind, lang] for lang in distinct]).double()
        moved = vectors.double() - table[torch.tensor([number[lang] for lang in languages])]
        return F.normalize(moved, dim=1).float()

    def save(self, folder: Path) -> None:
        """Write the means to a file in an encoder's folder."""
        tensors = {f"{kind}/{lang}": mean.contiguous() for (kind, lang), mean in self.means.items()}
        with write_atomically(folder / _FILE) as temporary:
            save_file(tensors, temporary)

    @classmethod
    def load(cls, folder: Path) -> LanguageMeans | None:
        """The means that a folder holds, if any.

        Raises:
            ValueError: a name in the file that is not ``query/LANGUAGE`` or ``passage/LANGUAGE``.
        """
        if not (folder / _FILE).is_file():
            return None
        means: dict[tuple[TextKind, str], Tensor] = {}
        for name, mean in read_tensors(folder / _FILE).items():
            kind, _, lang = name.partition("/")
            if not lang or (kind != "query" and kind != "passage"):
                raise ValueError(f"{folder / _FILE}: found {name!r}, expected query/LANGUAGE or passage/...")
            means["query" if kind == "query" else "passage", lang] = mean
        return cls(means)
