"""Statistics of a study: contrasts of arms over seeds and clusters of queries, and what is made of them.

Arms are fixed; seeds and clusters of queries are two crossed random levels. Everything works on float64 arrays and
knows nothing of studies' files.
"""
