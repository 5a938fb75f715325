"""A day with kubectl, a line a command; in order, since each builds on what those before it left.

`same` says what of the two APIs' outputs has to be equal: all of it; its lines in any order; "subset", each line of the
embedded API's is among Kubernetes' own; or nothing. Where it is not all, `why` says what differs and why that is right,
and docs/api.md says it to users.
"""

from __future__ import annotations

import shlex
from typing import NamedTuple

NAMESPACE = "kc-shop"
ALL, LINES, SUBSET, NOTHING = "all", "lines", "subset", "nothing"


class Step(NamedTuple):
    """`words`: the command line after `kubectl -n NAMESPACE`; `code`: its exit status; `edit`: a sed expression.

    `retry`: what it asks for comes late in Kubernetes, so it is asked again until the exit status is right.
    """

    words: str
    code: int = 0
    same: str = ALL
    why: str = ""
    edit: str = ""
    retry: bool = False

    @property
    def arguments(self) -> list[str]:
        return shlex.split(self.words)


NO_CONTROLLERS = (
    "Kubernetes' API runs without its controller manager in tests: nobody empties namespaces and collects garbage"
)
FEWER_KINDS = "only the kinds that the mesh needs are served"
NO_SCHEDULING = "no priorities and no default tolerations: there is no scheduler"
NO_ENUMS = "the published schemas do not list the values of enumerations"
NAME_FIRST = "a service that exists is refused for its name, before its address"
REASONED = "a JSON patch that can't be done: the Status says which operation and why"
SHORT_DIFFERENCE = "what may not change of a pod is named in a line, not shown as a difference of Go structures"
NO_SUCH_KIND = "a kind that is not served is a Status, not plain text"
BY_CHANCE = "Kubernetes tells several faults of a custom resource in an order by chance"
SERIAL = "a certificate is named by its serial number, by which it is revoked"
OWN_VERSION = "the version says that this is EdgeMesh"
NO_IMPERSONATION = "nobody is impersonated"
OWN_RULES = "rules are few, and listed once"

