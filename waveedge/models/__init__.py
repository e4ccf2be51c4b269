"""Network families: the published modules, and how to recognise them in a checkpoint."""

from waveedge.models.build import build, check_input_size, custom_network, spec_of
from waveedge.models.identify import identify
from waveedge.models.wavemix import WaveMix, WaveMixConfig
from waveedge.models.wtconvnext import WTConvNeXt, WTConvNeXtConfig

__all__ = [
    "WTConvNeXt",
    "WTConvNeXtConfig",
    "WaveMix",
    "WaveMixConfig",
    "build",
    "check_input_size",
    "custom_network",
    "identify",
    "spec_of",
]
