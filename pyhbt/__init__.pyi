__version__: str

from .data import Pair as Pair
from .data import PairSet as PairSet
from .data import ParallelItem as ParallelItem
from .data import RetrievalSet as RetrievalSet
from .data import StudyData as StudyData
from .encoders import Encoder as Encoder
from .encoders import NgramEncoder as NgramEncoder
from .encoders import TransformerEncoder as TransformerEncoder
from .encoders import load_encoder as load_encoder
from .evaluation import evaluate as evaluate
from .ops import SearchFilter as SearchFilter
from .ops import contrastive_loss as contrastive_loss
from .ops import ranks as ranks
from .ops import search as search
from .ops import search_range as search_range
from .retrieval import ExactIndex as ExactIndex
from .retrieval import JoinedIndex as JoinedIndex
from .retrieval import knn as knn
from .retrieval import semantic_search as semantic_search
from .retrieval import sharded_search as sharded_search
from .study import StudyConfig as StudyConfig
from .study import run_study as run_study
from .training import HybridBatchSampler as HybridBatchSampler
from .training import HybridTrainer as HybridTrainer
from .training import Objective as Objective
from .training import RatioSchedule as RatioSchedule
