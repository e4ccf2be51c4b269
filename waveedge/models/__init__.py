"""Network families: the published modules, and how to recognise them in a checkpoint."""

from waveedge.models.build import build, check_input_size, custom_network, spec_of
from waveedge.models.families.wavemix import WaveMix, WaveMixConfig
from waveedge.models.families.wtconvnext import WTConvNeXt, WTConvNeXtConfig
from waveedge.models.identify import identify

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
