"""What the manifests of this folder promise, checked without a cluster.

Guarantees: every rule is also fed a manifest that breaks it, so that a rule which sees nothing any more fails. Needs
PyYAML. Exits 0 if all rules hold, else 1 with a line for each breach.
"""

import copy
import pathlib
import sys

import yaml

ANCHOR_CLASS = "lethe-anchor"
SOCKET = pathlib.PurePath("/run/lethe/metrics.sock")
# Alive is less than ready: a vault that stopped after a failed write waits for a person, not for a restart.
PROBES = {"startupProbe": "readyz", "readinessProbe": "readyz", "livenessProbe": "livez"}
# `lethed probe` answers within 5 s, also when the daemon hangs.
PROBE_SECS_MIN = 6
# The restricted profile of the Pod Security Standards, as far as these manifests touch it.
VOLUMES = {"configMap", "csi", "downwardAPI", "emptyDir", "ephemeral", "persistentVolumeClaim", "projected", "secret"}


def containers(pod):
    return pod.get("initContainers", []) + pod["containers"]


def restricted(pod):
    """The profile, container by container."""
    shared = pod.get("securityContext", {})
    if shared.get("seccompProfile", {}).get("type") != "RuntimeDefault":
        yield "seccomp is not RuntimeDefault"
    if any(pod.get(name) for name in ("hostNetwork", "hostPID", "hostIPC")):
        yield "shares a namespace of the host"
    for volume in pod.get("volumes", []):
        if not set(volume) - {"name"} <= VOLUMES:
            yield f"volume {volume['name']} is of a kind that the profile forbids"
    for container in containers(pod):
        own = {**shared, **container.get("securityContext", {})}
        name = container["name"]
        if own.get("runAsNonRoot") is not True or own.get("runAsUser", 0) == 0:
            yield f"{name} may run as root"
        if own.get("allowPrivilegeEscalation") is not False:
            yield f"{name} may gain privileges"
        if own.get("capabilities", {}).get("drop") != ["ALL"] or own["capabilities"].get("add"):
            yield f"{name} keeps capabilities"
        if own.get("readOnlyRootFilesystem") is not True:
            yield f"{name} may write its root"


def bounded(pod):
    """Requests that equal limits make the pod Guaranteed: no swap, and last to be killed."""
    for container in containers(pod):
        resources = container.get("resources", {})
        limits = resources.get("limits", {})
        if not {"cpu", "memory"} <= set(limits) or resources.get("requests") != limits:
            yield f"{container['name']}: requests do not equal limits of cpu and memory"


def watched(pod):
    for container in containers(pod):
        if container["name"] == "lethed":
            for name, what in PROBES.items():
                probe = container.get(name, {})
                if probe.get("exec", {}).get("command") != ["lethed", "probe", "--socket", str(SOCKET), what]:
                    yield f"lethed's {name} does not ask for {what}"
                if probe.get("timeoutSeconds", 1) < PROBE_SECS_MIN:
                    yield f"lethed's {name} does not wait for an answer"
            mounts = [m for m in container.get("volumeMounts", []) if m["mountPath"] == str(SOCKET.parent)]
            volumes = {v["name"]: v for v in pod["volumes"]}
            if not any("emptyDir" in volumes[m["name"]] and not m.get("readOnly") for m in mounts):
                yield "lethed has no place for its socket"


def secrets_apart(pod):
    """The KEK's secret is seen by who copies it; the copy, data, anchor and socket by the daemon alone."""
    daemon = {"lethed"}
    may = {"kek-secret": {"kek"}, "kek": {"kek", "lethed"}, "data": daemon, "anchor": daemon, "run": daemon}
    for container in containers(pod):
        for mount in container.get("volumeMounts", []):
            if container["name"] not in may.get(mount["name"], {container["name"]}):
                yield f"{container['name']} sees {mount['name']}"
    if pod.get("automountServiceAccountToken") is not False:
        yield "has a service account's token"
    for volume in pod.get("volumes", []):
        if "secret" in volume and volume["secret"].get("defaultMode") != 0o400:
            yield f"{volume['name']} is not mounted 0400"
        if "emptyDir" in volume and volume["emptyDir"].get("medium") != "Memory":
            yield f"{volume['name']} is on a disk"


def graceful(pod):
    """20 s of calls and the close of the vault."""
    if pod.get("terminationGracePeriodSeconds", 0) < 60:
        yield "has less than 60 s to stop"


POD_RULES = (restricted, bounded, watched, secrets_apart, graceful)


