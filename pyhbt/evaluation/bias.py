"""Per-query measures of language bias, from ranks and lists of one multilingual pool.

Shapes: ``ranks`` int64 (n, t), the 1-based ranks of the up to t relevant passages of each of n queries, 0 where a
query has fewer; ``gains`` (n, t), the relevance of the same passages; ``langs`` int64 (n, t), their languages,
numbered from 0. Every measure returns float64 (n,), NaN for queries that it says nothing about. Cost O(n t log t)
where nothing else is said.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray
from scipy import sparse, special

from pyhbt.arguments import check_at_least
from pyhbt.evaluation.metrics import Gains, Ranks, Values, ratio

Langs = NDArray[np.int64]


def rank_distance(ranks: Ranks, langs: Langs) -> Values:
    """How far apart the translations of one answer are ranked: a measure of language bias, 0 at best.

    RD(q) = max over languages of rank(d_l) - min over languages of rank(d_l), where d_l is the best-ranked
    relevant passage in language l: arXiv 2408.10536, section 4, after Huang et al. 2023. NaN for queries with
    relevant passages in fewer than two languages.
    """
    row, column = np.nonzero(ranks > 0)
    best = np.full((len(ranks), langs.max(initial=-1) + 1), np.inf)
    np.minimum.at(best, (row, langs[row, column]), ranks[row, column])
    found = np.isfinite(best)
    worst = np.where(found, best, -np.inf).max(axis=1, initial=-np.inf)
    distance = np.full(len(ranks), np.nan)
    np.subtract(worst, best.min(axis=1, initial=np.inf), out=distance, where=found.sum(axis=1) >= 2)
    return distance


def max_rank(ranks: Ranks, langs: Langs) -> Values:
    """Max@R: the worst rank of a relevant passage, how far to read to have every translation of the answer.

    At best the number of relevant passages. arXiv 2604.05684 (ICLR 2026); the rank itself, on no logarithmic scale.
    NaN for queries with relevant passages in fewer than two languages.
    """
    _, languages = _by_language(ranks > 0, langs)
    worst = ranks.max(axis=1, initial=0).astype(np.float64)
    return np.where(languages >= 2, worst, np.nan)


def peer(
    ranks: Ranks, gains: Gains, langs: Langs, cutoff: int, weights: Mapping[float, float] | None = None
) -> Values:
    """PEER@k, the probability of equal expected rank over languages: 1 is fair, 0 is not. arXiv 2405.00978.

    For each relevance level, the p-value of a Kruskal-Wallis test over its passages by language: those
    within the cutoff in their order, the other relevant ones tied behind them. p is 1 with fewer than two languages
    and where no passage is within the cutoff. PEER is the sum over levels of weight times p, to which a level that
    a query lacks adds nothing; without ``weights``, the mean p of the query's levels above 0. Columns of gain 0, if
    there are any, are non-relevant passages; they count within the cutoff.

    The test ranks the passages of a level among themselves, as Kruskal and Wallis do. The code of PEER's authors
    (peer_measure 0.0.1) takes positions in the run instead; the two agree where the level fills the first places
    and these are within the cutoff.

    Raises:
        ValueError: a cutoff below 1, or weights that do not sum to 1.
    """
    check_at_least("cutoff", cutoff, 1)
    if weights is not None and not np.isclose(sum(weights.values()), 1.0):
        raise ValueError(f"weights: found a sum of {sum(weights.values()):g}, expected 1")
    present = ranks > 0
    total, levels = np.zeros(len(ranks)), np.zeros(len(ranks))
    for level in np.unique(gains[present]):
        weight = float(level > 0) if weights is None else weights.get(float(level), 0.0)
        here = present & (gains == level)
        within = here & (ranks <= cutoff)
        has = here.any(axis=1)
        p = _kruskal_wallis(ranks, within, here if level > 0 else within, langs)
        total += np.where(has, weight * p, 0.0)
        levels += has & (level > 0)
    if weights is not None:
        return np.where(present.any(axis=1), total, np.nan)
    return ratio(total, levels, np.nan)


def peer_depends_on_ranks(gains: Gains, langs: Langs) -> NDArray[np.bool_]:
    """Whether the order of its relevant passages can change a query's :func:`peer`, bool (n,).

    It can where two languages have passages of one level above 0 and one of them has two. With one passage a
    language, as in parallel sets, H is t - 1 for every order and p a constant, 0.44 for 11 languages, or 1 where
    none is within the cutoff.
    """
    depends = np.zeros(len(gains), dtype=np.bool_)
    for level in np.unique(gains[gains > 0]):
        most, languages = _by_language(gains == level, langs)
        depends |= (languages >= 2) & (most >= 2)
    return depends


def mean_rank_correlation(
    lists: NDArray[np.int64], questions: NDArray[np.int64], langs: NDArray[np.int64]
) -> Values:
    """MRC@k: mean Spearman correlation of a query's ranking with those of its translations, from -1 to 1.

    ``lists`` int64 (n, k) are the first k passages of each query, best first; ``questions`` (n,) number what each
    query asks and ``langs`` (n,) its language. Queries of one question in other languages are translations.
    1 says that the language of a query changes nothing. Mean Rank Correlation, arXiv 2509.06195.

    Two lists are compared over the passages that are in either; those missing from a list tie behind its k. So
    lists without a common passage score -6 k^2 / (7 k^2 - 1), about -0.86. NaN for queries without a translation,
    and where there is but one passage.

    Cost O(n k log(n k) + s), where s counts common passages over all pairs of translations, at most k a pair.

    Raises:
        ValueError: shapes that do not fit, no column, or a passage below 0, which is how a short list is padded.
    """
    if lists.ndim != 2 or lists.shape[1] < 1:
        raise ValueError(f"lists: shape {lists.shape}, expected (n, k), k at least 1")
    for name, array in (("questions", questions), ("langs", langs)):
        if array.shape != (len(lists),):
            raise ValueError(f"{name}: shape {array.shape}, expected ({len(lists)},)")
    if lists.min(initial=0) < 0:
        raise ValueError(f"lists: found passage {lists.min()}, expected {lists.shape[1]} passages a query")
    n, k = lists.shape
    question = np.unique(questions, return_inverse=True)[1]
    # A column for each passage of each question: products of rows are sums over what two translations both list.
    keys = question[:, None] * (lists.max(initial=0) + 1) + lists
    columns = np.unique(keys, return_inverse=True)[1].reshape(-1)
    starts, shape = np.arange(0, n * k + 1, k), (n, int(columns.max(initial=0)) + 1)
    listed = sparse.csr_array((np.ones(n * k), columns, starts), shape=shape)
    ranked = sparse.csr_array((np.tile(np.arange(1.0, k + 1), n), columns, starts), shape=shape)
    sums = [(a @ b.T).tocoo() for a in (listed, ranked) for b in (listed, ranked)]
    first, second = sums[0].coords
    translations = langs[first] != langs[second]
    first = first[translations]
    common, theirs, own, products = (matrix.data[translations] for matrix in sums)
    correlation = _spearman(k, common, own + theirs, products)
    apart = float(_spearman(k, np.zeros(1), np.zeros(1), np.zeros(1))[0])
    pair = np.unique(np.stack([question, langs], axis=1), axis=0, return_inverse=True)[1].reshape(-1)
    others = np.bincount(question)[question] - np.bincount(pair)[pair]
    overlapping = np.bincount(first, minlength=n)
    total = np.bincount(first, weights=correlation, minlength=n) + (others - overlapping) * apart
    return ratio(total, others, np.nan)


def _spearman(k: int, common: Values, ranks: Values, products: Values) -> Values:
    """Spearman's rho of two lists of k over their union, from sums over the passages ``common`` to both.

    ``ranks`` sums both lists' ranks of these passages, ``products`` the products of the two ranks.
    """
    size = 2 * k - common
    behind = (k + size + 1) / 2  # mean of the ranks k + 1 ... size
    centre = size * ((size + 1) / 2) ** 2
    covariance = products + behind * (k * (k + 1) - ranks) - centre
    variance = k * (k + 1) * (2 * k + 1) / 6 + (k - common) * behind**2 - centre
    return ratio(covariance, np.where(size > 1, variance, 0.0), np.nan)


def _by_language(taken: NDArray[np.bool_], langs: Langs) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Of the passages ``taken`` (n, t): how many are in the commonest language, and in how many; int64 (n,)."""
    counts, _ = _sums_by_language(taken, np.zeros(taken.shape), langs)
    return counts.max(axis=1, initial=0), (counts > 0).sum(axis=1)


