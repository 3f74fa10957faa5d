"""Where the work runs: threads, one thread, local processes, a cluster; and how much memory it may take.

Every part of a stage is one job: its own small graph, run from reading to writing by dask's synchronous
scheduler in one thread of one worker. So at most one chunk per worker is in memory, nothing travels but the
graph, and the result is the same wherever it ran.
"""

from yass_dask.runtime.executor import Executor, choose
from yass_dask.runtime.plan import Plan, plan
from yass_dask.runtime.threads import available_cores, one_thread

__all__ = ["Executor", "Plan", "available_cores", "choose", "one_thread", "plan"]
