"""Any network in one normal form, on a copy: what every rewrite and quantizer may rely on."""

from waveedge.normalise.copying import detached_copy
from waveedge.normalise.interface import check_inputs, flat_outputs
from waveedge.normalise.normalise import normalise, preserve

__all__ = ["check_inputs", "detached_copy", "flat_outputs", "normalise", "preserve"]
