import { isIP } from 'node:net';
import { normalizeAddress } from '../address.ts';
import { guardAddress } from '../guard.ts';
import { referenceOf } from './rego-name.ts';

/** A connection that a new policy directory has an allow-list for. */
export interface SkeletonConnection {
  readonly name: string;
  /** Port 1 to 65535. */
  readonly target: { readonly host: string; readonly port: number };
}

/** RFC 5737, TEST-NET-1. */
const EXAMPLE_ADDRESS = '192.0.2.10';

/** The address that tests have the host resolve to: its own where it is one that may be dialled at all. */
const addressOf = ({ host, port }: SkeletonConnection['target']): string => {
  if (isIP(host) === 0) return EXAMPLE_ADDRESS;
  const guard = { allowLoopbackPorts: new Set([port]), ownListeners: [], allowAuditDatabase: false };
  return guardAddress(host, port, guard).ok ? normalizeAddress(host) : EXAMPLE_ADDRESS;
};

const otherPort = (port: number): number => (port === 22 ? 23 : 22);

export const regoOf = ({ name, target }: SkeletonConnection): string => `# Who may reach ${name}.
package sallyport.allow

import data.sallyport.request

# METADATA
# title: The agent may publish ${target.host}:${String(target.port)} as ${name}
# custom: {id: ${name}-publish, owner: change-me@example.com, ticket: none, expires: never}
publish${referenceOf(name)} contains rego.metadata.rule() if {
	request.target_is("${target.host}", ${String(target.port)})
}

# METADATA
# title: Applications with the connection's own Send key
# custom: {id: ${name}-stream, owner: change-me@example.com, ticket: none, expires: never}
stream${referenceOf(name)} contains rego.metadata.rule() if {
	input.key.principal == "defaultSender"
}
`;

export const testOf = ({ name, target }: SkeletonConnection): string => {
  const word = name.replaceAll('-', '_');
  const address = addressOf(target);
  return `package sallyport.allow_test

import data.sallyport.decision

# A stream as the agent asks for it. Each test changes what it is about.
stream_to_${word} := {
	"v": 1,
	"action": "stream",
	"namespace": "relay.example.com",
	"connection": {"name": "${name}", "id": "c_1", "labels": {}},
	"target": {"host": "${target.host}", "port": ${String(target.port)}, "address": "${address}", "addresses": ["${address}"]},
	"key": {"kind": "sas", "id": "k_1", "principal": "defaultSender", "claims": ["Send"], "proved_by": "relay"},
	"listener": {"kind": "sas", "id": "k_2", "principal": "defaultListener", "claims": ["Listen"], "proved_by": "relay"},
	"source": {"gateway": "gateway-1", "gateway_proved": false, "address": "203.0.113.9"},
	"agent": {"name": "agent-1", "instance": "i_1", "labels": {}, "version": "1.0.0"},
	"relay": {"node": "relay-1.example.com"},
	"link": {"id": "l_1", "carrier": "tcp"},
	"stream": {"id": "s_1", "kind": "tcp", "attempt": 1},
	"usage": {"principal": {"streams": 0}, "connection": {"streams": 0}, "agent": {"streams": 0}},
	"managed": {"require_proof": false},
	"time": {
		"unix_ms": 1767607200000,
		"rfc3339": "2026-01-05T10:00:00Z",
		"local": {"date": "2026-01-05", "weekday": "mon", "hour": 10, "minute": 0, "zone": "UTC"},
	},
}

test_${word}_is_published if {
	answer := decision.publish with input as object.union(stream_to_${word}, {"action": "publish"})
	answer.allow
	answer.rule == "${name}-publish"
}

test_${word}_is_opened_with_its_own_key if {
	answer := decision.stream with input as stream_to_${word}
	answer.allow
	answer.rule == "${name}-stream"
}

test_${word}_is_not_opened_with_another_key if {
	asked := object.union(stream_to_${word}, {"key": {"principal": "nobody"}})
	answer := decision.stream with input as asked
	not answer.allow
}

test_${word}_is_no_other_target if {
	asked := object.union(stream_to_${word}, {"target": {"port": ${String(otherPort(target.port))}}})
	answer := decision.stream with input as asked
	not answer.allow
}
`;
};

export const vectorsOf = ({ name, target }: SkeletonConnection): string => {
  const { host, port } = target;
  const address = addressOf(target);
  const targetText = (number: number): string =>
    `{host: "${host}", port: ${String(number)}, address: "${address}", addresses: ["${address}"]}`;
  return `# What must be answered to these inputs; a bundle that answers anything else is never activated.
- name: ${name} is published
  input: &publish
    v: 1
    action: publish
    namespace: relay.example.com
    connection: {name: "${name}", id: c_1, labels: {}}
    target: ${targetText(port)}
    listener: {kind: sas, id: k_2, principal: defaultListener, claims: [Listen], proved_by: relay}
    agent: {name: agent-1, instance: i_1, labels: {}, version: 1.0.0}
    relay: {node: relay-1.example.com}
    usage: {connection: {streams: 0}, agent: {streams: 0}}
    managed: {require_proof: false}
    time:
      unix_ms: 1767607200000
      rfc3339: "2026-01-05T10:00:00Z"
      local: {date: "2026-01-05", weekday: mon, hour: 10, minute: 0, zone: UTC}
  expect: {allow: true, rule: "${name}-publish"}
- name: ${name} is opened with its own key
  input: &stream
    <<: *publish
    action: stream
    key: {kind: sas, id: k_1, principal: defaultSender, claims: [Send], proved_by: relay}
    source: {gateway: gateway-1, gateway_proved: false, address: 203.0.113.9}
    link: {id: l_1, carrier: tcp}
    stream: {id: s_1, kind: tcp, attempt: 1}
    usage: {principal: {streams: 0}, connection: {streams: 0}, agent: {streams: 0}}
  expect: {allow: true, rule: "${name}-stream", reasons: [allowed_by]}
- name: ${name} is not opened with another key
  input:
    <<: *stream
    key: {kind: sas, id: k_3, principal: nobody, claims: [Send], proved_by: relay}
  expect: {allow: false, rule: null, reasons: [no_rule]}
- name: ${name} is no other target
  input:
    <<: *stream
    target: ${targetText(otherPort(port))}
  expect: {allow: false, rule: null, reasons: [no_rule]}
`;
};

