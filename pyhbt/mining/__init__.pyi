from .negatives import Mined as Mined
from .negatives import MiningStatistics as MiningStatistics
from .negatives import mine_negatives as mine_negatives
from .negatives import mine_to_file as mine_to_file
from .rules import MiningRules as MiningRules
