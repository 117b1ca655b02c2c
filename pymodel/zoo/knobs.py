"""What the programs of the test `random` have more of, and how they are drawn."""

from __future__ import annotations

from typing import Annotated

import numpy as np
from pydantic import Field

from pymodel.compiler.compile import PACKINGS
from pymodel.machine.config import ArrayConfig
from pymodel.machine.errors import TatamiError
from pymodel.machine.files import Fields, checked
from pymodel.machine.image import Image
from pymodel.network.integer import Network
from pymodel.zoo.random_network import LAYERS, REUSED, STREAMED, random_program

Share = Annotated[float, Field(strict=False, ge=0, le=1)]  # may come as text


class Knobs(Fields):
    """`layer`: one of `LAYERS`, the type of most layers. `packing`: one of `PACKINGS`, that of all layers.
    `reused`, `streamed`: the share of the programs whose tensors use words again, and of those that come over
    the load stream in part. What is None is drawn as ever.
    """

    layer: str | None = None
    packing: str | None = None
    reused: Share | None = None
    streamed: Share | None = None

    @staticmethod
    def of(text: str) -> Knobs:
        """From a text such as `layer=add,reused=1`. Raises `TatamiError` that names the knob and its
        limit.
        """
        given = {}
        for part in filter(None, text.split(",")):
            name, equals, value = part.partition("=")
            if not equals or not value:
                raise TatamiError(f"KNOBS '{part}' must be knob=value")
            given[name] = value
        knobs = checked(Knobs, given, f"KNOBS '{text}'")
        for name, known in (("layer", LAYERS), ("packing", PACKINGS)):
            value = getattr(knobs, name)
            if value is not None and value not in known:
                raise TatamiError(f"KNOBS '{text}': {name} '{value}' is unknown; valid: {', '.join(known)}")
        return knobs

    def __str__(self) -> str:
        given = self.model_dump(exclude_none=True).items()
        return ",".join(
            f"{name}={value if isinstance(value, str) else f'{value:g}'}" for name, value in given
        )

    def program(self, rng: np.random.Generator, config: ArrayConfig) -> tuple[Network, Image]:
        """A random network and its image."""
        reused = REUSED if self.reused is None else self.reused
        streamed = STREAMED if self.streamed is None else self.streamed
        return random_program(rng, config, self.packing, reused, streamed, self.layer)
