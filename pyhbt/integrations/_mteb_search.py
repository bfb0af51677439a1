"""MTEB's search wrapper, made to forget: a task that fails leaves no documents for the next one."""

from __future__ import annotations

from typing import Any

from mteb.models import SearchEncoderWrapper


class ForgettingSearchWrapper(SearchEncoderWrapper):
    """A ``SearchEncoderWrapper`` with an index backend, whose every indexing begins empty.

    MTEB's own clears the backend at the end of a search that succeeds, so that documents of a task that failed between
    the two, or of a subset that was indexed and never searched, would be found by the next.
    """

    def index(self, corpus: Any, **options: Any) -> None:
        """Index ``corpus`` alone; options are MTEB's. Where it fails, nothing stays."""
        self._forget()
        try:
            super().index(corpus, **options)
        except BaseException:
            self._forget()
            raise

    def search(self, queries: Any, **options: Any) -> Any:
        """The documents of each query, as MTEB's own; options are MTEB's. Where it fails, nothing stays."""
        try:
            return super().search(queries, **options)
        except BaseException:
            self._forget()
            raise

    def _forget(self) -> None:
        self.task_corpus = None
        if self.index_backend is not None:
            self.index_backend.clear()