SET_UP = (
    Step("create namespace kc-shop"),
    Step("create namespace kc-shop", code=1),
    Step("label namespace kc-shop team=fish"),
    Step("get namespace kc-shop --show-labels"),
    Step("get namespace kc-shop -o yaml"),
    Step("create -f node.yaml"),
    Step("get node kc-node"),
    Step("get node kc-node -o wide"),
)
READ = (
    Step("apply -f shop.yaml"),
    Step("apply -f shop.yaml"),
    Step("get services"),
    Step("get svc -o wide"),
    Step("get svc orders -o yaml"),
    Step("get svc stock -o json"),
    Step("get svc -o name"),
    Step("get svc -o jsonpath={.items[*].spec.clusterIP}"),
    Step("get svc -o custom-columns=NAME:.metadata.name,PORTS:.spec.ports[*].port"),
    Step("get svc -o 'go-template={{range .items}}{{.metadata.name}};{{end}}'"),
    Step("get svc --sort-by=.spec.ports[0].port"),
    Step("get svc --show-labels"),
    Step("get svc -L app,tier"),
    Step("get svc --selector app=orders"),
    Step("get svc -l 'app in (stock, x),tier!=front'"),
    Step("get svc -l 'a b'", code=1),
    Step("get svc --field-selector metadata.name=stock"),
    Step("get svc --field-selector spec.type=NodePort"),
    Step("get svc --field-selector spec.color=blue", code=1),
    Step("get svc -A -l tier=back"),
    Step("get svc --chunk-size=1"),
    Step("get svc --no-headers"),
    Step("get svc nothing", code=1),
    Step("get svc nothing --ignore-not-found"),
    Step("get svc orders nothing", code=1),
    Step("get nonsense", code=1),
    Step("get svc,cm -l tier=back"),
    Step("get all"),
    Step("get -f shop.yaml"),
    Step("get cm settings -o yaml"),
    Step("get secrets"),
    Step("get secret password -o jsonpath={.data.word}"),
    Step("get endpointslices"),
    Step("get endpointslice orders-a -o yaml"),
    Step("get pods"),
    Step("get pods -o wide"),
    Step("get pod orders-1 -o yaml", same=SUBSET, why=NO_SCHEDULING),
    Step("get pods --field-selector spec.nodeName=kc-node,status.phase=Pending"),
    Step("get pods --field-selector spec.nodeName!=kc-node"),
    Step("get secrets --field-selector type=Opaque"),
    Step("get pods -w --watch-only --request-timeout=1s"),
    Step("create -f lease.yaml"),
    Step("get leases"),
    Step("get lease leader -o yaml"),
    Step("describe svc orders"),
    Step("describe cm settings"),
    Step("describe secret password"),
    Step("describe pod orders-1", same=SUBSET, why=NO_SCHEDULING),
    Step("describe endpointslice orders-a"),
    Step("describe namespace kc-shop", same=SUBSET, why=FEWER_KINDS),
    Step("describe lease leader"),
    Step("describe svc nothing", code=1),
    Step("get --raw /readyz"),
    Step("get --raw /api/v1/namespaces/kc-shop/services?limit=1&labelSelector=app%3Dnobody"),
)
WRITE = (
    Step("diff -f shop.yaml"),
    Step("diff -f shop-changed.yaml", code=1),
    Step("diff --server-side -f shop-changed.yaml --force-conflicts", code=1),
    Step("apply -f shop-changed.yaml --dry-run=server"),
    Step("apply -f shop-changed.yaml --dry-run=client"),
    Step("apply -f shop-changed.yaml"),
    Step("get svc orders -o yaml --show-managed-fields"),
    Step("apply view-last-applied cm/settings"),
    Step("apply --server-side -f shop.yaml"),
    Step("apply --server-side -f shop.yaml --force-conflicts"),
    Step("get cm settings -o yaml --show-managed-fields"),
    Step("apply --server-side --field-manager=other -f shop-changed.yaml", code=1),
    Step("apply -f unknown-field.yaml", code=1),
    Step("apply -f unknown-field.yaml --validate=warn"),
    Step("apply -f unknown-field.yaml --validate=ignore"),
    Step("create -f service-wrong.yaml", code=1),
    Step("create -f shop.yaml", code=1, same=NOTHING, why=NAME_FIRST),
    Step("create configmap made --from-literal=a=1 --from-literal=b=2"),
    Step("create configmap made --from-literal=a=1 --dry-run=server -o yaml", code=1),
    Step("create configmap dry --from-literal=a=1 --dry-run=server -o yaml"),
    Step("get cm dry", code=1),
    Step("create secret generic key --from-literal=k=v"),
    Step("create serviceaccount robot"),
    Step("get serviceaccount robot -o yaml"),
    Step("create service clusterip plain --tcp=80:8080 --clusterip=10.96.7.3"),
    Step("create service externalname away --external-name=elsewhere.example.com"),
    Step("create service clusterip twice --tcp=80:8080 --clusterip=10.96.7.3", code=1),
    Step("create service clusterip outside --tcp=80:8080 --clusterip=10.200.0.1", code=1),
    Step("create service nodeport twice --tcp=80:8080 --node-port=99", code=1),
    Step("edit cm made", edit="s/a: .1./a: edited/"),
    Step("edit cm made", edit="s/nothing/else/"),
    Step("get cm made -o jsonpath={.data}"),
    Step("edit svc orders", edit="s/port: 8080/port: 8081/"),
    Step("edit svc orders", code=1, edit="s/clusterIP: 10.96.7.1/clusterIP: 10.96.7.9/"),
    Step("""patch cm made -p '{"data":{"c":"3"}}'"""),
    Step("""patch cm made --type=merge -p '{"data":{"c":null}}'"""),
    Step(
        """patch cm made --type=json -p '[{"op":"test","path":"/data/b","value":"2"},"""
        """{"op":"remove","path":"/data/b"}]'"""
    ),
    Step(
        """patch cm made --type=json -p '[{"op":"test","path":"/data/a","value":"no"}]'""",
        code=1,
        same=NOTHING,
        why=REASONED,
    ),
    Step(
        """patch cm made --type=json -p '[{"op":"remove","path":"/data/nothing"}]'""",
        code=1,
        same=NOTHING,
        why=REASONED,
    ),
    Step("""patch svc orders -p '{"spec":{"ports":[{"port":9090,"$patch":"delete"}]}}'"""),
    Step("""patch svc orders --type=merge -p '{"spec":{"ports":[]}}'""", code=1),
    Step("""patch svc nothing -p '{}'""", code=1),
    Step("get svc orders -o jsonpath={.spec.ports}"),
    Step("label cm made colour=blue"),
    Step("label cm made colour=red", code=1),
    Step("label cm made colour=red --overwrite"),
    Step("label cm made colour-"),
    Step("label cm made wrong='not a label'", code=1),
    Step("label svc --all seen=yes"),
    Step("label cm made --list"),
    Step("annotate cm made note='some text'"),
    Step("annotate cm made note-"),
    Step("annotate svc -l tier=back checked=1"),
    Step("replace -f owned.yaml", code=1),
    Step("create -f owned.yaml"),
    Step("replace -f owned.yaml"),
    Step("replace --force -f owned.yaml"),
    Step("run runner --image=shop/runner:1 --labels=app=runner --port=8080"),
    Step("run runner --image=shop/runner:1", code=1),
    Step("expose pod runner --port=80 --target-port=8080 --name=runner --cluster-ip=10.96.7.4"),
    Step("get svc runner -o yaml"),
    Step("get pod runner"),
    Step("set image pod/runner runner=shop/runner:2"),
    Step("get pod runner -o jsonpath={.spec.containers[0].image}"),
    Step("""patch pod runner -p '{"spec":{"nodeName":"kc-node"}}'""", code=1, same=NOTHING, why=SHORT_DIFFERENCE),
    Step("set selector svc runner app=other"),
    Step("get pod runner --subresource=status"),
    Step(
        """patch pod runner --subresource=status -p '{"status":{"phase":"Running","podIP":"10.244.77.9","podIPs":"""
        """[{"ip":"10.244.77.9"}],"conditions":[{"type":"Ready","status":"True"}]}}'"""
    ),
    Step("get pod runner -o wide"),
    Step("wait pod/runner --for=condition=Ready --timeout=10s"),
    Step("wait pod/runner --for=jsonpath={.status.podIP}=10.244.77.9 --timeout=10s"),
    Step("wait pod/runner --for=jsonpath={.status.phase}=Failed --timeout=0.3s", code=1),
    Step("wait pod/nobody --for=delete --timeout=5s"),
    Step("wait pod/runner --for=create --timeout=5s"),
    Step("wait pod/nobody --for=create --timeout=0.3s", code=1),
)
NODES = (
    Step("taint nodes kc-node dedicated=fish:NoSchedule"),
    Step("taint nodes kc-node dedicated=fish:NoSchedule", code=1),
    Step("get node kc-node -o jsonpath={.spec.taints}"),
    Step("taint nodes kc-node dedicated-"),
    Step("cordon kc-node"),
    Step("get node kc-node"),
    Step("uncordon kc-node"),
    Step("label node kc-node zone=north"),
    Step(
        """patch node kc-node --subresource=status -p '{"status":{"conditions":[{"type":"Ready","status":"True","""
        """"reason":"Up","message":"it works","lastHeartbeatTime":"2026-01-01T10:00:00Z","""
        """"lastTransitionTime":"2026-01-01T10:00:00Z"}],"addresses":[{"type":"InternalIP","""
        """"address":"100.64.7.1"}],"""
        """"nodeInfo":{"kubeletVersion":"v1.34.2","osImage":"Debian","architecture":"amd64","operatingSystem":"linux","""
        """"machineID":"","systemUUID":"","bootID":"","kernelVersion":"6.1","containerRuntimeVersion":"cr://1","""
        """"kubeProxyVersion":""}}}'"""
    ),
    Step("get node kc-node -o wide"),
    Step("describe node kc-node"),
    Step("wait node/kc-node --for=condition=Ready --timeout=5s"),
)
EVENTS = (
    Step("create -f event.yaml"),
    Step("events"),
    Step("events --for pod/orders-1"),
    Step("events --types=Warning"),
    Step("get events"),
    Step("get events --field-selector involvedObject.kind=Pod,reason=Started"),
    Step("get events.v1.events.k8s.io -o name"),
    Step("describe pod orders-1", same=SUBSET, why=NO_SCHEDULING),
)
DEFINITIONS = (
    Step("get boats", code=1),
    Step("apply -f crd.yaml"),
    Step("wait crd/boats.harbour.example.com --for=condition=Established --timeout=10s"),
    Step("get crd boats.harbour.example.com"),
    Step("get crd boats.harbour.example.com -o jsonpath={.status.acceptedNames}"),
    Step("get boats"),
    Step("api-resources --api-group=harbour.example.com"),
    Step("explain boats", retry=True),
    Step("explain bt.spec.flag"),
    Step("explain boats --recursive"),
    Step("apply -f boat.yaml"),
    Step("apply -f boat-wrong.yaml", code=1, same=LINES, why=BY_CHANCE),
    Step("get bt"),
    Step("get boats -o wide"),
    Step("get fleet"),
    Step("get boat anna -o yaml"),
    Step("""patch boat anna --type=merge -p '{"spec":{"crew":0}}'""", code=1),
    Step("""patch boat anna -p '{"spec":{"crew":9}}'""", code=1),
    Step("""patch boat anna --type=merge -p '{"spec":{"crew":9,"sails":3}}'"""),
    Step("""patch boat anna --type=merge --subresource=status -p '{"status":{"port":"oslo"},"spec":{"crew":1}}'"""),
    Step("get boats"),
    Step("apply --server-side --field-manager=dock -f boat.yaml", code=1),
    Step("apply --server-side --field-manager=dock --force-conflicts -f boat.yaml"),
    Step("get boat anna -o yaml --show-managed-fields"),
    Step("describe boat anna"),
    Step("wait boat/anna --for=jsonpath={.status.port}=oslo --timeout=5s"),
    Step("edit boat anna", edit="s/crew: 7/crew: 8/"),
    Step("label boat anna paint=red"),
    Step("get boats -A -l paint=red"),
    Step("delete boat anna"),
    Step("delete crd boats.harbour.example.com"),
    Step("wait crd/boats.harbour.example.com --for=delete --timeout=10s"),
    Step("get boats", code=1, same=NOTHING, why=NO_SUCH_KIND),
)
CERTIFICATES = (
    Step("create -f csr.yaml"),
    Step("get csr kc-csr"),
    Step("describe csr kc-csr"),
    Step("certificate approve kc-csr"),
    Step("get csr kc-csr"),
    Step("certificate deny kc-csr", code=1),
    Step("delete csr kc-csr"),
)
QUESTIONS = (
    Step("explain pods"),
    Step("explain services.spec.ports", same=SUBSET, why=NO_ENUMS),
    Step("explain pod.spec.containers.livenessProbe.httpGet", same=SUBSET, why=NO_ENUMS),
    Step("explain endpointslices --recursive", same=SUBSET, why=NO_ENUMS),
    Step("explain lease.spec --api-version=coordination.k8s.io/v1"),
    Step("explain service.spec.nothing", code=1),
    Step("api-versions", same=SUBSET, why=FEWER_KINDS),
    Step("api-resources", same=SUBSET, why=FEWER_KINDS),
    Step("api-resources --api-group=discovery.k8s.io -o wide"),
    Step("api-resources --api-group=certificates.k8s.io -o wide", same=SUBSET, why=FEWER_KINDS),
    Step("api-resources --api-group=apiextensions.k8s.io -o wide"),
    Step("cluster-info"),
    Step("version", same=NOTHING, why=OWN_VERSION),
    Step("auth can-i create services"),
    Step("auth can-i '*' '*'"),
    Step("auth can-i get pods --as=somebody", same=NOTHING, code=1, why=NO_IMPERSONATION),
    Step("auth can-i --list", same=SUBSET, why=OWN_RULES),
    Step("auth whoami", same=NOTHING, why=SERIAL),
)
DELETE = (
    Step("delete cm nothing", code=1),
    Step("delete cm nothing --ignore-not-found"),
    Step("delete cm lonely --dry-run=server"),
    Step("delete cm lonely --cascade=orphan --wait=false"),
    Step("delete cm made --cascade=foreground --wait=false"),
    Step("delete pod runner --now --wait=false"),
    Step("delete pod orders-1 --force --grace-period=0"),
    Step("delete svc -l app=runner"),
    Step("delete svc runner --ignore-not-found"),
    Step("delete -f shop.yaml --ignore-not-found"),
    Step("delete svc --all"),
    Step("delete secret,cm --all --wait=false", same=SUBSET, why=NO_CONTROLLERS),
    Step("get svc,endpointslices"),
    Step("delete lease leader --wait=false"),
    Step("delete node kc-node"),
    Step("delete namespace kc-shop --wait=false"),
    Step("wait namespace/kc-shop --for=delete --timeout=3s", same=NOTHING, why=NO_CONTROLLERS),
)
STEPS = (*SET_UP, *READ, *WRITE, *NODES, *EVENTS, *DEFINITIONS, *CERTIFICATES, *QUESTIONS, *DELETE)
