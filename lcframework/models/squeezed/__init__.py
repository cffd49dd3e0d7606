"""Squeezed Attention (arXiv 2411.09688) for Hugging Face decoders: importing this registers
`attn_implementation="squeezed"`."""

from lcframework.models.squeezed.answers import Answer
from lcframework.models.squeezed.artifact import read_about
from lcframework.models.squeezed.attention import register
from lcframework.models.squeezed.context import SqueezedContext
from lcframework.models.squeezed.diagnosis import SelectionQuality, diagnose
from lcframework.models.squeezed.rules import Squeeze

register()

__all__ = ["Answer", "SelectionQuality", "Squeeze", "SqueezedContext", "diagnose", "read_about"]
