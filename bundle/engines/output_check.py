"""Handler of an evaluator that stops a run whose network returns no plausible numbers."""

from __future__ import annotations

from typing import Any

from ignite.engine import Engine
from monai.engines.utils import IterationEvents

from bundle.types import IMAGE, PRED
from bundle.utils import check_output


class OutputCheck:
    """Handler that checks each output of the network before postprocessing makes a mask of it.

    Raises:
        ValueError: if an output holds NaN, infinite or far too large numbers; names the image.
    """

    def attach(self, engine: Engine) -> None:
        """Attach to an evaluator of MONAI."""
        engine.register_events(IterationEvents.FORWARD_COMPLETED)  # known already, unless the engine is not MONAI's
        engine.add_event_handler(IterationEvents.FORWARD_COMPLETED, self._check)

    def _check(self, engine: Any) -> None:
        output = engine.state.output
        meta = getattr(output.get(IMAGE), "meta", {})
        names = meta.get("filename_or_obj", "")
        check_output(output[PRED], names if isinstance(names, str) else ", ".join(map(str, names)))
