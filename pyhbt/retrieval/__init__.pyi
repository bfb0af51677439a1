from .compat import knn as knn
from .compat import semantic_search as semantic_search
from .index import ExactIndex as ExactIndex
from .run import SearchJob as SearchJob
from .run import SearchSummary as SearchSummary
from .run import search_to_run as search_to_run
from .sharded import sharded_search as sharded_search
from .vectors import encode_file as encode_file
