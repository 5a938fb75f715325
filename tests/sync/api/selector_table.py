"""Selectors and what kube-apiserver 1.34 says of each: the refusal's text, empty if it takes it."""

_NAME = (
    "must consist of alphanumeric characters, '-', '_' or '.', and must start and end with an alphanumeric character "
    "(e.g. 'MyName',  or 'my.name',  or '123-abc', regex used for validation is "
    "'([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9]')"
)
_VALUE = (
    "a valid label must be an empty string or consist of alphanumeric characters, '-', '_' or '.', and must start and "
    "end with an alphanumeric character (e.g. 'MyValue',  or 'my_value',  or '12345', regex used for validation is "
    "'(([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9])?')"
)
_UNPARSABLE = "unable to parse requirement: "
_NOT_INTEGER = "for 'Gt', 'Lt' operators, the value must be an integer"

LABELS = {
    "": "",
    "a": "",
    "!a": "",
    "a==": "",
    "a = b": "",
    "!a,!b": "",
    "a>1": "",
    "a<1,b!=c": "",
    "notin": "",
    "in in (in)": "",
    "a in ()": "",
    "a in (,)": "",
    "a in (b,,c)": "",
    "a in b": f"{_UNPARSABLE}found 'b' expected: '('",
    "a in (": f"{_UNPARSABLE}found '', expected: ',', ')' or identifier",
    "a in (b": f"{_UNPARSABLE}found '', expected: ',' or ')'",
    "a in (b,": f"{_UNPARSABLE}found '', expected: ',', or identifier",
    "a in (b))": "found ')', expected: ',' or 'end of string'",
    "a,": "found '', expected: identifier after ','",
    "a,,b": "found ',', expected: identifier after ','",
    ",a": "found ',', expected: !, identifier, or 'end of string'",
    "(a)": "found '(', expected: !, identifier, or 'end of string'",
    "=b": "found '=', expected: !, identifier, or 'end of string'",
    "!": f"{_UNPARSABLE}found '', expected: identifier",
    "!a=b": "found '=', expected: ',' or 'end of string'",
    "a=b=c": "found '=', expected: ',' or 'end of string'",
    "a=b c": "found 'c', expected: ',' or 'end of string'",
    "a notin": f"{_UNPARSABLE}found '' expected: '('",
    "a=(b)": f"{_UNPARSABLE}found '(', expected: identifier",
    "a===b": f"{_UNPARSABLE}found '=', expected: identifier",
    "a=!b": f"{_UNPARSABLE}found '!', expected: identifier",
    "a<>1": f"{_UNPARSABLE}found '>', expected: identifier",
    "a b": f"{_UNPARSABLE}found 'b', expected: in, notin, =, ==, !=, gt, lt",
    "a\0b": f"{_UNPARSABLE}found 'b', expected: in, notin, =, ==, !=, gt, lt",
    "a>b": f'{_UNPARSABLE}values[0]: Invalid value: "b": {_NOT_INTEGER}',
    "a>": f'{_UNPARSABLE}values[0]: Invalid value: "": {_NOT_INTEGER}',
    "-a=b": f'{_UNPARSABLE}<nil>: Invalid value: "-a": name part {_NAME}',
    "x/y/z=b": f'{_UNPARSABLE}<nil>: Invalid value: "x/y/z": a qualified name {_NAME} with an optional DNS subdomain '
    "prefix and '/' (e.g. 'example.com/MyName')",
    "a=-b": f'{_UNPARSABLE}values[0][a]: Invalid value: "-b": {_VALUE}',
    "a in (c,-b)": f'{_UNPARSABLE}values[0][a]: Invalid value: "-b": {_VALUE}',
    "a=" + "b" * 64: f'{_UNPARSABLE}values[0][a]: Invalid value: "{"b" * 64}": must be no more than 63 characters',
}

_UNKNOWN = '"foo" is not a known field selector: only "metadata.name", "metadata.namespace"'
FIELDS = {
    ("Pod", ""): "",
    ("Pod", ","): "",
    ("Pod", "spec.nodeName=a"): "",
    ("Pod", "spec.host=a"): "",
    ("Pod", "spec.nodeName!=a,status.phase==Running"): "",
    ("Pod", "spec.nodeName=a\\,b"): "",
    ("Pod", "metadata.namespace=default"): "",
    ("Pod", "foo=b"): "field label not supported: foo",
    ("Pod", "=a"): "field label not supported: ",
    ("Pod", "a"): "invalid selector: 'a'; can't understand 'a'",
    ("Pod", "  "): "invalid selector: '  '; can't understand '  '",
    ("Pod", "spec.nodeName=a\\"): "invalid field selector: invalid escape sequence: \\",
    ("Pod", "spec.nodeName=a\\x"): "invalid field selector: invalid escape sequence: \\x",
    ("Pod", "spec.nodeName=a=b"): "invalid field selector: unescaped character in value: 61",
    ("Node", "metadata.namespace=x"): "field label not supported: metadata.namespace",
    ("Node", "spec.unschedulable=x"): "",
    ("Secret", "type=Opaque"): "",
    ("Namespace", "status.phase=Active"): "",
    ("Service", "spec.type=ClusterIP,spec.clusterIP!=None"): "",
    ("Event", "involvedObject.kind=Pod,source=x,reportingComponent!=y,type=Normal,reason=z"): "",
    ("ConfigMap", "foo=b"): _UNKNOWN,
    ("EndpointSlice", "foo=b"): _UNKNOWN,
    ("Lease", "metadata.namespace=x"): "",
    ("CertificateSigningRequest", "spec.signerName=x"): "",
    ("CertificateSigningRequest", "metadata.namespace=x"): "field label not supported: metadata.namespace",
    ("Thing", "metadata.namespace=x"): "",
    ("Thing", "foo=b"): "field label not supported: foo",
}
