"""Ray nodes on this machine until standard input ends; the first line printed says where.

python nodes.py '{"folder": "/tmp/x", "port": 0, "nodes": [{}, {"CROSSMOD_FAULT": "…"}]}'

Each node has one core and its own environment variables.
"""

import json
import sys
from pathlib import Path

from ray.cluster_utils import Cluster


def main() -> None:
    wanted = json.loads(sys.argv[1])
    Path("/tmp/ray").mkdir(exist_ok=True)  # Ray says there which cluster started last
    cluster, raylets = Cluster(), []
    for number, variables in enumerate(wanted["nodes"]):
        ports = {} if number else {"gcs_server_port": wanted["port"]}
        node = cluster.add_node(
            num_cpus=1,
            node_ip_address="127.0.0.1",
            include_dashboard=False,
            temp_dir=wanted["folder"],
            env_vars=variables,
            **ports,
        )
        raylets.append(node.all_processes["raylet"][0].process.pid)
    found = {"address": cluster.address, "raylets": raylets}
    sys.stdout.write(json.dumps(found) + "\n")
    sys.stdout.flush()
    sys.stdin.read()
    cluster.shutdown()


main()
