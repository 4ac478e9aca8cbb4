import assert from 'node:assert/strict';
import { test } from 'node:test';
import { ConfigError } from '../../../src/runtime/index.ts';
import { parseManaged } from '../../../src/policy/index.ts';
import { publicKeyPem } from './signing-key.ts';

const PEM = publicKeyPem();

const problemsOf = (text: string): string[] => {
  try {
    parseManaged(text, '/etc/sallyport/managed.yaml');
    return [];
  } catch (error) {
    assert.ok(error instanceof ConfigError);
    return error.problems.map(({ line, column, message }) => `${line}:${column}: ${message}`);
  }
};

test('every key is read; what is not written restricts nothing', () => {
  assert.deepEqual(parseManaged('connections: enabled\n', 'f'), {
    connections: 'enabled',
    require_proof: false,
  });
  const all = parseManaged(
    `connections: disabled
relays: [Relay.Example.com., 192.0.2.1]
designated: [db.internal:5432, 10.0.0.0/8:22]
bundle: {file: /etc/sallyport/../sallyport/bundle.tar.gz}
signing_keys: [{id: ops-1, algorithm: ES256, public_key: ${JSON.stringify(PEM)}}]
minimum_sequence: 7
audit_mode: enforced
require_proof: true
`,
    'f',
  );
  assert.deepEqual(all, {
    connections: 'disabled',
    relays: ['relay.example.com', '192.0.2.1'],
    designated: ['db.internal:5432', '10.0.0.0/8:22'],
    bundle: { file: '/etc/sallyport/bundle.tar.gz' },
    signing_keys: [{ id: 'ops-1', algorithm: 'ES256', public_key: PEM }],
    minimum_sequence: 7,
    audit_mode: 'enforced',
    require_proof: true,
  });
});

test('an unknown key is an error with a suggestion, and every problem is told at its place', () => {
  assert.deepEqual(
    problemsOf(`conections: disabled
designated: [db.internal, 10.0.0.1/8:22]
relays: ['relay.example.com/path']
bundle: {file: relative.tar.gz}
minimum_sequence: -1
`).map((line) => line.slice(0, 60)),
    [
      '1:1: unknown key "conections"; did you mean connections?',
      "2:14: designated.0: 'db.internal' is not HOST:PORT or CIDR:P",
      "2:27: designated.1: '10.0.0.1/8:22' is not HOST:PORT or CIDR",
      '3:10: relays.0: a host name or address, without a port',
      '4:16: bundle.file: an absolute path',
      '5:19: minimum_sequence: too small: expected number to be >=0',
    ],
  );
});

test('an empty file, a list and a torn one are no settings', () => {
  for (const text of [
    '',
    '# only a comment\n',
    '- connections\n',
    'connections: disa',
    'designated: [db.int',
  ]) {
    assert.notDeepEqual(problemsOf(text), [], JSON.stringify(text));
  }
});

test('neither the environment nor another file changes what it says', (t) => {
  process.env.SALLYPORT_CONNECTIONS = 'enabled';
  t.after(() => Reflect.deleteProperty(process.env, 'SALLYPORT_CONNECTIONS'));
  assert.equal(parseManaged('connections: disabled\n', 'f').connections, 'disabled');
  assert.match(problemsOf('connections: ${SALLYPORT_CONNECTIONS}\n').join(), /connections: invalid option/);
  assert.match(problemsOf('audit_mode_file: /tmp/mode\n').join(), /unknown key "audit_mode_file"/);
  const key = 'signing_keys: [{id: a, algorithm: ES256, public_key_file: /tmp/key}]\n';
  assert.match(problemsOf(key).join(), /unknown key "public_key_file"; did you mean public_key\?/);
});