def _sums_by_language(
    taken: NDArray[np.bool_], values: Values, langs: Langs
) -> tuple[NDArray[np.int64], Values]:
    """Number and sum of the values (n, t) that are ``taken``, by row and language; both (n, languages)."""
    shape = (len(taken), int(langs.max(initial=-1)) + 1)
    row, column = np.nonzero(taken)
    cell, size = row * shape[1] + langs[row, column], shape[0] * shape[1]
    counts: NDArray[np.int64] = np.bincount(cell, minlength=size).reshape(shape)
    sums = np.bincount(cell, weights=values[row, column], minlength=size)
    return counts, sums.astype(np.float64).reshape(shape)


def _kruskal_wallis(
    ranks: Ranks, within: NDArray[np.bool_], taken: NDArray[np.bool_], langs: Langs
) -> Values:
    """p-value over each row's passages ``taken``, by language, those not ``within`` tied at the end.

    H = (N - 1) sum_l n_l (r_l - r)^2 / sum_d (r_d - r)^2, chi-squared with one degree of freedom less than there
    are languages: Kruskal and Wallis 1952, doi:10.1080/01621459.1952.10483441, in the form that allows for ties.
    """
    count, found = taken.sum(axis=1), within.sum(axis=1)
    order = np.argsort(np.where(within, ranks, np.iinfo(np.int64).max), axis=1, kind="stable")
    place = np.empty(ranks.shape)
    np.put_along_axis(place, order, np.arange(1.0, ranks.shape[1] + 1)[None, :], axis=1)
    tail = (found + count + 1) / 2  # mean of the places found + 1 ... count
    deviation = np.where(within, place, tail[:, None]) - ((count + 1) / 2)[:, None]
    sizes, sums = _sums_by_language(taken, deviation, langs)
    between = np.divide(sums**2, sizes, out=np.zeros(sums.shape), where=sizes > 0).sum(axis=1)
    everything = np.where(taken, deviation**2, 0.0).sum(axis=1)
    languages = (sizes > 0).sum(axis=1)
    testable = (languages >= 2) & (found > 0)
    h = np.divide((count - 1) * between, everything, out=np.zeros(len(ranks)), where=testable)
    p: Values = special.chdtrc(np.maximum(languages - 1, 1), h)
    return np.where(testable, p, 1.0)
