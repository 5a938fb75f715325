"""Pod and Binding, v1 (pkg/apis/core/validation `ValidatePod…`), as deep as a user notices.

Left out, so accepted as they are: security contexts beyond their types, affinity, topology spread, resource claims,
container lifecycle hooks and the volume sources of storage that is not served.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from sync.api import quantity
from sync.api.status import Cause
from sync.api.validation.fields import (
    choice,
    duplicate,
    each_invalid,
    forbidden,
    immutable,
    invalid,
    not_found,
    not_supported,
    required,
)
from sync.api.validation.metadata import labels, metadata, metadata_update
from sync.api.validation.names import (
    address,
    between,
    dns_label,
    dns_subdomain,
    environment_name,
    label_value,
    parse_address,
    port_name,
    port_number,
    qualified_name,
)
from sync.api.validation.service import PROTOCOLS

Json = Mapping[str, Any]

INT32 = 2**31 - 1
EFFECTS = ("NoSchedule", "PreferNoSchedule", "NoExecute")
UPDATABLE = (
    "`spec.containers[*].image`",
    "`spec.initContainers[*].image`",
    "`spec.activeDeadlineSeconds`",
    "`spec.tolerations` (only additions to existing tolerations)",
    "`spec.terminationGracePeriodSeconds` (allow it to be set to 1 if it was previously negative)",
)


def pod(obj: Json, old: Json | None, subresource: str) -> list[Cause]:
    if old is None:
        found = metadata(obj["metadata"], namespaced=True) + _spec(obj["spec"])
        if obj["spec"].get("ephemeralContainers"):
            found.append(forbidden("spec.ephemeralContainers", "cannot be set on create"))
        if obj["spec"].get("nodeName") and obj["spec"].get("schedulingGates"):
            detail = "cannot be set until all schedulingGates have been cleared"
            found.append(forbidden("spec.nodeName", detail))
        return found
    found = metadata_update(obj["metadata"], old["metadata"])
    if subresource == "status":
        return found + _status(obj["status"], old["status"])
    return found + _spec(obj["spec"]) + _spec_update(obj["spec"], old["spec"])


def binding(obj: Json, old: Json | None, subresource: str) -> list[Cause]:
    target = obj["target"]
    found: list[Cause] = []
    if target.get("kind", "Node") != "Node":
        found.append(not_supported("target.kind", target["kind"], ("Node", "<empty>")))
    if not target.get("name"):
        found.append(required("target.name"))
    return found


def tolerations(values: Any, path: str) -> list[Cause]:
    found: list[Cause] = []
    for index, each in enumerate(values):
        at = f"{path}[{index}]"
        key, operator, value = each.get("key", ""), each.get("operator", ""), each.get("value", "")
        if key:
            found += each_invalid(f"{at}.key", key, qualified_name(key))
        elif operator != "Exists":
            detail = 'operator must be Exists when `key` is empty, which means "match all values and all keys"'
            found.append(invalid(f"{at}.operator", operator, detail))
        if "tolerationSeconds" in each and each.get("effect") != "NoExecute":
            detail = "effect must be 'NoExecute' when `tolerationSeconds` is set"
            found.append(invalid(f"{at}.effect", each.get("effect", ""), detail))
        if operator in ("", "Equal"):
            if wrong := label_value(value):
                found.append(invalid(f"{at}.operator", value, ";".join(wrong)))
        elif operator == "Exists":
            if value:
                found.append(invalid(f"{at}.operator", value, "value must be empty when `operator` is 'Exists'"))
        else:
            found.append(not_supported(f"{at}.operator", operator, ("Equal", "Exists")))
        if each.get("effect", "NoExecute") not in EFFECTS:
            found.append(not_supported(f"{at}.effect", each["effect"], EFFECTS))
    return found


def resource_amounts(amounts: Mapping[str, str], path: str) -> list[Cause]:
    """A list of resources: its names, and no negative amount."""
    found: list[Cause] = []
    for name, text in amounts.items():
        at = f"{path}.{name}"
        found += each_invalid(at, name, qualified_name(name))
        if quantity.parse(text).value < 0:
            found.append(invalid(at, text, "must be greater than or equal to 0"))
    return found


def _spec(spec: Json) -> list[Cause]:
    found: list[Cause] = []
    volumes = _volumes(spec.get("volumes") or ())
    found += volumes[1]
    found += _containers(spec.get("containers") or (), volumes[0], "spec.containers", needed=True)
    found += _containers(spec.get("initContainers") or (), volumes[0], "spec.initContainers")
    found += _names_across(spec)
    if spec.get("hostNetwork"):
        found += _host_ports(spec)
    found += choice("spec.restartPolicy", spec.get("restartPolicy"), ("Always", "OnFailure", "Never"))
    policies = ("ClusterFirstWithHostNet", "ClusterFirst", "Default", "None")
    found += choice("spec.dnsPolicy", spec.get("dnsPolicy"), policies)
    if spec.get("dnsPolicy") == "None" and not spec.get("dnsConfig", {}).get("nameservers"):
        detail = "must provide at least one DNS nameserver when `dnsPolicy` is None"
        found.append(required("spec.dnsConfig.nameservers" if "dnsConfig" in spec else "spec.dnsConfig", detail))
    for index, text in enumerate(spec.get("dnsConfig", {}).get("nameservers") or ()):
        found += address(f"spec.dnsConfig.nameservers[{index}]", text)
    found += labels(spec.get("nodeSelector", {}), "spec.nodeSelector")
    for index, each in enumerate(spec.get("imagePullSecrets") or ()):
        if not each.get("name"):
            found.append(required(f"spec.imagePullSecrets[{index}].name"))
    for name in ("serviceAccountName", "nodeName", "priorityClassName", "runtimeClassName"):
        if spec.get(name):
            found += each_invalid(f"spec.{name}", spec[name], dns_subdomain(spec[name]))
    deadline = spec.get("activeDeadlineSeconds", 1)
    if not 1 <= deadline <= INT32:
        found.append(invalid("spec.activeDeadlineSeconds", deadline, between(1, INT32)))
    for name in ("hostname", "subdomain"):
        if spec.get(name):
            found += each_invalid(f"spec.{name}", spec[name], dns_label(spec[name]))
    found += tolerations(spec.get("tolerations") or (), "spec.tolerations")
    for index, each in enumerate(spec.get("hostAliases") or ()):
        at = f"spec.hostAliases[{index}]"
        found += address(f"{at}.ip", each.get("ip", ""))
        for name in each.get("hostnames") or ():
            found += each_invalid(f"{at}.hostnames", name, dns_subdomain(name))
    for index, gate in enumerate(spec.get("readinessGates") or ()):
        kind = gate.get("conditionType", "")
        found += each_invalid(f"spec.readinessGates[{index}].conditionType", kind, qualified_name(kind))
    return found


def _volumes(volumes: Sequence[Json]) -> tuple[set[str], list[Cause]]:
    names: set[str] = set()
    found: list[Cause] = []
    for index, each in enumerate(volumes):
        at = f"spec.volumes[{index}]"
        name = each.get("name", "")
        wrong = [required(f"{at}.name")] if not name else each_invalid(f"{at}.name", name, dns_label(name))
        if name in names:
            wrong.append(duplicate(f"{at}.name", name))
        names.add(name)
        sources = [source for source in each if source != "name"]
        found += [forbidden(f"{at}.{extra}", "may not specify more than 1 volume type") for extra in sources[1:]]
        found += wrong
        if "hostPath" in each:
            path = each["hostPath"].get("path", "")
            if not path:
                found.append(required(f"{at}.hostPath.path"))
            elif ".." in path.split("/"):
                found.append(invalid(f"{at}.hostPath.path", path, "must not contain '..'"))
        if "configMap" in each and not each["configMap"].get("name"):
            found.append(required(f"{at}.configMap.name"))
        if "secret" in each and not each["secret"].get("secretName"):
            found.append(required(f"{at}.secret.secretName"))
        for source in ("configMap", "secret", "downwardAPI", "projected"):
            mode = each.get(source, {}).get("defaultMode", 0)
            if not 0 <= mode <= 0o777:
                detail = "must be a number between 0 and 0777 (octal), both inclusive"
                found.append(invalid(f"{at}.{source}.defaultMode", mode, detail))
    return names, found


def _containers(containers: Any, volumes: set[str], path: str, *, needed: bool = False) -> list[Cause]:
    if not containers:
        return [required(path)] if needed else []
    found: list[Cause] = []
    names: set[str] = set()
    for index, each in enumerate(containers):
        at = f"{path}[{index}]"
        name = each.get("name", "")
        found += each_invalid(f"{at}.name", name, dns_label(name)) if name else [required(f"{at}.name")]
        image = each.get("image", "")
        if not image:
            found.append(required(f"{at}.image"))
        found += choice(
            f"{at}.terminationMessagePolicy",
            each.get("terminationMessagePolicy"),
            ("File", "FallbackToLogsOnError"),
        )
        found += _container_ports(each.get("ports") or (), f"{at}.ports")
        found += _environment(each.get("env") or (), f"{at}.env")
        found += _mounts(each.get("volumeMounts") or (), volumes, f"{at}.volumeMounts")
        found += choice(f"{at}.imagePullPolicy", each.get("imagePullPolicy"), ("Always", "IfNotPresent", "Never"))
        found += _requirements(each.get("resources") or {}, f"{at}.resources")
        if name in names:
            found.append(duplicate(f"{at}.name", name))
        names.add(name)
        for probe in ("livenessProbe", "readinessProbe", "startupProbe"):
            if probe in each:
                found += _probe(each[probe], f"{at}.{probe}", once=probe != "readinessProbe")
        if image and image.strip() != image:
            found.append(invalid(f"{at}.image", image, "must not have leading or trailing whitespace"))
    return found + _host_port_conflicts(containers, path)


def _container_ports(ports: Any, path: str) -> list[Cause]:
    found: list[Cause] = []
    names: set[str] = set()
    for index, each in enumerate(ports):
        at = f"{path}[{index}]"
        if name := each.get("name", ""):
            if wrong := port_name(name):
                found += each_invalid(f"{at}.name", name, wrong)
            elif name in names:
                found.append(duplicate(f"{at}.name", name))
            names.add(name)
        number = each.get("containerPort", 0)
        if number:
            found += each_invalid(f"{at}.containerPort", number, port_number(number))
        else:
            found.append(required(f"{at}.containerPort"))
        if host := each.get("hostPort", 0):
            found += each_invalid(f"{at}.hostPort", host, port_number(host))
        found += choice(f"{at}.protocol", each.get("protocol"), PROTOCOLS)
    return found


def _host_port_conflicts(containers: Any, path: str) -> list[Cause]:
    found: list[Cause] = []
    seen: set[tuple[Any, ...]] = set()
    for index, each in enumerate(containers):
        for place, port in enumerate(each.get("ports") or ()):
            if host := port.get("hostPort", 0):
                key = (port.get("hostIP", ""), host, port.get("protocol"))
                if key in seen:
                    shown = f"{key[2]}/{key[0]}/{host}"
                    found.append(duplicate(f"{path}[{index}].ports[{place}].hostPort", shown))
                seen.add(key)
    return found


def _host_ports(spec: Json) -> list[Cause]:
    found: list[Cause] = []
    for field in ("containers", "initContainers"):
        for index, each in enumerate(spec.get(field) or ()):
            for place, port in enumerate(each.get("ports") or ()):
                if port.get("hostPort", 0) != port.get("containerPort", 0):
                    at = f"spec.{field}[{index}].ports[{place}].containerPort"
                    shown = port.get("containerPort", 0)
                    found.append(invalid(at, shown, "must match `hostPort` when `hostNetwork` is true"))
    return found


def _environment(variables: Any, path: str) -> list[Cause]:
    found: list[Cause] = []
    for index, each in enumerate(variables):
        at = f"{path}[{index}]"
        name = each.get("name", "")
        found += each_invalid(f"{at}.name", name, environment_name(name)) if name else [required(f"{at}.name")]
        source = each.get("valueFrom")
        if source is None:
            continue
        if not source:
            detail = (
                "must specify one of: `fieldRef`, `resourceFieldRef`, `configMapKeyRef`, `secretKeyRef` or `fileKeyRef`"
            )
            found.append(invalid(f"{at}.valueFrom", "", detail))
        elif each.get("value"):
            found.append(invalid(f"{at}.valueFrom", "", "may not be specified when `value` is not empty"))
        elif len(source) > 1:
            found.append(invalid(f"{at}.valueFrom", "", "may not have more than one field specified at a time"))
    return found


def _mounts(mounts: Any, volumes: set[str], path: str) -> list[Cause]:
    found: list[Cause] = []
    places: set[str] = set()
    for index, each in enumerate(mounts):
        at = f"{path}[{index}]"
        name, place = each.get("name", ""), each.get("mountPath", "")
        if not name:
            found.append(required(f"{at}.name"))
        if name not in volumes:
            found.append(not_found(f"{at}.name", name))
        if not place:
            found.append(required(f"{at}.mountPath"))
        if place in places:
            found.append(invalid(f"{at}.mountPath", place, "must be unique"))
        places.add(place)
    return found


def _requirements(resources: Json, path: str) -> list[Cause]:
    limits, requests = resources.get("limits", {}), resources.get("requests", {})
    found = resource_amounts(limits, f"{path}.limits") + resource_amounts(requests, f"{path}.requests")
    for name, text in requests.items():
        if name in limits and quantity.parse(text).value > quantity.parse(limits[name]).value:
            detail = f"must be less than or equal to {name} limit of {limits[name]}"
            found.append(invalid(f"{path}.requests", text, detail))
    return found


def _probe(probe: Json, path: str, *, once: bool) -> list[Cause]:
    found: list[Cause] = []
    ways = [name for name in ("exec", "httpGet", "tcpSocket", "grpc") if name in probe]
    if not ways:
        found.append(required(path, "must specify a handler type"))
    found += [forbidden(f"{path}.{extra}", "may not specify more than 1 handler type") for extra in ways[1:]]
    for name in ways:
        port = probe[name].get("port")
        if port is not None:
            wrong = port_number(port) if isinstance(port, int) else port_name(port)
            found += each_invalid(f"{path}.{name}.port", port, wrong)
    for name in ("initialDelaySeconds", "timeoutSeconds", "periodSeconds", "successThreshold", "failureThreshold"):
        if probe.get(name, 0) < 0:
            found.append(invalid(f"{path}.{name}", probe[name], "must be greater than or equal to 0"))
    if once and probe.get("successThreshold", 1) != 1:
        found.append(invalid(f"{path}.successThreshold", probe["successThreshold"], "must be 1"))
    return found


def _names_across(spec: Json) -> list[Cause]:
    """An init container may not be called as another container."""
    names = [each.get("name") for each in spec.get("containers") or ()]
    found: list[Cause] = []
    for index, each in enumerate(spec.get("initContainers") or ()):
        if each.get("name") and each["name"] in names:
            found.append(duplicate(f"spec.initContainers[{index}].name", each["name"]))
        names.append(each.get("name"))
    return found


def _spec_update(spec: Json, old: Json) -> list[Cause]:
    for field in ("containers", "initContainers"):
        now, before = spec.get(field) or (), old.get(field) or ()
        if len(now) != len(before):
            return [forbidden(f"spec.{field}", "pod updates may not add or remove containers")]
    found: list[Cause] = []
    at = "spec.activeDeadlineSeconds"
    deadline, earlier = spec.get("activeDeadlineSeconds"), old.get("activeDeadlineSeconds")
    if deadline is None and earlier is not None:
        found.append(invalid(at, None, "must not update from a positive integer to nil value"))
    elif deadline is not None and earlier is not None and deadline > earlier:
        return [*found, invalid(at, deadline, "must be less than or equal to previous value")]
    kept = [_without_seconds(each) for each in spec.get("tolerations") or ()]
    if any(_without_seconds(each) not in kept for each in old.get("tolerations") or ()):
        detail = "existing toleration can not be modified except its tolerationSeconds"
        found.append(forbidden("spec.tolerations", detail))
    gates = {each.get("name") for each in old.get("schedulingGates") or ()}
    if added := [each for each in spec.get("schedulingGates") or () if each.get("name") not in gates]:
        detail = f"only deletion is allowed, but found new scheduling gate '{added[0].get('name')}'"
        found.append(forbidden("spec.schedulingGates", detail))
    if _fixed(spec, old) != _fixed(old, old):
        said = f"pod updates may not change fields other than {','.join(UPDATABLE)}\n"
        found.append(forbidden("spec", said + "\n".join(_differences(_fixed(old, old), _fixed(spec, old), ""))))
    return found


def _without_seconds(toleration: Json) -> dict[str, Any]:
    return {name: value for name, value in toleration.items() if name != "tolerationSeconds"}


def _fixed(spec: Json, old: Json) -> dict[str, Any]:
    """The part of a spec that never changes."""
    fixed = dict(copy.deepcopy(dict(spec)))
    for field in ("containers", "initContainers"):
        for each in fixed.get(field) or ():
            each.pop("image", None)
            each.pop("resources", None) if each.get("resources") == {} else None
    for name in ("activeDeadlineSeconds", "tolerations", "schedulingGates"):
        fixed.pop(name, None)
    if old.get("terminationGracePeriodSeconds", 0) < 0 and fixed.get("terminationGracePeriodSeconds") == 1:
        fixed["terminationGracePeriodSeconds"] = old["terminationGracePeriodSeconds"]
    if old.get("schedulingGates"):  # a pod that waits may still be given to other nodes
        fixed.pop("nodeSelector", None)
        fixed.pop("affinity", None)
    return fixed


def _differences(old: Any, new: Any, path: str) -> Iterator[str]:
    if isinstance(old, dict) and isinstance(new, dict):
        for name in sorted(old.keys() | new.keys()):
            yield from _differences(old.get(name), new.get(name), f"{path}.{name}" if path else name)
    elif isinstance(old, list) and isinstance(new, list) and len(old) == len(new):
        for index, (was, now) in enumerate(zip(old, new, strict=True)):
            yield from _differences(was, now, f"{path}[{index}]")
    elif old != new:
        yield f"  {path}: {old!r} -> {new!r}"


def _status(status: Json, old: Json) -> list[Cause]:
    found: list[Cause] = []
    for index, each in enumerate(status.get("conditions") or ()):
        kind = each.get("type", "")
        if kind and not kind[0].isupper():
            found += each_invalid(f"status.conditions[{index}].type", kind, qualified_name(kind))
    if (name := status.get("nominatedNodeName", "")) and name != old.get("nominatedNodeName"):
        found += each_invalid("status.nominatedNodeName", name, dns_subdomain(name))
    found += immutable("status.qosClass", status.get("qosClass", ""), old.get("qosClass", ""))
    for field in ("podIPs", "hostIPs"):
        known = [each.get("ip") for each in old.get(field) or ()]
        texts = [each.get("ip", "") for each in status.get(field) or ()]
        for index, text in enumerate(texts):
            found += [] if text in known else address(f"status.{field}[{index}]", text)
        versions = [parsed.version for text in texts if (parsed := parse_address(text))]
        if len(versions) > len(set(versions)):
            detail = "may specify no more than one IP for each IP family"
            found.append(invalid(f"status.{field}", status[field], detail))
    return found
