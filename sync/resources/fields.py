"""Fields that Kubernetes (and Istio) have in our kinds and that we don't use: accepted, and dropped.

They are listed because a misspelt field must not pass for one of them: `selectr` is an error, `ipFamilies` is not.
What a machine writes (a status) is not a person's to misspell, so there any field is accepted: `OPEN`.
Names are those of the Kubernetes API reference, v1.34, and of Istio's networking.istio.io/v1alpha3.
"""

from sync.resources import kinds

UNUSED: dict[type, frozenset[str]] = {
    kind: frozenset(names.split())
    for kind, names in (
        (
            kinds.Metadata,
            "annotations creationTimestamp deletionGracePeriodSeconds finalizers generateName generation managedFields "
            "ownerReferences resourceVersion selfLink uid",
        ),
        (kinds.Namespace, "spec status"),
        (kinds.ConfigMap, "binaryData immutable"),
        (kinds.Service, "status"),
        (
            kinds.ServiceSpec,
            "allocateLoadBalancerNodePorts clusterIPs externalIPs externalTrafficPolicy healthCheckNodePort ipFamilies "
            "ipFamilyPolicy loadBalancerClass loadBalancerIP loadBalancerSourceRanges",
        ),
        (kinds.PortOfService, "appProtocol nodePort"),
        (kinds.SliceEndpoint, "deprecatedTopology targetRef"),
        (kinds.PortOfSlice, "appProtocol"),
        (
            kinds.PodSpec,
            "activeDeadlineSeconds affinity automountServiceAccountToken dnsConfig dnsPolicy enableServiceLinks "
            "ephemeralContainers hostAliases hostIPC hostPID hostUsers hostnameOverride imagePullSecrets nodeSelector "
            "os overhead preemptionPolicy priority priorityClassName readinessGates resourceClaims resources "
            "restartPolicy runtimeClassName schedulerName schedulingGates securityContext serviceAccount "
            "serviceAccountName setHostnameAsFQDN shareProcessNamespace terminationGracePeriodSeconds tolerations "
            "topologySpreadConstraints volumes",
        ),
        (
            kinds.Container,
            "args command env envFrom image imagePullPolicy lifecycle livenessProbe readinessProbe resizePolicy "
            "resources restartPolicyRules securityContext startupProbe stdin stdinOnce terminationMessagePath "
            "terminationMessagePolicy tty volumeDevices volumeMounts workingDir",
        ),
        (kinds.ContainerPort, "hostIP hostPort"),
        (kinds.NodeSpec, "configSource externalID providerID taints unschedulable"),
        (kinds.DestinationRule, "status"),
        (kinds.DestinationRuleSpec, "exportTo host subsets workloadSelector"),
        (kinds.TrafficPolicy, "connectionPool outlierDetection portLevelSettings proxyProtocol tls tunnel"),
        (kinds.LoadBalancer, "localityLbSetting warmup warmupDurationSecs"),
        (kinds.ConsistentHash, "httpCookie httpQueryParameterName maglev minimumRingSize ringHash"),
    )
}

OPEN: frozenset[type] = frozenset({kinds.PodStatus, kinds.NodeStatus, kinds.Condition, kinds.NodeAddress})
