"""NT-Xent: each view finds its partner among all other views of the batch."""

from torch import Tensor
from torch.nn import functional as F

from peace.losses import LOSSES, Loss
from peace.losses.contrast import of_all_views, partners, with_mass
from peace.losses.pairs import Pairs


@LOSSES.register("nt_xent")
class NTXent(Loss):
    """Normalised temperature-scaled cross entropy over 2N views.

    -log exp(sim(z_i, z_j)/τ) / Σ_{k≠i} exp(sim(z_i, z_k)/τ), sim the cosine, averaged over both directions of all
    pairs. It is computed in float32 at least, under autocast too. Models of a memory are further k.

    Reference:
        Chen et al. 2020, arXiv:2002.05709, equation 1; Schürholt et al. 2021, arXiv:2110.15288, equation 2.
    """

    def forward(self, pairs: Pairs) -> Tensor:
        """Returns the loss."""
        temperature = self.temperature()
        views, logits = of_all_views(pairs, temperature)
        logits = with_mass(logits, views, pairs.of_all, pairs.memory, temperature)
        return F.cross_entropy(logits, partners(pairs))
