"""Training under PENNI (Li et al., arXiv 2005.07133): convolutions are decomposed, and basis and coefficients
are trained in turns, then together.

The paper trains in turns, prunes the coefficients of each layer once, by a threshold, and then trains for 100
epochs. Here, the budget and the schedule are those of all other schemes. So coefficients are pruned at every
turn, more each time, over all layers at once and together with the weights of layers that are not decomposed.
A pruned coefficient may come back until the turns end. The first layer is not pruned.
"""

from __future__ import annotations

from typing import Literal

import numpy as np
import torch
from torch import nn

from pymodel.network.float import FloatArray, FloatConv, FloatWeighted
from pymodel.network.from_torch import Imported, import_torch
from pymodel.schemes.penni import BASIS, COEFFICIENTS, original_weights, penni_counts
from pymodel.training.decomposed import Decomposed, decompose_module, l1, plain, train_part
from pymodel.training.trainer import Trainer

L1 = 1e-4  # weight of the sum of the magnitudes of all coefficients in the loss


class PenniTrainer(Trainer):
    """From plan to plan, the coefficients (under an l1 penalty) and the basis kernels learn in turns. After
    pruning has ended, both learn.
    """

    def prepared(self) -> nn.Module:
        return decompose_module(self.task.module, skip=self.task.keep)

    def runnable(self) -> nn.Module:
        return plain(self.module)

    def paths(self, imported: Imported) -> dict[str, str]:
        """The basis kernels are shared, and a plane is pruned only with its last coefficient. So they have no
        parameter here.
        """
        found = {}
        for name, path in imported.weights.items():
            if name.endswith(COEFFICIENTS):
                found[name] = name
            elif not name.endswith(BASIS):
                found[name] = path
        return found

    def matrices(self) -> tuple[dict[str, FloatArray], dict[str, FloatArray]]:
        weights, saliencies = super().matrices()
        whole = import_torch(plain(self.module, whole=True), self.task.input_shape, self.task.name)
        for layer in whole.network.layers:
            if layer.name.endswith(BASIS) and isinstance(layer, FloatConv):
                matrix = layer.weight.reshape(len(layer.weight), -1)
                # no saliency: it stays or is pruned with the coefficients, whose saliency decides
                weights[layer.name], saliencies[layer.name] = matrix, np.zeros(matrix.shape)
        return weights, saliencies

    def turn(self) -> Literal["coefficients", "basis", "both"]:
        """The part that learns in the next step."""
        done = self.step / max(1, self.steps) / self.budget.pruning if self.budget.pruning else 1.0
        if done >= 1:
            return "both"
        return "basis" if int(done * self.budget.replans) % 2 else "coefficients"

    def loss(self, inputs: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        turn = self.turn()
        train_part(self.module, turn)
        found = super().loss(inputs, labels)
        return found + L1 * l1(self.module) if turn == "coefficients" else found

    @property
    def weights(self) -> int:
        return original_weights([one for part in self.parts().values() for one in part.weights])

    def figures(self) -> dict[str, float]:
        """Shares of parameters and operations that are pruned, of all convolutions and linear layers, counted
        by `penni_counts`.
        """
        parts = dict(self.module.named_modules())
        parameters, flops, all_parameters, all_flops = 0, 0, 0, 0
        imported = import_torch(self.runnable(), self.task.input_shape, self.task.name)
        for layer in imported.network.layers:
            _, rows, columns = self.skeleton.shapes[layer.name]
            stem = parts.get(layer.name.removesuffix(COEFFICIENTS))
            if layer.name.endswith(COEFFICIENTS) and isinstance(stem, Decomposed):
                count = penni_counts(stem.coefficients.detach().numpy(), stem.basis.shape[1], rows * columns)
                parameters, flops = parameters + count.parameters, flops + count.flops
                all_parameters, all_flops = (
                    all_parameters + count.original_parameters,
                    all_flops + count.original_flops,
                )
            elif isinstance(layer, FloatWeighted) and not layer.name.endswith(BASIS):
                kept, whole = int((layer.weight != 0).sum()), layer.weight.size
                parameters, flops = parameters + kept, flops + kept * rows * columns
                all_parameters, all_flops = (
                    all_parameters + whole,
                    all_flops + whole * rows * columns,
                )
        return {"parameters_pruned": 1 - parameters / all_parameters, "flops_pruned": 1 - flops / all_flops}
