"""Several networks in one simulation, each loaded after a reset: every output plane and every counter."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import cocotb

from pymodel.machine.image import Image
from pymodel.network import network_file
from tb.common import settings
from tb.common.seeding import numpy_rng
from tb.common.settings import IMAGE_FILE, NETWORK_FILE
from tb.plain.check import Outcome, expect, run_image
from tb.plain.host import Host


@cocotb.test()
async def networks_one_by_one(dut: Any) -> None:
    """`network` of the settings is a folder with a folder for each of them. Reports what is wrong with each,
    or an empty text.
    """
    config = settings.config()
    host = Host(dut, config, numpy_rng())
    said = []
    for folder in sorted(Path(settings.get().network).iterdir()):
        data, image = network_file.load(folder / NETWORK_FILE), Image.load(folder / IMAGE_FILE, config)
        expected, outcome = expect(image, data.network, data.images), Outcome()
        await host.reset()
        await host.load(image.packets())
        for index in range(len(data.images)):
            await run_image(host, image, expected, index, outcome)
        try:
            outcome.check()
            said.append("")
        except AssertionError as error:
            said.append(" ".join(str(error).splitlines()[:2]))
        settings.report({"networks": [{"wrong": why} for why in said]})
    assert not any(said), [f"{number}: {why}" for number, why in enumerate(said) if why]
