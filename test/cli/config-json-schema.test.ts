import assert from 'node:assert/strict';
import { readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';
import { Ajv2020, type ValidateFunction } from 'ajv/dist/2020.js';
import { parse } from 'yaml';
import { sallyport } from '../support/command.ts';
import { startPostgres } from '../support/postgres.ts';
import { temporaryDirectory } from '../support/temporary.ts';

const compile = (text: string): ValidateFunction =>
  new Ajv2020({ strict: false }).compile(JSON.parse(text) as object);

test("each file of init names its schema, which an editor's validator accepts it by", async (t) => {
  const postgres = await startPostgres();
  t.after(() => postgres.stop());
  const directory = join(temporaryDirectory(t, 'schema'), 'files');
  const database = await postgres.createDatabase();
  const init = await sallyport(['init', directory, '--publish', 'shop=127.0.0.1:9', '--database', database]);
  assert.equal(init.code, 0, init.stderr);
  for (const kind of ['relay', 'agent', 'gateway']) {
    const text = readFileSync(join(directory, `${kind}.yaml`), 'utf8');
    const named = /^# yaml-language-server: \$schema=(\S+)\n/.exec(text)?.[1];
    assert.equal(named, `${kind}.schema.json`);
    const schema = readFileSync(join(directory, named), 'utf8');
    const printed = await sallyport(['check', '--schema', kind]);
    assert.equal(printed.stdout, schema);
    const validate = compile(schema);
    assert.ok(validate(parse(text)), JSON.stringify(validate.errors));
    assert.ok(!validate({ ...(parse(text) as object), nonsense: 1 }), 'unknown keys are errors');
  }
});

test('the schema takes what the reader takes: secrets in files, and variables', async () => {
  const { stdout } = await sallyport(['check', '--schema', 'gateway']);
  const validate = compile(stdout);
  const relays = [{ host: 'relay.example.com', control_port: '${PORT}', data_ports: [9352] }];
  const gateway = (connection: object) => ({
    namespace: 'relay.example.com',
    name: 'gateway-1',
    state_dir: 'state',
    relays,
    status: { listen: '127.0.0.1:9363' },
    connections: [{ name: 'shop', listen: '127.0.0.1:1433', ...connection }],
  });
  assert.ok(validate(gateway({ connection_string_file: 'send' })), JSON.stringify(validate.errors));
  assert.ok(validate(gateway({ connection_string: 'Endpoint=…' })), JSON.stringify(validate.errors));
  assert.ok(!validate(gateway({})), 'one of both is needed');
  assert.ok(!validate(gateway({ connection_string: 'Endpoint=…', listen: 7 })));
  const unknown = await sallyport(['check', '--schema', 'postgres']);
  assert.equal(unknown.code, 2);
  assert.match(unknown.stderr, /--schema is relay, agent, gateway or managed, not "postgres"/);
});

test('the schema of managed settings takes neither variables nor secrets in files, as its reader does', async () => {
  const { stdout } = await sallyport(['check', '--schema', 'managed']);
  const validate = compile(stdout);
  assert.ok(validate({}), JSON.stringify(validate.errors));
  assert.ok(validate({ connections: 'disabled', relays: ['r.example'], designated: ['10.0.0.0/8:5432'] }));
  assert.ok(validate({ signing_keys: [{ id: 'a', algorithm: 'ES256', public_key: 'PEM' }] }));
  assert.ok(!validate({ signing_keys: [{ id: 'a', algorithm: 'ES256', public_key_file: 'key' }] }));
  assert.ok(!validate({ require_proof: '${PROOF}' }));
  assert.ok(!validate({ conections: 'disabled' }));
});

test('check tells managed settings by their keys and shows every problem at its place', async (t) => {
  const file = join(temporaryDirectory(t, 'managed'), 'draft.yaml');
  writeFileSync(file, 'connections: enabled\nrelays: [relay.example.com]\ndesignated: [db.internal:5432]\n');
  const good = await sallyport(['check', '-c', file, '--json']);
  assert.equal(good.code, 0, good.stderr);
  assert.deepEqual(JSON.parse(good.stdout), { ok: true, kind: 'managed', problems: [], warnings: [] });
  writeFileSync(file, 'connections: enabled\ndesignate: [db.internal:5432]\nrelays: [a b]\n');
  const bad = await sallyport(['check', '-c', file]);
  assert.equal(bad.code, 2);
  assert.match(bad.stdout, /draft\.yaml:2:1: unknown key "designate"; did you mean designated\?/);
  assert.match(bad.stdout, /draft\.yaml:3:10: relays\.0: a host name or address, without a port/);
  assert.match(bad.stdout, /read as a managed configuration/);
});
