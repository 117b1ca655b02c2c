"""An image on the array model, held against the integer reference."""

from __future__ import annotations

from pymodel.machine.image import Image
from pymodel.machine.model import Machine
from pymodel.network.integer import INPUT, Network
from pymodel.network.reference import Int8Array, evaluate


def loaded(image: Image, images: Int8Array) -> Machine:
    """The array model in its state before a run, for a batch int8 [N, C, H, W]."""
    machine = Machine(image.config, len(images))
    machine.load(image.sections)
    machine.load_tensor(image.placements[INPUT], images)
    return machine


def wrong_bytes(network: Network, image: Image, images: Int8Array) -> dict[str, int]:
    """How many bytes of each plane that is written differ from the reference, by layer; layers without any
    are left out. `images`: int8 [N, C, H, W].
    """
    machine = loaded(image, images)
    machine.run(image.run_start, stream=image.run_stream)
    if image.reuse:
        machine.load_tensor(image.placements[INPUT], images)
    wanted = evaluate(network, images)
    dump = machine.run(image.dump_start, stream=image.dump_stream)
    found = {
        name: int((words != image.placements[name].to_words(wanted[name])).sum())
        for name, words in image.dumped(dump.packets).items()
    }
    return {name: count for name, count in found.items() if count}
