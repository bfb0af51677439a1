"""``pyhbt bitext``."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from pyhbt.cli.options import threads_option
from pyhbt.cli.terminal import say, set_up
from pyhbt.files import check_apart
from pyhbt.mining.bitext_files import BitextJob
from pyhbt.options import build, option

if TYPE_CHECKING:
    from pyhbt.cli.options import Given


@dataclass(frozen=True)
class BitextCommand:
    """Options of ``pyhbt bitext``."""

    job: BitextJob
    out: Path = option("Write score, source and target of each pair to this .tsv or .jsonl file.")
    threads: int | None = threads_option()


def bitext(given: Given) -> None:
    """Find sentences of two languages that translate one another, by the margins of their embeddings."""
    wanted = build(BitextCommand, given)
    set_up(wanted.threads)
    from pyhbt.mining.bitext_files import mine_bitext_files

    job, out = wanted.job, wanted.out
    for name in ("sources", "targets", "source_texts", "target_texts"):
        check_apart(**{name: getattr(job, name)}, out=out)
    done = mine_bitext_files(job, out, load_encoder=job.load_encoder if job.encoder else None, progress=True)
    say(f"{out}: {done.describe()}")
