"""What CPU workers of a mixed cluster offer: a resource of their own.

To name the workers of a task does not do: a worker that dies comes back under another address, and dask steals tasks
that are allowed elsewhere.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from distributed import WorkerPlugin

if TYPE_CHECKING:
    import distributed


class OffersCpu(WorkerPlugin):
    """Every worker, those that join later too, offers its threads, unless it has a GPU."""

    def __init__(self, offer: str, gpu: str) -> None:
        self.offer, self.gpu = offer, gpu

    async def setup(self, worker: distributed.Worker) -> None:
        if not worker.state.total_resources.get(self.gpu):
            await worker.set_resources(**{self.offer: worker.state.nthreads})


def offer_cpus(client: distributed.Client, offer: str, gpu: str) -> None:
    """Have the workers of a cluster offer `offer`, but for those that offer `gpu`."""
    client.register_plugin(OffersCpu(offer, gpu), name=f"yass-offers-{offer}")