export const GRANTS_TEXT = `# Entitlements as data, for many principals: connection, then principal, then a list. Every criterion that is
# written must hold, beside a live publish rule. An agent can also read this file by itself (agent.yaml:
# policy.data_file); it is then reloaded live, without OPA and without a new bundle. An example:
#
# orders-db:
#   reporting:
#     - id: orders-reporting
#       owner: bi@example.com
#       expires: "2027-12-31"
#       target: {host: sql01.corp.example, port: 1433}
#       sources: [203.0.113.0/24]
#       hours: {from: 6, to: 22}
#       limits: {max_bytes: 1073741824}
{}
`;

export const MANIFEST_TEXT = `${JSON.stringify({
  revision: '1',
  roots: ['sallyport'],
  rego_version: 1,
  metadata: { sallyport: { input: 1, sequence: 1 } },
})}\n`;

export const CI_TEXT = `#!/bin/sh
# What CI runs for every change: any finding, failing test or failing vector ends it with a status other than 0.
# Needs sallyport and OPA; SALLYPORT names the program where it is not on PATH.
#   ci.sh [BUNDLE]      where the bundle goes, default: bundle.tar.gz beside this file
# ACTIVE names the bundle that agents run: they refuse a sequence that is not higher. SIGNING_KEY names the private key,
# KEY_ID its id in agent.yaml: agents of \`sallyport init\` refuse what is not signed. Both are found where init puts them.
set -eu
cd "$(dirname "$0")"
: "\${SALLYPORT:=sallyport}"
out="\${1:-bundle.tar.gz}"
if [ -z "\${ACTIVE:-}" ] && [ -e ../bundle.tar.gz ]; then ACTIVE=../bundle.tar.gz; fi
if [ -z "\${SIGNING_KEY:-}" ] && [ -e ../policy-signing.key ]; then SIGNING_KEY=../policy-signing.key; fi
"$SALLYPORT" policy check .
"$SALLYPORT" policy test .
if [ -n "\${ACTIVE:-}" ]; then set -- --after "$ACTIVE"; else set --; fi
"$SALLYPORT" policy build . -o "$out" "$@"
if [ -n "\${SIGNING_KEY:-}" ]; then
  "$SALLYPORT" policy sign "$out" --key "$SIGNING_KEY" --key-id "\${KEY_ID:-policy-1}"
else
  echo "ci.sh: $out is not signed, and agents of 'sallyport init' refuse it until it is: SIGNING_KEY names no key" >&2
fi
`;

/** @param connections names of the connections with an allow-list; none for a copied example */
export const readmeOf = (connections: readonly string[]): string => {
  const names = connections.length === 0 ? '' : ` (${connections.join(', ')})`;
  return `# Policy

What may be published, and who may open a stream to it${names}. A stream needs a live \`publish\` rule for its target
and a live \`stream\` rule or grant; everything else is denied.

| file | what |
|---|---|
| \`sallyport/allow/*.rego\` | the allow-lists: yours to edit, one file per team or system |
| \`sallyport/allow/*_test.rego\` | their tests, run by \`sallyport policy test\` |
| \`vectors/*.yaml\` | inputs with the decision you expect; each bundle answers them before it decides anything |
| \`sallyport/grants/data.yaml\` | entitlements as data, where rules would be too many |
| \`.manifest\` | \`sequence\` of a first bundle; \`build --after BUNDLE\` counts on from there |
| \`ci.sh\` | check, test, build and sign: what CI runs |
| everything else in \`sallyport/\`, \`schemas/\`, \`capabilities.json\` | the library as shipped; a changed one is refused |

## Next

1. Put the real owner, ticket and end (\`expires: 2027-03-31\`, or \`never\`) into each rule's METADATA, and narrow the
   rules: \`net.cidr_contains("10.1.0.0/16", input.target.address)\` for the address that is dialled,
   \`request.from_any({"203.0.113.0/24"})\` for the source.
2. Say what must hold as vectors and tests: what is allowed, and a neighbour of it that is not.
3. \`sallyport policy check .\`, then \`sallyport policy test .\`
4. \`sallyport policy build . -o next.tar.gz --after BUNDLE\`, where BUNDLE is the one that agents run (without one yet, leave
   \`--after\` out): agents refuse a sequence that is not higher.
5. \`sallyport policy sign next.tar.gz --key policy-signing.key --key-id policy-1 -o BUNDLE\`, where BUNDLE is the file that
   \`agent.yaml\` names (\`policy.bundle_file\`): a running agent takes it at once, or says why not. An agent of \`sallyport init\`
   demands the signature. Signing gives the bundle another sha256: the one of the signed file is what decisions record.

Building and checking need OPA: docs/policy-guide.md of Sallyport says how to get it.
`;
};
