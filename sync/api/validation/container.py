"""A pod's containers (pkg/apis/core/validation `validateContainers`)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from sync.api import quantity
from sync.api.status import Cause
from sync.api.validation.fields import (
    choice,
    duplicate,
    each_invalid,
    forbidden,
    invalid,
    not_found,
    required,
)
from sync.api.validation.names import dns_label, environment_name, port_name, port_number, qualified_name
from sync.api.validation.service import PROTOCOLS

Json = Mapping[str, Any]


def containers(containers: Any, volumes: set[str], path: str, *, needed: bool = False) -> list[Cause]:
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
    found = _amounts(limits, f"{path}.limits") + _amounts(requests, f"{path}.requests")
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


def _amounts(amounts: Mapping[str, str], path: str) -> list[Cause]:
    """A list of resources: its names, and no negative amount."""
    found: list[Cause] = []
    for name, text in amounts.items():
        at = f"{path}[{name}]"
        found += each_invalid(at, name, qualified_name(name))
        if quantity.parse(text).value < 0:
            found.append(invalid(at, text, "must be greater than or equal to 0"))
    return found
