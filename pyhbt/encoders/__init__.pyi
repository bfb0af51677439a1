from .base import Encoder as Encoder
from .base import Features as Features
from .load import load_encoder as load_encoder
from .means import LanguageMeans as LanguageMeans
from .means import TextKind as TextKind
from .ngram import NgramEncoder as NgramEncoder
from .transformer import TransformerEncoder as TransformerEncoder
