"""A Kaggle on 127.0.0.1: it speaks the API of the real client and really runs what is pushed.

    from loopback.server import Loopback

    with Loopback(folder, {"a-slug": (data_folder, solution_csv)}, mount="official") as kaggle:
        subprocess.run(["kaggle", "quota"], env={**os.environ, **kaggle.environment})

- `folder` keeps uploads, unpacked datasets, and runs with their `working/` and `log.jsonl`.
- `competitions` maps a slug to the folder of the competition's files and to the CSV of the test
  labels, which may lie in that folder and is never shown.
- The fields of `store.Settings` are given by keyword.
- `.environment` holds the variables that point a client here: server, credentials, HOME, TMPDIR.
- `.counts` tells how much there is of each kind, `.requests` lists the calls in order.
- `.connects` lists the addresses outside that somebody tried to reach; it should stay empty.

`sandbox.run_script` runs one script as Kaggle would, without a server; `sandbox.guarantees()` names
what the box can't guarantee on this machine. `SHIP_BOX=plain` in the environment asks for the box
without namespaces.
"""
