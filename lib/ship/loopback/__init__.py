"""A Kaggle on 127.0.0.1: it speaks the API of the real client and really runs what is pushed.

    from ship.loopback import Loopback

    with Loopback(folder, {"a-slug": (data_folder, solution_csv)}, mount="official") as kaggle:
        subprocess.run(["kaggle", "quota"], env={**os.environ, **kaggle.environment})

- `folder` keeps the server's memory (`state.json`, uploads, unpacked datasets, runs with their
  `working/` and `log.jsonl`): a server started again on the same folder goes on from there.
- `competitions`: slug -> (folder of its files, CSV of the test labels, which may lie in that folder
  and is never shown). `mount`: one of `box.LAYOUTS` ("official", "conflict", "typed").
- Settings by keyword: `user="alice"`; `key`, `token` (None: any is accepted); `port=0`;
  `dataset_delay`, `queue_delay`, `scoring_delay` in seconds; `daily_submissions=5`;
  `gpu_sessions=2`; `accepted=True` (the competitions' rules).
- `.environment`: variables to lay over the client's `os.environ`: server, credentials, HOME,
  TMPDIR.
- `.counts`: accepted effects so far: `datasets`, `dataset_versions`, `kernel_versions`,
  `kernel_runs`, `submissions`.
- `.requests`: the calls in order, each with `name`, `method`, `path`, `body` (JSON), `status`.
- `.connects`: targets outside that somebody tried to reach; empty when all is well.
- `.faults.add(call, kind, times=1, after=0, **details)`: see `faults.Faults.add`. Calls are the
  methods' names ("SaveKernel"), "PUT blob", "GET output", "GET log", "GET data", "GET archive",
  "*".
- `.url`, `.file_url(kind, name)`; `.store.state` is the memory itself, `.kernels`, `.datasets`,
  `.competitions` the services (`kernels.output_of(version)`, `kernels.log_of(version)`).

`box.run_script` runs one script in Kaggle's surroundings without a server; `box.guarantees()` names
what those can't promise on this machine. `SHIP_BOX=plain` in the environment asks for the fallback.
"""

from .server import Loopback

__all__ = ["Loopback"]
