import assert from 'node:assert/strict';
import { chmodSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'node:test';
import { z } from 'zod';
import { ConfigError, parseConfig, readConfig } from '../../src/runtime/index.ts';

const schema = z.strictObject({
  namespace: z.string(),
  state_dir: z.string().optional(),
  listen: z.array(z.string()).default([]),
  control: z
    .strictObject({
      database_url: z.string(),
      fence_after_seconds: z.number().int().min(1).default(15),
      cut_after_seconds: z.union([z.number(), z.literal('never')]).default(300),
    })
    .optional(),
  connections: z
    .array(z.strictObject({ connection_string: z.string(), target: z.string().optional() }))
    .default([]),
  labels: z.record(z.string(), z.string()).default({}),
  tls: z.strictObject({ key_file: z.string() }).optional(),
  signer: z.strictObject({ public_key: z.string() }).optional(),
});

const problemsOf = (text: string, environment: Record<string, string> = {}): string[] => {
  try {
    parseConfig(text, '/etc/x.yaml', schema, { environment });
  } catch (error) {
    assert.ok(error instanceof ConfigError, String(error));
    return error.problems.map((one) => `${one.line}:${one.column} ${one.message}`);
  }
  return [];
};

test('every problem is reported at once, each at its line and column', () => {
  const problems = problemsOf(
    [
      'namespace: 7',
      'controll: {}',
      'control:',
      '  database_url: x',
      '  fence_after_secs: 3',
      'listen: yes',
    ].join('\n'),
  );
  assert.deepEqual(problems, [
    '1:12 namespace: invalid input: expected string, received number',
    '2:1 unknown key "controll"; did you mean control?',
    '5:3 control: unknown key "fence_after_secs"; did you mean fence_after_seconds?',
    '6:9 listen: invalid input: expected array, received string',
  ]);
});

test('a missing key is named at the mapping that lacks it', () => {
  assert.deepEqual(problemsOf('control:\n  fence_after_seconds: 2\n'), [
    '1:1 namespace: is missing (expected: string)',
    '2:3 control.database_url: is missing (expected: string)',
  ]);
});

test('malformed YAML gives the place, not a stack', () => {
  const [first] = problemsOf('namespace: [a, b\ncontrol: }');
  assert.match(first ?? '', /^\d+:\d+ /);
  assert.deepEqual(problemsOf('- a\n- b'), ['1:1 expected a mapping of keys to values']);
  assert.equal(problemsOf('namespace: a\nnamespace: b').length, 1);
  assert.equal(problemsOf('').length, 1);
});

test('poison text in a key or value is shown escaped', () => {
  try {
    parseConfig('namespace: a\n"\\u202e\\u0007x": 1', '/f', schema);
    assert.fail('must refuse');
  } catch (thrown) {
    assert.doesNotMatch((thrown as Error).message, /[\u0000-\u0009\u202e]/u);
  }
});

test('variables come from the environment, and a missing one is a problem at its place', () => {
  const environment = { NAME: 'relay.example.com' };
  assert.equal(
    parseConfig('namespace: "${NAME}"', '/f', schema, { environment }).namespace,
    'relay.example.com',
  );
  assert.equal(parseConfig('namespace: "$${NAME}"', '/f', schema, { environment }).namespace, '${NAME}');
  assert.deepEqual(problemsOf('namespace: a\nlabels: {x: "${NOPE}"}'), [
    '2:13 labels.x: environment variable NOPE is not set',
  ]);
});

test('a secret may stand in its own file, and paths are taken from the configuration', async () => {
  const directory = mkdtempSync(join(tmpdir(), 'sallyport-config-'));
  try {
    const file = join(directory, 'relay.yaml');
    writeFileSync(join(directory, 'url'), 'postgres://a\n');
    writeFileSync(
      file,
      'namespace: n\nstate_dir: state\ntls: {key_file: k.pem}\ncontrol: {database_url_file: url}\n',
    );
    const config = await readConfig(file, schema, { environment: {} });
    assert.equal(config.control?.database_url, 'postgres://a');
    assert.equal(config.state_dir, join(directory, 'state'));
    assert.equal(config.tls?.key_file, join(directory, 'k.pem'));
    writeFileSync(file, 'namespace: n\ncontrol: {database_url_file: gone}\n');
    await assert.rejects(
      readConfig(file, schema, { environment: {} }),
      /:2:30: control.database_url_file: cannot read .*ENOENT/,
    );
    writeFileSync(file, 'namespace: n\ncontrol: {database_url_file: url, database_url: x}\n');
    await assert.rejects(readConfig(file, schema, { environment: {} }), /both given/);
    await assert.rejects(readConfig(join(directory, 'none.yaml'), schema), { code: 'ERR_CONFIG_UNREADABLE' });
  } finally {
    rmSync(directory, { recursive: true });
  }
});

test('the environment overrides sections and keys', () => {
  const environment = {
    SALLYPORT_NAMESPACE: '7',
    SALLYPORT_CONTROL_DATABASE_URL: 'postgres://b',
    SALLYPORT_CONTROL_FENCE_AFTER_SECONDS: '3',
    SALLYPORT_CONTROL_CUT_AFTER_SECONDS: 'never',
    SALLYPORT_LISTEN: '["a:1", "b:2"]',
  };
  const config = parseConfig('{}', '/f', schema, { environment });
  assert.equal(config.namespace, '7');
  assert.deepEqual(config.control, {
    database_url: 'postgres://b',
    fence_after_seconds: 3,
    cut_after_seconds: 'never',
  });
  assert.deepEqual(config.listen, ['a:1', 'b:2']);
});

test('a file with a key or a secret that others may read is a warning at its place, not a problem', (t) => {
  const directory = mkdtempSync(join(tmpdir(), 'config-'));
  t.after(() => rmSync(directory, { recursive: true }));
  for (const name of ['open.key', 'shut.key', 'secret'])
    writeFileSync(join(directory, name), 'x', { mode: 0o600 });
  const warningsOf = (key: string): string[] => {
    const warnings: string[] = [];
    const text = `namespace: a\ntls: {key_file: ${key}}\nconnections:\n  - {connection_string_file: secret}\n`;
    const onWarning = ({ line, message }: { line: number; message: string }): void => {
      warnings.push(`${line} ${message}`);
    };
    parseConfig(text, join(directory, 'x.yaml'), schema, { environment: {}, onWarning });
    return warnings;
  };
  assert.deepEqual(warningsOf('shut.key'), []);
  for (const name of ['open.key', 'secret']) chmodSync(join(directory, name), 0o640);
  const readable = (name: string): string =>
    `others may read ${join(directory, name)} (mode 0640): chmod 600 ${join(directory, name)}`;
  assert.deepEqual(warningsOf('open.key'), [
    `2 tls.key_file: ${readable('open.key')}`,
    `4 connections.0.connection_string_file: ${readable('secret')}`,
  ]);
});

test('a public key may be read by anybody, without a warning', (t) => {
  const directory = mkdtempSync(join(tmpdir(), 'config-'));
  t.after(() => rmSync(directory, { recursive: true }));
  writeFileSync(join(directory, 'signing.pub'), 'x', { mode: 0o644 });
  const warnings: unknown[] = [];
  const onWarning = (warning: unknown): unknown => warnings.push(warning);
  const text = 'namespace: a\nsigner: {public_key_file: signing.pub}\n';
  const config = parseConfig(text, join(directory, 'x.yaml'), schema, { environment: {}, onWarning });
  assert.equal(config.signer?.public_key, 'x');
  assert.deepEqual(warnings, []);
});

test('a message that begins with HOST:PORT keeps its capitals', () => {
  const address = z.strictObject({ listen: z.string().regex(/:\d+$/, 'HOST:PORT') });
  assert.throws(
    () => parseConfig('listen: x', '/etc/x.yaml', address, { environment: {} }),
    /listen: HOST:PORT/,
  );
});