def problems(documents):
    budgets = [d["spec"]["selector"] for d in documents if d["kind"] == "PodDisruptionBudget"]
    if not any(
        d["kind"] == "NetworkPolicy" and d["spec"] == {"podSelector": {}, "policyTypes": ["Ingress", "Egress"]}
        for d in documents
    ):
        yield "no network policy forbids everything"
    for document in documents:
        kind, name = document["kind"], document["metadata"]["name"]
        if kind == "Secret":
            yield f"{name}: a secret in a manifest"
        if kind != "StatefulSet":
            continue
        spec = document["spec"]
        if spec["replicas"] != 1:
            yield f"{name}: two daemons on one vault"
        if spec["selector"] not in budgets:
            yield f"{name}: no disruption budget"
        classes = {c["metadata"]["name"]: c["spec"].get("storageClassName") for c in spec["volumeClaimTemplates"]}
        if classes.get("anchor") != ANCHOR_CLASS:
            yield f"{name}: the anchor may be snapshot"
        for rule in POD_RULES:
            for problem in rule(spec["template"]["spec"]):
                yield f"{name}: {problem}"


def sets(documents):
    return [d for d in documents if d["kind"] == "StatefulSet"]


def pods(documents):
    return [d["spec"]["template"]["spec"] for d in sets(documents)]


def lethed(documents):
    return [c for pod in pods(documents) for c in containers(pod) if c["name"] == "lethed"]


RUN = {"name": "run", "mountPath": "/x"}
# Each breaks one rule of what is true of the manifests.
BREACHES = {
    "a root user": lambda d: pods(d)[0]["securityContext"].update(runAsUser=0),
    "no seccomp": lambda d: pods(d)[1]["securityContext"].pop("seccompProfile"),
    "the host's network": lambda d: pods(d)[0].update(hostNetwork=True),
    "a folder of the host": lambda d: pods(d)[0]["volumes"].append({"name": "x", "hostPath": {"path": "/"}}),
    "a capability": lambda d: lethed(d)[0]["securityContext"]["capabilities"].update(add=["IPC_LOCK"]),
    "a writable root": lambda d: lethed(d)[1]["securityContext"].pop("readOnlyRootFilesystem"),
    "escalation": lambda d: lethed(d)[1]["securityContext"].update(allowPrivilegeEscalation=True),
    "no limit": lambda d: lethed(d)[0]["resources"]["limits"].pop("memory"),
    "no probe": lambda d: lethed(d)[1].pop("livenessProbe"),
    "a probe of the port": lambda d: lethed(d)[0].update(readinessProbe={"tcpSocket": {"port": 7443}}),
    "a restart of what is not ready": lambda d: lethed(d)[0].update(livenessProbe=lethed(d)[0]["readinessProbe"]),
    "an impatient probe": lambda d: lethed(d)[1]["livenessProbe"].update(timeoutSeconds=5),
    "no place for the socket": lambda d: lethed(d)[0]["volumeMounts"].pop(),
    "a socket that cannot be made": lambda d: lethed(d)[1]["volumeMounts"][-1].update(readOnly=True),
    "the socket in a program": lambda d: pods(d)[0]["containers"][0]["volumeMounts"].append(RUN),
    "the KEK in a program": lambda d: pods(d)[0]["containers"][0]["volumeMounts"].append({**RUN, "name": "kek"}),
    "a token": lambda d: pods(d)[0].pop("automountServiceAccountToken"),
    "the KEK on a disk": lambda d: [v["emptyDir"].clear() for v in pods(d)[0]["volumes"] if v["name"] == "kek"],
    "a readable secret": lambda d: [v["secret"].clear() for v in pods(d)[1]["volumes"] if "secret" in v],
    "a hasty stop": lambda d: pods(d)[0].update(terminationGracePeriodSeconds=30),
    "two replicas": lambda d: sets(d)[0]["spec"].update(replicas=2),
    "an anchor that can be snapshot": lambda d: sets(d)[1]["spec"]["volumeClaimTemplates"][1]["spec"].clear(),
    "no budget": lambda d: d.remove(next(x for x in d if x["kind"] == "PodDisruptionBudget")),
    "an open network": lambda d: d.remove(next(x for x in d if x["kind"] == "NetworkPolicy")),
    "a live secret": lambda d: d.append({"kind": "Secret", "metadata": {"name": "x"}}),
}


def main():
    folder = pathlib.Path(__file__).parent
    documents = [d for path in sorted(folder.glob("*.yaml")) for d in yaml.safe_load_all(path.read_text()) if d]
    found = list(problems(documents))
    for breach, spoil in BREACHES.items():
        spoilt = copy.deepcopy(documents)
        spoil(spoilt)
        if not list(problems(spoilt)):
            found.append(f"no rule sees {breach}")
    for line in found:
        print(line)
    print(f"{len(documents)} documents, {len(BREACHES)} breaches tried, {len(found)} problems")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
