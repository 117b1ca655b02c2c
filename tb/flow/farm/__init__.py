"""Where runs are done: on this machine, on a batch system, or on the workers of a Dask scheduler.

`choice.py` reads FARM and FARM_OPTIONS. `crew.py` hands calls to hands, and has them done again where a hand
is lost. `local.py` has the hands of this machine, `dask_hands.py` those of a Dask scheduler; `worker.py` is
what runs there. `clusters.py` starts the jobs of a batch system. Only `dask_hands.py` and `clusters.py` need
the packages of the group `farm`; they are imported only when such a farm is used.
"""
